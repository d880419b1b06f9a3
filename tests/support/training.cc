// SPDX-License-Identifier: Apache-2.0
#include "tests/support/training.h"

#include <gtest/gtest.h>

#include <cstring>

#include "host/cpu/row_ops.h"

namespace resembed::testing {
namespace {

std::vector<unsigned char> MakeState(int64_t rows, int64_t columns, resembed_dtype dtype, uint64_t seed) {
  std::mt19937_64 random(seed);
  const int64_t n = rows * (columns + 1);
  std::vector<unsigned char> bytes(static_cast<size_t>(n * detail::ElementBytes(dtype)), 0xff);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < columns; ++col) {
      Encode(bytes.data(), dtype, row * (columns + 1) + col, static_cast<float>(random() % 1000) * 1e-3f);
    }
  }
  return bytes;
}

void Append(std::vector<unsigned char>* out, const void* data, size_t bytes) {
  const auto* first = static_cast<const unsigned char*>(data);
  out->insert(out->end(), first, first + bytes);
}

struct GradBuffer {
  std::vector<float> rows;
  std::vector<int64_t> ids;
  int64_t n = 0;
  resembed_grad grad;
  GradBuffer(int64_t capacity, int64_t dim)
      : rows(static_cast<size_t>(capacity * dim)), ids(static_cast<size_t>(capacity)) {
    grad = {};
    grad.struct_size = sizeof(grad);
    grad.rows = rows.data();
    grad.row_ids = ids.data();
    grad.n_rows = &n;
    grad.capacity = capacity;
  }
};

}  // namespace

OptimizerState::OptimizerState(const OptimizerSpec& spec, int64_t rows, int64_t dim) : descriptor{} {
  descriptor.struct_size = sizeof(descriptor);
  descriptor.kind = spec.kind;
  descriptor.lr = .05f;
  descriptor.beta1 = .9f;
  descriptor.beta2 = .99f;
  descriptor.eps = 1e-3f;
  descriptor.weight_decay = spec.weight_decay;
  descriptor.decay = spec.decay;
  descriptor.max_row_norm = spec.max_row_norm;
  descriptor.grad_scale = spec.grad_scale;
  descriptor.step = spec.step;
  descriptor.state_dtype = spec.state_dtype;
  descriptor.stochastic_rounding = spec.stochastic ? 1 : 0;
  descriptor.seed = 99;
  descriptor.n_skipped_rows = &n_skipped;
  if (spec.kind != RESEMBED_SGD) {
    state1_dim = spec.kind == RESEMBED_ROWWISE_ADAGRAD ? 1 : dim;
    state1 = MakeState(rows, state1_dim, spec.state_dtype, 1);
    descriptor.state1 = state1.data();
    descriptor.state1_stride = state1_dim + 1;
  }
  if (spec.kind == RESEMBED_ADAM || spec.kind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
    state2_dim = spec.kind == RESEMBED_PARTIAL_ROWWISE_ADAM ? 1 : dim;
    state2 = MakeState(rows, state2_dim, spec.state_dtype, 2);
    descriptor.state2 = state2.data();
    descriptor.state2_stride = state2_dim + 1;
  }
}

Training::Training(const std::vector<TableSpec>& tables, const std::vector<FeatureSpec>& features,
                   const OptimizerSpec& residual_spec, const OptimizerSpec& central_spec, uint64_t seed)
    : problem(tables, features, seed) {
  for (const auto& data : problem.tables) {
    const resembed_table& table = data->descriptor;
    const int64_t residual_rows = table.residual_row_of != nullptr ? table.residual_rows : table.n_items;
    residual.push_back(std::make_unique<OptimizerState>(residual_spec, residual_rows, table.dim));
    central.push_back(std::make_unique<OptimizerState>(central_spec, table.central_rows, table.dim));
    resembed_table_step step = {};
    step.struct_size = sizeof(step);
    if (table.residual != nullptr) step.residual = &residual.back()->descriptor;
    if (table.form != RESEMBED_CENTRAL_NONE) step.central = &central.back()->descriptor;
    step.table_number = static_cast<int32_t>(steps.size()) + 5;
    steps.push_back(step);
  }
  for (const auto& feature : problem.features) {
    sample_weights.emplace_back(static_cast<size_t>(feature->descriptor.n_ids));
  }
}

std::vector<unsigned char> Training::Written() const {
  std::vector<unsigned char> bytes;
  for (size_t index = 0; index < problem.tables.size(); ++index) {
    const TableData& table = *problem.tables[index];
    Append(&bytes, table.residual.data(), table.residual.size());
    Append(&bytes, table.central.data(), table.central.size());
    for (const OptimizerState* state : {residual[index].get(), central[index].get()}) {
      Append(&bytes, state->state1.data(), state->state1.size());
      Append(&bytes, state->state2.data(), state->state2.size());
      Append(&bytes, &state->n_skipped, sizeof(state->n_skipped));
    }
  }
  for (const std::vector<float>& weights : sample_weights) Append(&bytes, weights.data(), weights.size() * 4);
  return bytes;
}

