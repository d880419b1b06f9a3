// SPDX-License-Identifier: Apache-2.0
#include "host/train/checkpoint.h"

#include <cstdio>
#include <filesystem>
#include <limits>

#include "host/train/tensor_file.h"

namespace resembed::train {

namespace {

using Json = nlohmann::json;

Json StateToJson(const TrainState& state) {
  Json curve = Json::array();
  for (const EpochPoint& point : state.curve) {
    curve.push_back({point.epoch, point.train_loss, point.valid, point.seconds});
  }
  return {{"epoch", state.epoch},
          {"step", state.step},
          {"total_steps", state.total_steps},
          {"loss_sum", state.loss_sum},
          {"best_epoch", state.best_epoch},
          {"best_valid", state.best_valid},
          {"seconds", state.seconds},
          {"step_seconds", state.step_seconds},
          {"residual", {state.residual.lambda, state.residual.max_norm, state.residual.error}},
          {"looks", state.looks},
          {"look_seconds", state.look_seconds},
          {"finished", state.finished},
          {"capped", state.capped},
          {"curve", curve}};
}

void StateFromJson(const Json& json, TrainState* state) {
  state->epoch = json.at("epoch");
  state->step = json.at("step");
  state->total_steps = json.at("total_steps");
  state->loss_sum = json.at("loss_sum");
  state->best_epoch = json.at("best_epoch");
  state->best_valid = json.at("best_valid");
  state->seconds = json.at("seconds");
  state->step_seconds = json.at("step_seconds");
  const Json& residual = json.at("residual");
  state->residual = {residual.at(0), residual.at(1), residual.at(2)};
  state->looks = json.at("looks");
  state->look_seconds = json.at("look_seconds");
  state->finished = json.at("finished");
  state->capped = json.at("capped");
  state->curve.clear();
  for (const Json& point : json.at("curve")) {
    state->curve.push_back({point.at(0), point.at(1), point.at(2), point.at(3)});
  }
}

Json Parse(const std::string& path, const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded())
    throw Error{path + ": its metadata are damaged; delete it or start without --resume"};
  return json;
}

}  // namespace

void SaveRow(const std::string& path, const RowResult& row) {
  std::vector<float> repeat(row.test.ranked_repeat.begin(), row.test.ranked_repeat.end());
  TensorWriter writer;
  const auto add = [&](const char* name, const std::vector<float>& values) {
    writer.Add(name, values.data(), static_cast<int64_t>(values.size()), 0);
  };
  add("auc", row.test.auc);
  add("auc_pop", row.test.auc_pop);
  add("logloss", row.test.logloss);
  add("hr20", row.test.hr20);
  add("ranked_repeat", repeat);
  add("picture", row.picture);
  Json json = StateToJson(row.state);
  json["gap"] = row.gap;
  json["parameters"] = row.parameters;
  json["dim"] = row.dim;
  json["pretrain_seconds"] = row.pretrain_seconds;
  json["valid_auc"] = row.valid_auc;
  json["radius"] = row.envelope.radius;
  json["radius95"] = row.envelope.radius95;
  json["ratio"] = row.envelope.ratio;  // NaN becomes null
  writer.Save(path, {{"row", json.dump()}});
}

bool LoadRow(const std::string& path, RowResult* row) {
  if (!std::filesystem::exists(path)) return false;
  const TensorReader reader(path);
  row->test.auc = reader.Vector<float>("auc");
  row->test.auc_pop = reader.Vector<float>("auc_pop");
  row->test.logloss = reader.Vector<float>("logloss");
  row->test.hr20 = reader.Vector<float>("hr20");
  row->test.ranked_repeat.clear();
  for (const float value : reader.Vector<float>("ranked_repeat"))
    row->test.ranked_repeat.push_back(value != 0);
  row->picture = reader.Vector<float>("picture");
  const Json json = Parse(path, reader.Metadata("row"));
  StateFromJson(json, &row->state);
  row->gap = json.at("gap");
  row->parameters = json.at("parameters");
  row->dim = json.at("dim");
  row->pretrain_seconds = json.at("pretrain_seconds");
  row->valid_auc = json.at("valid_auc");
  row->envelope.radius = json.at("radius").get<std::vector<double>>();
  row->envelope.radius95 = json.at("radius95").get<std::vector<double>>();
  row->envelope.ratio =
      json.at("ratio").is_null() ? std::numeric_limits<double>::quiet_NaN() : json.at("ratio").get<double>();
  return true;
}

bool FindPretrained(const PretrainTask& task, const std::string& folder, Pretrained* pretrained) {
  if (pretrained->seed == task.seed) return true;
  const std::string path = folder + "/pretrained.seed" + std::to_string(task.seed) + ".safetensors";
  if (std::filesystem::exists(path)) {
    const TensorReader reader(path);
    const std::vector<float> rows = reader.Vector<float>("rows");
    pretrained->rows.assign(rows.begin(), rows.end());
    pretrained->seconds = Parse(path, reader.Metadata("seconds"));
    pretrained->seed = task.seed;
    return true;
  }
  if (!Pretrain(task, pretrained)) return false;
  TensorWriter writer;
  writer.Add("rows", pretrained->rows.data(), static_cast<int64_t>(pretrained->rows.size()), 0);
  writer.Save(path, {{"seconds", Json(pretrained->seconds).dump()}});
  char seconds[32];
  std::snprintf(seconds, sizeof(seconds), "%.1f", pretrained->seconds);
  task.note("pretrained skip-gram rows in " + std::string(seconds) + "s");
  return true;
}

void SaveProgress(const std::string& path, const RowKey& key, Learner* learner, const TrainState& state) {
  TensorWriter writer;
  const std::vector<StateTensor> weights = learner->Weights();
  for (const StateTensor& tensor : weights)
    writer.Add("weights." + tensor.name, tensor.data, tensor.size(), 0);
  for (const StateTensor& tensor : learner->OptimizerState()) {
    writer.Add("state." + tensor.name, tensor.data, tensor.size(), 0);
  }
  for (size_t i = 0; i < state.best.size(); ++i) {
    writer.Add("best." + weights[i].name, state.best[i].data(), weights[i].size(), 0);
  }
  writer.Save(path, {{"row", key.Name()}, {"state", StateToJson(state).dump()}});
}

bool LoadProgress(const std::string& path, const RowKey& key, Learner* learner, TrainState* state) {
  if (!std::filesystem::exists(path)) return false;
  const TensorReader reader(path);
  if (reader.Metadata("row") != key.Name()) return false;
  StateFromJson(Parse(path, reader.Metadata("state")), state);
  const std::vector<StateTensor> weights = learner->Weights();
  for (const StateTensor& tensor : weights) reader.Read("weights." + tensor.name, tensor.data, tensor.size());
  for (const StateTensor& tensor : learner->OptimizerState()) {
    reader.Read("state." + tensor.name, tensor.data, tensor.size());
  }
  learner->WeightsWritten();
  learner->OptimizerStateWritten();
  state->best.clear();
  if (state->best_epoch > 0) {
    for (const StateTensor& tensor : weights) {
      state->best.emplace_back(static_cast<size_t>(tensor.size()));
      reader.Read("best." + tensor.name, state->best.back().data(), tensor.size());
    }
  }
  return true;
}

}  // namespace resembed::train
