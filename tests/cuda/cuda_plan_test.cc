// SPDX-License-Identifier: Apache-2.0
// The plan on the cuda backend, emulated or on a GPU: what the CPU backend's plan says, number by number.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "host/cuda/plan.h"
#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/device_plan.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;

template <typename T>
::testing::AssertionResult Same(const char* what, const T* got, const T* want, int64_t n) {
  for (int64_t at = 0; at < n; ++at) {
    if (got[at] != want[at]) {
      return ::testing::AssertionFailure()
             << what << "[" << at << "] is " << got[at] << ", wanted " << want[at];
    }
  }
  return ::testing::AssertionSuccess();
}

void ExpectSameRuns(const char* which, const detail::PlanRuns& got, const detail::PlanRuns& want) {
  SCOPED_TRACE(which);
  ASSERT_EQ(got.n_runs, want.n_runs);
  EXPECT_TRUE(Same("rows", got.rows, want.rows, want.n_runs));
  EXPECT_TRUE(Same("begin", got.begin, want.begin, want.n_runs == 0 ? 0 : want.n_runs + 1));
  // The same chunks in the same order, with empty slots between them.
  int64_t next = 0;
  for (int64_t slot = 0; slot < got.n_long_chunks; ++slot) {
    const detail::PlanChunk chunk = got.long_chunks[slot];
    if (chunk.run == kernels::kNoRun) continue;
    ASSERT_LT(next, want.n_long_chunks);
    EXPECT_EQ(chunk.run, want.long_chunks[next].run);
    EXPECT_EQ(chunk.first, want.long_chunks[next].first);
    ++next;
  }
  EXPECT_EQ(next, want.n_long_chunks);
}

// With limits: made again in batches of tables within them.
void ExpectSameAsCpu(const GradientProblem& problem, bool skip_central = false,
                     const detail::cuda::PlanLimits* limits = nullptr) {
  resembed_plan_args args = problem.PlanArgs();
  args.skip_central = skip_central ? 1 : 0;
  const MadePlan made(args, PlaceOf(nullptr));
  ASSERT_EQ(made.status, RESEMBED_OK) << made.message;
  const Stream stream;
  const DeviceProblem device(problem);
  PlanOptions options;
  options.skip_central = skip_central;
  DevicePlan plan(device, stream, options);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  if (limits != nullptr) {
    ASSERT_EQ(cudaMemset(plan.memory[0].data(), 0xff, plan.memory[0].size()), cudaSuccess);
    const resembed_place place = CudaPlace(stream.get());
    detail::Tables tables;
    ASSERT_EQ(detail::CheckTables("test", plan.args.tables, place, &tables), RESEMBED_OK);
    const detail::Plan layout(plan.layout.data());
    const detail::cuda::PlanBuild build = {place,
                                           &plan.args,
                                           &tables,
                                           &layout.record(0),
                                           &layout.feature(0),
                                           static_cast<char*>(plan.memory[0].data()),
                                           plan.workspace[0].data()};
    ASSERT_EQ(detail::cuda::BuildPlan(build, {}, *limits), RESEMBED_OK) << resembed_last_error_message();
  }
  plan.Download(stream);
  const detail::Plan cpu(made.header.memory);
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    SCOPED_TRACE("table " + std::to_string(index));
    const detail::PlanTable want = cpu.table(index), got = plan.Table(index);
    EXPECT_EQ(plan.Counts(index).status, 0);
    ExpectSameRuns("items", got.items, want.items);
    const int64_t n_uses = want.items.n_runs == 0 ? 0 : want.items.begin[want.items.n_runs];
    EXPECT_TRUE(Same("use", got.use, want.use, n_uses));
    EXPECT_TRUE(Same("use_row", got.use_row, want.use_row, n_uses));
    EXPECT_TRUE(Same("inverse", got.inverse, want.inverse, want.n_uses));
    ASSERT_EQ(got.divisor == nullptr, want.divisor == nullptr);
    // Of the rows that have a use: the CPU leaves the others of a feature without ids as they were.
    for (int64_t at = 0; want.divisor != nullptr && at < n_uses; ++at) {
      ASSERT_EQ(got.divisor[got.use_row[at]], want.divisor[want.use_row[at]]);
    }
    EXPECT_EQ(got.has_central, want.has_central);
    ExpectSameRuns("central", got.central, want.central);
    const int64_t n_pairs = want.central.n_runs == 0 ? 0 : want.central.begin[want.central.n_runs];
    EXPECT_TRUE(Same("pair", got.pair, want.pair, n_pairs));
    EXPECT_EQ(got.slot_bits, want.slot_bits);
  }
}

