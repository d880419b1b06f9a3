// SPDX-License-Identifier: Apache-2.0
#include "host/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;

TableSpec Table(resembed_central_form form, int64_t n_items) {
  TableSpec spec;
  spec.form = form;
  spec.n_items = n_items;
  spec.dim = 4;
  return spec;
}

FeatureSpec Feature(resembed_pooling pooling, int64_t n_bags) {
  FeatureSpec spec;
  spec.pooling = pooling;
  spec.n_bags = n_bags;
  spec.padding = true;
  spec.bad_ids = .05;
  return spec;
}

struct Use {
  int64_t id, use, row;
  bool operator<(const Use& other) const { return std::tie(id, use) < std::tie(other.id, other.use); }
};

// Sorted by (item, use number): what the plan has to say, computed with sets.
void ExpectPlanMatches(const GradientProblem& problem, const MadePlan& made) {
  const detail::Plan plan(made.header.memory);
  const std::vector<OracleTable> tables = problem.OracleTables();
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    SCOPED_TRACE("table " + std::to_string(index));
    const detail::PlanTable got = plan.table(index);
    const OracleTable& table = tables[static_cast<size_t>(index)];
    std::set<Use> uses;
    std::set<int64_t> skipped;
    std::vector<double> divisors;
    int64_t first_use = 0, first_row = 0;
    for (const auto& feature : problem.features) {
      if (feature->spec.table != index) continue;
      const bool pooled = feature->spec.pooling != RESEMBED_POOLING_NONE;
      for (size_t bag = 0; bag + 1 < feature->offsets.size(); ++bag) {
        int64_t count = 0;
        for (int64_t at = feature->offsets[bag]; at < feature->offsets[bag + 1]; ++at) {
          const int64_t id = feature->ids[static_cast<size_t>(at)];
          const bool padding = feature->descriptor.has_padding != 0 && id == feature->descriptor.padding_id;
          const int64_t row = pooled ? static_cast<int64_t>(bag) : at;
          if (id < 0 || id >= table.n_items || padding) {
            skipped.insert(first_use + at);
          } else {
            uses.insert({id, first_use + at, first_row + row});
            ++count;
          }
        }
        if (pooled)
          divisors.push_back(feature->spec.pooling == RESEMBED_POOLING_MEAN ? static_cast<double>(count)
                                                                            : 1.0);
      }
      if (!pooled) divisors.insert(divisors.end(), feature->ids.size(), 1.0);
      first_use += feature->descriptor.n_ids;
      first_row += pooled ? static_cast<int64_t>(feature->offsets.size()) - 1 : feature->descriptor.n_ids;
    }
    ASSERT_EQ(got.n_uses, first_use);
    ASSERT_EQ(got.n_rows, first_row);
    int64_t at = 0, run = -1, last = -1;
    for (const Use& use : uses) {
      if (use.id != last) {
        ++run;
        ASSERT_LT(run, got.items.n_runs);
        ASSERT_EQ(got.items.rows[run], use.id);
        ASSERT_EQ(got.items.begin[run], at);
        last = use.id;
      }
      ASSERT_EQ(got.use[at], use.use);
      ASSERT_EQ(got.use_row[at], use.row);
      ASSERT_EQ(got.inverse[use.use], run);
      ++at;
    }
    ASSERT_EQ(got.items.n_runs, run + 1);
    ASSERT_EQ(got.items.begin[run + 1], uses.size());
    for (const int64_t use : skipped) ASSERT_EQ(got.inverse[use], -1);
    if (got.divisor != nullptr) {
      for (size_t row = 0; row < divisors.size(); ++row)
        ASSERT_EQ(static_cast<double>(got.divisor[row]), divisors[row]);
    }

    // Pairs by (central row, unique item, slot).
    std::set<std::tuple<int64_t, int64_t, int64_t>> pairs;
    for (int64_t unique = 0; unique < got.items.n_runs; ++unique) {
      const auto& list = table.neighbors[static_cast<size_t>(got.items.rows[unique])];
      for (size_t slot = 0; slot < list.size(); ++slot)
        pairs.insert({list[slot], unique, static_cast<int64_t>(slot)});
      if (table.form == RESEMBED_CENTRAL_ATTENTION && !list.empty()) {
        pairs.insert(
            {got.items.rows[unique], unique, problem.tables[static_cast<size_t>(index)]->spec.n_neighbors});
      }
    }
    at = 0, run = -1, last = -1;
    for (const auto& [row, unique, slot] : pairs) {
      if (row != last) {
        ++run;
        ASSERT_LT(run, got.central.n_runs);
        ASSERT_EQ(got.central.rows[run], row);
        ASSERT_EQ(got.central.begin[run], at);
        last = row;
      }
      ASSERT_EQ(got.pair[at] >> got.slot_bits, unique);
      ASSERT_EQ(got.pair[at] & ((1u << got.slot_bits) - 1), slot);
      ++at;
    }
    ASSERT_EQ(got.central.n_runs, run + 1);

    // Long runs are cut every 256 uses from their own start.
    for (const detail::PlanRuns* runs : {&got.items, &got.central}) {
      int64_t chunk = 0;
      for (int64_t r = 0; r < runs->n_runs; ++r) {
        if (runs->begin[r + 1] - runs->begin[r] <= 256) continue;
        for (uint32_t first = runs->begin[r]; first < runs->begin[r + 1]; first += 256) {
          ASSERT_LT(chunk, runs->n_long_chunks);
          ASSERT_EQ(runs->long_chunks[chunk].run, r);
          ASSERT_EQ(runs->long_chunks[chunk].first, first);
          ++chunk;
        }
      }
      ASSERT_EQ(runs->n_long_chunks, chunk);
    }
  }
  EXPECT_TRUE(made.Intact());
}

