// SPDX-License-Identifier: Apache-2.0
// Forward against the float64 oracle, and what guarantees.md promises of it.
#include "tests/oracle/forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "tests/support/gradient_problem.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {
namespace {

#ifdef RESEMBED_SANITIZE
constexpr int kRandomCases = 30;
const int64_t kDims[] = {1, 18, 64, 130};
constexpr int64_t kHugeBag = 5000;
#else
constexpr int kRandomCases = 400;
const int64_t kDims[] = {1, 7, 18, 32, 64, 128, 130, 513};
constexpr int64_t kHugeBag = 100000;
#endif

const resembed_central_form kForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                        RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                        RESEMBED_CENTRAL_ATTENTION};
const resembed_pooling kPoolings[] = {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN,
                                      RESEMBED_POOLING_MAX};
const resembed_dtype kTypes[] = {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16};

std::vector<int64_t> OffsetsOf(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets = {0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + length);
  return offsets;
}

struct Shape {
  resembed_central_form form;
  int64_t dim;
};

void PrintTo(const Shape& shape, std::ostream* out) { *out << "form " << shape.form << " dim " << shape.dim; }

class ForwardShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(ForwardShapes, EveryPoolingAndBagLengthMatchesTheOracle) {
  const Shape shape = GetParam();
  TableSpec table;
  table.form = shape.form;
  table.dim = shape.dim;
  table.n_items = 60;
  table.n_neighbors = 5;
  table.residual = shape.form == RESEMBED_CENTRAL_NONE || shape.dim != 32;
  table.row_map = shape.dim % 2 == 1;
  table.u16_centers = shape.dim % 2 == 0;
  table.residual_dtype = kTypes[static_cast<size_t>(shape.dim) % 3];
  table.central_dtype = kTypes[static_cast<size_t>(shape.dim / 2) % 3];
  table.extra_stride = shape.dim == 18 ? 5 : 0;
  table.misaligned = shape.dim == 64 || shape.dim == 130;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : kPoolings) {
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.offsets = OffsetsOf({0, 1, 31, 33, 0, 255, 256, 257, 1000, 0, 3});
    if (pooling == RESEMBED_POOLING_NONE) feature.offsets = OffsetsOf(std::vector<int64_t>(70, 1));
    feature.weights = pooling != RESEMBED_POOLING_MAX;
    feature.padding = pooling == RESEMBED_POOLING_MEAN || pooling == RESEMBED_POOLING_MAX;
    feature.id_dtype = pooling == RESEMBED_POOLING_SUM ? RESEMBED_I32 : RESEMBED_I64;
    feature.offset_dtype = pooling == RESEMBED_POOLING_MEAN ? RESEMBED_I32 : RESEMBED_I64;
    features.push_back(feature);
  }
  GradientProblem problem({table}, features, 11);
  for (const resembed_dtype dtype : kTypes) {
    ForwardOptions options;
    options.output_dtype = dtype;
    options.extra_stride = dtype == RESEMBED_F32 ? 3 : 0;
    ExpectMatchesOracle(&problem, RunForward(&problem, PlaceOf(nullptr), options), dtype);
  }
}

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (const resembed_central_form form : kForms) {
    for (const int64_t dim : kDims) shapes.push_back({form, dim});
  }
  return shapes;
}

INSTANTIATE_TEST_SUITE_P(Curated, ForwardShapes, ::testing::ValuesIn(Shapes()));

GradientProblem RandomProblem(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&random](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  std::vector<TableSpec> tables;
  for (int64_t count = 1 + below(3); count > 0; --count) {
    TableSpec table;
    table.form = kForms[below(5)];
    table.n_items = 1 + below(80);
    table.central_rows = 1 + below(50);
    table.dim = 1 + below(140);
    table.n_neighbors = static_cast<int32_t>(1 + below(below(4) == 0 ? 64 : 9));
    table.residual = table.form == RESEMBED_CENTRAL_NONE || below(4) != 0;
    table.row_map = below(3) == 0;
    table.u16_centers = below(2) == 0;
    table.residual_dtype = kTypes[below(3)];
    table.central_dtype = kTypes[below(3)];
    table.extra_stride = below(2) * below(9);
    table.misaligned = below(2) == 0;
    tables.push_back(table);
  }
  std::vector<FeatureSpec> features;
  for (int64_t count = 1 + below(4); count > 0; --count) {
    FeatureSpec feature;
    feature.table = static_cast<int32_t>(below(static_cast<int64_t>(tables.size())));
    feature.pooling = kPoolings[below(4)];
    feature.n_bags = below(30);
    feature.max_length = below(4) == 0 ? below(600) : below(12);
    feature.weights = feature.pooling != RESEMBED_POOLING_MAX && below(2) == 0;
    feature.padding = below(2) == 0;
    feature.fixed_length = below(3) == 0;
    feature.bad_ids = below(3) == 0 ? .2 : 0;
    feature.same_id = below(3) == 0 ? .7 : 0;
    feature.id_dtype = below(2) == 0 ? RESEMBED_I32 : RESEMBED_I64;
    feature.offset_dtype = below(2) == 0 ? RESEMBED_I32 : RESEMBED_I64;
    features.push_back(feature);
  }
  return GradientProblem(tables, features, seed);
}

