// SPDX-License-Identifier: Apache-2.0
#include "host/train/tune.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

namespace resembed::train {

namespace {

constexpr double kLrFactors[] = {1, 0.5, 2, 0.25, 4}, kLambdaFactors[] = {0, 0.1, 10};  // the first wins ties
constexpr size_t kLrPoints = std::size(kLrFactors), kMorePoints = 4;
constexpr double kTolerance = 0.002;

bool Tried(const TunePoint& point) { return point.best_epoch > 0; }

std::vector<TunePoint> TriedOf(const std::vector<TunePoint>& points) {
  std::vector<TunePoint> tried;
  std::copy_if(points.begin(), points.end(), std::back_inserter(tried), Tried);
  return tried;
}

// "lr 0.004 lambda 0.003"
std::string PointText(const Variant& variant, const TunePoint& point) {
  char lr[40] = "open", text[80];
  if (point.lr > 0) std::snprintf(lr, sizeof(lr), "%.3g", point.lr);
  if (variant.penalty)
    std::snprintf(text, sizeof(text), "lr %s lambda %.3g", lr, point.lambda);
  else
    std::snprintf(text, sizeof(text), "lr %s", lr);
  return text;
}

// The rates are tried: the penalties go on with the best.
void FillRates(std::vector<TunePoint>* points) {
  const auto rates_end = points->begin() + static_cast<std::ptrdiff_t>(kLrPoints);
  const auto best = std::max_element(points->begin(), rates_end,
                                     [](const TunePoint& a, const TunePoint& b) { return a.auc < b.auc; });
  for (auto point = rates_end; point + kMorePoints != points->end(); ++point) point->lr = best->lr;
}

// The chosen point's rate is the lowest or highest tried: `more` goes on beyond it. Returns false where it is not.
bool GoBeyond(const std::vector<TunePoint>& points, TunePoint* more) {
  const std::vector<TunePoint> tried = TriedOf(points);
  const TunePoint& chosen = tried[ChoosePoint(tried)];
  const auto [lowest, highest] = std::minmax_element(
      tried.begin(), tried.end(), [](const TunePoint& a, const TunePoint& b) { return a.lr < b.lr; });
  if (chosen.lr != lowest->lr && chosen.lr != highest->lr) return false;
  more->lr = chosen.lr == lowest->lr ? chosen.lr / 2 : chosen.lr * 2;
  more->lambda = chosen.lambda;
  return true;
}

}  // namespace

std::vector<TunePoint> TuneGrid(const Variant& variant, const Hyper& hyper) {
  std::vector<TunePoint> points;
  for (const double factor : kLrFactors) points.push_back({factor * hyper.lr, hyper.lambda});
  if (variant.penalty && hyper.lambda != 0) {
    for (const double factor : kLambdaFactors) points.push_back({0, factor * hyper.lambda});
  }
  points.insert(points.end(), kMorePoints, {0, hyper.lambda});
  return points;
}

size_t ChoosePoint(const std::vector<TunePoint>& points) {
  double best = 0;
  for (const TunePoint& point : points) best = std::max(best, point.auc);
  size_t chosen = points.size();
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].auc < best - kTolerance) continue;
    const bool better = chosen == points.size() || points[i].lambda > points[chosen].lambda ||
                        (points[i].lambda == points[chosen].lambda && points[i].auc > points[chosen].auc);
    if (better) chosen = i;
  }
  return chosen;
}

nlohmann::json TuningJson(const Tunings& tunings) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [key, tuning] : tunings) {
    if (!tuning.done) continue;
    const bool penalty = FindVariant(key.second)->penalty;
    nlohmann::json points = nlohmann::json::array();
    for (const TunePoint& point : TriedOf(tuning.points)) {
      points.push_back({{"lr", point.lr},
                        {"lambda", penalty ? nlohmann::json(point.lambda) : nlohmann::json()},
                        {"auc", point.auc},
                        {"best_epoch", point.best_epoch},
                        {"capped", point.capped},
                        {"seconds", point.seconds}});
    }
    json[HeadName(key.first)][key.second] = {{"points", points}, {"chosen", tuning.chosen}};
  }
  return json;
}

