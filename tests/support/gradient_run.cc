// SPDX-License-Identifier: Apache-2.0
// Plans and gradients of a GradientProblem, in guarded memory of exact sizes.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

// One gradient of `rows` rows of memory and its descriptor.
struct GradMemory {
  Guarded rows, ids, count;
  resembed_grad grad;
  GradMemory(resembed_grad_layout layout, int64_t n_rows, int64_t dim)
      : rows(static_cast<size_t>(n_rows * dim) * 4), ids(static_cast<size_t>(n_rows) * 8), count(8) {
    grad = {};
    grad.struct_size = sizeof(grad);
    grad.layout = layout;
    grad.rows = static_cast<float*>(rows.data());
    grad.row_ids = static_cast<int64_t*>(ids.data());
    grad.n_rows = static_cast<int64_t*>(count.data());
    grad.capacity = n_rows;
  }
  Compressed Read(int64_t dim) {
    Compressed out;
    const bool dense = grad.layout == RESEMBED_GRAD_DENSE;
    const int64_t n = dense ? grad.capacity : *grad.n_rows;
    if (!dense) out.ids.assign(grad.row_ids, grad.row_ids + n);
    out.rows.assign(grad.rows, grad.rows + n * dim);
    EXPECT_TRUE(rows.Intact() && ids.Intact() && count.Intact()) << "a gradient was written past its end";
    return out;
  }
};

}  // namespace

MadePlan::MadePlan(const resembed_plan_args& args, const resembed_place& place) : header{} {
  size_t plan_bytes = 0, workspace_bytes = 0;
  status = resembed_plan_size(&args, &place, &plan_bytes, &workspace_bytes);
  memory = Guarded(plan_bytes);
  workspace = Guarded(workspace_bytes);
  header.struct_size = sizeof(header);
  if (status == RESEMBED_OK) {
    status = resembed_plan(&args, memory.data(), memory.size(), &header, workspace.data(), workspace.size(),
                           &place);
  }
  message = status == RESEMBED_OK ? "" : resembed_last_error_message();
}

resembed_plan_table MadePlan::View(int32_t table) const {
  resembed_plan_table view = {};
  view.struct_size = sizeof(view);
  EXPECT_EQ(resembed_plan_view(&header, table, &view), RESEMBED_OK) << resembed_last_error_message();
  return view;
}

