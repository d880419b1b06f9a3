// SPDX-License-Identifier: Apache-2.0
// One valid call of plan, backward, step and backward_step over a small table, for tests that spoil one thing.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "tests/support/training.h"

namespace resembed::testing {

// One valid call of each operation over a stored-neighbor table; a test spoils one thing.
struct Call {
  TestExecutor serial{1};
  Training training;
  resembed_place place;
  resembed_plan_args plan_args;
  std::unique_ptr<MadePlan> plan;
  std::vector<float> rows[2];
  std::vector<int64_t> ids[2];
  int64_t n_rows[2] = {0, 0};
  resembed_grad grads[2];
  std::vector<float> neighbor_weights;
  resembed_table_grad table_grad;
  resembed_feature_grad feature_grad;
  const resembed_feature* features[1];
  const resembed_feature_grad* feature_grads[1];
  const resembed_table_grad* table_grads[1];
  const resembed_table_step* steps[1];
  resembed_backward_args backward;
  resembed_step_args step;
  resembed_backward_step_args fused;

  static TableSpec Spec() {
    TableSpec spec;
    spec.form = RESEMBED_CENTRAL_STORED;
    return spec;
  }
  static OptimizerSpec Adam() {
    OptimizerSpec spec;
    spec.kind = RESEMBED_ADAM;
    return spec;
  }
  explicit Call(const TableSpec& table = Spec(), const FeatureSpec& feature = {})
      : training({table}, {feature}, Adam(), Adam(), 1),
        place(PlaceOf(&serial)),
        plan_args(training.problem.PlanArgs()) {
    plan = std::make_unique<MadePlan>(plan_args, place);
    EXPECT_EQ(plan->status, RESEMBED_OK) << plan->message;
    const resembed_plan_table view = plan->View(0);
    const int64_t capacity[2] = {view.max_unique, view.max_unique_central};
    for (int part = 0; part < 2; ++part) {
      rows[part].resize(static_cast<size_t>(capacity[part] * table.dim));
      ids[part].resize(static_cast<size_t>(capacity[part]));
      grads[part] = {};
      grads[part].struct_size = sizeof(resembed_grad);
      grads[part].rows = rows[part].data();
      grads[part].row_ids = ids[part].data();
      grads[part].n_rows = &n_rows[part];
      grads[part].capacity = capacity[part];
    }
    neighbor_weights.resize(static_cast<size_t>(view.max_unique * table.n_neighbors));
    table_grad = {};
    table_grad.struct_size = sizeof(table_grad);
    if (table.residual) table_grad.residual = &grads[0];
    if (table.form != RESEMBED_CENTRAL_NONE) table_grad.central = &grads[1];
    if (table.form == RESEMBED_CENTRAL_STORED) table_grad.neighbor_weights = neighbor_weights.data();
    feature_grad = training.problem.features[0]->grad;
    features[0] = &training.problem.features[0]->descriptor;
    feature_grads[0] = &feature_grad;
    table_grads[0] = &table_grad;
    steps[0] = &training.steps[0];
    backward = {};
    backward.struct_size = sizeof(backward);
    backward.plan = &plan->header;
    backward.tables = training.problem.table_list();
    backward.features = features;
    backward.n_features = 1;
    backward.feature_grads = feature_grads;
    backward.table_grads = table_grads;
    step = {};
    step.struct_size = sizeof(step);
    step.tables = training.problem.table_list();
    step.table_grads = table_grads;
    step.steps = steps;
    fused = {};
    fused.struct_size = sizeof(fused);
    fused.plan = &plan->header;
    fused.tables = training.problem.table_list();
    fused.features = features;
    fused.n_features = 1;
    fused.feature_grads = feature_grads;
    fused.steps = steps;
  }
  resembed_table& table() { return training.problem.tables[0]->descriptor; }
  resembed_optimizer& adam() { return training.residual[0]->descriptor; }
  resembed_optimizer& central_adam() { return training.central[0]->descriptor; }

