// SPDX-License-Identifier: Apache-2.0
// Optimizer formulas of types.h in float64, one row at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::testing {

struct OracleOptimizer {
  resembed_optimizer_kind kind = RESEMBED_SGD;
  double lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0, max_row_norm = 0, grad_scale = 1;
  resembed_decay decay = RESEMBED_DECAY_L2;
  int64_t step = 1;
};

struct OracleRowState {
  std::vector<double> row;
  std::vector<double> state1, state2;  // one number for the row states
};

// False: the gradient is not finite, nothing was changed.
bool OracleStep(const OracleOptimizer& optimizer, const std::vector<double>& gradient, OracleRowState* state);

}  // namespace resembed::testing
