// SPDX-License-Identifier: Apache-2.0
// Tables that dense_items.h is made for: the bits of the general path, values of the oracle.
#include "host/cpu/dense_items.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "host/cpu/dense_sum.h"
#include "tests/support/gradient_problem.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {
namespace {

using detail::cpu::FindDenseSum;
using detail::cpu::IsDense;
using detail::cpu::ItemCache;
using detail::cpu::MapKind;

constexpr int64_t kDims[] = {16, 32, 64, 128, 256};

TableSpec Spec(resembed_central_form form, int64_t dim, int64_t n_items) {
  TableSpec spec;
  spec.form = form;
  spec.dim = dim;
  spec.n_items = n_items;
  spec.central_rows = 700;
  spec.n_neighbors = 8;
  return spec;
}

// Bags of random lengths, some long, over ids of which few are frequent; padding and bad ones among them.
FeatureSpec Skewed(int32_t table, int64_t n_items, int64_t n_ids, uint32_t seed) {
  std::mt19937 random(seed);
  FeatureSpec feature;
  feature.table = table;
  feature.padding = seed % 2 == 0;
  feature.weights = seed % 3 == 0;
  feature.pooling = seed % 2 == 0 ? RESEMBED_POOLING_MEAN : RESEMBED_POOLING_SUM;
  feature.id_dtype = seed % 4 < 2 ? RESEMBED_I64 : RESEMBED_I32;
  feature.offsets = {0};
  std::uniform_real_distribution<double> uniform;
  while (feature.offsets.back() < n_ids) {
    const auto length = static_cast<int64_t>(random() % 40 == 0 ? 300 + random() % 1500 : random() % 30);
    for (int64_t id = 0; id < length; ++id) {
      const double x = uniform(random);
      const auto item = static_cast<int64_t>(static_cast<double>(n_items) * x * x * x);
      feature.ids.push_back(random() % 60 == 0 ? n_items + 5 : item);
    }
    feature.offsets.push_back(feature.offsets.back() + length);
  }
  feature.n_bags = static_cast<int64_t>(feature.offsets.size()) - 1;
  return feature;
}

// Rows at whole cache lines, as callers have them.
struct AlignedRows {
  AlignedRows(void* rows, int64_t bytes) : memory(static_cast<size_t>(bytes)) {
    if (bytes > 0) std::memcpy(memory.data(), rows, static_cast<size_t>(bytes));
  }
  Guarded memory;
};

class AlignedTables {
 public:
  explicit AlignedTables(GradientProblem* problem) {
    for (const auto& table : problem->tables) {
      resembed_table& given = table->descriptor;
      rows_.emplace_back(given.central, given.central == nullptr ? 0 : given.central_rows * given.dim * 4);
      rows_.emplace_back(given.residual, given.n_items * given.dim * 4);
      if (given.neighbors != nullptr) CompactLists(table.get());
    }
    for (size_t index = 0; index < problem->tables.size(); ++index) {
      resembed_table& given = problem->tables[index]->descriptor;
      if (given.central != nullptr) given.central = rows_[2 * index].memory.data();
      given.residual = rows_[2 * index + 1].memory.data();
    }
  }

 private:
  // Lists without gaps between them; two thirds of them full.
  static void CompactLists(TableData* table) {
    resembed_table& given = table->descriptor;
    std::vector<int32_t> neighbors;
    std::vector<float> weights;
    for (int64_t item = 0; item < given.n_items; ++item) {
      for (int64_t slot = 0; slot < 8; ++slot) {
        const auto at = static_cast<size_t>(item * given.neighbors_stride + slot);
        const bool fills = table->neighbors[at] < 0 && item % 3 != 0;
        neighbors.push_back(fills ? static_cast<int32_t>((item * 7 + slot) % given.central_rows)
                                  : table->neighbors[at]);
        weights.push_back(fills ? .25f : table->neighbor_weights[at]);
      }
    }
    table->neighbors = neighbors;
    table->neighbor_weights = weights;
    given.neighbors = table->neighbors.data();
    given.neighbors_stride = 8;
    if (given.form == RESEMBED_CENTRAL_STORED) {
      given.neighbor_weights = table->neighbor_weights.data();
      given.neighbor_weights_stride = 8;
    }
  }

  std::vector<AlignedRows> rows_;
};

// Every kind of map.
std::vector<TableSpec> Tables(int64_t dim, int64_t n_items) {
  std::vector<TableSpec> tables;
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_UNIFORM}) {
    tables.push_back(Spec(form, dim, n_items));
  }
  tables.push_back(tables[1]);
  tables.back().u16_centers = true;
  return tables;
}

TEST(DenseSum, GivesTheBitsOfTheGeneralPath) {
  for (const int64_t dim : kDims) {
    // Many ids have a cache, whose rows are fewer than the items; few have none.
    for (const int64_t n_ids : {int64_t{400}, 2 * ItemCache::kIdsEach}) {
      const int64_t n_items = n_ids < 1000 ? 300 : 9000;
      std::vector<FeatureSpec> features;
      const std::vector<TableSpec> tables = Tables(dim, n_items);
      for (uint32_t seed = 0; seed < 3 * tables.size(); ++seed) {
        features.push_back(Skewed(static_cast<int32_t>(seed / 3), n_items, n_ids / 6, seed));
      }
      GradientProblem problem(tables, features, 11);
      const AlignedTables aligned(&problem);
      const TestExecutor serial(1), wide(3);
      const ForwardResult want = RunForward(&problem, PlaceOf(&serial, RESEMBED_ISA_PORTABLE));
      ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
      if (n_ids < 1000) ExpectMatchesOracle(&problem, want, RESEMBED_F32);
      for (const resembed_cpu_isa isa : AvailableIsas()) {
        for (const TestExecutor* executor : {&serial, &wide}) {
          const ForwardResult got = RunForward(&problem, PlaceOf(executor, isa));
          EXPECT_TRUE(SameBits(got, want))
              << "dim " << dim << " ids " << n_ids << " isa " << isa << ": " << got.message;
        }
      }
    }
  }
}