struct Case {
  const char* name;
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const auto& [form, name] : std::vector<std::pair<resembed_central_form, const char*>>{
           {RESEMBED_CENTRAL_NONE, "none"},
           {RESEMBED_CENTRAL_ASSIGNMENT, "assignment"},
           {RESEMBED_CENTRAL_UNIFORM, "uniform"},
           {RESEMBED_CENTRAL_STORED, "stored"},
           {RESEMBED_CENTRAL_ATTENTION, "attention"}}) {
    cases.push_back({name, {Table(form, 300)}, {Feature(RESEMBED_POOLING_MEAN, 200)}});
  }
  cases.push_back({"tables_and_features_mixed",
                   {Table(RESEMBED_CENTRAL_STORED, 100), Table(RESEMBED_CENTRAL_NONE, 7)},
                   {Feature(RESEMBED_POOLING_SUM, 50), Feature(RESEMBED_POOLING_NONE, 30),
                    Feature(RESEMBED_POOLING_MEAN, 20), Feature(RESEMBED_POOLING_MAX, 20)}});
  cases.back().features[1].table = 1;
  Case many = {"long_runs_and_many_tasks",
               {Table(RESEMBED_CENTRAL_UNIFORM, 5000)},
               {Feature(RESEMBED_POOLING_MEAN, 20000)}};
  many.tables[0].central_rows = 100;
  many.features[0].same_id = .3;
  cases.push_back(many);
  Case one_id = {
      "every_id_the_same", {Table(RESEMBED_CENTRAL_ASSIGNMENT, 9)}, {Feature(RESEMBED_POOLING_SUM, 3000)}};
  one_id.features[0].same_id = 1;
  cases.push_back(one_id);
  cases.push_back({"no_ids", {Table(RESEMBED_CENTRAL_STORED, 9)}, {Feature(RESEMBED_POOLING_SUM, 0)}});
  cases.push_back({"no_features", {Table(RESEMBED_CENTRAL_STORED, 9)}, {}});
  Case no_items = {
      "no_items_only_bad_ids", {Table(RESEMBED_CENTRAL_NONE, 0)}, {Feature(RESEMBED_POOLING_SUM, 9)}};
  cases.push_back(no_items);
  return cases;
}