Grads RunBackward(const GradientProblem& problem, const resembed_place& place, const Asked& asked) {
  Grads out;
  MadePlan plan(problem.PlanArgs(), place);
  EXPECT_EQ(plan.status, RESEMBED_OK) << plan.message;
  if (plan.status != RESEMBED_OK) return out;

  std::vector<std::unique_ptr<GradMemory>> residual, central;
  std::vector<Guarded> neighbor_weights;
  std::vector<resembed_table_grad> table_grads;
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const resembed_table& table = problem.tables[static_cast<size_t>(index)]->descriptor;
    const resembed_plan_table view = plan.View(index);
    const bool dense = asked.layout == RESEMBED_GRAD_DENSE;
    const int64_t residual_rows = table.residual_row_of != nullptr ? table.residual_rows : table.n_items;
    residual.push_back(
        std::make_unique<GradMemory>(asked.layout, dense ? residual_rows : *view.n_unique, table.dim));
    central.push_back(std::make_unique<GradMemory>(
        asked.layout, dense ? table.central_rows : *view.n_unique_central, table.dim));
    neighbor_weights.emplace_back(static_cast<size_t>(*view.n_unique * table.n_neighbors) * 4);
  }
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    const resembed_table& table = problem.tables[at]->descriptor;
    resembed_table_grad grad = {};
    grad.struct_size = sizeof(grad);
    if (asked.residual && table.residual != nullptr) grad.residual = &residual[at]->grad;
    if (asked.central && table.form != RESEMBED_CENTRAL_NONE) grad.central = &central[at]->grad;
    if (asked.neighbor_weights && table.form == RESEMBED_CENTRAL_STORED) {
      grad.neighbor_weights = static_cast<float*>(neighbor_weights[at].data());
    }
    table_grads.push_back(grad);
  }
  std::vector<const resembed_table_grad*> table_grad_list;
  for (const resembed_table_grad& grad : table_grads) table_grad_list.push_back(&grad);

  std::vector<Guarded> sample_weights, queries, scores;
  std::vector<resembed_feature_grad> feature_grads;
  std::vector<const resembed_feature_grad*> feature_grad_list;
  for (const auto& feature : problem.features) {
    sample_weights.emplace_back(static_cast<size_t>(feature->descriptor.n_ids) * 4);
    const int64_t dim = problem.tables[static_cast<size_t>(feature->spec.table)]->descriptor.dim;
    queries.emplace_back(static_cast<size_t>(feature->descriptor.n_bags * dim) * 4);
    scores.emplace_back(static_cast<size_t>(feature->descriptor.n_ids) * 4);
  }
  for (size_t index = 0; index < problem.features.size(); ++index) {
    feature_grads.push_back(problem.features[index]->grad);
    const resembed_pooling pooling = problem.features[index]->spec.pooling;
    if (pooling == RESEMBED_POOLING_ATTENTION) {
      if (asked.queries) feature_grads.back().grad_query = static_cast<float*>(queries[index].data());
      if (asked.scores) feature_grads.back().grad_scores = static_cast<float*>(scores[index].data());
    } else if (asked.sample_weights && HasSampleWeights(pooling)) {
      feature_grads.back().grad_weights = static_cast<float*>(sample_weights[index].data());
    }
  }
  for (size_t index = 0; index < problem.features.size(); ++index) {
    feature_grad_list.push_back(problem.grad_list()[index] == nullptr ? nullptr : &feature_grads[index]);
  }

  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan.header;
  args.tables = problem.table_list();
  args.features = problem.feature_list();
  args.n_features = problem.n_features();
  args.feature_grads = feature_grad_list.data();
  args.table_grads = table_grad_list.data();
  size_t bytes = 0;
  EXPECT_EQ(resembed_backward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  EXPECT_EQ(resembed_backward(&args, workspace.data(), workspace.size(), &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(workspace.Intact()) << "the workspace was written past its end";
  EXPECT_TRUE(plan.Intact()) << "the plan was written past its end";

  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    const int64_t dim = problem.tables[at]->descriptor.dim;
    TableGrads grads;
    if (table_grads[at].residual != nullptr) grads.residual = residual[at]->Read(dim);
    if (table_grads[at].central != nullptr) grads.central = central[at]->Read(dim);
    if (table_grads[at].neighbor_weights != nullptr) {
      const auto* first = static_cast<const float*>(neighbor_weights[at].data());
      grads.neighbor_weights.assign(first, first + neighbor_weights[at].size() / 4);
      EXPECT_TRUE(neighbor_weights[at].Intact());
    }
    out.tables.push_back(std::move(grads));
  }
  for (size_t index = 0; index < problem.features.size(); ++index) {
    out.queries.emplace_back();
    out.scores.emplace_back();
    const auto read = [](Guarded& memory, std::vector<float>* values) {
      const auto* first = static_cast<const float*>(memory.data());
      values->assign(first, first + memory.size() / 4);
      EXPECT_TRUE(memory.Intact());
    };
    if (feature_grad_list[index] != nullptr) {
      if (feature_grads[index].grad_query != nullptr) read(queries[index], &out.queries.back());
      if (feature_grads[index].grad_scores != nullptr) read(scores[index], &out.scores.back());
    }
    out.sample_weights.emplace_back();
    if (feature_grad_list[index] == nullptr || feature_grads[index].grad_weights == nullptr) continue;
    const auto* first = static_cast<const float*>(sample_weights[index].data());
    out.sample_weights.back().assign(first, first + problem.features[index]->descriptor.n_ids);
    EXPECT_TRUE(sample_weights[index].Intact());
  }
  return out;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * 4) == 0);
}

bool SameBits(const Grads& a, const Grads& b) {
  const auto same = [](const Compressed& x, const Compressed& y) {
    return x.ids == y.ids && SameBits(x.rows, y.rows);
  };
  if (a.tables.size() != b.tables.size() || a.sample_weights.size() != b.sample_weights.size()) return false;
  for (size_t index = 0; index < a.tables.size(); ++index) {
    if (!same(a.tables[index].residual, b.tables[index].residual) ||
        !same(a.tables[index].central, b.tables[index].central) ||
        !SameBits(a.tables[index].neighbor_weights, b.tables[index].neighbor_weights)) {
      return false;
    }
  }
  for (size_t index = 0; index < a.sample_weights.size(); ++index) {
    if (!SameBits(a.sample_weights[index], b.sample_weights[index])) return false;
  }
  for (size_t index = 0; index < a.queries.size() && index < b.queries.size(); ++index) {
    if (!SameBits(a.queries[index], b.queries[index]) || !SameBits(a.scores[index], b.scores[index]))
      return false;
  }
  return true;
}

}  // namespace resembed::testing