// Every kind of map, both ways of weighing, with what is saved and without, forward and backward.
TEST(DenseAttention, GivesTheBitsOfTheGeneralPath) {
  for (const int64_t dim : kDims) {
    constexpr int64_t kItems = 300;
    const std::vector<TableSpec> tables = Tables(dim, kItems);
    std::vector<FeatureSpec> features;
    for (uint32_t number = 0; number < 2 * tables.size(); ++number) {
      FeatureSpec feature = Skewed(static_cast<int32_t>(number / 2), kItems, 1200, number);
      feature.weights = false;
      feature.pooling = RESEMBED_POOLING_ATTENTION;
      if (number % 3 == 2) feature.activation = RESEMBED_ATTENTION_SIGMOID;
      features.push_back(feature);
    }
    GradientProblem problem(tables, features, 13);
    const AlignedTables aligned(&problem);
    for (const auto& table : problem.tables) EXPECT_TRUE(IsDense(table->descriptor));
    const TestExecutor serial(1), wide(3);
    const resembed_place portable = PlaceOf(&serial, RESEMBED_ISA_PORTABLE);
    const ForwardResult want = RunForward(&problem, portable);
    ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
    ExpectMatchesOracle(&problem, want, RESEMBED_F32);
    const Grads want_grads = RunBackward(problem, portable);
    for (const resembed_cpu_isa isa : AvailableIsas()) {
      for (const TestExecutor* executor : {&serial, &wide}) {
        const resembed_place place = PlaceOf(executor, isa);
        EXPECT_TRUE(SameBits(RunForward(&problem, place), want)) << "dim " << dim << " " << isa;
        EXPECT_TRUE(SameBits(RunBackward(problem, place), want_grads)) << "dim " << dim << " " << isa;
      }
    }
    ForwardOptions unsaved;
    unsaved.saved_attention = false;
    const ForwardResult without = RunForward(&problem, PlaceOf(&wide), unsaved);
    for (size_t index = 0; index < features.size(); ++index) {
      EXPECT_EQ(without.features[index].bytes, want.features[index].bytes) << "feature " << index;
    }
  }
}

TEST(DenseAttention, HasFunctionsForWhatItIsMadeFor) {
  EXPECT_EQ(detail::GetRowOps(RESEMBED_ISA_PORTABLE).fill_tile, nullptr);
  for (const resembed_cpu_isa isa : {RESEMBED_ISA_AVX2, RESEMBED_ISA_AVX512}) {
    if (!detail::IsaAvailable(isa)) continue;
    const auto fill_tile = detail::GetRowOps(isa).fill_tile;
    for (const MapKind kind : {MapKind::kNone, MapKind::kCode, MapKind::kList}) {
      for (const int64_t dim : kDims) EXPECT_NE(fill_tile(kind, dim, RESEMBED_I32), nullptr);
      EXPECT_EQ(fill_tile(kind, 48, RESEMBED_I64), nullptr);
    }
  }
}

TEST(DenseSum, ServesWhatItIsMadeFor) {
  GradientProblem problem({Spec(RESEMBED_CENTRAL_STORED, 64, 50)}, {FeatureSpec()}, 3);
  const AlignedTables aligned(&problem);
  const resembed_table table = problem.tables[0]->descriptor;
  EXPECT_EQ(FindDenseSum(table, RESEMBED_I64, true, detail::GetRowOps(RESEMBED_ISA_PORTABLE)), nullptr);
  if (!detail::IsaAvailable(RESEMBED_ISA_AVX2)) GTEST_SKIP() << "No AVX2 here";
  const detail::RowOps& ops = detail::GetRowOps(RESEMBED_ISA_AVX2);
  for (const int64_t dim : kDims) {
    for (const MapKind kind : {MapKind::kNone, MapKind::kCode, MapKind::kList}) {
      const bool is_narrow = dim <= (kind == MapKind::kNone ? 128 : kind == MapKind::kCode ? 64 : 256);
      EXPECT_EQ(ops.dense_sum(kind, dim, RESEMBED_I32, false) != nullptr, is_narrow);
      if (!detail::IsaAvailable(RESEMBED_ISA_AVX512)) continue;
      EXPECT_NE(detail::GetRowOps(RESEMBED_ISA_AVX512).dense_sum(kind, dim, RESEMBED_I64, false), nullptr);
    }
  }
  EXPECT_NE(FindDenseSum(table, RESEMBED_I64, true, ops), nullptr);
  EXPECT_NE(FindDenseSum(table, RESEMBED_I32, false, ops), nullptr);
  const auto is_left = [&ops](resembed_table other) {
    return FindDenseSum(other, RESEMBED_I64, true, ops) == nullptr;
  };
  resembed_table other = table;
  other.n_neighbors = 7;
  EXPECT_TRUE(is_left(other));
  other = table;
  other.dim = 48;
  EXPECT_TRUE(is_left(other));
  other = table;
  other.residual_stride = 80;
  EXPECT_TRUE(is_left(other));
  other = table;
  other.central_dtype = RESEMBED_BF16;
  EXPECT_TRUE(is_left(other));
  other = table;
  other.residual = nullptr;
  EXPECT_TRUE(is_left(other));
  other = table;
  other.form = RESEMBED_CENTRAL_ATTENTION;
  EXPECT_TRUE(is_left(other));
}

}  // namespace
}  // namespace resembed::testing