void Training::Fused(const resembed_place& place) {
  MadePlan plan(problem.PlanArgs(), place);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  std::vector<resembed_feature_grad> grads;
  std::vector<const resembed_feature_grad*> grad_list;
  for (size_t index = 0; index < problem.features.size(); ++index) {
    grads.push_back(problem.features[index]->grad);
    if (wants_sample_weights && HasSampleWeights(problem.features[index]->spec.pooling)) {
      grads.back().grad_weights = sample_weights[index].data();
    }
  }
  for (size_t index = 0; index < grads.size(); ++index) {
    grad_list.push_back(problem.grad_list()[index] == nullptr ? nullptr : &grads[index]);
  }
  std::vector<const resembed_table_step*> step_list;
  for (const resembed_table_step& step : steps) step_list.push_back(&step);
  resembed_backward_step_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan.header;
  args.tables = problem.table_list();
  args.features = problem.feature_list();
  args.n_features = problem.n_features();
  args.feature_grads = grad_list.data();
  args.steps = step_list.data();
  size_t bytes = 0;
  ASSERT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  ASSERT_EQ(resembed_backward_step(&args, workspace.data(), workspace.size(), &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(workspace.Intact() && plan.Intact());
}

void Training::Separate(const resembed_place& place) {
  MadePlan plan(problem.PlanArgs(), place);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  std::vector<resembed_feature_grad> grads;
  std::vector<const resembed_feature_grad*> grad_list;
  for (size_t index = 0; index < problem.features.size(); ++index) {
    grads.push_back(problem.features[index]->grad);
    if (wants_sample_weights && HasSampleWeights(problem.features[index]->spec.pooling)) {
      grads.back().grad_weights = sample_weights[index].data();
    }
  }
  for (size_t index = 0; index < grads.size(); ++index) {
    grad_list.push_back(problem.grad_list()[index] == nullptr ? nullptr : &grads[index]);
  }
  std::vector<std::unique_ptr<GradBuffer>> residual_grads, central_grads;
  std::vector<resembed_table_grad> table_grads;
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const resembed_plan_table view = plan.View(index);
    const int64_t dim = problem.tables[static_cast<size_t>(index)]->descriptor.dim;
    residual_grads.push_back(std::make_unique<GradBuffer>(view.max_unique, dim));
    central_grads.push_back(std::make_unique<GradBuffer>(view.max_unique_central, dim));
    resembed_table_grad grad = {};
    grad.struct_size = sizeof(grad);
    const resembed_table_step& step = steps[static_cast<size_t>(index)];
    if (step.residual != nullptr) grad.residual = &residual_grads.back()->grad;
    if (step.central != nullptr) grad.central = &central_grads.back()->grad;
    table_grads.push_back(grad);
  }
  std::vector<const resembed_table_grad*> table_grad_list;
  for (const resembed_table_grad& grad : table_grads) table_grad_list.push_back(&grad);
  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan.header;
  args.tables = problem.table_list();
  args.features = problem.feature_list();
  args.n_features = problem.n_features();
  args.feature_grads = grad_list.data();
  args.table_grads = table_grad_list.data();
  size_t bytes = 0;
  ASSERT_EQ(resembed_backward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  ASSERT_EQ(resembed_backward(&args, workspace.data(), workspace.size(), &place), RESEMBED_OK)
      << resembed_last_error_message();

  std::vector<const resembed_table_step*> step_list;
  for (const resembed_table_step& step : steps) step_list.push_back(&step);
  resembed_step_args step_args = {};
  step_args.struct_size = sizeof(step_args);
  step_args.tables = problem.table_list();
  step_args.table_grads = table_grad_list.data();
  step_args.steps = step_list.data();
  ASSERT_EQ(resembed_step_workspace_size(&step_args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded step_workspace(bytes);
  ASSERT_EQ(resembed_step(&step_args, step_workspace.data(), step_workspace.size(), &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(workspace.Intact() && step_workspace.Intact() && plan.Intact());
}

OracleOptimizer OracleOf(const resembed_optimizer& o) {
  OracleOptimizer out;
  out.kind = o.kind;
  out.lr = static_cast<double>(o.lr);
  out.beta1 = static_cast<double>(o.beta1);
  out.beta2 = static_cast<double>(o.beta2);
  out.eps = static_cast<double>(o.eps);
  out.weight_decay = static_cast<double>(o.weight_decay);
  out.max_row_norm = static_cast<double>(o.max_row_norm);
  out.grad_scale = o.grad_scale == 0 ? 1.0 : static_cast<double>(o.grad_scale);
  out.decay = o.decay;
  out.step = o.step;
  return out;
}

}  // namespace resembed::testing