TEST(Plan, SaysWhatTheIdsSay) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const GradientProblem problem(c.tables, c.features, 5);
    for (const TestExecutor& executor : {TestExecutor(1), TestExecutor(2), TestExecutor(7, true)}) {
      TestExecutor mine = executor;
      mine.descriptor.context = &mine;
      const MadePlan made(problem.PlanArgs(), PlaceOf(&mine));
      ASSERT_EQ(made.status, RESEMBED_OK) << made.message;
      ExpectPlanMatches(problem, made);
    }
  }
}

TEST(Plan, ViewPointsIntoThePlan) {
  const GradientProblem problem({Table(RESEMBED_CENTRAL_STORED, 40)}, {Feature(RESEMBED_POOLING_SUM, 30)}, 6);
  const TestExecutor serial(1);
  const MadePlan made(problem.PlanArgs(), PlaceOf(&serial));
  const resembed_plan_table view = made.View(0);
  const detail::PlanTable table = detail::Plan(made.header.memory).table(0);
  EXPECT_EQ(*view.n_unique, table.items.n_runs);
  EXPECT_EQ(view.unique_items, table.items.rows);
  EXPECT_EQ(*view.n_unique_central, table.central.n_runs);
  EXPECT_EQ(view.unique_central, table.central.rows);
  EXPECT_EQ(*view.status, 0);
  EXPECT_GE(view.max_unique, *view.n_unique);
  EXPECT_GE(view.max_unique_central, *view.n_unique_central);
}

