// SPDX-License-Identifier: Apache-2.0
// What the benchmarks' figures rest on: byte models, skewed ids, and peers that compute the same thing.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "bench/support/bytes.h"
#include "bench/support/scenario.h"
#include "bench/support/unfused.h"
#include "bench/support/zipf.h"

namespace resembed::bench {
namespace {

BatchShape HandShape() {
  // Two bags of three ids, five of them distinct; lists of two with stored weights; dim 4.
  BatchShape shape;
  shape.n_bags = 2;
  shape.n_ids = 6;
  shape.dim = 4;
  shape.n_unique = 5;
  shape.n_central = 12;
  shape.n_unique_central = 7;
  shape.list_bytes = 16;
  return shape;
}

TEST(BytesForward, CountsEveryUseOrEachRowOnce) {
  const BatchShape shape = HandShape();
  // 6 rows of 16 bytes with lists of 16, and 12 central rows.
  EXPECT_EQ(LogicalForward(shape).rows, 6 * (16 + 16) + 12 * 16);
  EXPECT_EQ(CompulsoryForward(shape).rows, 5 * (16 + 16) + 7 * 16);
  // Ids 6 * 4, offsets 3 * 4, outputs 2 * 16.
  EXPECT_EQ(LogicalForward(shape).total - LogicalForward(shape).rows, 24 + 12 + 32);
  EXPECT_EQ(CompulsoryForward(shape).total - CompulsoryForward(shape).rows, 24 + 12 + 32);
}

TEST(BytesForward, NarrowTypesAndWeightsCount) {
  BatchShape shape = HandShape();
  shape.central_bytes = 2;
  shape.residual_bytes = 2;
  shape.weighted = true;
  shape.id_bytes = 8;
  EXPECT_EQ(LogicalForward(shape).rows, 6 * (8 + 16) + 12 * 8);
  EXPECT_EQ(LogicalForward(shape).total - LogicalForward(shape).rows, 6 * 12 + 3 * 8 + 32);
}

TEST(BytesUpdate, RowsAndStateBothWaysGradientOnce) {
  const BatchShape shape = HandShape();
  EXPECT_EQ(CompulsoryUpdate(shape, {0, 0}), 2 * (5 + 7) * 16 + 2 * 16);
  EXPECT_EQ(CompulsoryUpdate(shape, {1, 0}), 2 * (5 + 7) * (16 + 4) + 2 * 16);
  EXPECT_EQ(CompulsoryUpdate(shape, {0, 2}), 2 * (5 + 7) * (16 + 32) + 2 * 16);
  EXPECT_EQ(LogicalUpdate(shape, {1, 0}), 2 * (5 + 7) * (16 + 4) + 6 * 16);
}

TEST(ZipfRanks, FollowTheLaw) {
  for (const double alpha : {0.7, 1.0, 1.05, 1.15, 2.0}) {
    constexpr int kRanks = 20, kDraws = 200000;
    const ZipfRanks ranks(kRanks, alpha);
    RandomStream random(5);
    std::vector<int> seen(kRanks, 0);
    for (int draw = 0; draw < kDraws; ++draw) {
      const int64_t rank = ranks.Draw(random);
      ASSERT_GE(rank, 0);
      ASSERT_LT(rank, kRanks);
      ++seen[static_cast<size_t>(rank)];
    }
    double sum = 0, chi_square = 0;
    for (int rank = 1; rank <= kRanks; ++rank) sum += std::pow(rank, -alpha);
    for (int rank = 1; rank <= kRanks; ++rank) {
      const double expected = kDraws * std::pow(rank, -alpha) / sum;
      const double off = seen[static_cast<size_t>(rank - 1)] - expected;
      chi_square += off * off / expected;
    }
    EXPECT_LT(chi_square, 45) << alpha;  // 19 degrees of freedom: exceeded once in 1,500; the seed is fixed
  }
}

TEST(ZipfRanks, ReachTheFirstAndTheLastOfMany) {
  const ZipfRanks ranks(10'000'000, 1.05);
  RandomStream random(6);
  int64_t largest = 0, zeros = 0;
  for (int draw = 0; draw < 100000; ++draw) {
    const int64_t rank = ranks.Draw(random);
    largest = std::max(largest, rank);
    zeros += rank == 0;
  }
  EXPECT_GT(largest, 9'000'000);
  EXPECT_LT(largest, 10'000'000);
  // The sum of k^-1.05 up to 10^7 is 20 (1 - 10^-.35) + .58 = 11.65.
  EXPECT_NEAR(static_cast<double>(zeros) / 100000, 1 / 11.65, 0.004);
}

TEST(IdSource, HotIdsLieScattered) {
  const IdSource source(1000, 1.15, 1);
  std::vector<int32_t> ids(50000);
  source.Fill(0, 50000, ids.data());
  std::vector<int> seen(1000, 0);
  for (const int32_t id : ids) ++seen.at(static_cast<size_t>(id));
  std::vector<int32_t> order(1000);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return seen[static_cast<size_t>(a)] > seen[static_cast<size_t>(b)];
  });
  EXPECT_GT(seen[static_cast<size_t>(order[0])], 5000) << "one id is hot";
  int64_t distance = 0;
  for (size_t rank = 1; rank < 20; ++rank) distance += std::abs(order[rank] - order[rank - 1]);
  EXPECT_GT(distance / 19, 50) << "the hottest twenty are not neighbors";
}

