// SPDX-License-Identifier: Apache-2.0
#include "host/train/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/train/figures.h"
#include "host/train/memory.h"
#include "host/train/variant.h"

namespace resembed::train {

namespace {

using Json = nlohmann::json;
constexpr uint64_t kBootstrapSeed = 20190805;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json FigureOf(const std::vector<double>& values) {
  const MeanStd figure = MeanAndStd(values);
  if (!std::isfinite(figure.mean)) return nullptr;
  return {{"mean", figure.mean}, {"std", Number(figure.std)}};
}

Json IntervalOf(const Interval& interval) {
  if (!std::isfinite(interval.mean)) return nullptr;
  return {{"mean", interval.mean}, {"low", Number(interval.low)}, {"high", Number(interval.high)}};
}

Json IntervalsOf(const std::map<std::string, Interval>& intervals) {
  Json json = Json::object();
  for (const auto& [name, interval] : intervals) json[name] = IntervalOf(interval);
  return json;
}

// Adds mean and std over seeds, and the interval over test users, of every figure.
void AddFigures(const std::vector<Figures>& seeds, Json* json) {
  std::map<std::string, std::vector<double>> values;
  for (const Figures& figures : seeds) {
    for (const auto& [name, value] : NamedFigures(figures)) values[name].push_back(value);
  }
  const auto intervals = FigureIntervals(MeanOfSeeds(seeds), kBootstrapSeed);
  for (const auto& [name, list] : values) {
    (*json)[name] = FigureOf(list);
    const auto found = intervals.find(name);
    if (found == intervals.end() || (*json)[name].is_null()) continue;
    (*json)[name]["low"] = Number(found->second.low);
    (*json)[name]["high"] = Number(found->second.high);
  }
}

std::vector<Figures> TestFigures(const std::vector<RowResult>& rows) {
  std::vector<Figures> figures;
  for (const RowResult& row : rows) figures.push_back(row.test);
  return figures;
}

template <typename Value>
Json FigureOver(const std::vector<RowResult>& rows, const Value& value) {
  std::vector<double> values;
  for (const RowResult& row : rows) values.push_back(value(row));
  return FigureOf(values);
}

double MeanOver(const std::vector<RowResult>& rows, double (*value)(const RowResult&)) {
  double sum = 0;
  for (const RowResult& row : rows) sum += value(row);
  return sum / static_cast<double>(rows.size());
}

Json EnvelopeJson(const std::vector<RowResult>& rows) {
  std::vector<double> radius, radius95;
  for (const RowResult& row : rows) {
    radius.resize(row.envelope.radius.size(), 0.0);
    radius95.resize(row.envelope.radius95.size(), 0.0);
    for (size_t i = 0; i < radius.size(); ++i) {
      radius[i] += row.envelope.radius[i] / static_cast<double>(rows.size());
      radius95[i] += row.envelope.radius95[i] / static_cast<double>(rows.size());
    }
  }
  return {{"radius", FigureOver(rows, [](const RowResult& row) { return Median(row.envelope.radius); })},
          {"radius95", FigureOver(rows, [](const RowResult& row) { return Median(row.envelope.radius95); })},
          {"per_interest", {{"radius", radius}, {"radius95", radius95}}}};
}

// What envelope.jsonl cost: seconds of all looks over seconds of all steps.
Json LogCost(const std::vector<RowResult>& rows) {
  return {
      {"looks", FigureOver(rows, [](const RowResult& row) { return static_cast<double>(row.state.looks); })},
      {"cost_share", FigureOver(rows, [](const RowResult& row) {
         return row.state.step_seconds > 0 ? row.state.look_seconds / row.state.step_seconds : kNaN;
       })}};
}

Json ControlJson(const Hyper& hyper, const std::vector<RowResult>& rows) {
  const auto given = [](double value) { return value > 0 ? Json(value) : Json(); };
  return {{"target_ratio", given(hyper.residual_ratio)},
          {"cap", given(hyper.residual_cap)},
          {"reached_ratio", FigureOver(rows, [](const RowResult& row) { return row.envelope.ratio; })},
          {"last_lambda", FigureOver(rows, [](const RowResult& row) { return row.state.residual.lambda; })},
          {"last_max_norm",
           hyper.residual_cap > 0
               ? FigureOver(rows, [](const RowResult& row) { return row.state.residual.max_norm; })
               : Json()}};
}

// Mean over seeds of the first epoch whose validation figure is at least `plain`'s best with that seed; null if one
// never is.
Json EpochsToPlain(const std::vector<RowResult>& rows, const std::vector<RowResult>& plain) {
  double sum = 0;
  for (size_t seed = 0; seed < rows.size(); ++seed) {
    const std::vector<EpochPoint>& curve = rows[seed].state.curve;
    const double best = plain[seed].state.best_valid;
    const auto first = std::find_if(curve.begin(), curve.end(),
                                    [best](const EpochPoint& point) { return point.valid >= best; });
    if (first == curve.end()) return nullptr;
    sum += first->epoch;
  }
  return sum / static_cast<double>(rows.size());
}

Json RowJson(const RunData& run, Head head, const std::string& variant, const std::vector<RowResult>& rows) {
  Json json;
  json["epochs"] =
      MeanOver(rows, [](const RowResult& row) { return static_cast<double>(row.state.curve.size()); });
  json["best_epoch"] =
      MeanOver(rows, [](const RowResult& row) { return static_cast<double>(row.state.best_epoch); });
  json["capped"] =
      std::any_of(rows.begin(), rows.end(), [](const RowResult& row) { return row.state.capped; });
  json["valid"] = FigureOver(rows, [](const RowResult& row) { return row.state.best_valid; });
  const std::vector<Figures> figures = TestFigures(rows);
  json["logloss"] = nullptr;
  AddFigures(figures, &json);
  json["gap"] = FigureOver(rows, [](const RowResult& row) { return row.gap; });
  json["parameters"] = rows[0].parameters;
  json["dim"] = rows[0].dim;
  json["seconds"] = FigureOver(rows, [](const RowResult& row) { return row.state.seconds; });
  const double samples = static_cast<double>(run.n_samples);
  json["samples_per_second"] = FigureOver(rows, [samples](const RowResult& row) {
    return samples * static_cast<double>(row.state.curve.size()) / row.state.step_seconds;
  });
  if (FindVariant(variant)->pretrained) {
    json["pretraining"] = {
        {"seconds", FigureOver(rows, [](const RowResult& row) { return row.pretrain_seconds; })}};
  }
  json["ratio"] = FigureOver(rows, [](const RowResult& row) { return row.envelope.ratio; });
  json["envelope"] = EnvelopeJson(rows);
  if (rows[0].state.looks > 0) json["envelope"]["log"] = LogCost(rows);
  const Hyper hyper = HyperOf(*run.options, head, run.n_samples);
  if (ControlsResidual(hyper, *FindVariant(variant))) json["residual_control"] = ControlJson(hyper, rows);
  json["epochs_to_plain"] = nullptr;
  const auto plain = run.rows.find({head, "plain"});
  if (plain != run.rows.end() && plain->second.size() == rows.size()) {
    json["epochs_to_plain"] = EpochsToPlain(rows, plain->second);
  }
  const Figures mean = MeanOfSeeds(figures);
  for (const char* base : {"plain", "plain_2x", "plain_pretrained", "central", "central_pretrained"}) {
    const std::string key = std::string("over_") + base;
    json[key] = nullptr;
    const auto found = run.rows.find({head, base});
    if (found == run.rows.end() || variant == base || found->second.size() != rows.size()) continue;
    json[key] = IntervalsOf(CompareFigures(mean, MeanOfSeeds(TestFigures(found->second)), kBootstrapSeed));
  }
  Json over = Json::object();
  for (const auto& [name, baseline] : run.baselines) {
    over[name] = IntervalsOf(CompareFigures(mean, baseline.figures, kBootstrapSeed));
  }
  json["over_baselines"] = over;
  return json;
}

Json SplitJson(const RunData& run) {
  int64_t events = 0;
  for (const int64_t popularity : run.view.popularity) events += popularity;
  Json json = {{"by", run.options->split}, {"train_events", events}};
  if (run.options->split == "time") {
    json["cut"] = run.options->time_cut;
    json["valid_from"] = run.split.valid_from;
    json["test_from"] = run.split.test_from;
  }
  return json;
}

Json CatalogJson(const RunData& run) {
  int64_t n_named = 0, n_trained = 0;
  for (size_t item = 0; item < run.log.item_names.size(); ++item) {
    const std::string& id = run.log.item_names[item];
    n_named += run.catalog.NameOf(id).empty() ? 0 : 1;
    n_trained += run.view.popularity[item] > 0 && run.catalog.row_of.count(id) > 0 ? 1 : 0;
  }
  const int64_t n_items = static_cast<int64_t>(run.catalog.items.size());
  return {{"items", n_items}, {"named", n_named}, {"cold", n_items - n_trained}};
}

Json DataJson(const RunData& run) {
  int64_t unknown = 0, repeat = 0;
  for (const Target& target : run.test.targets) {
    unknown += target.known ? 0 : 1;
    repeat += target.repeat ? 1 : 0;
  }
  const double n_test = static_cast<double>(run.test.targets.size());
  Json interests = {{"source", run.partition.generated ? "generated" : "graph"},
                    {"count", run.partition.n_interests},
                    {"centers", run.graph.n_centers}};
  if (run.partition.generated) {
    const Agreement agreement =
        CompareInterests(run.log.interest_of, run.graph.center_of, run.graph.neighbors, run.graph.k);
    interests["agreement"] = {{"nmi", Number(agreement.nmi)},
                              {"edge_share", Number(agreement.edge_share)},
                              {"edge_share_by_chance", Number(agreement.edge_share_by_chance)}};
  }
  const Json sample = {
      {"items", run.sample.n_items}, {"interests", run.sample.interests}, {"seed", EnvelopeSample::kSeed}};
  return {{"source", run.log.source},
          {"columns", run.log.columns},
          {"generated", !run.log.interest_of.empty()},
          {"users", run.log.n_users()},
          {"items", run.log.n_items()},
          {"events", run.log.n_events()},
          {"too_short_users", run.split.too_short},
          {"split", SplitJson(run)},
          {"train_users", run.split.train.size()},
          {"valid_users", run.split.valid.size()},
          {"test_users", run.split.test.size()},
          {"candidates", run.view.candidates.size()},
          {"valid_targets", run.valid.targets.size()},
          {"test_targets", run.test.targets.size()},
          {"ranked_targets", run.test.ranked.size()},
          {"unknown_share", static_cast<double>(unknown) / n_test},
          {"repeat_share", static_cast<double>(repeat) / n_test},
          {"graph",
           {{"window", run.graph.window < 0 ? Json() : Json(run.graph.window)},
            {"neighbors", run.graph.k},
            {"pairs", run.graph.n_pairs < 0 ? Json() : Json(run.graph.n_pairs)},
            {"two_hop", run.graph.two_hop},
            {"own_lists", run.graph.own.items.size()},
            {"seconds", run.graph.seconds}}},
          {"interests", interests},
          {"envelope_sample", run.sample.interests.empty() ? Json() : sample}};
}

Json ConfigJson(const RunData& run) {
  const Options& o = *run.options;
  Json heads = Json::array(), hyper = Json::object();
  for (const Head head : o.heads) {
    heads.push_back(HeadName(head));
    hyper[HeadName(head)] = HyperJson(HyperOf(o, head, run.n_samples));
  }
  Json config = {
      {"version", std::to_string(RESEMBED_VERSION_MAJOR) + "." + std::to_string(RESEMBED_VERSION_MINOR) +
                      "." + std::to_string(RESEMBED_VERSION_PATCH)},
      {"heads", heads},
      {"variants", o.variants},
      {"seeds", o.seeds},
      {"split_seed", o.split_seed},
      {"train_fraction", o.train_fraction},
      {"threads", run.threads},
      {"peak_memory_gb", static_cast<double>(PeakResidentBytes()) / 1e9},
      {"backend", o.backend},
      {"dense", run.dense},
      {"patience", o.patience},
      {"max_epochs", o.epochs},
      {"resolution", o.resolution},
      {"envelope_every", o.envelope_every},
      {"pretrain_window", o.pretrain_window},
      {"tune", o.tune},
      {"tuned", o.tuned},
      {"preset", PresetName(o.preset)},
      {"command", o.command},
      {"by_head", hyper}};
  // At the top level where all heads agree; otherwise a sentence of both.
  for (const char* key : {"dim", "lambda", "lr", "dense_lr", "batch", "optimizer", "targets"}) {
    Json value = hyper[HeadName(o.heads[0])][key];
    for (const Head head : o.heads) {
      if (hyper[HeadName(head)][key] == value) continue;
      std::string both;
      for (const Head each : o.heads) {
        both += (both.empty() ? "" : ", ") + std::string(HeadName(each)) + " " +
                hyper[HeadName(each)][key].dump();
      }
      value = both;
      break;
    }
    config[key] = value;
  }
  return config;
}

}  // namespace

Json HyperJson(const Hyper& h) {
  Json json = {{"dim", h.dim},
               {"history", h.history_length},
               {"history_decay", h.history_decay},
               {"history_normalized", h.normalize_history},
               {"repeat_features", h.repeat_features},
               {"targets", h.targets},
               {"batch", h.batch},
               {"lambda", h.lambda},
               {"residual_cap", h.residual_cap > 0 ? Json(h.residual_cap) : Json()},
               {"residual_ratio", h.residual_ratio > 0 ? Json(h.residual_ratio) : Json()},
               {"lr", h.lr},
               {"dense_lr", h.dense_lr},
               {"lr_decay", h.lr_decay},
               {"init", h.init},
               {"dropout", h.dropout},
               {"optimizer", h.optimizer},
               {"epochs", h.epochs},
               {"patience", h.patience}};
  if (h.head == Head::kDin) json["attention_scale"] = h.attention_scale;
  if (h.head == Head::kDot) {
    json["negatives"] = h.negatives;
    json["negative_alpha"] = h.negative_alpha;
    json["negative_correction"] = h.negative_correction;
    json["query_transform"] = h.query_transform;
    json["scale"] = h.dot_scale;
    json["bias_lr"] = h.bias_lr;
  }
  return json;
}

Json MetricsJson(const RunData& run) {
  Json baselines = Json::object(), heads = Json::object();
  for (const auto& [name, row] : run.baselines) {
    Json json = Json::object();
    AddFigures({row.figures}, &json);
    json["seconds"] = row.seconds;
    json["valid"] = {{"auc", Number(row.valid_auc)}, {"hr20", Number(row.valid_hr20)}};
    if (name.rfind("itemknn", 0) == 0) {
      json["a"] = row.a;
      json["b"] = row.b;
    }
    baselines[name] = json;
  }
  for (const auto& [key, rows] : run.rows) {
    if (!rows.empty()) heads[HeadName(key.first)][key.second] = RowJson(run, key.first, key.second, rows);
  }
  Json json = {
      {"data", DataJson(run)}, {"config", ConfigJson(run)}, {"baselines", baselines}, {"heads", heads}};
  if (!run.tuning.empty()) json["tuning"] = TuningJson(run.tuning);
  if (!run.catalog.items.empty()) json["data"]["catalog"] = CatalogJson(run);
  if (!run.fit_all.is_null()) json["fit_all"] = run.fit_all;
  if (run.interrupted) json["interrupted"] = true;
  return json;
}

Json CurvesJson(const RunData& run) {
  Json json = Json::object();
  for (const auto& [key, rows] : run.rows) {
    Json list = Json::array();
    for (size_t seed = 0; seed < rows.size(); ++seed) {
      Json curve = {
          {"seed", seed + 1},       {"epoch", Json::array()},   {"train_loss", Json::array()},
          {"valid", Json::array()}, {"seconds", Json::array()}, {"best_epoch", rows[seed].state.best_epoch}};
      for (const EpochPoint& point : rows[seed].state.curve) {
        curve["epoch"].push_back(point.epoch);
        curve["train_loss"].push_back(Number(point.train_loss));
        curve["valid"].push_back(point.valid);
        curve["seconds"].push_back(point.seconds);
      }
      list.push_back(curve);
    }
    json[HeadName(key.first)][key.second] = list;
  }
  return json;
}

Json PictureJson(const RunData& run) {
  Json json = {{"items", run.picture_items},
               {"names", Json::array()},
               {"interest", Json::array()},
               {"heads", Json::object()}};
  for (const int32_t item : run.picture_items) {
    json["names"].push_back(run.log.item_names[static_cast<size_t>(item)]);
    json["interest"].push_back(run.partition.interest_of[static_cast<size_t>(item)]);
  }
  if (!run.catalog.names.empty()) {
    for (const Json& id : json["names"]) json["titles"].push_back(run.catalog.NameOf(id.get<std::string>()));
  }
  for (const auto& [key, rows] : run.rows) {
    if (rows.empty()) continue;
    Json list = Json::array();
    const int64_t dim = rows[0].dim;
    for (size_t i = 0; i < run.picture_items.size(); ++i) {
      const auto first = rows[0].picture.begin() + static_cast<std::ptrdiff_t>(static_cast<int64_t>(i) * dim);
      Json row = Json::array();
      // Four digits are more than a picture shows.
      for (auto value = first; value != first + dim; ++value) row.push_back(std::round(*value * 1e4) / 1e4);
      list.push_back(row);
    }
    json["heads"][HeadName(key.first)][key.second] = list;
  }
  return json;
}

std::vector<int32_t> PickPictureItems(const Partition& partition, const TrainingView& view) {
  constexpr size_t kInterests = 12, kItems = 40;
  std::vector<std::vector<int32_t>> members(static_cast<size_t>(partition.n_interests));
  for (const int32_t item : view.candidates) {
    const int32_t interest = partition.interest_of[static_cast<size_t>(item)];
    if (interest >= 0) members[static_cast<size_t>(interest)].push_back(item);
  }
  std::stable_sort(members.begin(), members.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::vector<int32_t> picked;
  for (size_t interest = 0; interest < std::min(kInterests, members.size()); ++interest) {
    std::vector<int32_t>& items = members[interest];
    std::stable_sort(items.begin(), items.end(), [&](int32_t a, int32_t b) {
      return view.popularity[static_cast<size_t>(a)] > view.popularity[static_cast<size_t>(b)];
    });
    items.resize(std::min(kItems, items.size()));
    picked.insert(picked.end(), items.begin(), items.end());
  }
  return picked;
}

}  // namespace resembed::train
