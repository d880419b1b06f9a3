// SPDX-License-Identifier: Apache-2.0
// A gradient problem with optimizers and their states, for tests of step and of the fused backward and step.
#pragma once

#include <memory>
#include <vector>

#include "tests/oracle/step.h"
#include "tests/support/gradient_problem.h"

namespace resembed::testing {

struct OptimizerSpec {
  resembed_optimizer_kind kind = RESEMBED_SGD;
  resembed_decay decay = RESEMBED_DECAY_L2;
  float weight_decay = 0, max_row_norm = 0, grad_scale = 0;
  resembed_dtype state_dtype = RESEMBED_F32;
  bool stochastic = false;
  int64_t step = 3;
};

// One matrix's optimizer over states of random non-negative numbers; rows are one element apart more than needed.
struct OptimizerState {
  OptimizerState() = default;
  OptimizerState(const OptimizerSpec& spec, int64_t rows, int64_t dim);
  resembed_optimizer descriptor;
  std::vector<unsigned char> state1, state2;
  int64_t state1_dim = 0, state2_dim = 0;
  int64_t n_skipped = 0;
};

class Training {
 public:
  Training(const std::vector<TableSpec>& tables, const std::vector<FeatureSpec>& features,
           const OptimizerSpec& residual, const OptimizerSpec& central, uint64_t seed);
  Training(const Training&) = delete;

  void Separate(const resembed_place& place);  // backward, then step
  void Fused(const resembed_place& place);
  // Every byte that a step may write: tables, states, counts of skipped rows, gradients of per-sample weights.
  std::vector<unsigned char> Written() const;

  GradientProblem problem;
  std::vector<std::unique_ptr<OptimizerState>> residual, central;
  std::vector<resembed_table_step> steps;
  std::vector<std::vector<float>> sample_weights;
  bool wants_sample_weights = true;
};

OracleOptimizer OracleOf(const resembed_optimizer& optimizer);

}  // namespace resembed::testing
