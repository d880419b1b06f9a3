// SPDX-License-Identifier: Apache-2.0
// Item embeddings kept for their next use: the same bits, and only where ids come again.
#include "host/cpu/item_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "tests/support/gradient_call.h"
#include "tests/support/gradient_problem.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {
namespace {

using detail::cpu::ItemCache;

constexpr int64_t kManyIds = 3 * ItemCache::kIdsEach;

// Bags of random lengths over skewed ids, padding and bad ones among them.
FeatureSpec SkewedFeature(int64_t n_items, uint32_t seed) {
  std::mt19937 random(seed);
  FeatureSpec feature;
  feature.padding = true;
  feature.offsets = {0};
  std::uniform_real_distribution<double> uniform;
  while (feature.offsets.back() < kManyIds) {
    const auto length = static_cast<int64_t>(random() % 50 == 0 ? 300 + random() % 900 : random() % 30);
    for (int64_t id = 0; id < length; ++id) {
      const double x = uniform(random);
      const auto item = static_cast<int64_t>(static_cast<double>(n_items) * x * x * x * x);
      feature.ids.push_back(random() % 100 == 0 ? n_items + 5 : item);
    }
    feature.offsets.push_back(feature.offsets.back() + length);
  }
  feature.n_bags = static_cast<int64_t>(feature.offsets.size()) - 1;
  return feature;
}

// With a plan each unique item is composed once and pooled as a row of a plain table, which has no cache.
TEST(ItemCache, ForwardGivesTheBitsOfUniqueItemsComposedOnce) {
  for (const int64_t dim : {int64_t{5}, int64_t{64}, int64_t{100}}) {
    TableSpec stored, uniform, attention;
    stored.dim = uniform.dim = attention.dim = dim;
    stored.form = RESEMBED_CENTRAL_STORED;
    uniform.form = RESEMBED_CENTRAL_UNIFORM;
    attention.form = RESEMBED_CENTRAL_ATTENTION;
    stored.n_items = 5000;  // more than a cache has rows
    uniform.n_items = 400;
    attention.n_items = 300;
    stored.row_map = true;  // some items have no residual row
    uniform.residual = dim == 5;
    uniform.central_dtype = RESEMBED_BF16;
    std::vector<FeatureSpec> features;
    for (int32_t index = 0; index < 6; ++index) {
      const int32_t table = index % 3;
      FeatureSpec feature = SkewedFeature((table == 0   ? stored
                                           : table == 1 ? uniform
                                                        : attention)
                                              .n_items,
                                          static_cast<uint32_t>(index));
      feature.table = table;
      feature.weights = index >= 3;
      feature.pooling = index % 2 == 0 ? RESEMBED_POOLING_SUM : RESEMBED_POOLING_MEAN;
      features.push_back(feature);
    }
    GradientProblem problem({stored, uniform, attention}, features, 5);
    const TestExecutor serial(1), wide(3);
    const resembed_place place = PlaceOf(&serial);
    const MadePlan plan(problem.PlanArgs(), place);
    ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
    ForwardOptions options;
    options.plan = &plan.header;
    const ForwardResult want = RunForward(&problem, place, options);
    ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
    for (const resembed_cpu_isa isa : AvailableIsas()) {
      for (const TestExecutor* executor : {&serial, &wide}) {
        const ForwardResult got = RunForward(&problem, PlaceOf(executor, isa));
        EXPECT_TRUE(SameBits(got, want)) << "dim " << dim << " isa " << isa << ": " << got.message;
        EXPECT_GT(got.workspace_bytes, static_cast<size_t>(3 * ItemCache::kFloats) * sizeof(float));
      }
    }
  }
}

TEST(ItemCache, FindsWhatIsKeptUntilItsPlaceIsTaken) {
  std::vector<float> rows(static_cast<size_t>(ItemCache::kFloats));
  const auto cache = std::make_unique<ItemCache>(rows.data());
  resembed_table table = {};
  table.dim = 100;
  ASSERT_TRUE(cache->Begin(table, 0));
  std::vector<float*> row_of(2000);
  for (int64_t item = 0; item < 2000; ++item) {
    float* row;
    ASSERT_FALSE(cache->Find(item, &row));
    ASSERT_TRUE(row >= rows.data() && row + 100 <= rows.data() + rows.size() &&
                (row - rows.data()) % 16 == 0);
    row_of[static_cast<size_t>(item)] = row;
    *row = static_cast<float>(item);  // as the caller keeps it
  }
  int64_t hits = 0;
  for (int64_t item = 1999; item >= 0; --item) {
    float* row;
    if (!cache->Find(item, &row)) continue;
    ++hits;
    EXPECT_EQ(row, row_of[static_cast<size_t>(item)]);
    EXPECT_EQ(*row, static_cast<float>(item));
  }
  EXPECT_GT(hits, 0);
  // Another table has the same ids.
  ASSERT_TRUE(cache->Begin(table, 1));
  float* row;
  for (int64_t item = 0; item < 100; ++item) EXPECT_FALSE(cache->Find(item % 100 + 1900, &row));
}

TEST(ItemCache, RestsWhereIdsAreNewAndLooksAgain) {
  std::vector<float> rows(static_cast<size_t>(ItemCache::kFloats));
  const auto cache = std::make_unique<ItemCache>(rows.data());
  resembed_table table = {};
  table.dim = 64;
  float* row;
  int64_t next = 0, used = 0;
  for (int stretch = 0; stretch < 64; ++stretch) {
    if (!cache->Begin(table, 0)) continue;
    ++used;
    for (int use = 0; use < 1000; ++use) cache->Find(next++, &row);
  }
  EXPECT_EQ(used, 4);
  used = 0;
  for (int stretch = 0; stretch < 64; ++stretch) {
    if (!cache->Begin(table, 0)) continue;
    ++used;
    for (int use = 0; use < 1000; ++use) cache->Find(use % 100, &row);
  }
  EXPECT_GE(used, 64 - 16);
}

TEST(ItemCache, OneTakerAtATime) {
  const auto cache = std::make_unique<ItemCache>(nullptr);
  EXPECT_TRUE(cache->TryTake());
  EXPECT_FALSE(cache->TryTake());
  cache->Release();
  EXPECT_TRUE(cache->TryTake());
}

}  // namespace
}  // namespace resembed::testing
