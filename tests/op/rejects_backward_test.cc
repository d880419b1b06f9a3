// SPDX-License-Identifier: Apache-2.0
// Every refusal of plan, backward, step and backward_step: code and sentence, and nothing written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/support/training.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;
constexpr resembed_status kInvalid = RESEMBED_INVALID_ARGUMENT, kRange = RESEMBED_OUT_OF_RANGE;

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
      : training({table}, {feature}, Adam(), Adam(), 1), place(PlaceOf(&serial)), plan_args(training.problem.PlanArgs()) {
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
  resembed_status RunFused() { return Run(fused, resembed_backward_step_workspace_size, resembed_backward_step); }
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

void ExpectRejects(const std::vector<Reject>& rejects, const std::function<resembed_status(Call&)>& run,
                   const TableSpec& table = Call::Spec(), const FeatureSpec& feature = {}) {
  for (const Reject& reject : rejects) {
    SCOPED_TRACE(reject.substring);
    Call call(table, feature);
    const auto before = call.training.Written();
    reject.spoil(call);
    EXPECT_EQ(run(call), reject.code);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr(reject.substring));
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

TEST(Plan, Rejects) {
  static int64_t minus_one = -1;
  ExpectRejects(
      {
          {kInvalid, "plan: tables is null", [](Call& c) { c.plan_args.tables = nullptr; }},
          {kInvalid, "plan: tables[0].dim is 0", [](Call& c) { c.table().dim = 0; }},
          {kInvalid, "plan: features is null; needs 1 features", [](Call& c) { c.plan_args.features = nullptr; }},
          {kInvalid, "plan: features[0].table is 1", [](Call& c) { c.training.problem.features[0]->descriptor.table = 1; }},
          {kInvalid, "plan: bounds is 3; needs check, trust or skip", [](Call& c) { c.plan_args.bounds = 3; }},
          {kInvalid, "plan: max_unique[0] is -1", [](Call& c) { c.plan_args.max_unique = &minus_one; }},
          {kInvalid, "plan: max_unique_central[0] is -1", [](Call& c) { c.plan_args.max_unique_central = &minus_one; }},
          {RESEMBED_UNSUPPORTED, "plan: tables[0].n_items is 2147483648; needs at most 2^31 - 1",
           [](Call& c) {
             c.table().n_items = int64_t{1} << 31;
             c.table().residual = nullptr;
             c.training.problem.features[0]->descriptor.n_ids = 0;
             c.training.problem.features[0]->descriptor.offsets = nullptr;
           }},
          {kInvalid, "plan: args is of struct_size 0", [](Call& c) { c.plan_args.struct_size = 0; }},
          {RESEMBED_UNSUPPORTED, "plan: place.backend is cuda", [](Call& c) { c.place.backend = RESEMBED_CUDA; }},
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
  EXPECT_EQ(run(Odd(static_cast<char*>(memory.data())), plan_bytes, &header, workspace.data(), workspace_bytes), kInvalid);
  EXPECT_THAT(message(), HasSubstr("needs an address that is a multiple of 64"));
  EXPECT_EQ(run(memory.data(), plan_bytes - 1, &header, workspace.data(), workspace_bytes), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(message(), HasSubstr("plan: memory_bytes is " + std::to_string(plan_bytes - 1)));
  EXPECT_EQ(run(memory.data(), plan_bytes, &header, workspace.data(), workspace_bytes - 1), RESEMBED_WORKSPACE_TOO_SMALL);
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

// Refusals of another plan, in the three operations that take one.
const std::vector<Reject>& PlanRejects() {
  static const std::vector<Reject> rejects = {
      {kInvalid, "plan is null", [](Call& c) { c.backward.plan = c.fused.plan = nullptr; }},
      {kInvalid, "plan is empty", [](Call& c) { c.plan->header.fingerprint = 0; }},
      {kInvalid, "plan.backend is cuda; needs cpu", [](Call& c) { c.plan->header.backend = RESEMBED_CUDA; }},
      {kInvalid, "the memory holds another plan", [](Call& c) { c.plan->header.fingerprint ^= 1; }},
      {kInvalid, "that of these tables, features and map versions", [](Call& c) { ++c.table().map_version; }},
      {kInvalid, "that of these tables, features and map versions", [](Call& c) { ++c.table().central_rows; }},
      {kInvalid, "that of these tables, features and map versions",
       [](Call& c) { c.training.problem.features[0]->descriptor.pooling = RESEMBED_POOLING_MEAN; }},
      {kInvalid, "that of these tables, features and map versions",
       [](Call& c) {
         c.training.problem.features[0]->descriptor.has_padding = 1;
         c.training.problem.features[0]->descriptor.padding_id = 3;
       }},
      {kInvalid, "tables is null", [](Call& c) { c.backward.tables = c.fused.tables = nullptr; }},
      {kInvalid, "features is null", [](Call& c) { c.backward.features = c.fused.features = nullptr; }},
      {kInvalid, "feature_grads is null", [](Call& c) { c.backward.feature_grads = c.fused.feature_grads = nullptr; }},
      {kInvalid, "args is of struct_size 0", [](Call& c) { c.backward.struct_size = c.fused.struct_size = 0; }},
      {kInvalid, "place.executor.width is 0", [](Call& c) { c.serial.descriptor.width = 0; }},
      {kInvalid, "feature_grads[0].struct_size is 0", [](Call& c) { c.feature_grad.struct_size = 0; }},
      {kInvalid, "feature_grads[0].grad_output is null", [](Call& c) { c.feature_grad.grad_output = nullptr; }},
      {kInvalid, "feature_grads[0].grad_output_dtype is i32", [](Call& c) { c.feature_grad.grad_output_dtype = RESEMBED_I32; }},
      {kInvalid, "feature_grads[0].grad_output_stride is 6; needs at least dim (7)", [](Call& c) { c.feature_grad.grad_output_stride = 6; }},
      {kInvalid, "needs rows below 2^62 bytes", [](Call& c) { c.feature_grad.grad_output_stride = int64_t{1} << 60; }},
      {kInvalid, "feature_grads[0].grad_output is misaligned", [](Call& c) { c.feature_grad.grad_output = Odd(static_cast<const char*>(c.feature_grad.grad_output)); }},
      {kInvalid, "feature_grads[0].grad_weights is misaligned", [](Call& c) { c.feature_grad.grad_weights = Odd(c.rows[0].data()); }},
  };
  return rejects;
}

TEST(Backward, RejectsPlansAndOutputGradients) {
  ExpectRejects(PlanRejects(), [](Call& c) { return c.RunBackward(); });
}
TEST(BackwardStep, RejectsPlansAndOutputGradients) {
  ExpectRejects(PlanRejects(), [](Call& c) { return c.RunFused(); });
}

TEST(Backward, RejectsGradientsItCannotWrite) {
  ExpectRejects(
      {
          {kInvalid, "backward: table_grads is null", [](Call& c) { c.backward.table_grads = nullptr; }},
          {kInvalid, "backward: table_grads[0] is of struct_size 0", [](Call& c) { c.table_grad.struct_size = 0; }},
          {kInvalid, "backward: table_grads[0].residual.struct_size is 0", [](Call& c) { c.grads[0].struct_size = 0; }},
          {kInvalid, "backward: table_grads[0].central.layout is 2", [](Call& c) { c.grads[1].layout = 2; }},
          {kInvalid, "backward: table_grads[0].residual.stride is 3; needs at least dim (7)", [](Call& c) { c.grads[0].stride = 3; }},
          {kInvalid, "backward: table_grads[0].residual.stride is too long", [](Call& c) { c.grads[0].stride = int64_t{1} << 60; }},
          {kInvalid, "backward: table_grads[0].residual.rows is misaligned", [](Call& c) { c.grads[0].rows = Odd(c.grads[0].rows); }},
          {kInvalid, "backward: table_grads[0].residual.rows is null", [](Call& c) { c.grads[0].rows = nullptr; }},
          {kInvalid, "backward: table_grads[0].residual.rows is null",
           [](Call& c) {
             c.grads[0].rows = nullptr;
             c.grads[0].layout = RESEMBED_GRAD_DENSE;
           }},
          {kInvalid, "backward: table_grads[0].central.n_rows is null", [](Call& c) { c.grads[1].n_rows = nullptr; }},
          {kInvalid, "backward: table_grads[0].central.capacity is negative", [](Call& c) { c.grads[1].capacity = -1; }},
          {kInvalid, "backward: table_grads[0].central.row_ids is null", [](Call& c) { c.grads[1].row_ids = nullptr; }},
          {kInvalid, "backward: table_grads[0].central.row_ids is misaligned", [](Call& c) { c.grads[1].row_ids = Odd(c.grads[1].row_ids); }},
          {kRange, "backward: table_grads[0].residual.capacity is 1; needs the", [](Call& c) { c.grads[0].capacity = 1; }},
          {kRange, "backward: table_grads[0].central.capacity is 1; needs the", [](Call& c) { c.grads[1].capacity = 1; }},
          {kInvalid, "backward: table_grads[0].neighbor_weights is misaligned", [](Call& c) { c.table_grad.neighbor_weights = Odd(c.table_grad.neighbor_weights); }},
          {kInvalid, "backward: table_grads[0].central is given; needs a plan made without skip_central",
           [](Call& c) {
             c.plan_args.skip_central = 1;
             c.plan = std::make_unique<MadePlan>(c.plan_args, c.place);
             c.backward.plan = &c.plan->header;
           }},
      },
      [](Call& c) { return c.RunBackward(); });

  TableSpec plain;
  ExpectRejects({{kInvalid, "backward: table_grads[0].central is given; needs null for form none", [](Call& c) { c.table_grad.central = &c.grads[1]; }},
                 {kInvalid, "backward: table_grads[0].neighbor_weights is given; needs null for form none",
                  [](Call& c) { c.table_grad.neighbor_weights = c.rows[0].data(); }}},
                [](Call& c) { return c.RunBackward(); }, plain);
  TableSpec center_only = Call::Spec();
  center_only.residual = false;
  const auto without_residual = [](Call& c) {
    c.training.steps[0].residual = nullptr;
    c.table_grad.residual = &c.grads[0];
  };
  ExpectRejects({{kInvalid, "backward: table_grads[0].residual is given; needs null for a table without residual", without_residual}},
                [](Call& c) { return c.RunBackward(); }, center_only);
  FeatureSpec max;
  max.pooling = RESEMBED_POOLING_MAX;
  ExpectRejects({{kInvalid, "backward: feature_grads[0].grad_weights is given; needs null with pooling max",
                  [](Call& c) { c.feature_grad.grad_weights = c.neighbor_weights.data(); }}},
                [](Call& c) { return c.RunBackward(); }, Call::Spec(), max);
}

// Optimizers are checked alike in step and backward_step.
const std::vector<Reject>& OptimizerRejects() {
  static const std::vector<Reject> rejects = {
      {kInvalid, "steps is null", [](Call& c) { c.step.steps = c.fused.steps = nullptr; }},
      {kInvalid, "steps[0] is of struct_size 0", [](Call& c) { c.training.steps[0].struct_size = 0; }},
      {kInvalid, "steps[0].table_number is 32768; needs 0 .. 32767", [](Call& c) { c.training.steps[0].table_number = 32768; }},
      {kInvalid, "steps[0].residual.struct_size is 0", [](Call& c) { c.adam().struct_size = 0; }},
      {kInvalid, "steps[0].residual.kind is 5", [](Call& c) { c.adam().kind = 5; }},
      {kInvalid, "steps[0].central.kind is -1", [](Call& c) { c.central_adam().kind = -1; }},
      {kInvalid, "steps[0].residual.decay is 3", [](Call& c) { c.adam().decay = 3; }},
      {kInvalid, "steps[0].residual.state_dtype is i64", [](Call& c) { c.adam().state_dtype = RESEMBED_I64; }},
      {kInvalid, "steps[0].residual.lr is inf", [](Call& c) { c.adam().lr = INFINITY; }},
      {kInvalid, "steps[0].residual.beta1 is 1", [](Call& c) { c.adam().beta1 = 1; }},
      {kInvalid, "steps[0].residual.beta2 is -0.5", [](Call& c) { c.adam().beta2 = -.5f; }},
      {kInvalid, "steps[0].residual.eps is -1", [](Call& c) { c.adam().eps = -1; }},
      {kInvalid, "steps[0].residual.weight_decay is -1", [](Call& c) { c.adam().weight_decay = -1; }},
      {kInvalid, "steps[0].residual.max_row_norm is -1", [](Call& c) { c.adam().max_row_norm = -1; }},
      {kInvalid, "steps[0].residual.grad_scale is", [](Call& c) { c.adam().grad_scale = NAN; }},
      {kInvalid, "steps[0].residual.stochastic_rounding is 2", [](Call& c) { c.adam().stochastic_rounding = 2; }},
      {kInvalid, "steps[0].residual.state1 is null", [](Call& c) { c.adam().state1 = nullptr; }},
      {kInvalid, "steps[0].residual.state2 is null", [](Call& c) { c.adam().state2 = nullptr; }},
      {kInvalid, "steps[0].residual.state1 is misaligned", [](Call& c) { c.adam().state1 = Odd(static_cast<char*>(c.adam().state1)); }},
      {kInvalid, "steps[0].residual.state1_stride is 3; needs at least", [](Call& c) { c.adam().state1_stride = 3; }},
      {kInvalid, "steps[0].residual.state2_stride is", [](Call& c) { c.adam().state2_stride = int64_t{1} << 60; }},
      {kInvalid, "steps[0].residual.state1 is overlapping the rows it belongs to", [](Call& c) { c.adam().state1 = c.table().residual; }},
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
  ExpectRejects({{kInvalid, "backward_step: steps[0].central is given; needs a plan made without skip_central",
                  [](Call& c) {
                    c.plan_args.skip_central = 1;
                    c.plan = std::make_unique<MadePlan>(c.plan_args, c.place);
                    c.fused.plan = &c.plan->header;
                  }}},
                [](Call& c) { return c.RunFused(); });
  TableSpec plain;
  ExpectRejects({{kInvalid, "backward_step: steps[0].central is given; needs null for a table without that part",
                  [](Call& c) { c.training.steps[0].central = &c.adam(); }}},
                [](Call& c) { return c.RunFused(); }, plain);
  TableSpec center_only = Call::Spec();
  center_only.residual = false;
  ExpectRejects({{kInvalid, "backward_step: steps[0].residual is given; needs null for a table without that part",
                  [](Call& c) { c.training.steps[0].residual = &c.central_adam(); }}},
                [](Call& c) { return c.RunFused(); }, center_only);
}

TEST(Step, RejectsGradients) {
  ExpectRejects(
      {
          {kInvalid, "step: table_grads is null", [](Call& c) { c.step.table_grads = nullptr; }},
          {kInvalid, "step: table_grads[0].residual is null; needs a gradient", [](Call& c) { c.table_grads[0] = nullptr; }},
          {kInvalid, "step: table_grads[0].central is null; needs a gradient", [](Call& c) { c.table_grad.central = nullptr; }},
          {kInvalid, "step: table_grads[0].residual.struct_size is 0", [](Call& c) { c.grads[0].struct_size = 0; }},
          {kInvalid, "step: table_grads[0].residual.layout is 2", [](Call& c) { c.grads[0].layout = 2; }},
          {kInvalid, "step: table_grads[0].residual.stride is 6; needs at least dim (7)", [](Call& c) { c.grads[0].stride = 6; }},
          {kInvalid, "step: table_grads[0].residual.rows is misaligned", [](Call& c) { c.grads[0].rows = Odd(c.grads[0].rows); }},
          {kInvalid, "step: table_grads[0].residual.n_rows is null", [](Call& c) { c.grads[0].n_rows = nullptr; }},
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

TEST(Step, RejectsTablesThatShareRowsItWrites) {
  const TestExecutor serial(1);
  TableSpec spec;
  Training training({spec, spec}, {}, {}, {}, 1);
  training.problem.tables[1]->descriptor.residual = training.problem.tables[0]->descriptor.residual;
  const resembed_table_step* const steps[] = {&training.steps[0], nullptr};
  const resembed_table_grad* const grads[] = {nullptr, nullptr};
  resembed_step_args args = {};
  args.struct_size = sizeof(args);
  args.tables = training.problem.table_list();
  args.table_grads = grads;
  args.steps = steps;
  const resembed_place place = PlaceOf(&serial);
  size_t bytes = 0;
  EXPECT_EQ(resembed_step_workspace_size(&args, &place, &bytes), kInvalid);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("step: steps[0] is writing memory of tables[1]"));
}

TEST(Backward, RejectsWorkspaces) {
  Call c;
  size_t bytes = 0;
  EXPECT_EQ(resembed_backward_workspace_size(&c.backward, &c.place, nullptr), kInvalid);
  EXPECT_EQ(resembed_step_workspace_size(&c.step, &c.place, nullptr), kInvalid);
  EXPECT_EQ(resembed_backward_step_workspace_size(&c.fused, &c.place, nullptr), kInvalid);
  ASSERT_EQ(resembed_backward_workspace_size(&c.backward, &c.place, &bytes), RESEMBED_OK);
  Guarded workspace(bytes);
  const auto before = c.training.Written();
  EXPECT_EQ(resembed_backward(&c.backward, workspace.data(), bytes - 1, &c.place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("backward: workspace_bytes is " + std::to_string(bytes - 1) + "; needs " + std::to_string(bytes)));
  EXPECT_EQ(resembed_backward(&c.backward, nullptr, bytes, &c.place), kInvalid);
  EXPECT_EQ(resembed_backward(&c.backward, Odd(static_cast<char*>(workspace.data())), bytes, &c.place), kInvalid);
  EXPECT_EQ(resembed_step(&c.step, nullptr, 0, &c.place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("step: workspace_bytes is 0"));
  EXPECT_EQ(resembed_backward_step(&c.fused, nullptr, 0, &c.place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("backward_step: workspace_bytes is 0"));
  EXPECT_TRUE(c.training.Written() == before);
}

}  // namespace
}  // namespace resembed::testing
