// SPDX-License-Identifier: Apache-2.0
// A bias for every item, where the head computes: what a step adds to logits, and an Adagrad of each bias.
#pragma once

#include <vector>

#include "host/train/dense_math.h"
#include "host/train/device.h"

namespace resembed::train {

// A step: Load, gradients into d_shifts, Step. Everything is of the ids that were loaded, targets before
// negatives.
class ItemBias {
 public:
  // Zeros; value and correction are to be filled on the host and uploaded. math: outlives this.
  ItemBias(int64_t n_items, DenseMath* math);

  Mirror<float> value, state;  // [n_items]; state: sum of squares
  Mirror<float> correction;    // [n_items] what the training logit is less

  // shifts[i] = value[id] - correction[id]. On a device copies to it from pinned memory, which may be written
  // again when the device has been waited for.
  void Load(const std::vector<int32_t>& targets, const std::vector<int32_t>& negatives);
  const int32_t* ids() { return integers_.device(); }
  const float* shifts() { return shifts_.device(); }
  float* d_shifts() { return d_shifts_.device(); }
  // Every item's gradients are summed in order.
  void Step(float lr);

 private:
  DenseMath* math_;
  int64_t n_ = 0, n_groups_ = 0;
  std::vector<int32_t> group_of_;  // [n_items] -1 between steps
  std::vector<int32_t> next_;      // place of the next gradient of each group
  Mirror<int32_t> integers_;       // ids [n], and of BiasStep: places [n], items [n], begin [n + 1]
  Mirror<float> shifts_, d_shifts_;
};

}  // namespace resembed::train
