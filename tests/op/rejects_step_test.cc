// SPDX-License-Identifier: Apache-2.0
// Every refusal of step and backward_step: code and sentence, and nothing written.
#include <array>
#include <cmath>

#include "tests/support/gradient_call.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;
constexpr resembed_status kInvalid = RESEMBED_INVALID_ARGUMENT, kRange = RESEMBED_OUT_OF_RANGE;

TEST(BackwardStep, RejectsPlansAndOutputGradients) {
  ExpectRejects(PlanRejects(), [](Call& c) { return c.RunFused(); });
}

// Optimizers are checked alike in step and backward_step.
const std::vector<Reject>& OptimizerRejects() {
  static const std::vector<Reject> rejects = {
      {kInvalid, "steps is null", [](Call& c) { c.step.steps = c.fused.steps = nullptr; }},
      {kInvalid, "steps[0] is of struct_size 0", [](Call& c) { c.training.steps[0].struct_size = 0; }},
      {kInvalid, "steps[0].table_number is 32768; needs 0 .. 32767",
       [](Call& c) { c.training.steps[0].table_number = 32768; }},
      {kInvalid, "steps[0].residual.struct_size is 0", [](Call& c) { c.adam().struct_size = 0; }},
      {kInvalid, "steps[0].residual.kind is 5", [](Call& c) { c.adam().kind = 5; }},
      {kInvalid, "steps[0].central.kind is -1", [](Call& c) { c.central_adam().kind = -1; }},
      {kInvalid, "steps[0].residual.decay is 3", [](Call& c) { c.adam().decay = 3; }},
      {kInvalid, "steps[0].residual.state_dtype is i64",
       [](Call& c) { c.adam().state_dtype = RESEMBED_I64; }},
      {kInvalid, "steps[0].residual.lr is inf", [](Call& c) { c.adam().lr = INFINITY; }},
      {kInvalid, "steps[0].residual.beta1 is 1", [](Call& c) { c.adam().beta1 = 1; }},
      {kInvalid, "steps[0].residual.beta2 is -0.5", [](Call& c) { c.adam().beta2 = -.5f; }},
      {kInvalid, "steps[0].residual.eps is -1", [](Call& c) { c.adam().eps = -1; }},
      {kInvalid, "steps[0].residual.weight_decay is -1", [](Call& c) { c.adam().weight_decay = -1; }},
      {kInvalid, "steps[0].residual.max_row_norm is -1", [](Call& c) { c.adam().max_row_norm = -1; }},
      {kInvalid, "steps[0].residual.grad_scale is", [](Call& c) { c.adam().grad_scale = NAN; }},
      {kInvalid, "steps[0].residual.stochastic_rounding is 2",
       [](Call& c) { c.adam().stochastic_rounding = 2; }},
      {kInvalid, "steps[0].residual.state1 is null", [](Call& c) { c.adam().state1 = nullptr; }},
      {kInvalid, "steps[0].residual.state2 is null", [](Call& c) { c.adam().state2 = nullptr; }},
      {kInvalid, "steps[0].residual.state1 is misaligned",
       [](Call& c) { c.adam().state1 = Odd(static_cast<char*>(c.adam().state1)); }},
      {kInvalid, "steps[0].residual.state1_stride is 3; needs at least",
       [](Call& c) { c.adam().state1_stride = 3; }},
      {kInvalid, "steps[0].residual.state2_stride is",
       [](Call& c) { c.adam().state2_stride = int64_t{1} << 60; }},
      {kInvalid, "steps[0].residual.state1 is overlapping the rows it belongs to",
       [](Call& c) { c.adam().state1 = c.table().residual; }},
      {kRange, "steps[0].residual.step is 0; needs 1 or more", [](Call& c) { c.adam().step = 0; }},
      {kRange, "steps[0].residual.step_device[0] is -2; needs 1 or more",
       [](Call& c) {
         static const int64_t step = -2;
         c.adam().step_device = &step;
       }},
      {kInvalid, "tables is null", [](Call& c) { c.step.tables = c.fused.tables = nullptr; }},
      {kInvalid, "args is of struct_size 0", [](Call& c) { c.step.struct_size = c.fused.struct_size = 0; }},
  };
  return rejects;
}

TEST(Step, RejectsOptimizers) {
  ExpectRejects(OptimizerRejects(), [](Call& c) { return c.RunStep(); });
}
TEST(BackwardStep, RejectsOptimizers) {
  ExpectRejects(OptimizerRejects(), [](Call& c) { return c.RunFused(); });
  ExpectRejects(
      {{kInvalid, "backward_step: steps[0].central is given; needs a plan made without skip_central",
        [](Call& c) {
          c.plan_args.skip_central = 1;
          c.plan = std::make_unique<MadePlan>(c.plan_args, c.place);
          c.fused.plan = &c.plan->header;
        }}},
      [](Call& c) { return c.RunFused(); });
  TableSpec plain;
  ExpectRejects(
      {{kInvalid, "backward_step: steps[0].central is given; needs null for a table without that part",
        [](Call& c) { c.training.steps[0].central = &c.adam(); }}},
      [](Call& c) { return c.RunFused(); }, plain);
  TableSpec center_only = Call::Spec();
  center_only.residual = false;
  ExpectRejects(
      {{kInvalid, "backward_step: steps[0].residual is given; needs null for a table without that part",
        [](Call& c) { c.training.steps[0].residual = &c.central_adam(); }}},
      [](Call& c) { return c.RunFused(); }, center_only);
}