TEST(CudaPlan, CuratedBatchesAreThoseOfTheCpu) {
  for (const GradientCase& one : CuratedCases()) {
    SCOPED_TRACE(one.name);
    const GradientProblem problem(one.tables, one.features, 7);
    ExpectSameAsCpu(problem);
  }
}

TEST(CudaPlan, RandomBatchesAreThoseOfTheCpu) {
  for (uint64_t seed = 100; seed < 140; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const GradientCase one = RandomCase(seed);
    const GradientProblem problem(one.tables, one.features, seed);
    ExpectSameAsCpu(problem, seed % 5 == 0);
    if (HasFailure()) return;
  }
}

// Every form, with and without a center-major promise between others, in one batch and in several.
TEST(CudaPlan, AnyBatchesOfTablesHaveTheSamePlan) {
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
  for (int32_t number = 0; number < 30; ++number) {
    TableSpec table;
    table.form = static_cast<resembed_central_form>(number % 5);
    table.n_items = 20 + 37 * (number % 4);
    table.u16_centers = number % 3 == 0;
    tables.push_back(table);
    // Some tables have no feature, some have two that are not neighbors.
    for (const int32_t of : {29 - number, number}) {
      if (of % 7 == 3) continue;
      FeatureSpec feature;
      feature.table = of;
      feature.pooling = static_cast<resembed_pooling>(number % 4);
      feature.n_bags = 1 + number % 5 * 20;
      feature.same_id = .3;
      features.push_back(feature);
    }
  }
  const GradientProblem problem(tables, features, 11);
  for (size_t number = 1; number < tables.size(); number += 10) {
    TableData& data = *problem.tables[number];
    std::sort(data.centers16.begin(), data.centers16.end());
    std::sort(data.centers32.begin(), data.centers32.end(),
              [](int32_t a, int32_t b) { return static_cast<uint32_t>(a) < static_cast<uint32_t>(b); });
    data.descriptor.center_major = 1;
  }
  ExpectSameAsCpu(problem);
  for (const detail::cuda::PlanLimits& limits :
       {detail::cuda::PlanLimits{1, 1}, detail::cuda::PlanLimits{700, 0xffffffff},
        detail::cuda::PlanLimits{int64_t{1} << 24, 300}}) {
    ExpectSameAsCpu(problem, false, &limits);
  }
}

TEST(CudaPlan, BrokenPromisesAreRecordedAndEmptyThePlan) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  FeatureSpec feature;
  feature.n_bags = 60;
  const GradientProblem problem({table}, {feature}, 3);
  const MadePlan made(problem.PlanArgs(), PlaceOf(nullptr));
  const int64_t n_unique = *made.View(0).n_unique, n_central = *made.View(0).n_unique_central;
  const Stream stream;
  const DeviceProblem device(problem);
  PlanOptions kept;
  kept.max_unique = {n_unique};
  kept.max_unique_central = {n_central};
  DevicePlan fits(device, stream, kept);
  ASSERT_EQ(fits.status, RESEMBED_OK) << fits.message;
  fits.Download(stream);
  EXPECT_EQ(fits.Counts(0).status, 0);
  EXPECT_EQ(fits.Counts(0).n_unique, n_unique);
  EXPECT_EQ(fits.Counts(0).n_unique_central, n_central);
  for (const bool central : {false, true}) {
    PlanOptions broken = kept;
    --(central ? broken.max_unique_central : broken.max_unique)[0];
    DevicePlan plan(device, stream, broken);
    ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
    plan.Download(stream);
    EXPECT_EQ(plan.Counts(0).status, RESEMBED_OUT_OF_RANGE);
    EXPECT_EQ(plan.Counts(0).n_unique, 0);
    EXPECT_EQ(plan.Counts(0).n_unique_central, 0);
  }
}

