// SPDX-License-Identifier: Apache-2.0
// What backward and the fused step share: the plan of a call and the gradient of its output.
#pragma once

#include "host/torch/call.h"

namespace resembed::adapter {

// Central rows an item may touch.
inline int64_t SlotsOf(const resembed_table& table) {
  if (table.form == RESEMBED_CENTRAL_NONE) return 0;
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) return 1;
  return table.n_neighbors + (table.form == RESEMBED_CENTRAL_ATTENTION ? 1 : 0);
}

// In scratch memory: dies with the object, and with the next plan of this thread.
class Plan {
 public:
  Plan(Lookup* lookup, bool with_central);
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  const resembed_plan_header* header() const { return &header_; }

 private:
  c10::SmallVector<uint64_t, 48> layout_;
  std::optional<Scratch> memory_;
  resembed_plan_header header_ = {};
};

// dL/dy, and where per-sample gradients go (undefined: not asked for; else float32 of the shape of indices).
class FeatureGrads {
 public:
  FeatureGrads(const char* op, const Lookup& lookup, const Tensor& grad_output,
               const Tensor& grad_per_sample_weights);
  FeatureGrads(const FeatureGrads&) = delete;
  FeatureGrads& operator=(const FeatureGrads&) = delete;
  const resembed_feature_grad* const* list() const { return list_.data(); }

 private:
  Tensor grad_output_;
  c10::SmallVector<resembed_feature_grad, 1> grads_;
  c10::SmallVector<const resembed_feature_grad*, 1> list_;
};

}  // namespace resembed::adapter
