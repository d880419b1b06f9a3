// SPDX-License-Identifier: Apache-2.0
// Models that count: what a trained model must beat.
#pragma once

#include <map>
#include <string>

#include "host/train/eval.h"

namespace resembed::train {

// popularity, covisit, covisit_seen, itemknn, itemknn_seen, each with its figures on `test`; itemknn's a
// and b are chosen on `valid` from {0, .3, .5}. Definitions in docs/concepts.md.
struct BaselineRow {
  Figures figures;
  double a = 0, b = 0;  // itemknn only
  double seconds = 0;
};
std::map<std::string, BaselineRow> RunBaselines(const Log& log, const Split& split, const TrainingView& view,
                                                const EvalSet& valid, const EvalSet& test, int n_threads = 0);

}  // namespace resembed::train
