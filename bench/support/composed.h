// SPDX-License-Identifier: Apache-2.0
// Attention pooling the usual way: the items' embeddings composed by the library's sequence output into a buffer of
// n_ids x dim, then plain loops over that buffer, on as many threads. Softmax, scale 1, bags of equal length.
#pragma once

#include <vector>

#include "bench/support/huge_array.h"
#include "bench/support/scenario.h"
#include "resembed/resembed.h"

namespace resembed::bench {

class ComposedAttention {
 public:
  // Memory for batches of one shape.
  ComposedAttention(const Scenario& scenario, const BatchShape& shape);

  // y [n_bags, dim], p kept, from q [n_bags, dim].
  void Forward(const Batch& batch, const float* query, float* y);
  // After Forward: dq [n_bags, dim], and dE [n_ids, dim] for the step of `sequence()`.
  void Backward(const float* query, const float* dy, float* dq);

  // The sequence feature of a batch, and dE.
  resembed_feature Sequence(const Batch& batch) const;
  const float* item_grads() const { return item_grads_.data(); }

 private:
  const Scenario& scenario_;
  int64_t n_bags_, length_, dim_;
  HugeArray<float> items_, item_grads_;
  std::vector<float> p_;
  HugeArray<char> workspace_;
};

}  // namespace resembed::bench
