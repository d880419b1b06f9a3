// SPDX-License-Identifier: Apache-2.0
// What the benchmarks' figures rest on: byte models and skewed ids.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "bench/support/bytes.h"
#include "bench/support/scenario.h"
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

TEST(BytesGraph, KeysOnceMoreThanTheyAreSortedAndAListForEachPair) {
  // Two sequences of five: 4 + 3 pairs of positions each. 1,000 items take 10 bits, a key of two of them two passes.
  GraphShape shape;
  shape.n_interactions = 10;
  shape.length = 5;
  shape.n_items = 1000;
  shape.n_pairs = 12;
  shape.window = 2;
  shape.k = 8;
  EXPECT_EQ(PairUses(shape), 14);
  EXPECT_EQ(SortPasses(1000), 2);
  EXPECT_EQ(SortPasses(2048), 2);
  EXPECT_EQ(SortPasses(2049), 3);
  EXPECT_EQ(CountBytes(shape), 10 * 4 + 3 * 8 + 14 * 16 * 3 + 12 * 16);
  EXPECT_EQ(TopKBytes(shape), 12 * 16 + 2 * 96 * (12 + 1000));
  shape.window = 9;  // longer than a sequence
  EXPECT_EQ(PairUses(shape), 20);
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

}  // namespace
}  // namespace resembed::bench
