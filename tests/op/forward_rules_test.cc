// SPDX-License-Identifier: Apache-2.0
// What forward does with maxima, ids that are no items, empty input, and memory around its own.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "tests/support/gradient_problem.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {
namespace {

const resembed_central_form kForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                        RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                        RESEMBED_CENTRAL_ATTENTION};
const resembed_pooling kPoolings[] = {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN,
                                      RESEMBED_POOLING_MAX};

TEST(Forward, MaximumIsTheFirstOneAndNaNWins) {
  TableSpec table;
  table.dim = 4;
  table.n_items = 6;
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_MAX;
  feature.padding = true;  // item 3
  feature.ids = {0, 1, 2, 3, 2, 4, 1, 4, 5};
  feature.offsets = {0, 5, 5, 9};
  GradientProblem problem({table}, {feature}, 1);
  TableData& data = *problem.tables[0];
  const float nan = std::nanf("");
  const float rows[6][4] = {{1, 5, -0.f, 2},  {1, 7, 0, nan},  {0, 7, 0, 9},
                            {99, 99, 99, 99}, {nan, 1, -3, 1}, {4, 1, -2, nan}};
  for (int64_t row = 0; row < 6; ++row) std::memcpy(data.ResidualRow(row), rows[row], sizeof(rows[row]));
  const ForwardResult result = RunForward(&problem, PlaceOf(nullptr));
  ASSERT_EQ(result.status, RESEMBED_OK) << result.message;
  const FeatureOutput& out = result.features[0];
  EXPECT_EQ(out.argmax, (std::vector<int32_t>{0, 1, 0, 1, -1, -1, -1, -1, 0, 1, 1, 1}));
  EXPECT_EQ(out.values[1], 7);
  EXPECT_TRUE(std::isnan(out.values[3]) && std::isnan(out.values[8]) && std::isnan(out.values[11]));
  for (size_t col = 4; col < 8; ++col) EXPECT_EQ(out.values[col], 0) << "an empty bag";
}

