// SPDX-License-Identifier: Apache-2.0
// Every refusal of plan and backward: code and sentence, and nothing written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gradient_call.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;
constexpr resembed_status kInvalid = RESEMBED_INVALID_ARGUMENT, kRange = RESEMBED_OUT_OF_RANGE;

TEST(Plan, Rejects) {
  static int64_t minus_one = -1;
  ExpectRejects(
      {
          {kInvalid, "plan: tables is null", [](Call& c) { c.plan_args.tables = nullptr; }},
          {kInvalid, "plan: tables[0].dim is 0", [](Call& c) { c.table().dim = 0; }},
          {kInvalid, "plan: features is null; needs 1 features",
           [](Call& c) { c.plan_args.features = nullptr; }},
          {kInvalid, "plan: features[0].table is 1",
           [](Call& c) { c.training.problem.features[0]->descriptor.table = 1; }},
          {kInvalid, "plan: bounds is 3; needs check, trust or skip",
           [](Call& c) { c.plan_args.bounds = 3; }},
          {kInvalid, "plan: max_unique[0] is -1", [](Call& c) { c.plan_args.max_unique = &minus_one; }},
          {kInvalid, "plan: max_unique_central[0] is -1",
           [](Call& c) { c.plan_args.max_unique_central = &minus_one; }},
          {RESEMBED_UNSUPPORTED, "plan: tables[0].n_items is 2147483648; needs at most 2^31 - 1",
           [](Call& c) {
             c.table().n_items = int64_t{1} << 31;
             c.table().residual = nullptr;
             c.training.problem.features[0]->descriptor.n_ids = 0;
             c.training.problem.features[0]->descriptor.offsets = nullptr;
           }},
          {RESEMBED_UNSUPPORTED,
           "plan: features over tables[0] is 4294967295 ids and 20 rows of output; needs below 2^32 - 1 of "
           "each",
           [](Call& c) {
             resembed_feature& feature = c.training.problem.features[0]->descriptor;
             feature.n_ids = int64_t{0xffffffff};
           }},
          {RESEMBED_UNSUPPORTED,
           "plan: features over tables[0] is 0 ids and 4294967296 rows of output; needs below 2^32 - 1 of "
           "each",
           [](Call& c) {
             resembed_feature& feature = c.training.problem.features[0]->descriptor;
             feature.n_ids = 0;
             feature.offsets = nullptr;
             feature.n_bags = int64_t{1} << 32;
             feature.bag_length = 0;
           }},
          {RESEMBED_UNSUPPORTED,
           "plan: max_unique[0] is 1073741824; needs at most 1073741823 with 3 slots an item",
           [](Call& c) {
             c.table().n_items = int64_t{1} << 30;
             c.table().residual = nullptr;
             c.training.problem.features[0]->descriptor.n_ids = int64_t{1} << 30;
           }},
          {kInvalid, "plan: args is of struct_size 0", [](Call& c) { c.plan_args.struct_size = 0; }},
#ifndef RESEMBED_WITH_CUDA
          {RESEMBED_UNSUPPORTED, "plan: place.backend is cuda",
           [](Call& c) { c.place.backend = RESEMBED_CUDA; }},
#endif
          {kRange, "plan: features[0].offsets[0] is 1; needs 0",
           [](Call& c) { c.training.problem.features[0]->offset_bytes[0] = 1; }},
      },
      [](Call& c) { return c.RunPlan(); });
}