TEST(Step, RejectsGradients) {
  ExpectRejects(
      {
          {kInvalid, "step: table_grads is null", [](Call& c) { c.step.table_grads = nullptr; }},
          {kInvalid, "step: table_grads[0].residual is null; needs a gradient",
           [](Call& c) { c.table_grads[0] = nullptr; }},
          {kInvalid, "step: table_grads[0].central is null; needs a gradient",
           [](Call& c) { c.table_grad.central = nullptr; }},
          {kInvalid, "step: table_grads[0].residual.struct_size is 0",
           [](Call& c) { c.grads[0].struct_size = 0; }},
          {kInvalid, "step: table_grads[0].residual.layout is 2", [](Call& c) { c.grads[0].layout = 2; }},
          {kInvalid, "step: table_grads[0].residual.stride is 6; needs at least dim (7)",
           [](Call& c) { c.grads[0].stride = 6; }},
          {kInvalid, "step: table_grads[0].residual.rows is misaligned",
           [](Call& c) { c.grads[0].rows = Odd(c.grads[0].rows); }},
          {kInvalid, "step: table_grads[0].residual.n_rows is null",
           [](Call& c) { c.grads[0].n_rows = nullptr; }},
          {kInvalid, "step: table_grads[0].central.rows is null",
           [](Call& c) {
             c.grads[1].layout = RESEMBED_GRAD_DENSE;
             c.grads[1].rows = nullptr;
           }},
          {kRange, "step: table_grads[0].residual.n_rows[0] is -1", [](Call& c) { c.n_rows[0] = -1; }},
          {kRange, "step: table_grads[0].central.n_rows[0] is 1000", [](Call& c) { c.n_rows[1] = 1000; }},
          {kInvalid, "step: table_grads[0].residual.rows is null",
           [](Call& c) {
             c.n_rows[0] = 1;
             c.grads[0].rows = nullptr;
           }},
          {kInvalid, "step: table_grads[0].residual.row_ids is null",
           [](Call& c) {
             c.n_rows[0] = 1;
             c.grads[0].row_ids = nullptr;
           }},
          {kRange, "step: table_grads[0].residual.row_ids[0] is 50; needs increasing ids of 0 .. 49",
           [](Call& c) {
             c.n_rows[0] = 1;
             c.ids[0][0] = 50;
           }},
          {kRange, "step: table_grads[0].central.row_ids[0] is -1",
           [](Call& c) {
             c.n_rows[1] = 1;
             c.ids[1][0] = -1;
           }},
          {kRange, "step: table_grads[0].residual.row_ids[1] is 4; needs increasing ids",
           [](Call& c) {
             c.n_rows[0] = 2;
             c.ids[0][0] = c.ids[0][1] = 4;
           }},
      },
      [](Call& c) { return c.RunStep(); });
}

// The size of a step over three tables, each with an optimizer or without.
resembed_status SizeOfThree(const Training& training, const std::array<bool, 3>& written) {
  const TestExecutor serial(1);
  const resembed_table_step* steps[3] = {};
  for (size_t index = 0; index < 3; ++index) steps[index] = written[index] ? &training.steps[index] : nullptr;
  const resembed_table_grad* const grads[3] = {};
  resembed_step_args args = {};
  args.struct_size = sizeof(args);
  args.tables = training.problem.table_list();
  args.table_grads = grads;
  args.steps = steps;
  const resembed_place place = PlaceOf(&serial);
  size_t bytes = 0;
  return resembed_step_workspace_size(&args, &place, &bytes);
}

TEST(Step, RejectsTablesThatShareRowsItWrites) {
  TableSpec spec;
  for (const int64_t shift : {0, 7, -7, 7 * 49, -7 * 49}) {
    Training training({spec, spec, spec}, {}, {}, {}, 1);
    const auto& tables = training.problem.tables;
    std::vector<float> memory(7 * 200);
    tables[0]->descriptor.residual = memory.data() + 500;
    tables[2]->descriptor.residual = memory.data() + 500 + shift;
    EXPECT_EQ(SizeOfThree(training, {true, true, false}), kInvalid);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr("step: steps[0] is writing memory of tables[2]"));
    EXPECT_EQ(SizeOfThree(training, {false, false, true}), kInvalid);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr("step: steps[2] is writing memory of tables[0]"));
    EXPECT_EQ(SizeOfThree(training, {false, true, false}), RESEMBED_OK);
  }
}

// One after the other, and column by column in one buffer.
TEST(Step, TakesTablesSideBySide) {
  TableSpec spec;
  Training training({spec, spec, spec}, {}, {}, {}, 1);
  const auto& tables = training.problem.tables;
  std::vector<float> memory(14 * 150);
  for (size_t index = 0; index < 3; ++index) {
    tables[index]->descriptor.residual = memory.data() + 7 * 50 * (2 - index);
  }
  EXPECT_EQ(SizeOfThree(training, {true, true, true}), RESEMBED_OK) << resembed_last_error_message();
  tables[0]->descriptor.residual_stride = tables[1]->descriptor.residual_stride = 14;
  tables[0]->descriptor.residual = memory.data();
  tables[1]->descriptor.residual = memory.data() + 7;
  tables[2]->descriptor.residual = memory.data() + 14 * 50;
  EXPECT_EQ(SizeOfThree(training, {true, true, true}), RESEMBED_OK) << resembed_last_error_message();
}

}  // namespace
}  // namespace resembed::testing