void PlanTuning(const Options& options, int64_t n_samples, std::vector<RowKey>* keys,
                std::vector<Progress::Row>* rows, Tunings* tunings) {
  std::vector<Progress::Row> point_rows;
  std::vector<RowKey> point_keys;
  for (size_t i = 0; i < keys->size() && (*keys)[i].seed == 1; ++i) {
    RowKey key = (*keys)[i];
    const Variant& variant = *FindVariant(key.variant);
    Tuning& tuning = (*tunings)[{key.head, key.variant}];
    tuning.points = TuneGrid(variant, HyperOf(options, key.head, n_samples));
    for (const TunePoint& point : tuning.points) {
      ++key.point;
      point_keys.push_back(key);
      point_rows.push_back((*rows)[i]);  // costs what the row does
      point_rows.back().name =
          std::string(HeadName(key.head)) + " " + key.variant + " " + PointText(variant, point);
    }
  }
  rows->insert(rows->begin(), point_rows.begin(), point_rows.end());
  keys->insert(keys->begin(), point_keys.begin(), point_keys.end());
}

uint64_t ReadTuned(const Options& options, int64_t n_samples, Tunings* tunings) {
  std::ifstream file(options.tuned, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const nlohmann::json metrics = nlohmann::json::parse(text, nullptr, false);
  if (metrics.is_discarded() || !metrics.is_object() || !metrics.contains("tuning"))
    throw Error{"--tuned is " + options.tuned +
                ", which holds no tuning; needs metrics.json of a run with --tune"};
  const nlohmann::json& tuning = metrics["tuning"];
  for (const Head head : options.heads) {
    const Hyper hyper = HyperOf(options, head, n_samples);
    for (const std::string& variant : options.variants) {
      try {
        const nlohmann::json& found = tuning.at(HeadName(head)).at(variant);
        const nlohmann::json& point = found.at("points").at(found.at("chosen").get<size_t>());
        const nlohmann::json& lambda = point.at("lambda");
        TunePoint chosen = {options.lr >= 0 ? hyper.lr : point.at("lr").get<double>(),
                            options.lambda >= 0 || lambda.is_null() ? hyper.lambda : lambda.get<double>()};
        chosen.auc = point.at("auc").get<double>();
        chosen.best_epoch = point.at("best_epoch").get<int>();
        chosen.capped = point.at("capped").get<bool>();
        chosen.seconds = point.at("seconds").get<double>();
        (*tunings)[{head, variant}] = {{chosen}, 0, true};
      } catch (const nlohmann::json::exception&) {
        throw Error{"--tuned is " + options.tuned + ", which holds nothing of " + variant + " under " +
                    HeadName(head) + "; needs a run with --tune that trained it"};
      }
    }
  }
  return std::hash<std::string>()(tuning.dump());
}

Hyper TunedHyper(Hyper hyper, const RowKey& key, const Tunings& tunings) {
  const auto found = tunings.find({key.head, key.variant});
  if (found == tunings.end()) return hyper;
  const Tuning& tuning = found->second;
  const TunePoint& point = tuning.points[key.point >= 0 ? static_cast<size_t>(key.point) : tuning.chosen];
  hyper.lr = point.lr;
  hyper.lambda = point.lambda;
  return hyper;
}

bool NotNeeded(const RowKey& key, const Tunings& tunings) {
  if (key.point < 0) return false;
  const Tuning& tuning = tunings.at({key.head, key.variant});
  return tuning.done && !Tried(tuning.points[static_cast<size_t>(key.point)]);
}

std::string FilePoint(const RowKey& key, const RowResult& result, Tunings* tunings) {
  Tuning& tuning = tunings->at({key.head, key.variant});
  TunePoint& point = tuning.points[static_cast<size_t>(key.point)];
  point.auc = result.valid_auc;
  point.best_epoch = result.state.best_epoch;
  point.capped = result.state.capped;
  point.seconds = result.state.seconds;
  const size_t index = static_cast<size_t>(key.point), n = tuning.points.size();
  if (index == kLrPoints - 1) FillRates(&tuning.points);
  if (index + 1 < n - kMorePoints) return "";
  if (index + 1 < n && GoBeyond(tuning.points, &tuning.points[index + 1])) return "";
  tuning.chosen = ChoosePoint(TriedOf(tuning.points));
  tuning.done = true;
  const TunePoint& chosen = tuning.points[tuning.chosen];
  char auc[80];
  std::snprintf(auc, sizeof(auc), ", validation auc %.4f (of %zu points)", chosen.auc,
                TriedOf(tuning.points).size());
  return "tuned " + std::string(HeadName(key.head)) + " " + key.variant + ": " +
         PointText(*FindVariant(key.variant), chosen) + auc;
}

}  // namespace resembed::train