TEST(CudaPlan, BadIdsAreRecorded) {
  TableSpec table;
  FeatureSpec good, bad;
  bad.bad_ids = .1;
  bad.padding = true;
  bad.id_dtype = RESEMBED_I32;
  const GradientProblem problem({table}, {good, bad, bad}, 4);
  resembed_bad_ids want = {}, got = {};
  resembed_plan_args args = problem.PlanArgs();
  args.bad_ids = &want;
  const MadePlan made(args, PlaceOf(nullptr));
  ASSERT_EQ(made.status, RESEMBED_OK);
  ASSERT_GT(want.count, 1);
  const Stream stream;
  const DeviceProblem device(problem);
  for (const resembed_bounds bounds : {RESEMBED_BOUNDS_SKIP, RESEMBED_BOUNDS_CHECK, RESEMBED_BOUNDS_TRUST}) {
    PlanOptions options;
    options.bounds = bounds;
    options.record = true;
    DevicePlan plan(device, stream, options);
    ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
    plan.Download(stream);
    std::memcpy(&got, plan.record.host(), sizeof(got));
    const bool trusts = bounds == RESEMBED_BOUNDS_TRUST;
    EXPECT_EQ(got.count, trusts ? 0 : want.count);
    EXPECT_EQ(got.feature, trusts ? -1 : want.feature);
    EXPECT_EQ(got.position, trusts ? -1 : want.position);
    EXPECT_EQ(got.value, trusts ? 0 : want.value);
  }
}

TEST(CudaPlan, ViewPointsIntoDeviceMemory) {
  const GradientCase one = RandomCase(5);
  const GradientProblem problem(one.tables, one.features, 5);
  const Stream stream;
  const DeviceProblem device(problem);
  DevicePlan plan(device, stream);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  plan.Download(stream);
  const char* memory = static_cast<const char*>(plan.memory[0].data());
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    resembed_plan_table view = {};
    view.struct_size = sizeof(view);
    ASSERT_EQ(resembed_plan_view(&plan.header, index, &view), RESEMBED_OK);
    const auto host = [&](const void* pointer) {
      return plan.memory[0].host() + (static_cast<const char*>(pointer) - memory);
    };
    int64_t n_unique = -1;
    std::memcpy(&n_unique, host(view.n_unique), 8);
    EXPECT_EQ(n_unique, plan.Counts(index).n_unique);
    EXPECT_TRUE(Same("unique_items", reinterpret_cast<const int32_t*>(host(view.unique_items)),
                     plan.Table(index).items.rows, n_unique));
    EXPECT_GE(view.max_unique, n_unique);
    int32_t status = -1;
    std::memcpy(&status, host(view.status), 4);
    EXPECT_EQ(status, 0);
  }
}

TEST(CudaPlan, RejectsAMissingOrShortLayout) {
  const GradientProblem problem({TableSpec()}, {FeatureSpec()}, 1);
  const DeviceProblem device(problem);
  const Stream stream;
  const DevicePlan made(device, stream);
  ASSERT_EQ(made.status, RESEMBED_OK) << made.message;
  resembed_plan_args args = {};
  args.struct_size = sizeof(args);
  args.tables = device.Args().tables;
  args.features = device.Args().features;
  args.n_features = 1;
  const resembed_place place = CudaPlace(stream.get());
  resembed_plan_header header = {};
  header.struct_size = sizeof(header);
  const auto run = [&] {
    return resembed_plan(&args, made.memory[0].data(), made.memory[0].size(), &header,
                         made.workspace[0].data(), made.workspace[0].size(), &place);
  };
  EXPECT_EQ(run(), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("plan: layout is"));
  int64_t layout[100];
  args.layout = layout;
  args.layout_bytes = 64;
  EXPECT_EQ(run(), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("plan: layout_bytes is 64; needs 352"));
  args.layout_bytes = sizeof(layout);
  EXPECT_EQ(run(), RESEMBED_OK) << resembed_last_error_message();
}

}  // namespace
}  // namespace resembed::testing
