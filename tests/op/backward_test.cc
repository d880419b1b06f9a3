// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "host/status.h"
#include "tests/support/gradient_oracle.h"

namespace resembed::testing {
namespace {

struct Case {
  std::string name;
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

TableSpec Table(resembed_central_form form, int64_t dim) {
  TableSpec spec;
  spec.form = form;
  spec.dim = dim;
  return spec;
}
FeatureSpec Feature(resembed_pooling pooling, bool weights = false) {
  FeatureSpec spec;
  spec.pooling = pooling;
  spec.weights = weights;
  return spec;
}

constexpr resembed_central_form kForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                            RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                            RESEMBED_CENTRAL_ATTENTION};
constexpr resembed_pooling kPoolings[] = {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN,
                                          RESEMBED_POOLING_MAX};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto name = [](const char* head, resembed_central_form form, resembed_pooling pooling, int64_t dim) {
    return std::string(head) + "_" + detail::FormName(form) + "_" + detail::PoolingName(pooling) + "_dim" +
           std::to_string(dim);
  };
  for (const resembed_central_form form : kForms) {
    for (const resembed_pooling pooling : kPoolings) {
      for (const int64_t dim : {1, 7, 18, 64, 130}) {
        cases.push_back({name("plain", form, pooling, dim),
                         {Table(form, dim)},
                         {Feature(pooling, pooling != RESEMBED_POOLING_MAX && dim % 2 == 0)}});
      }
      Case odd = {name("odd", form, pooling, 18), {Table(form, 18)}, {Feature(pooling)}};
      odd.tables[0].extra_stride = 3;
      odd.tables[0].misaligned = true;
      odd.tables[0].row_map = true;
      odd.tables[0].u16_centers = true;
      odd.tables[0].residual_dtype = RESEMBED_BF16;
      odd.tables[0].central_dtype = RESEMBED_F16;
      odd.features[0].padding = true;
      odd.features[0].bad_ids = .1;
      odd.features[0].id_dtype = odd.features[0].offset_dtype = RESEMBED_I32;
      odd.features[0].grad_dtype = RESEMBED_BF16;
      cases.push_back(odd);
    }
    // Four features with different poolings and types over one table, one of them without a gradient, and a second
    // table between them.
    Case shared = {name("shared", form, RESEMBED_POOLING_NONE, 16),
                   {Table(form, 16), Table(RESEMBED_CENTRAL_STORED, 5)},
                   {}};
    shared.features = {Feature(RESEMBED_POOLING_MEAN, true), Feature(RESEMBED_POOLING_NONE),
                       Feature(RESEMBED_POOLING_SUM, true), Feature(RESEMBED_POOLING_MAX),
                       Feature(RESEMBED_POOLING_SUM)};
    shared.features[1].table = 1;
    shared.features[2].grad_dtype = RESEMBED_F16;
    shared.features[2].fixed_length = true;
    shared.features[4].has_grad = false;
    cases.push_back(shared);
    Case center_only = {name("center_only", form, RESEMBED_POOLING_SUM, 16),
                        {Table(form, 16)},
                        {Feature(RESEMBED_POOLING_SUM)}};
    center_only.tables[0].residual = form == RESEMBED_CENTRAL_NONE;
    cases.push_back(center_only);
    // Three items only: runs of 256 and more, in all features.
    Case skewed = {name("skewed", form, RESEMBED_POOLING_MEAN, 16),
                   {Table(form, 16)},
                   {Feature(RESEMBED_POOLING_MEAN, true), Feature(RESEMBED_POOLING_NONE, true)}};
    skewed.tables[0].n_items = 12;
    skewed.tables[0].central_rows = 4;
    skewed.features[0].n_bags = 300;
    skewed.features[0].same_id = .7;
    skewed.features[1].n_bags = 900;
    cases.push_back(skewed);
    Case empty = {name("empty", form, RESEMBED_POOLING_SUM, 4),
                  {Table(form, 4)},
                  {Feature(RESEMBED_POOLING_SUM), Feature(RESEMBED_POOLING_MEAN)}};
    empty.features[0].n_bags = 0;
    empty.features[1].max_length = 0;
    cases.push_back(empty);
  }
  return cases;
}

class Backward : public ::testing::TestWithParam<Case> {};

TEST_P(Backward, MatchesTheOracle) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 1);
  const TestExecutor serial(1);
  ExpectMatchesOracle(problem, RunBackward(problem, PlaceOf(&serial)));
}