TEST(Forward, RandomProblemsMatchTheOracle) {
  for (int number = 0; number < kRandomCases; ++number) {
    const uint64_t seed = 1000 + static_cast<uint64_t>(number);
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    GradientProblem problem = RandomProblem(seed);
    const TestExecutor executor(1 + number % 3);
    ForwardOptions options;
    options.output_dtype = kTypes[number % 3];
    options.extra_stride = number % 5;
    ExpectMatchesOracle(&problem, RunForward(&problem, PlaceOf(&executor), options), options.output_dtype);
    if (HasFatalFailure()) return;
  }
}

// A batch with everything that could depend on how work is cut: bags longer than a task, empty bags, blocks.
GradientProblem WideProblem() {
  std::vector<TableSpec> tables;
  for (const resembed_central_form form : kForms) {
    TableSpec table;
    table.form = form;
    table.dim = form == RESEMBED_CENTRAL_STORED ? 64 : 18;
    table.n_items = 300;
    table.residual_dtype = form == RESEMBED_CENTRAL_UNIFORM ? RESEMBED_BF16 : RESEMBED_F32;
    table.n_neighbors = 8;
    tables.push_back(table);
  }
  std::vector<FeatureSpec> features;
  for (int32_t table = 0; table < static_cast<int32_t>(tables.size()); ++table) {
    for (const resembed_pooling pooling : kPoolings) {
      FeatureSpec feature;
      feature.table = table;
      feature.pooling = pooling;
      feature.weights = pooling == RESEMBED_POOLING_SUM;
      feature.padding = true;
      feature.bad_ids = .02;
      feature.offsets = OffsetsOf({0, 0, 3, 1024, 1025, 1, 0, 2047, 300, 1281, 255, 2, 0, 4000, 0});
      if (pooling == RESEMBED_POOLING_NONE) feature.offsets = OffsetsOf(std::vector<int64_t>(2000, 1));
      if (pooling == RESEMBED_POOLING_SUM && table == 3) feature.offsets = OffsetsOf({2, kHugeBag, 2});
      features.push_back(feature);
    }
  }
  return GradientProblem(tables, features, 5);
}

TEST(Forward, SameBitsForAnyThreadCountAndInstructionSet) {
  GradientProblem problem = WideProblem();
  const TestExecutor serial(1);
  for (const resembed_dtype dtype : {RESEMBED_F32, RESEMBED_F16}) {
    ForwardOptions options;
    options.output_dtype = dtype;
    const ForwardResult want = RunForward(&problem, PlaceOf(&serial, RESEMBED_ISA_PORTABLE), options);
    ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
    for (const resembed_cpu_isa isa : AvailableIsas()) {
      for (const int width : {1, 2, 3, 7}) {
        const TestExecutor executor(width, width == 7);
        EXPECT_TRUE(SameBits(RunForward(&problem, PlaceOf(&executor, isa), options), want))
            << "isa " << isa << " width " << width;
      }
      EXPECT_TRUE(SameBits(RunForward(&problem, PlaceOf(nullptr, isa), options), want))
          << "the library's pool";
    }
  }
}

TEST(Forward, LongBagsMatchTheOracle) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_STORED;
  table.dim = 9;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : {RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN, RESEMBED_POOLING_MAX}) {
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.padding = true;
    feature.offsets = OffsetsOf({7, 1025, 5000, 0, 1024, 3});
    features.push_back(feature);
    feature.fixed_length = true;
    feature.offsets.clear();
    feature.n_bags = 3;
    feature.max_length = 1500;
    features.push_back(feature);
  }
  GradientProblem problem({table}, features, 3);
  const TestExecutor executor(3);
  ExpectMatchesOracle(&problem, RunForward(&problem, PlaceOf(&executor)), RESEMBED_F32);
}

