// SPDX-License-Identifier: Apache-2.0
// Models that count: what a trained model must beat.
#pragma once

#include <map>
#include <string>

#include "host/train/count_pairs.h"
#include "host/train/eval.h"

namespace resembed::train {

// Each scores items j after a history h_0 (the most recent event), h_1, ...; ties by popularity.
//   popularity    pop(j), events of training users
//   covisit       sum over the last 5 events of Z(h_t, j), Z all co-visit counts of training users within 5 positions
//   itemknn       sum_t .6^t Z(h_t, j) / (D(h_t)^a pop(j)^b) over the last 20 events; Z weighs a pair at distance d by
//                 60 / d (whole numbers; the factor 60 changes no order), D(i) = sum_j Z(i, j); a and b of {0, .3, .5} are
//                 those with the best auc on `valid`, the smallest on ties
//   covisit_seen, itemknn_seen   items of the full history before all others, each part in the order of the score
// Memory: the pairs of window 5, 8 bytes each way at rest, 16 while they are read out.
struct BaselineRow {
  Figures figures;
  double a = 0, b = 0;  // itemknn only
  double valid_auc = 0, valid_hr20 = 0;
  double seconds = 0;
};
// Where the pairs do not fit into the budget there is popularity only, and *n_left_out says how many they are.
std::map<std::string, BaselineRow> RunBaselines(const Log& log, const Split& split, const TrainingView& view,
                                                const EvalSet& valid, const EvalSet& test, int n_threads = 0,
                                                const PairBudget& budget = {}, int64_t* n_left_out = nullptr);

}  // namespace resembed::train
