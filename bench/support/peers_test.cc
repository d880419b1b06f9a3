// SPDX-License-Identifier: Apache-2.0
// The obvious code that the benchmarks compare with computes what the library does.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <vector>

#include "bench/support/narrow.h"
#include "bench/support/plain_graph.h"
#include "bench/support/scenario.h"
#include "bench/support/unfused.h"

namespace resembed::bench {
namespace {

constexpr int64_t kRows = 500, kDim = 12, kBags = 30, kLength = 5;

TableSpec SpecOf(resembed_central_form form, resembed_dtype dtype) {
  TableSpec spec;
  spec.rows = kRows;
  spec.dim = kDim;
  spec.k = 4;
  spec.form = form;
  spec.dtype = dtype;
  spec.alpha = 1.05;
  spec.centers = 20;
  return spec;
}

// Rows that differ, of size 1/8 to 2.
void FillRows(const Scenario& scenario) {
  const auto fill = [&](void* rows, int64_t n, int64_t step) {
    for (int64_t i = 0; i < n; ++i) {
      const auto half = static_cast<uint16_t>((0x3000 + i * step % 0xfff) | (i % 3 == 0 ? 0x8000 : 0));
      if (scenario.spec().dtype == RESEMBED_F32) {
        static_cast<float*>(rows)[i] = FromHalf(half);
      } else {
        static_cast<uint16_t*>(rows)[i] =
            scenario.spec().dtype == RESEMBED_F16 ? half : ToBfloat(FromHalf(half));
      }
    }
  };
  fill(scenario.table().residual, 40 * kDim, 37);
  if (scenario.table().central != nullptr) fill(scenario.table().central, 20 * kDim, 101);
}

std::vector<float> RowsOf(const Scenario& scenario, const void* matrix, int64_t rows) {
  std::vector<float> out(static_cast<size_t>(rows * kDim));
  ReadElements(matrix, scenario.spec().dtype, 0, rows * kDim, out.data());
  return out;
}

struct ForwardCase {
  resembed_central_form form;
  resembed_dtype dtype;
  friend std::ostream& operator<<(std::ostream& out, const ForwardCase& c) {
    return out << FormName(c.form) << " " << DtypeName(c.dtype);
  }
};

class ForwardPeer : public ::testing::TestWithParam<ForwardCase> {};

TEST_P(ForwardPeer, ComputesWhatTheLibraryDoes) {
  const Scenario scenario(SpecOf(GetParam().form, GetParam().dtype));
  FillRows(scenario);
  Batch batch = MakeBatch(scenario, IdSource(kRows, 1.05, 3), kBags, kLength, 0);
  std::vector<float> fused(kBags * kDim), unfused(kBags * kDim);
  batch.feature.output = fused.data();
  const resembed_feature* feature = &batch.feature;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &scenario.tables();
  args.features = &feature;
  args.n_features = 1;
  const resembed_place place = CpuPlace();
  size_t bytes = 0;
  Check(resembed_forward_workspace_size(&args, &place, &bytes));
  HugeArray<char> workspace(static_cast<int64_t>(bytes));
  Check(resembed_forward(&args, workspace.data(), bytes, &place));
  Unfused peer(scenario, batch);
  for (int run = 0; run < 2; ++run) {
    std::fill(unfused.begin(), unfused.end(), NAN);
    peer.Forward(unfused.data());
    for (size_t i = 0; i < fused.size(); ++i)
      ASSERT_NEAR(unfused[i], fused[i], 2e-6f * (1 + std::abs(fused[i]))) << i;
  }
}

std::vector<ForwardCase> ForwardCases() {
  std::vector<ForwardCase> cases;
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
        RESEMBED_CENTRAL_ATTENTION}) {
    for (const resembed_dtype dtype : {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16})
      cases.push_back({form, dtype});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(BenchSupport, ForwardPeer, ::testing::ValuesIn(ForwardCases()));

struct UpdateCase {
  resembed_central_form form;
  resembed_dtype dtype;
  resembed_optimizer_kind optimizer;
  friend std::ostream& operator<<(std::ostream& out, const UpdateCase& c) {
    return out << FormName(c.form) << " " << DtypeName(c.dtype) << " optimizer " << c.optimizer;
  }
};

// One part's states, large enough for every optimizer.
struct States {
  explicit States(int64_t rows)
      : state1(static_cast<size_t>(rows * kDim), 0.1f), state2(static_cast<size_t>(rows * kDim), 0.2f) {}
  resembed_optimizer Optimizer(resembed_optimizer_kind kind) {
    resembed_optimizer optimizer = {};
    optimizer.struct_size = sizeof(optimizer);
    optimizer.kind = kind;
    optimizer.lr = 0.1f;
    optimizer.beta1 = 0.9f;
    optimizer.beta2 = 0.99f;
    optimizer.eps = 1e-3f;
    optimizer.step = 3;
    if (kind != RESEMBED_SGD) optimizer.state1 = state1.data();
    if (kind == RESEMBED_ADAM || kind == RESEMBED_PARTIAL_ROWWISE_ADAM) optimizer.state2 = state2.data();
    return optimizer;
  }
  std::vector<float> state1, state2;
};

class UpdatePeer : public ::testing::TestWithParam<UpdateCase> {};

TEST_P(UpdatePeer, ComputesWhatTheLibraryDoes) {
  const UpdateCase& c = GetParam();
  const Scenario mine(SpecOf(c.form, c.dtype)), theirs(SpecOf(c.form, c.dtype));
  FillRows(mine);
  FillRows(theirs);
  Batch batch = MakeBatch(mine, IdSource(kRows, 1.05, 3), kBags, kLength, 0);
  std::vector<float> grad(kBags * kDim);
  for (size_t i = 0; i < grad.size(); ++i)
    grad[i] = 0.01f * static_cast<float>(static_cast<int>(i % 23) - 11);
  const bool central = c.form != RESEMBED_CENTRAL_NONE;
  const int64_t central_rows = central ? mine.table().central_rows : 1;
  States residual(kRows), center(central_rows), their_residual(kRows), their_center(central_rows);

  const resembed_place place = CpuPlace();
  const resembed_feature* feature = &batch.feature;
  resembed_plan_args plan_args = {};
  plan_args.struct_size = sizeof(plan_args);
  plan_args.tables = &mine.tables();
  plan_args.features = &feature;
  plan_args.n_features = 1;
  size_t plan_bytes = 0, plan_workspace_bytes = 0, bytes = 0;
  Check(resembed_plan_size(&plan_args, &place, &plan_bytes, &plan_workspace_bytes));
  HugeArray<char> plan_memory(static_cast<int64_t>(plan_bytes)),
      plan_workspace(static_cast<int64_t>(plan_workspace_bytes));
  resembed_plan_header plan = {};
  plan.struct_size = sizeof(plan);
  Check(resembed_plan(&plan_args, plan_memory.data(), plan_bytes, &plan, plan_workspace.data(),
                      plan_workspace_bytes, &place));
  const resembed_optimizer of_residual = residual.Optimizer(c.optimizer),
                           of_center = center.Optimizer(c.optimizer);
  resembed_table_step step = {};
  step.struct_size = sizeof(step);
  step.residual = &of_residual;
  step.central = central ? &of_center : nullptr;
  const resembed_table_step* steps = &step;
  resembed_feature_grad feature_grad = {};
  feature_grad.struct_size = sizeof(feature_grad);
  feature_grad.grad_output = grad.data();
  const resembed_feature_grad* feature_grads = &feature_grad;
  resembed_backward_step_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan;
  args.tables = &mine.tables();
  args.features = &feature;
  args.n_features = 1;
  args.feature_grads = &feature_grads;
  args.steps = &steps;
  Check(resembed_backward_step_workspace_size(&args, &place, &bytes));
  HugeArray<char> workspace(static_cast<int64_t>(bytes));
  Check(resembed_backward_step(&args, workspace.data(), bytes, &place));

  const std::vector<float> before = RowsOf(theirs, theirs.table().residual, kRows);
  Unfused(theirs, batch)
      .BackwardStep(grad.data(), their_residual.Optimizer(c.optimizer), their_center.Optimizer(c.optimizer));
  const auto near = [](const std::vector<float>& got, const std::vector<float>& want, float relative) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], relative * (1e-2f + std::abs(want[i]))) << i;
  };
  near(their_residual.state1, residual.state1, 1e-5f);
  near(their_residual.state2, residual.state2, 1e-5f);
  near(their_center.state1, center.state1, 1e-5f);
  near(their_center.state2, center.state2, 1e-5f);
  // Sums in another order may round to the next bf16 number.
  const float relative = c.dtype == RESEMBED_F32 ? 1e-4f : 0x1p-7f;
  const std::vector<float> after = RowsOf(theirs, theirs.table().residual, kRows);
  near(after, RowsOf(mine, mine.table().residual, kRows), relative);
  EXPECT_NE(after, before);
  if (!central) return;
  near(RowsOf(theirs, theirs.table().central, central_rows), RowsOf(mine, mine.table().central, central_rows),
       relative);
}