// The order of sums written out, in fp32.
TEST(Forward, OrderOfSumsIsTheDocumentedOne) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_STORED;
  table.dim = 33;
  table.n_neighbors = 4;
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_MEAN;
  feature.weights = true;
  feature.padding = true;
  feature.offsets = OffsetsOf({5, 256, 257, 700, 3000});
  GradientProblem problem({table}, {feature}, 21);
  const ForwardResult result = RunForward(&problem, PlaceOf(nullptr));
  ASSERT_EQ(result.status, RESEMBED_OK) << result.message;
  TableData& data = *problem.tables[0];
  const FeatureData& ids = *problem.features[0];
  const auto item_column = [&](int64_t item, int64_t col) {
    const auto* list = data.descriptor.neighbors + item * data.descriptor.neighbors_stride;
    const auto* weights = data.descriptor.neighbor_weights + item * data.descriptor.neighbor_weights_stride;
    float e = 0;
    for (int k = 0; k < data.descriptor.n_neighbors && list[k] >= 0; ++k) {
      const float term = weights[k] * static_cast<const float*>(data.CentralRow(list[k]))[col];
      e = k == 0 ? term : e + term;
    }
    const float residual = static_cast<const float*>(data.ResidualRow(item))[col];
    return list[0] < 0 ? residual : e + residual;
  };
  for (size_t bag = 0; bag + 1 < ids.offsets.size(); ++bag) {
    const int64_t first = ids.offsets[bag], length = ids.offsets[bag + 1] - first;
    for (int64_t col = 0; col < data.descriptor.dim; ++col) {
      float y = 0;
      int64_t count = 0;
      for (int64_t start = 0; start < length; start += RESEMBED_SUM_BLOCK) {
        float partial = 0;
        for (int64_t position = start; position < std::min(length, start + RESEMBED_SUM_BLOCK); ++position) {
          const auto at = static_cast<size_t>(first + position);
          if (ids.ids[at] == ids.descriptor.padding_id) continue;
          const float term = ids.weights[at] * item_column(ids.ids[at], col);
          partial = partial + term;
          ++count;
        }
        y = start == 0 ? partial : y + partial;
      }
      y = y / static_cast<float>(count);
      float got;
      std::memcpy(
          &got, result.features[0].bytes.data() + (static_cast<int64_t>(bag) * data.descriptor.dim + col) * 4,
          4);
      ASSERT_EQ(got, y) << "bag " << bag << " column " << col;
    }
  }
}

TEST(Forward, SumsOfSmallIntegersAreExact) {
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_STORED}) {
    for (const resembed_dtype dtype : kTypes) {
      TableSpec table;
      table.form = form;
      table.dim = 37;
      table.residual_dtype = dtype;
      table.central_dtype = dtype;
      FeatureSpec feature;
      feature.weights = true;
      feature.integers = true;
      feature.max_length = 40;
      GradientProblem problem({table}, {feature}, 31);
      std::mt19937 random(4);
      TableData& data = *problem.tables[0];
      for (int64_t row = 0; row < table.n_items; ++row) {
        for (int64_t col = 0; col < table.dim; ++col) {
          Encode(data.ResidualRow(row), dtype, col, static_cast<float>(random() % 7) - 3);
          if (form != RESEMBED_CENTRAL_NONE && row < data.descriptor.central_rows) {
            Encode(data.CentralRow(row), dtype, col, static_cast<float>(random() % 7) - 3);
          }
        }
      }
      for (float& weight : data.neighbor_weights) weight = static_cast<float>(random() % 3);
      const ForwardResult result = RunForward(&problem, PlaceOf(nullptr));
      const OracleOutput want = OracleForwardBounded(problem.OracleTables()[0], problem.OracleFeatures()[0]);
      for (size_t at = 0; at < result.features[0].values.size(); ++at) {
        ASSERT_EQ(result.features[0].values[at], want.rows[at / 37][at % 37].value);
      }
    }
  }
}

TEST(Forward, APreparedTableSetGivesTheSameBits) {
  GradientProblem problem = WideProblem();
  const resembed_place place = PlaceOf(nullptr);
  const ForwardResult want = RunForward(&problem, place);
  size_t bytes = 0;
  ASSERT_EQ(resembed_table_set_size(problem.table_list(), &place, &bytes), RESEMBED_OK);
  Guarded memory(bytes);
  resembed_table_set set = {};
  ASSERT_EQ(resembed_table_set_prepare(problem.table_list(), memory.data(), bytes, &set, &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(memory.Intact());
  auto* tables = const_cast<resembed_tables*>(problem.table_list());
  const resembed_tables given = *tables;
  tables->tables = nullptr;
  tables->set = &set;
  EXPECT_TRUE(SameBits(RunForward(&problem, place), want));
  *tables = given;
}

}  // namespace
}  // namespace resembed::testing
