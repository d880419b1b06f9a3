// SPDX-License-Identifier: Apache-2.0
#include "host/train/checkpoint.h"

#include <filesystem>
#include <limits>
#include <memory>
#include <utility>

#include "resembed/resembed.h"

namespace resembed::train {

namespace {

using Json = nlohmann::json;

class Writer {
 public:
  void Add(const std::string& name, const float* data, int64_t rows, int64_t cols) {
    names_.push_back(std::make_unique<std::string>(name));
    resembed_tensor tensor = {};
    tensor.struct_size = sizeof(tensor);
    tensor.name = names_.back()->c_str();
    tensor.dtype = RESEMBED_F32;
    tensor.n_dims = cols > 0 ? 2 : 1;
    tensor.shape[0] = rows;
    tensor.shape[1] = cols;
    tensor.data = data;
    tensors_.push_back(tensor);
  }
  void Save(const std::string& path, const std::vector<std::pair<std::string, std::string>>& metadata) const {
    std::vector<const resembed_tensor*> pointers;
    for (const resembed_tensor& tensor : tensors_) pointers.push_back(&tensor);
    std::vector<const char*> strings;
    for (const auto& [key, value] : metadata) {
      strings.push_back(key.c_str());
      strings.push_back(value.c_str());
    }
    CheckStatus(resembed_save(path.c_str(), pointers.data(), static_cast<int32_t>(pointers.size()),
                              strings.data(), static_cast<int32_t>(metadata.size())));
  }

 private:
  std::vector<resembed_tensor> tensors_;
  std::vector<std::unique_ptr<std::string>> names_;
};

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(nullptr, resembed_file_close) {
    resembed_file* raw = nullptr;
    CheckStatus(resembed_file_open(path.c_str(), &raw));
    file_.reset(raw);
  }
  std::string Metadata(const char* key) const {
    const char* value = nullptr;
    CheckStatus(resembed_file_metadata(file_.get(), key, &value));
    return value == nullptr ? "" : value;
  }
  int64_t Size(const std::string& name) const {  // -1: no such tensor
    int32_t index = -1;
    CheckStatus(resembed_file_find(file_.get(), name.c_str(), &index));
    if (index < 0) return -1;
    resembed_tensor tensor = {};
    tensor.struct_size = sizeof(tensor);
    CheckStatus(resembed_file_tensor(file_.get(), index, &tensor));
    int64_t size = 1;
    for (int32_t d = 0; d < tensor.n_dims; ++d) size *= tensor.shape[d];
    return size;
  }
  void Read(const std::string& name, float* data, int64_t size) const {
    if (Size(name) != size) {
      throw Error{path_ + ": tensor " + name + " has " + std::to_string(Size(name)) + " values; needs " +
                  std::to_string(size)};
    }
    if (size == 0) return;
    int32_t index = -1;
    CheckStatus(resembed_file_find(file_.get(), name.c_str(), &index));
    CheckStatus(resembed_file_read(file_.get(), index, data, 0, static_cast<size_t>(size) * sizeof(float)));
  }
  std::vector<float> Vector(const std::string& name) const {
    const int64_t size = Size(name);
    std::vector<float> values(static_cast<size_t>(size > 0 ? size : 0));
    if (size > 0) Read(name, values.data(), size);
    return values;
  }

 private:
  std::string path_;
  std::unique_ptr<resembed_file, void (*)(resembed_file*)> file_;
};

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
  Writer writer;
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
  json["radius"] = row.envelope.radius;
  json["radius95"] = row.envelope.radius95;
  json["ratio"] = row.envelope.ratio;  // NaN becomes null
  writer.Save(path, {{"row", json.dump()}});
}

bool LoadRow(const std::string& path, RowResult* row) {
  if (!std::filesystem::exists(path)) return false;
  const Reader reader(path);
  row->test.auc = reader.Vector("auc");
  row->test.auc_pop = reader.Vector("auc_pop");
  row->test.logloss = reader.Vector("logloss");
  row->test.hr20 = reader.Vector("hr20");
  row->test.ranked_repeat.clear();
  for (const float value : reader.Vector("ranked_repeat")) row->test.ranked_repeat.push_back(value != 0);
  row->picture = reader.Vector("picture");
  const Json json = Parse(path, reader.Metadata("row"));
  StateFromJson(json, &row->state);
  row->gap = json.at("gap");
  row->parameters = json.at("parameters");
  row->dim = json.at("dim");
  row->envelope.radius = json.at("radius").get<std::vector<double>>();
  row->envelope.radius95 = json.at("radius95").get<std::vector<double>>();
  row->envelope.ratio =
      json.at("ratio").is_null() ? std::numeric_limits<double>::quiet_NaN() : json.at("ratio").get<double>();
  return true;
}

void SaveProgress(const std::string& path, const RowKey& key, Learner* learner, const TrainState& state) {
  Writer writer;
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
  const Reader reader(path);
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

void SaveModel(const std::string& path, Learner* learner, const Json& description) {
  Writer writer;
  for (const StateTensor& tensor : learner->Weights()) {
    writer.Add(tensor.name, tensor.data, tensor.rows, tensor.cols);
  }
  std::vector<std::pair<std::string, std::string>> metadata;
  for (const auto& [key, value] : description.items()) {
    metadata.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  writer.Save(path, metadata);
}

}  // namespace resembed::train