TEST(Plan, PromisesMakeItSmallerAndAreKept) {
  const GradientProblem problem({Table(RESEMBED_CENTRAL_STORED, 40)}, {Feature(RESEMBED_POOLING_SUM, 30)}, 7);
  const TestExecutor serial(1);
  const MadePlan free(problem.PlanArgs(), PlaceOf(&serial));
  const int64_t n_unique = *free.View(0).n_unique, n_central = *free.View(0).n_unique_central;
  ASSERT_GT(n_unique, 10);

  resembed_plan_args args = problem.PlanArgs();
  args.max_unique = &n_unique;
  args.max_unique_central = &n_central;
  MadePlan exact(args, PlaceOf(&serial));
  EXPECT_EQ(exact.status, RESEMBED_OK) << exact.message;
  EXPECT_LT(exact.memory.size(), free.memory.size());
  ExpectPlanMatches(problem, exact);

  const int64_t few = n_unique - 1;
  args.max_unique = &few;
  args.max_unique_central = nullptr;
  const MadePlan broken(args, PlaceOf(&serial));
  EXPECT_EQ(broken.status, RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(broken.message, HasSubstr("plan: max_unique[0] is " + std::to_string(few)));
  EXPECT_EQ(broken.header.fingerprint, 0u) << "the header was filled";
  EXPECT_TRUE(broken.Intact());

  const int64_t few_central = n_central - 1;
  args.max_unique = nullptr;
  args.max_unique_central = &few_central;
  const MadePlan broken_central(args, PlaceOf(&serial));
  EXPECT_EQ(broken_central.status, RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(broken_central.message,
              HasSubstr("plan: max_unique_central[0] is " + std::to_string(few_central)));
  EXPECT_EQ(broken_central.header.fingerprint, 0u) << "the header was filled";
  EXPECT_TRUE(broken_central.Intact());
}

TEST(Plan, FailingLeavesNoEarlierPlanBehind) {
  const GradientProblem problem({Table(RESEMBED_CENTRAL_NONE, 40)}, {Feature(RESEMBED_POOLING_SUM, 30)}, 8);
  const TestExecutor serial(1);
  const resembed_place place = PlaceOf(&serial);
  MadePlan made(problem.PlanArgs(), place);
  ASSERT_EQ(made.status, RESEMBED_OK);
  resembed_plan_args args = problem.PlanArgs();
  const int64_t one = 1;
  args.max_unique = &one;
  resembed_plan_header header = {};
  header.struct_size = sizeof(header);
  ASSERT_EQ(resembed_plan(&args, made.memory.data(), made.memory.size(), &header, made.workspace.data(),
                          made.workspace.size(), &place),
            RESEMBED_OUT_OF_RANGE);
  resembed_plan_table view = {};
  view.struct_size = sizeof(view);
  EXPECT_EQ(resembed_plan_view(&made.header, 0, &view), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("the memory holds another plan"));
}

TEST(Plan, CheckFailsBeforeAnythingIsWritten) {
  FeatureSpec feature = Feature(RESEMBED_POOLING_SUM, 30);
  feature.bad_ids = .5;
  const GradientProblem problem({Table(RESEMBED_CENTRAL_STORED, 40)}, {feature}, 9);
  const TestExecutor serial(1);
  resembed_plan_args args = problem.PlanArgs(RESEMBED_BOUNDS_CHECK);
  resembed_bad_ids bad = {};
  args.bad_ids = &bad;
  MadePlan made(args, PlaceOf(&serial));
  EXPECT_EQ(made.status, RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(made.message, HasSubstr("plan: features[0].ids["));
  EXPECT_GT(bad.count, 0);
  const auto* bytes = static_cast<const unsigned char*>(made.memory.data());
  for (size_t at = 0; at < made.memory.size(); ++at)
    ASSERT_EQ(bytes[at], 0xff) << "byte " << at << " of the plan";

  args = problem.PlanArgs(RESEMBED_BOUNDS_SKIP);
  resembed_bad_ids skipped = {};
  args.bad_ids = &skipped;
  EXPECT_EQ(MadePlan(args, PlaceOf(&serial)).status, RESEMBED_OK);
  EXPECT_EQ(skipped.count, bad.count);
}

TEST(Plan, SkippedCentralPartIsEmptyAndSmaller) {
  const GradientProblem problem({Table(RESEMBED_CENTRAL_STORED, 40)}, {Feature(RESEMBED_POOLING_SUM, 30)},
                                10);
  const TestExecutor serial(1);
  resembed_plan_args args = problem.PlanArgs();
  const MadePlan whole(args, PlaceOf(&serial));
  args.skip_central = 1;
  const MadePlan skipped(args, PlaceOf(&serial));
  EXPECT_LT(skipped.memory.size(), whole.memory.size());
  EXPECT_EQ(*skipped.View(0).n_unique, *whole.View(0).n_unique);
  EXPECT_EQ(*skipped.View(0).n_unique_central, 0);
}

TEST(Plan, SizesDependOnShapesAlone) {
  // Other ids, other maps, other bag borders: the same sizes.
  const TestExecutor serial(1), wide(9);
  size_t sizes[3][2];
  int which = 0;
  for (const uint64_t seed : {11, 12, 13}) {
    FeatureSpec feature = Feature(RESEMBED_POOLING_SUM, 30);
    feature.fixed_length = true;
    const GradientProblem problem({Table(RESEMBED_CENTRAL_STORED, 40)}, {feature}, seed);
    const resembed_plan_args args = problem.PlanArgs();
    const resembed_place place = PlaceOf(which == 2 ? &wide : &serial);
    ASSERT_EQ(resembed_plan_size(&args, &place, &sizes[which][0], &sizes[which][1]), RESEMBED_OK);
    ++which;
  }
  EXPECT_EQ(sizes[0][0], sizes[1][0]);
  EXPECT_EQ(sizes[0][1], sizes[1][1]);
  EXPECT_EQ(sizes[0][0], sizes[2][0]);
  EXPECT_EQ(sizes[0][1], sizes[2][1]);
}

}  // namespace
}  // namespace resembed::testing
