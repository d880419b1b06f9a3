// SPDX-License-Identifier: Apache-2.0
#include "host/train/item_bias.h"

#include <algorithm>

namespace resembed::train {

ItemBias::ItemBias(int64_t n_items, DenseMath* math)
    : value(math->device(), HostCopy::kPageable),
      state(math->device(), HostCopy::kPageable),
      correction(math->device(), HostCopy::kPageable),
      math_(math),
      group_of_(static_cast<size_t>(n_items), -1),
      integers_(math->device(), HostCopy::kPinned),
      shifts_(math->device(), HostCopy::kNone),
      d_shifts_(math->device(), HostCopy::kNone) {
  for (Mirror<float>* array : {&value, &state, &correction}) {
    array->Assign(static_cast<size_t>(n_items));
    array->Upload(array->size());
  }
}

void ItemBias::Load(const std::vector<int32_t>& targets, const std::vector<int32_t>& negatives) {
  n_ = static_cast<int64_t>(targets.size() + negatives.size());
  integers_.Reserve(static_cast<size_t>(4 * n_ + 1));
  shifts_.Reserve(static_cast<size_t>(n_));
  d_shifts_.Reserve(static_cast<size_t>(n_));
  int32_t *const ids = integers_.host(), *const places = ids + n_, *const items = places + n_,
                 *const begin = items + n_;
  std::copy(negatives.begin(), negatives.end(), std::copy(targets.begin(), targets.end(), ids));
  // Groups in the order in which their items come first.
  next_.clear();
  for (int64_t i = 0; i < n_; ++i) {
    int32_t& group = group_of_[static_cast<size_t>(ids[i])];
    if (group < 0) {
      group = static_cast<int32_t>(next_.size());
      items[group] = ids[i];
      next_.push_back(0);
    }
    ++next_[static_cast<size_t>(group)];
  }
  n_groups_ = static_cast<int64_t>(next_.size());
  begin[0] = 0;
  for (int64_t group = 0; group < n_groups_; ++group) {
    begin[group + 1] = begin[group] + next_[static_cast<size_t>(group)];
    next_[static_cast<size_t>(group)] = begin[group];
  }
  for (int64_t i = 0; i < n_; ++i) {
    int32_t& next = next_[static_cast<size_t>(group_of_[static_cast<size_t>(ids[i])])];
    places[next++] = static_cast<int32_t>(i);
  }
  for (int64_t group = 0; group < n_groups_; ++group) group_of_[static_cast<size_t>(items[group])] = -1;
  integers_.Upload(static_cast<size_t>(4 * n_ + 1));
  math_->BiasShifts(n_, integers_.device(), value.device(), correction.device(), shifts_.device());
}

void ItemBias::Step(float lr) {
  const int32_t* const ids = integers_.device();
  math_->StepBiases({n_groups_, ids + 2 * n_, ids + 3 * n_, ids + n_, d_shifts_.device(), lr, value.device(),
                     state.device()});
}

}  // namespace resembed::train
