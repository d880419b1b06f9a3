// SPDX-License-Identifier: Apache-2.0
// What the report says about figures: names, means over seeds, intervals over test users.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "host/train/eval.h"

namespace resembed::train {

// By the names of metrics.json: auc, auc_pop, logloss, hr20, hr20_new, hr20_repeat. Figures that were not
// evaluated are missing; one without a target (no new target in the log) is NaN and becomes null.
std::map<std::string, double> NamedFigures(const Figures& figures);

// Per-target means over seeds; all of the same EvalSet.
Figures MeanOfSeeds(const std::vector<Figures>& seeds);

struct MeanStd {
  double mean, std;  // std with n - 1; NaN for one value. NaN values make both NaN.
};
MeanStd MeanAndStd(const std::vector<double>& values);

// Percentile bootstrap interval (95 %) of the mean over test users; NaN without values.
Interval MeanInterval(const std::vector<float>& values, uint64_t seed, int n_resamples = 1000);

// Interval of every figure of NamedFigures that row has / that both have (row minus base, paired by target).
std::map<std::string, Interval> FigureIntervals(const Figures& row, uint64_t seed, int n_resamples = 1000);
std::map<std::string, Interval> CompareFigures(const Figures& row, const Figures& base, uint64_t seed,
                                               int n_resamples = 1000);

// How well a partition and a graph agree with the true interests of a generated log.
struct Agreement {
  double nmi;                   // normalized mutual information (arithmetic mean of entropies), items in both
  double edge_share;            // share of graph edges that join two items of one true interest
  double edge_share_by_chance;  // the same if an edge's ends were drawn at random by degree
};
// found [n_items] (-1 = none), neighbors [n_items, k] with -1 ends.
Agreement CompareInterests(const std::vector<int32_t>& truth, const std::vector<int32_t>& found,
                           const std::vector<int32_t>& neighbors, int32_t k);

}  // namespace resembed::train
