// SPDX-License-Identifier: Apache-2.0
#include "host/train/tune.h"

#include <algorithm>
#include <cstdio>

namespace resembed::train {

namespace {

constexpr double kLrFactors[] = {1, 0.5, 2}, kLambdaFactors[] = {1, 0, 0.1, 10};  // the defaults win ties
constexpr double kTolerance = 0.002;

// "lr 0.004 lambda 0.003"
std::string PointText(const Variant& variant, const TunePoint& point) {
  char text[80];
  if (variant.penalty)
    std::snprintf(text, sizeof(text), "lr %.3g lambda %.3g", point.lr, point.lambda);
  else
    std::snprintf(text, sizeof(text), "lr %.3g", point.lr);
  return text;
}

}  // namespace

std::vector<TunePoint> TuneGrid(const Variant& variant, const Hyper& hyper) {
  std::vector<TunePoint> points;
  for (const double lr : kLrFactors) {
    for (const double lambda : kLambdaFactors) {
      if (lambda != 1 && (!variant.penalty || hyper.lambda == 0)) continue;
      points.push_back({lr * hyper.lr, lambda * hyper.lambda});
    }
  }
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
    const bool complete = std::all_of(tuning.points.begin(), tuning.points.end(),
                                      [](const TunePoint& point) { return point.best_epoch > 0; });
    if (!complete) continue;
    const bool penalty = FindVariant(key.second)->penalty;
    nlohmann::json points = nlohmann::json::array();
    for (const TunePoint& point : tuning.points) {
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

Hyper TunedHyper(Hyper hyper, const RowKey& key, const Tunings& tunings) {
  const auto found = tunings.find({key.head, key.variant});
  if (found == tunings.end()) return hyper;
  const Tuning& tuning = found->second;
  const TunePoint& point = tuning.points[key.point >= 0 ? static_cast<size_t>(key.point) : tuning.chosen];
  hyper.lr = point.lr;
  hyper.lambda = point.lambda;
  return hyper;
}

std::string FilePoint(const RowKey& key, const RowResult& result, Tunings* tunings) {
  Tuning& tuning = tunings->at({key.head, key.variant});
  TunePoint& point = tuning.points[static_cast<size_t>(key.point)];
  point.auc = result.valid_auc;
  point.best_epoch = result.state.best_epoch;
  point.capped = result.state.capped;
  point.seconds = result.state.seconds;
  if (&point != &tuning.points.back()) return "";
  tuning.chosen = ChoosePoint(tuning.points);
  const TunePoint& chosen = tuning.points[tuning.chosen];
  char auc[80];
  std::snprintf(auc, sizeof(auc), ", validation auc %.4f (of %zu points)", chosen.auc, tuning.points.size());
  return "tuned " + std::string(HeadName(key.head)) + " " + key.variant + ": " +
         PointText(*FindVariant(key.variant), chosen) + auc;
}

}  // namespace resembed::train