TEST(Plan, RejectsMemoryAndHeader) {
  Call c;
  size_t plan_bytes = 0, workspace_bytes = 0;
  ASSERT_EQ(resembed_plan_size(&c.plan_args, &c.place, &plan_bytes, &workspace_bytes), RESEMBED_OK);
  Guarded memory(plan_bytes), workspace(workspace_bytes);
  resembed_plan_header header = {};
  header.struct_size = sizeof(header);
  const auto run = [&](void* at, size_t bytes, resembed_plan_header* out, void* work, size_t work_bytes) {
    return resembed_plan(&c.plan_args, at, bytes, out, work, work_bytes, &c.place);
  };
  const auto message = [] { return std::string(resembed_last_error_message()); };
  EXPECT_EQ(run(memory.data(), plan_bytes, nullptr, workspace.data(), workspace_bytes), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan: plan is null"));
  EXPECT_EQ(run(nullptr, plan_bytes, &header, workspace.data(), workspace_bytes), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan: memory is"));
  EXPECT_EQ(
      run(Odd(static_cast<char*>(memory.data())), plan_bytes, &header, workspace.data(), workspace_bytes),
      kInvalid);
  EXPECT_THAT(message(), HasSubstr("needs an address that is a multiple of 64"));
  EXPECT_EQ(run(memory.data(), plan_bytes - 1, &header, workspace.data(), workspace_bytes),
            RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(message(), HasSubstr("plan: memory_bytes is " + std::to_string(plan_bytes - 1)));
  EXPECT_EQ(run(memory.data(), plan_bytes, &header, workspace.data(), workspace_bytes - 1),
            RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(message(), HasSubstr("plan: workspace_bytes is " + std::to_string(workspace_bytes - 1)));
  EXPECT_EQ(run(memory.data(), plan_bytes, &header, memory.data(), workspace_bytes), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan: memory is overlapping workspace"));
  EXPECT_EQ(resembed_plan_size(&c.plan_args, &c.place, nullptr, &workspace_bytes), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan: plan_bytes is null"));
  EXPECT_EQ(header.fingerprint, 0u);

  resembed_plan_table view = {};
  view.struct_size = sizeof(view);
  EXPECT_EQ(resembed_plan_view(nullptr, 0, &view), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan_view: plan is null"));
  EXPECT_EQ(resembed_plan_view(&header, 0, &view), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan_view: plan is empty"));
  EXPECT_EQ(resembed_plan_view(&c.plan->header, 1, &view), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan_view: table is 1; needs 0 .. 0"));
  EXPECT_EQ(resembed_plan_view(&c.plan->header, 0, nullptr), kInvalid);
  EXPECT_THAT(message(), HasSubstr("plan_view: view is null"));
}

TEST(Backward, RejectsPlansAndOutputGradients) {
  ExpectRejects(PlanRejects(), [](Call& c) { return c.RunBackward(); });
  ExpectRejects(
      {{kInvalid,
        "backward: feature_grads[0].grad_output_stride is 1152921504606846976; needs rows below 2^62 bytes",
        [](Call& c) { c.feature_grad.grad_output_stride = int64_t{1} << 60; }}},
      [](Call& c) { return c.RunBackward(); });
}
TEST(Backward, RejectsGradientsItCannotWrite) {
  ExpectRejects(
      {
          {kInvalid, "backward: table_grads is null", [](Call& c) { c.backward.table_grads = nullptr; }},
          {kInvalid, "backward: table_grads[0] is of struct_size 0",
           [](Call& c) { c.table_grad.struct_size = 0; }},
          {kInvalid, "backward: table_grads[0].residual.struct_size is 0",
           [](Call& c) { c.grads[0].struct_size = 0; }},
          {kInvalid, "backward: table_grads[0].central.layout is 2", [](Call& c) { c.grads[1].layout = 2; }},
          {kInvalid, "backward: table_grads[0].residual.stride is 3; needs at least dim (7)",
           [](Call& c) { c.grads[0].stride = 3; }},
          {kInvalid, "backward: table_grads[0].residual.stride is too long",
           [](Call& c) { c.grads[0].stride = int64_t{1} << 60; }},
          {kInvalid, "backward: table_grads[0].residual.rows is misaligned",
           [](Call& c) { c.grads[0].rows = Odd(c.grads[0].rows); }},
          {kInvalid, "backward: table_grads[0].residual.rows is null",
           [](Call& c) { c.grads[0].rows = nullptr; }},
          {kInvalid, "backward: table_grads[0].residual.rows is null",
           [](Call& c) {
             c.grads[0].rows = nullptr;
             c.grads[0].layout = RESEMBED_GRAD_DENSE;
           }},
          {kInvalid, "backward: table_grads[0].central.n_rows is null",
           [](Call& c) { c.grads[1].n_rows = nullptr; }},
          {kInvalid, "backward: table_grads[0].central.capacity is negative",
           [](Call& c) { c.grads[1].capacity = -1; }},
          {kInvalid, "backward: table_grads[0].central.row_ids is null",
           [](Call& c) { c.grads[1].row_ids = nullptr; }},
          {kInvalid, "backward: table_grads[0].central.row_ids is misaligned",
           [](Call& c) { c.grads[1].row_ids = Odd(c.grads[1].row_ids); }},
          {kRange, "backward: table_grads[0].residual.capacity is 1; needs the",
           [](Call& c) { c.grads[0].capacity = 1; }},
          {kRange, "backward: table_grads[0].central.capacity is 1; needs the",
           [](Call& c) { c.grads[1].capacity = 1; }},
          {kInvalid, "backward: table_grads[0].neighbor_weights is misaligned",
           [](Call& c) { c.table_grad.neighbor_weights = Odd(c.table_grad.neighbor_weights); }},
          {kInvalid, "backward: table_grads[0].central is given; needs a plan made without skip_central",
           [](Call& c) {
             c.plan_args.skip_central = 1;
             c.plan = std::make_unique<MadePlan>(c.plan_args, c.place);
             c.backward.plan = &c.plan->header;
           }},
      },
      [](Call& c) { return c.RunBackward(); });

  TableSpec plain;
  ExpectRejects(
      {{kInvalid, "backward: table_grads[0].central is given; needs null for form none",
        [](Call& c) { c.table_grad.central = &c.grads[1]; }},
       {kInvalid, "backward: table_grads[0].neighbor_weights is given; needs null for form none",
        [](Call& c) { c.table_grad.neighbor_weights = c.rows[0].data(); }}},
      [](Call& c) { return c.RunBackward(); }, plain);
  TableSpec center_only = Call::Spec();
  center_only.residual = false;
  const auto without_residual = [](Call& c) {
    c.training.steps[0].residual = nullptr;
    c.table_grad.residual = &c.grads[0];
  };
  ExpectRejects(
      {{kInvalid, "backward: table_grads[0].residual is given; needs null for a table without residual",
        without_residual}},
      [](Call& c) { return c.RunBackward(); }, center_only);
  FeatureSpec max;
  max.pooling = RESEMBED_POOLING_MAX;
  ExpectRejects(
      {{kInvalid, "backward: feature_grads[0].grad_weights is given; needs null with pooling max",
        [](Call& c) { c.feature_grad.grad_weights = c.neighbor_weights.data(); }}},
      [](Call& c) { return c.RunBackward(); }, Call::Spec(), max);
}

TEST(Backward, RejectsWorkspaces) {
  Call c;
  size_t bytes = 0;
  EXPECT_EQ(resembed_backward_workspace_size(&c.backward, &c.place, nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "backward: bytes is null; needs a size_t");
  EXPECT_EQ(resembed_step_workspace_size(&c.step, &c.place, nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "step: bytes is null; needs a size_t");
  EXPECT_EQ(resembed_backward_step_workspace_size(&c.fused, &c.place, nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "backward_step: bytes is null; needs a size_t");
  ASSERT_EQ(resembed_backward_workspace_size(&c.backward, &c.place, &bytes), RESEMBED_OK);
  Guarded workspace(bytes);
  const auto before = c.training.Written();
  EXPECT_EQ(resembed_backward(&c.backward, workspace.data(), bytes - 1, &c.place),
            RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("backward: workspace_bytes is " + std::to_string(bytes - 1) + "; needs " +
                        std::to_string(bytes)));
  EXPECT_EQ(resembed_backward(&c.backward, nullptr, bytes, &c.place), kInvalid);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("backward: workspace is null; needs"));
  EXPECT_EQ(resembed_backward(&c.backward, Odd(static_cast<char*>(workspace.data())), bytes, &c.place),
            kInvalid);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("needs an address that is a multiple of 64"));
  EXPECT_EQ(resembed_step(&c.step, nullptr, 0, &c.place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("step: workspace_bytes is 0"));
  EXPECT_EQ(resembed_backward_step(&c.fused, nullptr, 0, &c.place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("backward_step: workspace_bytes is 0"));
  EXPECT_TRUE(c.training.Written() == before);
}

}  // namespace
}  // namespace resembed::testing