TEST_P(Backward, IsTheSameOnEveryExecutorAndInstructionSet) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 2);
  const TestExecutor serial(1);
  const Grads want = RunBackward(problem, PlaceOf(&serial, RESEMBED_ISA_PORTABLE));
  for (const resembed_cpu_isa isa : AvailableIsas()) {
    const TestExecutor two(2), three(3), reversed(7, true);
    for (const TestExecutor* executor : {&two, &three, &reversed}) {
      EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(executor, isa)), want))
          << detail::IsaName(isa) << ", width " << executor->width;
    }
  }
  EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(nullptr)), want)) << "the library's own threads";
}

TEST_P(Backward, DenseIsCompressedScattered) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 3);
  const TestExecutor executor(2);
  const Grads compressed = RunBackward(problem, PlaceOf(&executor));
  Asked asked;
  asked.layout = RESEMBED_GRAD_DENSE;
  const Grads dense = RunBackward(problem, PlaceOf(&executor), asked);
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    const resembed_table& table = problem.tables[at]->descriptor;
    const auto scatter = [&table](const Compressed& from, size_t size, const int32_t* row_of) {
      std::vector<float> rows(size, 0.0f);
      const auto dim = static_cast<size_t>(table.dim);
      for (size_t row = 0; row < from.ids.size(); ++row) {
        const int64_t to = row_of == nullptr ? from.ids[row] : row_of[from.ids[row]];
        if (to >= 0)
          std::memcpy(rows.data() + static_cast<size_t>(to) * dim, from.rows.data() + row * dim, dim * 4);
      }
      return rows;
    };
    EXPECT_TRUE(SameBits(dense.tables[at].residual.rows,
                         scatter(compressed.tables[at].residual, dense.tables[at].residual.rows.size(),
                                 table.residual_row_of)));
    EXPECT_TRUE(
        SameBits(dense.tables[at].central.rows,
                 scatter(compressed.tables[at].central, dense.tables[at].central.rows.size(), nullptr)));
  }
}

// What is not asked for changes nothing of what is.
TEST_P(Backward, PartsAskedForAloneHaveTheSameBits) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 4);
  const TestExecutor executor(1);
  const Grads all = RunBackward(problem, PlaceOf(&executor));
  for (int part = 0; part < 4; ++part) {
    Asked asked;
    asked.residual = part == 0;
    asked.central = part == 1;
    asked.neighbor_weights = part == 2;
    asked.sample_weights = part == 3;
    Grads want = all;
    for (TableGrads& table : want.tables) {
      if (part != 0) table.residual = {};
      if (part != 1) table.central = {};
      if (part != 2) table.neighbor_weights = {};
    }
    if (part != 3) {
      for (auto& weights : want.sample_weights) weights = {};
    }
    EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(&executor), asked), want)) << "part " << part;
  }
}

INSTANTIATE_TEST_SUITE_P(Curated, Backward, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

// ---- long runs

// Runs of 1, 2, ..., 1000 uses: every length, across the cuts at 256 and the borders of tasks.
FeatureSpec RunsOfEveryLength(resembed_dtype grad_dtype) {
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_NONE;
  feature.grad_dtype = grad_dtype;
  for (int64_t length : {1, 2, 3, 100, 255, 256, 257, 400, 511, 512, 513, 700, 768, 769, 999, 1000}) {
    for (int64_t use = 0; use < length; ++use) feature.ids.push_back(static_cast<int64_t>(length % 17));
  }
  for (int64_t length = 1; length <= 80; ++length) {
    for (int64_t use = 0; use < length; ++use) feature.ids.push_back(100 + length);
  }
  std::shuffle(feature.ids.begin(), feature.ids.end(), std::mt19937_64(5));
  feature.n_bags = static_cast<int64_t>(feature.ids.size());
  return feature;
}

// One id 60,000 times among others.
FeatureSpec OneHotId() {
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_SUM;
  feature.weights = true;
  feature.n_bags = 7000;
  feature.max_length = 20;
  feature.fixed_length = true;
  feature.same_id = .43;
  return feature;
}

void ExpectSameOnThreads(const GradientProblem& problem) {
  const TestExecutor serial(1), two(2), three(3), reversed(7, true);
  const Grads want = RunBackward(problem, PlaceOf(&serial));
  ExpectMatchesOracle(problem, want);
  for (const TestExecutor* executor : {&two, &three, &reversed}) {
    EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(executor)), want)) << "width " << executor->width;
  }
}

