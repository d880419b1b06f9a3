// SPDX-License-Identifier: Apache-2.0
// The obvious code without the library: each step a pass of its own over a temporary, on as many threads. The
// temporaries are allocated by the first call and kept for the next ones.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/support/scenario.h"

namespace resembed::bench {

// fp32 tables, sum pooling, bags of equal length.
class Unfused {
 public:
  Unfused(const Scenario& scenario, const Batch& batch);

  // lists, weights = map[ids]; gathered = C[lists]; weighed = gathered * weights; central = weighed summed
  // over the slots; residual = R[ids]; item = central + residual; output = items summed over the bag.
  void Forward(float* output);

  // use = grad[bag]; R: sort ids, sum the uses of each, row-wise Adagrad in three passes; C: slot gradients =
  // weights * use, sort the slots, sum, row-wise Adagrad. States [rows] each.
  void BackwardRowwiseAdagrad(const float* grad, float lr, float eps, float* residual_state,
                              float* central_state);

 private:
  using Floats = std::vector<float>;

  void GatherLists();
  // Sums rows of `grads` [n, dim] by key, then updates the rows.
  void ScatterStep(const std::vector<int32_t>& keys, const Floats& grads, float lr, float eps, float* table,
                   float* state);

  const Scenario& scenario_;
  const Batch& batch_;
  const int64_t dim_;
  const int64_t n_slots_;
  std::vector<int32_t> lists_;
  Floats weights_, gathered_, weighed_, central_, residual_, items_, uses_;
};

}  // namespace resembed::bench
