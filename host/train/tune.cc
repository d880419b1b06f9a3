// SPDX-License-Identifier: Apache-2.0
#include "host/train/tune.h"

#include <algorithm>
#include <cstdio>

namespace resembed::train {

namespace {

constexpr double kLrFactors[] = {1, 0.5, 2}, kLambdaFactors[] = {1, 0, 0.1, 10};  // the defaults win ties
constexpr double kTolerance = 0.002;

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

std::string PointText(const Variant& variant, const TunePoint& point) {
  char text[80];
  if (variant.penalty)
    std::snprintf(text, sizeof(text), "lr %.3g lambda %.3g", point.lr, point.lambda);
  else
    std::snprintf(text, sizeof(text), "lr %.3g", point.lr);
  return text;
}

}  // namespace resembed::train
