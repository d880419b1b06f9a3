// SPDX-License-Identifier: Apache-2.0
// The obvious code without the library: each step a pass of its own over a temporary, on as many threads. The
// temporaries are fp32, allocated by the first call and kept for the next ones.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/support/scenario.h"

namespace resembed::bench {

// Sum pooling, bags of equal length, full lists; tables of finite numbers.
class Unfused {
 public:
  Unfused(const Scenario& scenario, const Batch& batch);

  // lists, weights = map[ids]; gathered = C[lists]; weighed = gathered * weights; central = weighed summed
  // over the slots; residual = R[ids]; item = central + residual; output = items summed over the bag. With
  // attention: query = C[ids]; scores = query . gathered; weights = softmax of the scores.
  void Forward(float* output);

  // use = grad[bag]; R: sort ids, sum the uses of each, then one pass for each state of the optimizer and one for
  // the rows; C: slot gradients = weights * use, sort the slots, sum, the same passes. fp32 and bf16 tables, every
  // form but attention; states fp32 without a stride, no decay.
  void BackwardStep(const float* grad, const resembed_optimizer& residual, const resembed_optimizer& central);

 private:
  using Floats = std::vector<float>;

  void GatherLists();
  void Attend();
  // Sums rows of `grads` [n, dim] by key, then updates the rows of `table`.
  void ScatterStep(const std::vector<int32_t>& keys, const Floats& grads, const resembed_optimizer& optimizer,
                   void* table);

  const Scenario& scenario_;
  const Batch& batch_;
  const resembed_dtype dtype_;
  const int64_t dim_;
  const int64_t n_slots_;
  std::vector<int32_t> lists_;
  Floats weights_, queries_, scores_, gathered_, weighed_, central_, residual_, items_, uses_;
};

}  // namespace resembed::bench