  template <typename Args>
  resembed_status Run(const Args& args, resembed_status (*size)(const Args*, const resembed_place*, size_t*),
                      resembed_status (*op)(const Args*, void*, size_t, const resembed_place*)) {
    size_t bytes = 0;
    const resembed_status status = size(&args, &place, &bytes);
    if (status != RESEMBED_OK) return status;
    Guarded workspace(bytes);
    return op(&args, workspace.data(), bytes, &place);
  }
  resembed_status RunBackward() { return Run(backward, resembed_backward_workspace_size, resembed_backward); }
  resembed_status RunStep() { return Run(step, resembed_step_workspace_size, resembed_step); }
  resembed_status RunFused() {
    return Run(fused, resembed_backward_step_workspace_size, resembed_backward_step);
  }
  resembed_status RunPlan() {
    const MadePlan made(plan_args, place);
    return made.status;
  }
};

struct Reject {
  resembed_status code;
  const char* substring;
  std::function<void(Call&)> spoil;
};

inline void ExpectRejects(const std::vector<Reject>& rejects,
                          const std::function<resembed_status(Call&)>& run,
                          const TableSpec& table = Call::Spec(), const FeatureSpec& feature = {}) {
  for (const Reject& reject : rejects) {
    SCOPED_TRACE(reject.substring);
    Call call(table, feature);
    const auto before = call.training.Written();
    reject.spoil(call);
    EXPECT_EQ(run(call), reject.code);
    EXPECT_THAT(resembed_last_error_message(), ::testing::HasSubstr(reject.substring));
    EXPECT_TRUE(call.training.Written() == before) << "something was written";
    for (int part = 0; part < 2; ++part) {
      for (const float value : call.rows[part]) ASSERT_EQ(value, 0.0f) << "a gradient was written";
    }
  }
}

// Misaligned by one byte.
template <typename T>
T* Odd(T* pointer) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pointer) + 1);
}

// Refusals of another plan, in the three operations that take one.
inline const std::vector<Reject>& PlanRejects() {
  static const std::vector<Reject> rejects = {
      {RESEMBED_INVALID_ARGUMENT, "plan is null", [](Call& c) { c.backward.plan = c.fused.plan = nullptr; }},
      {RESEMBED_INVALID_ARGUMENT, "plan is empty", [](Call& c) { c.plan->header.fingerprint = 0; }},
      {RESEMBED_INVALID_ARGUMENT, "plan.backend is cuda; needs cpu",
       [](Call& c) { c.plan->header.backend = RESEMBED_CUDA; }},
      {RESEMBED_INVALID_ARGUMENT, "the memory holds another plan",
       [](Call& c) { c.plan->header.fingerprint ^= 1; }},
      {RESEMBED_INVALID_ARGUMENT, "that of these tables, features and map versions",
       [](Call& c) { ++c.table().map_version; }},
      {RESEMBED_INVALID_ARGUMENT, "that of these tables, features and map versions",
       [](Call& c) { ++c.table().central_rows; }},
      {RESEMBED_INVALID_ARGUMENT, "that of these tables, features and map versions",
       [](Call& c) { c.training.problem.features[0]->descriptor.pooling = RESEMBED_POOLING_MEAN; }},
      {RESEMBED_INVALID_ARGUMENT, "that of these tables, features and map versions",
       [](Call& c) {
         c.training.problem.features[0]->descriptor.has_padding = 1;
         c.training.problem.features[0]->descriptor.padding_id = 3;
       }},
      {RESEMBED_INVALID_ARGUMENT, "tables is null",
       [](Call& c) { c.backward.tables = c.fused.tables = nullptr; }},
      {RESEMBED_INVALID_ARGUMENT, "features is null",
       [](Call& c) { c.backward.features = c.fused.features = nullptr; }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads is null",
       [](Call& c) { c.backward.feature_grads = c.fused.feature_grads = nullptr; }},
      {RESEMBED_INVALID_ARGUMENT, "args is of struct_size 0",
       [](Call& c) { c.backward.struct_size = c.fused.struct_size = 0; }},
      {RESEMBED_INVALID_ARGUMENT, "place.executor.width is 0",
       [](Call& c) { c.serial.descriptor.width = 0; }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads[0].struct_size is 0",
       [](Call& c) { c.feature_grad.struct_size = 0; }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads[0].grad_output is null",
       [](Call& c) { c.feature_grad.grad_output = nullptr; }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads[0].grad_output_dtype is i32",
       [](Call& c) { c.feature_grad.grad_output_dtype = RESEMBED_I32; }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads[0].grad_output_stride is 6; needs at least dim (7)",
       [](Call& c) { c.feature_grad.grad_output_stride = 6; }},
      {RESEMBED_INVALID_ARGUMENT, "needs rows below 2^62 bytes",
       [](Call& c) { c.feature_grad.grad_output_stride = int64_t{1} << 60; }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads[0].grad_output is misaligned",
       [](Call& c) {
         c.feature_grad.grad_output = Odd(static_cast<const char*>(c.feature_grad.grad_output));
       }},
      {RESEMBED_INVALID_ARGUMENT, "feature_grads[0].grad_weights is misaligned",
       [](Call& c) { c.feature_grad.grad_weights = Odd(c.rows[0].data()); }},
  };
  return rejects;
}

}  // namespace resembed::testing