TEST(Backward, RunsOfEveryLengthMatchTheOracleOnAnyThreads) {
  for (const resembed_central_form form : kForms) {
    TableSpec table = Table(form, 9);
    table.n_items = 200;
    table.central_rows = 20;
    ExpectSameOnThreads(GradientProblem({table}, {RunsOfEveryLength(RESEMBED_F32)}, 1));
  }
  ExpectSameOnThreads(
      GradientProblem({Table(RESEMBED_CENTRAL_NONE, 64)}, {RunsOfEveryLength(RESEMBED_F16)}, 2));
}

TEST(Backward, OneIdUsedSixtyThousandTimesMatchesTheOracleOnAnyThreads) {
  TableSpec table = Table(RESEMBED_CENTRAL_STORED, 8);
  table.n_items = 5000;
  table.central_rows = 3;  // runs of thousands of pairs in the second level as well
  const GradientProblem problem({table}, {OneHotId()}, 3);
  int64_t uses = 0;
  for (const int64_t id : problem.features[0]->ids) uses += id == 0;
  EXPECT_GT(uses, 60000);
  ExpectSameOnThreads(problem);
}

// The documented order of sums, as a plain loop over one item's uses.
TEST(Backward, PartialSumsAreCutEvery256UsesFromTheRunsStart) {
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_NONE;
  feature.n_bags = 3000;
  feature.same_id = .5;
  const GradientProblem problem({Table(RESEMBED_CENTRAL_NONE, 3)}, {feature}, 4);
  const TestExecutor executor(2);
  const Grads got = RunBackward(problem, PlaceOf(&executor));
  const OracleFeature oracle = problem.OracleFeatures()[0];
  for (size_t row = 0; row < got.tables[0].residual.ids.size(); ++row) {
    for (size_t col = 0; col < 3; ++col) {
      float total = 0, partial = 0;
      int64_t use = 0, n_partials = 0;
      const auto meet = [&] { total = n_partials++ == 0 ? partial : total + partial; };
      for (size_t at = 0; at < oracle.ids.size(); ++at) {
        if (oracle.ids[at] != got.tables[0].residual.ids[row]) continue;
        const auto term = static_cast<float>(oracle.grad[at * 3 + col]);
        if (use > 0 && use % 256 == 0) meet();
        partial = use % 256 == 0 ? term : partial + term;
        ++use;
      }
      meet();
      EXPECT_EQ(got.tables[0].residual.rows[row * 3 + col], total);
    }
  }
}

// Sums of small integers are exact in any order: a wrong term cannot hide in a tolerance.
TEST(Backward, SmallIntegersAreExact) {
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT}) {
    for (const int64_t dim : {1, 18, 64, 130}) {
      FeatureSpec feature;
      feature.integers = true;
      feature.weights = true;
      feature.n_bags = 2000;
      TableSpec table = Table(form, dim);
      table.n_items = 300;
      const GradientProblem problem({table}, {feature, feature}, 5);
      const TestExecutor executor(2);
      const Grads got = RunBackward(problem, PlaceOf(&executor));
      const OracleGrads want = OracleBackward(problem.OracleTables(), problem.OracleFeatures());
      const auto expect_equal = [dim](const Compressed& grad, const std::map<int64_t, OracleRow>& rows) {
        ASSERT_EQ(grad.ids.size(), rows.size());
        size_t at = 0;
        for (const auto& entry : rows) {
          for (size_t col = 0; col < static_cast<size_t>(dim); ++col) {
            ASSERT_EQ(static_cast<double>(grad.rows[at * static_cast<size_t>(dim) + col]),
                      entry.second[col].value);
          }
          ++at;
        }
      };
      expect_equal(got.tables[0].residual, want.tables[0].items);
      if (form != RESEMBED_CENTRAL_NONE) expect_equal(got.tables[0].central, want.tables[0].central);
    }
  }
}