// Every row that no id reaches is NaN; so are slots past the end of a list and rows of padding ids.
TEST(Forward, ReadsOnlyTheRowsItsIdsName) {
  for (const resembed_central_form form : kForms) {
    TableSpec table;
    table.form = form;
    table.dim = 20;
    table.n_items = 200;
    table.central_rows = 150;
    FeatureSpec feature;
    feature.padding = true;
    GradientProblem problem({table}, {feature}, 77);
    TableData& data = *problem.tables[0];
    const FeatureData& used = *problem.features[0];
    const std::vector<OracleTable> tables = problem.OracleTables();
    std::vector<bool> items(200), centers(static_cast<size_t>(data.descriptor.central_rows) + 1);
    for (const int64_t id : used.ids) {
      if (id == used.descriptor.padding_id) continue;
      items[static_cast<size_t>(id)] = true;
      for (const int center : tables[0].neighbors[static_cast<size_t>(id)])
        centers[static_cast<size_t>(center)] = true;
      if (form == RESEMBED_CENTRAL_ATTENTION) centers[static_cast<size_t>(id)] = true;
    }
    const ForwardResult before = RunForward(&problem, PlaceOf(nullptr));
    for (int64_t row = 0; row < 200; ++row) {
      if (!items[static_cast<size_t>(row)]) std::memset(data.ResidualRow(row), 0xff, 20 * 4);
    }
    for (int64_t row = 0; row < data.descriptor.central_rows; ++row) {
      if (!centers[static_cast<size_t>(row)]) std::memset(data.CentralRow(row), 0xff, 20 * 4);
    }
    for (size_t at = 0; at < data.neighbors.size(); ++at) {
      if (data.neighbors[at] < 0) data.neighbor_weights[at] = std::nanf("");
    }
    const ForwardResult after = RunForward(&problem, PlaceOf(nullptr));
    EXPECT_TRUE(SameBits(before, after)) << "form " << form;
    for (const double value : after.features[0].values) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(Forward, EmptyIsValid) {
  for (const resembed_pooling pooling : kPoolings) {
    TableSpec none;
    none.n_items = 0;
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.n_bags = 0;
    FeatureSpec empty_bags = feature;
    empty_bags.n_bags = pooling == RESEMBED_POOLING_NONE ? 0 : 5;
    empty_bags.max_length = 0;
    FeatureSpec fixed = empty_bags;
    fixed.fixed_length = true;
    GradientProblem problem({none}, {feature, empty_bags, fixed}, 1);
    const ForwardResult result = RunForward(&problem, PlaceOf(nullptr));
    ASSERT_EQ(result.status, RESEMBED_OK) << result.message;
    for (const FeatureOutput& out : result.features) {
      for (const double value : out.values) EXPECT_EQ(value, 0);
    }
  }
  GradientProblem nothing({TableSpec()}, {}, 1);
  EXPECT_EQ(RunForward(&nothing, PlaceOf(nullptr)).status, RESEMBED_OK);
}

TEST(Forward, BadIdsAreRecordedOrSkippedOrRefused) {
  TableSpec table;
  FeatureSpec good, bad;
  good.n_bags = 200;
  good.max_length = 300;  // many chunks of ids
  bad = good;
  bad.padding = true;
  bad.bad_ids = .01;
  GradientProblem problem({table}, {good, bad, bad}, 6);
  int64_t count = 0, first = -1;
  for (size_t feature : {size_t{1}, size_t{2}}) {
    const std::vector<int64_t>& ids = problem.features[feature]->ids;
    for (size_t at = 0; at < ids.size(); ++at) {
      if (ids[at] >= 0 && ids[at] < table.n_items) continue;
      if (feature == 1 && first < 0) first = static_cast<int64_t>(at);
      ++count;
    }
  }
  ASSERT_GT(count, 10);
  const std::vector<unsigned char> ids_before = problem.features[1]->id_bytes;
  for (const int width : {1, 3}) {
    const TestExecutor executor(width, width == 3);
    resembed_bad_ids record = {};
    ForwardOptions options;
    options.bad_ids = &record;
    const ForwardResult skipped = RunForward(&problem, PlaceOf(&executor), options);
    ExpectMatchesOracle(&problem, skipped, RESEMBED_F32);
    EXPECT_EQ(record.count, count);
    EXPECT_EQ(record.feature, 1);
    EXPECT_EQ(record.position, first);
    EXPECT_EQ(record.value, problem.features[1]->ids[static_cast<size_t>(first)]);

    record = {};
    options.bounds = RESEMBED_BOUNDS_CHECK;
    const ForwardResult refused = RunForward(&problem, PlaceOf(&executor), options);
    EXPECT_EQ(refused.status, RESEMBED_OUT_OF_RANGE);
    EXPECT_TRUE(refused.untouched);
    EXPECT_NE(refused.message.find("features[1].ids[" + std::to_string(first) + "] is "), std::string::npos)
        << refused.message;
    EXPECT_EQ(record.position, first);
    EXPECT_TRUE(problem.features[1]->id_bytes == ids_before) << "the caller's ids were rewritten";
  }
  GradientProblem fine({table}, {good}, 6);
  resembed_bad_ids record = {};
  ForwardOptions options;
  options.bad_ids = &record;
  options.bounds = RESEMBED_BOUNDS_CHECK;
  const ForwardResult checked = RunForward(&fine, PlaceOf(nullptr), options);
  EXPECT_EQ(record.count, 0);
  EXPECT_EQ(record.feature, -1);
  options.bounds = RESEMBED_BOUNDS_TRUST;
  EXPECT_TRUE(SameBits(RunForward(&fine, PlaceOf(nullptr), options), checked));
}

// Outputs of several features side by side in the rows of one buffer, as a model wants them.
TEST(Forward, OutputsMayBeColumnsOfOneBuffer) {
  TableSpec table;
  table.dim = 12;
  FeatureSpec feature;
  GradientProblem problem({table}, {feature, feature}, 8);
  problem.features[1]->descriptor = problem.features[0]->descriptor;
  const ForwardResult apart = RunForward(&problem, PlaceOf(nullptr));
  std::vector<float> both(20 * 24, -1.f);
  for (size_t index = 0; index < 2; ++index) {
    resembed_feature& descriptor = problem.features[index]->descriptor;
    descriptor.output = both.data() + 12 * index;
    descriptor.output_stride = 24;
    descriptor.output_dtype = RESEMBED_F32;
  }
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = problem.table_list();
  args.features = problem.feature_list();
  args.n_features = 2;
  const resembed_place place = PlaceOf(nullptr);
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  ASSERT_EQ(resembed_forward(&args, workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  for (size_t bag = 0; bag < 20; ++bag) {
    for (size_t col = 0; col < 24; ++col) {
      EXPECT_EQ(static_cast<double>(both[bag * 24 + col]), apart.features[0].values[bag * 12 + col % 12]);
    }
  }
}

// Composing each unique item once and pooling from there: chosen by how often items are used.
TEST(Forward, APlanGivesTheSameBits) {
  int64_t larger = 0;
  for (const resembed_central_form form : kForms) {
    for (const int64_t dim : {int64_t{18}, int64_t{64}}) {
      TableSpec table, other;
      table.form = form;
      table.dim = dim;
      table.n_neighbors = 6;
      table.row_map = dim == 18;
      table.residual_dtype = RESEMBED_BF16;
      other.form = RESEMBED_CENTRAL_ATTENTION;
      other.n_items = 4000;  // hardly an item twice
      std::vector<FeatureSpec> features;
      for (const resembed_pooling pooling : kPoolings) {
        FeatureSpec feature;
        feature.pooling = pooling;
        feature.n_bags = pooling == RESEMBED_POOLING_NONE ? 500 : 60;
        feature.max_length = 30;
        feature.weights = pooling != RESEMBED_POOLING_MAX;
        feature.padding = true;
        feature.bad_ids = .05;
        feature.id_dtype = pooling == RESEMBED_POOLING_SUM ? RESEMBED_I32 : RESEMBED_I64;
        features.push_back(feature);
        feature.table = 1;
        features.push_back(feature);
      }
      GradientProblem problem({table, other}, features, 12);
      for (const resembed_cpu_isa isa : AvailableIsas()) {
        const TestExecutor executor(3);
        const resembed_place place = PlaceOf(&executor, isa);
        const ForwardResult want = RunForward(&problem, place);
        ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
        const MadePlan plan(problem.PlanArgs(), place);
        ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
        ForwardOptions options;
        options.plan = &plan.header;
        for (const int64_t expected : {0, 5, 60, 100000}) {
          options.expected_unique = expected;
          const ForwardResult got = RunForward(&problem, place, options);
          EXPECT_TRUE(SameBits(got, want))
              << "form " << form << " expected " << expected << ": " << got.message;
          larger += got.workspace_bytes > want.workspace_bytes;
        }
      }
    }
  }
  EXPECT_GT(larger, 0) << "no call made room for composed items";
}

TEST(Forward, APlanOfOtherFeaturesIsRefused) {
  GradientProblem problem({TableSpec()}, {FeatureSpec()}, 12),
      other({TableSpec()}, {FeatureSpec(), FeatureSpec()}, 13);
  const resembed_place place = PlaceOf(nullptr);
  const MadePlan plan(other.PlanArgs(), place);
  ASSERT_EQ(plan.status, RESEMBED_OK);
  ForwardOptions options;
  options.plan = &plan.header;
  const ForwardResult result = RunForward(&problem, place, options);
  EXPECT_EQ(result.status, RESEMBED_INVALID_ARGUMENT);
  EXPECT_TRUE(result.untouched);
  EXPECT_EQ(result.message.find("forward: "), 0u) << result.message;
}

}  // namespace
}  // namespace resembed::testing
