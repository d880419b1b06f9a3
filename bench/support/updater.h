// SPDX-License-Identifier: Apache-2.0
// Plan and fused step of one feature over one table, with the optimizer states and all the memory they take.
#pragma once

#include "bench/support/huge_array.h"
#include "bench/support/scenario.h"
#include "resembed/resembed.h"

namespace resembed::bench {

inline StateShape StateOf(resembed_optimizer_kind kind) {
  switch (kind) {
    case RESEMBED_ADAGRAD:
      return {0, 1};
    case RESEMBED_ROWWISE_ADAGRAD:
      return {1, 0};
    case RESEMBED_ADAM:
      return {0, 2};
    case RESEMBED_PARTIAL_ROWWISE_ADAM:
      return {1, 1};
    default:
      return {0, 0};
  }
}

// One part's optimizer with its state over the whole table.
struct Part {
  Part(resembed_optimizer_kind kind, int64_t rows, int64_t dim, Pages pages = Pages::kHuge) {
    const StateShape shape = StateOf(kind);
    descriptor.struct_size = sizeof(descriptor);
    descriptor.kind = kind;
    descriptor.lr = 1e-3f;
    descriptor.beta1 = 0.9f;
    descriptor.beta2 = 0.999f;
    descriptor.eps = 1e-8f;
    descriptor.step = 1;
    const bool adam = kind == RESEMBED_ADAM || kind == RESEMBED_PARTIAL_ROWWISE_ADAM;
    if (shape.row_floats + shape.element_floats > 0) {
      state1 = HugeArray<float>(shape.element_floats > 0 ? rows * dim : rows, pages);
      descriptor.state1 = state1.data();
    }
    if (adam) {
      state2 = HugeArray<float>(shape.row_floats > 0 ? rows : rows * dim, pages);
      descriptor.state2 = state2.data();
    }
    // Pages are there before the first timed step.
    for (const HugeArray<float>* state : {&state1, &state2}) {
      for (int64_t at = 0; at < state->size(); at += 1024) (*state)[at] = 1e-3f;
    }
  }
  resembed_optimizer descriptor = {};
  HugeArray<float> state1, state2;
};

// Plan and fused step of one feature over one table, with all the memory they take.
class Updater {
 public:
  Updater(const resembed_tables& tables, const resembed_feature* first, const resembed_feature_grad& grad,
          Part* residual, Part* central)
      : feature_(first), place_(CpuPlace()), feature_grad_(grad) {
    plan_args_.struct_size = sizeof(plan_args_);
    plan_args_.tables = &tables;
    plan_args_.features = &feature_;
    plan_args_.n_features = 1;
    size_t bytes = 0, workspace_bytes = 0;
    Check(resembed_plan_size(&plan_args_, &place_, &bytes, &workspace_bytes));
    plan_memory_ = HugeArray<char>(static_cast<int64_t>(bytes));
    plan_workspace_ = HugeArray<char>(static_cast<int64_t>(workspace_bytes));
    plan_.struct_size = sizeof(plan_);
    Plan(first);
    step_.struct_size = sizeof(step_);
    step_.residual = &residual->descriptor;
    step_.central = central == nullptr ? nullptr : &central->descriptor;
    args_.struct_size = sizeof(args_);
    args_.plan = &plan_;
    args_.tables = &tables;
    args_.features = &feature_;
    args_.n_features = 1;
    args_.feature_grads = &feature_grads_;
    args_.steps = &steps_;
    Check(resembed_backward_step_workspace_size(&args_, &place_, &bytes));
    workspace_ = HugeArray<char>(static_cast<int64_t>(bytes));
  }
  Updater(const Updater&) = delete;

  void Plan(const resembed_feature* feature) {
    feature_ = feature;
    Check(resembed_plan(&plan_args_, plan_memory_.data(), static_cast<size_t>(plan_memory_.size()), &plan_,
                        plan_workspace_.data(), static_cast<size_t>(plan_workspace_.size()), &place_));
  }
  void Step() {
    Check(resembed_backward_step(&args_, workspace_.data(), static_cast<size_t>(workspace_.size()), &place_));
  }

 private:
  const resembed_feature* feature_;
  const resembed_place place_;
  const resembed_feature_grad feature_grad_;
  resembed_plan_args plan_args_ = {};
  resembed_plan_header plan_ = {};
  const resembed_feature_grad* feature_grads_ = &feature_grad_;
  resembed_table_step step_ = {};
  const resembed_table_step* steps_ = &step_;
  resembed_backward_step_args args_ = {};
  HugeArray<char> plan_memory_, plan_workspace_, workspace_;
};

inline HugeArray<float> OutputGradients(int64_t n) {
  HugeArray<float> grad(n);
  for (int64_t i = 0; i < n; ++i) grad[i] = 1e-3f * static_cast<float>(i % 101 - 50);
  return grad;
}

inline resembed_feature_grad GradOf(const float* output) {
  resembed_feature_grad grad = {};
  grad.struct_size = sizeof(grad);
  grad.grad_output = output;
  grad.grad_output_dtype = RESEMBED_F32;
  return grad;
}

}  // namespace resembed::bench