std::vector<UpdateCase> UpdateCases() {
  std::vector<UpdateCase> cases;
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED}) {
    for (resembed_optimizer_kind kind = RESEMBED_SGD; kind <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++kind) {
      for (const resembed_dtype dtype : {RESEMBED_F32, RESEMBED_BF16}) cases.push_back({form, dtype, kind});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(BenchSupport, UpdatePeer, ::testing::ValuesIn(UpdateCases()));

TEST(Narrow, NumbersAreThoseOfTheTypes) {
  EXPECT_EQ(FromHalf(0x3c00), 1.0f);
  EXPECT_EQ(FromHalf(0xc100), -2.5f);
  EXPECT_EQ(FromHalf(0x7bff), 65504.0f);
  EXPECT_EQ(FromHalf(0x0001), 0x1p-24f) << "the smallest subnormal";
  EXPECT_EQ(FromHalf(0x03ff), 1023 * 0x1p-24f);
  EXPECT_EQ(FromBfloat(0x3f80), 1.0f);
  EXPECT_EQ(ToBfloat(1.0f + 0x1p-8f), 0x3f80) << "a tie goes to even";
  EXPECT_EQ(ToBfloat(1.0f + 0x1.8p-7f), 0x3f82) << "a tie goes to even";
  EXPECT_EQ(ToBfloat(-1.0f - 0x1.1p-8f), 0xbf81);
}

TEST(PlainGraph, IsTheGraphOfTheLibrary) {
  constexpr int64_t kItems = 60, kInteractions = 3000, kSequence = 20;
  constexpr int32_t kWindow = 3, kNeighbors = 5;
  std::vector<int32_t> ids(kInteractions);
  IdSource(kItems, 1.05, 3).Fill(0, kInteractions, ids.data());
  std::vector<int64_t> offsets;
  for (int64_t at = 0; at <= kInteractions; at += kSequence) offsets.push_back(at);
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = kItems;
  options.window = kWindow;
  resembed_covisit* covisit = nullptr;
  Check(resembed_covisit_create(&options, &covisit));
  Check(resembed_covisit_add(covisit, ids.data(), RESEMBED_I32, offsets.data(), RESEMBED_I64,
                             static_cast<int64_t>(offsets.size()) - 1));
  std::vector<int32_t> neighbors(kItems * kNeighbors);
  std::vector<int64_t> counts(neighbors.size());
  int64_t n_pairs = 0;
  Check(resembed_covisit_n_pairs(covisit, &n_pairs));
  Check(resembed_covisit_top_k(covisit, kNeighbors, neighbors.data(), counts.data()));
  resembed_covisit_destroy(covisit);
  const PlainLog log = {ids.data(), kInteractions, kSequence, kItems};
  for (const PlainGraph& graph :
       {HashedGraph(log, kWindow, kNeighbors), SortedGraph(log, kWindow, kNeighbors)}) {
    EXPECT_EQ(graph.n_pairs, n_pairs);
    EXPECT_EQ(graph.neighbors, neighbors);
    EXPECT_EQ(graph.counts, counts);
  }
}

}  // namespace
}  // namespace resembed::bench