// A saved argmax and a recomputed one are the same thing.
TEST(Backward, RecomputesTheArgmaxOfForward) {
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_MAX;
  feature.padding = true;
  feature.bad_ids = .1;
  feature.n_bags = 200;
  const TestExecutor executor(2);
  for (const resembed_central_form form : kForms) {
    const GradientProblem problem({Table(form, 18)}, {feature}, 6);
    const Grads want = RunBackward(problem, PlaceOf(&executor));
    std::vector<float> output(200 * 18);
    std::vector<int32_t> argmax(200 * 18);
    resembed_feature& descriptor = problem.features[0]->descriptor;
    descriptor.output = output.data();
    descriptor.saved_argmax = argmax.data();
    resembed_forward_args args = {};
    args.struct_size = sizeof(args);
    args.tables = problem.table_list();
    args.features = problem.feature_list();
    args.n_features = 1;
    args.bounds = RESEMBED_BOUNDS_SKIP;
    const resembed_place place = PlaceOf(&executor);
    size_t bytes = 0;
    ASSERT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK);
    Guarded workspace(bytes);
    ASSERT_EQ(resembed_forward(&args, workspace.data(), bytes, &place), RESEMBED_OK)
        << resembed_last_error_message();
    EXPECT_TRUE(SameBits(RunBackward(problem, place), want)) << detail::FormName(form);
  }
}

// Random shapes; the seed of a failing one is printed.
TEST(Backward, RandomProblemsMatchTheOracle) {
  const TestExecutor executor(2);
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto below = [&random](int64_t n) {
      return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
    };
    const auto dtype = [&below] { return static_cast<resembed_dtype>(below(3)); };
    std::vector<TableSpec> tables;
    for (int64_t n = 1 + below(3); n > 0; --n) {
      TableSpec table = Table(static_cast<resembed_central_form>(below(5)), 1 + below(70));
      table.n_items = 1 + below(200);
      table.central_rows = 1 + below(100);
      table.n_neighbors = static_cast<int32_t>(1 + below(12));
      table.residual = table.form == RESEMBED_CENTRAL_NONE || below(4) > 0;
      table.row_map = below(3) == 0;
      table.u16_centers = below(2) == 0;
      table.residual_dtype = dtype();
      table.central_dtype = dtype();
      table.extra_stride = below(3);
      table.misaligned = below(2) == 0;
      tables.push_back(table);
    }
    std::vector<FeatureSpec> features;
    for (int64_t n = below(5); n > 0; --n) {
      FeatureSpec feature;
      feature.table = static_cast<int32_t>(below(static_cast<int64_t>(tables.size())));
      feature.pooling = static_cast<resembed_pooling>(below(4));
      feature.n_bags = below(60);
      feature.max_length = below(30);
      feature.fixed_length = below(3) == 0;
      feature.weights = feature.pooling != RESEMBED_POOLING_MAX && below(2) == 0;
      feature.padding = below(2) == 0;
      feature.bad_ids = below(3) == 0 ? .1 : 0;
      feature.same_id = below(3) == 0 ? .6 : 0;
      feature.has_grad = below(8) > 0;
      feature.id_dtype = below(2) == 0 ? RESEMBED_I32 : RESEMBED_I64;
      feature.offset_dtype = below(2) == 0 ? RESEMBED_I32 : RESEMBED_I64;
      feature.grad_dtype = dtype();
      features.push_back(feature);
    }
    const GradientProblem problem(tables, features, seed);
    ExpectMatchesOracle(problem, RunBackward(problem, PlaceOf(&executor)));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace resembed::testing