TEST(IdSource, StreamsRepeatAndDiffer) {
  for (const double alpha : {0.0, 1.05}) {
    const IdSource source(100000, alpha, 9);
    std::vector<int32_t> first(1000), again(1000), other(1000);
    source.Fill(3, 1000, first.data());
    source.Fill(4, 1000, other.data());
    source.Fill(3, 1000, again.data());
    EXPECT_EQ(first, again);
    EXPECT_NE(first, other);
  }
}

TEST(MakeBatch, CountsDistinctItemsAndCentralRows) {
  TableSpec spec;
  spec.rows = 200;
  spec.dim = 4;
  spec.k = 3;
  const Scenario scenario(spec);
  const IdSource source(200, 0, 2);
  const Batch batch = MakeBatch(scenario, source, 10, 7, 0);
  const std::set<int32_t> items(batch.ids.begin(), batch.ids.end());
  std::set<int32_t> central;
  for (const int32_t item : items) {
    central.insert(scenario.slots() + item * 3, scenario.slots() + item * 3 + 3);
  }
  EXPECT_EQ(batch.shape.n_unique, static_cast<int64_t>(items.size()));
  EXPECT_EQ(batch.shape.n_unique_central, static_cast<int64_t>(central.size()));
  EXPECT_EQ(batch.shape.n_central, 210);
  EXPECT_EQ(batch.shape.list_bytes, 24);
}

class Peers : public ::testing::TestWithParam<resembed_central_form> {
 protected:
  Peers() {
    spec_.rows = 500;
    spec_.dim = 12;
    spec_.k = 4;
    spec_.form = GetParam();
    spec_.alpha = 1.05;
    spec_.centers = 20;
  }
  TableSpec spec_;
};

TEST_P(Peers, UnfusedForwardComputesWhatTheLibraryDoes) {
  const Scenario scenario(spec_);
  Batch batch = MakeBatch(scenario, IdSource(spec_.rows, 1.05, 3), 30, 5, 0);
  std::vector<float> fused(30 * 12), unfused(30 * 12);
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
    for (size_t i = 0; i < fused.size(); ++i) ASSERT_NEAR(unfused[i], fused[i], 1e-6) << i;
  }
}

TEST_P(Peers, UnfusedUpdateComputesWhatTheLibraryDoes) {
  const Scenario mine(spec_), theirs(spec_);
  const IdSource source(spec_.rows, 1.05, 3);
  Batch batch = MakeBatch(mine, source, 30, 5, 0);
  std::vector<float> grad(30 * 12);
  for (size_t i = 0; i < grad.size(); ++i)
    grad[i] = 0.01f * static_cast<float>(static_cast<int>(i % 23) - 11);
  const bool central = spec_.form != RESEMBED_CENTRAL_NONE;
  const auto central_rows = static_cast<size_t>(central ? mine.table().central_rows : 1);
  std::vector<float> state_r(500, 0.1f), state_c(central_rows, 0.1f), peer_r = state_r, peer_c = state_c;

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
  resembed_optimizer residual = {};
  residual.struct_size = sizeof(residual);
  residual.kind = RESEMBED_ROWWISE_ADAGRAD;
  residual.lr = 0.1f;
  residual.eps = 1e-8f;
  resembed_optimizer center = residual;
  residual.state1 = state_r.data();
  center.state1 = state_c.data();
  resembed_table_step step = {};
  step.struct_size = sizeof(step);
  step.residual = &residual;
  step.central = central ? &center : nullptr;
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

  Unfused(theirs, batch).BackwardRowwiseAdagrad(grad.data(), 0.1f, 1e-8f, peer_r.data(), peer_c.data());
  for (size_t i = 0; i < state_r.size(); ++i) ASSERT_NEAR(peer_r[i], state_r[i], 1e-6) << i;
  for (size_t i = 0; i < state_c.size(); ++i) ASSERT_NEAR(peer_c[i], state_c[i], 1e-6) << i;
  const auto* mine_r = static_cast<const float*>(mine.table().residual);
  const auto* theirs_r = static_cast<const float*>(theirs.table().residual);
  for (int64_t i = 0; i < 500 * 12; ++i) ASSERT_NEAR(theirs_r[i], mine_r[i], 1e-5) << i;
  if (!central) return;
  const auto* mine_c = static_cast<const float*>(mine.table().central);
  const auto* theirs_c = static_cast<const float*>(theirs.table().central);
  for (int64_t i = 0; i < mine.table().central_rows * 12; ++i) ASSERT_NEAR(theirs_c[i], mine_c[i], 1e-5) << i;
}

INSTANTIATE_TEST_SUITE_P(BenchSupport, Peers,
                         ::testing::Values(RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED));

}  // namespace
}  // namespace resembed::bench
