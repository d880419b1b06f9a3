// SPDX-License-Identifier: Apache-2.0
// What forward on the cuda backend does with ids that are no items, maxima, empty input, wrong offsets and plans.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/cuda/support/device_problem.h"

namespace resembed::testing {
namespace {

const resembed_pooling kPoolings[] = {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN,
                                      RESEMBED_POOLING_MAX};

// Bags whose ids contribute nothing, whole blocks of them included.
TEST(CudaForward, BagsOfPaddingAreZerosWithoutAMaximum) {
  TableSpec table;
  table.dim = 8;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : kPoolings) {
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.padding = true;
    const int64_t n = pooling == RESEMBED_POOLING_NONE ? 20 : 1800;
    feature.offsets = pooling == RESEMBED_POOLING_NONE ? OffsetsOf(std::vector<int64_t>(20, 1))
                                                       : OffsetsOf({600, 5, 600, 0, 595});
    feature.ids.assign(static_cast<size_t>(n), table.n_items / 2);
    if (n > 20) feature.ids[1000] = 3;
    features.push_back(feature);
  }
  GradientProblem problem({table}, features, 2);
  ExpectSameAsCpu(&problem);
}

TEST(CudaForward, BadIdsAreRecordedAndContributeNothing) {
  TableSpec table;
  table.dim = 20;
  FeatureSpec good, bad;
  good.n_bags = 30;
  good.max_length = 60;
  bad = good;
  bad.padding = true;
  bad.bad_ids = .02;
  FeatureSpec narrow = bad;
  narrow.id_dtype = RESEMBED_I32;
  narrow.pooling = RESEMBED_POOLING_NONE;
  narrow.n_bags = 500;
  FeatureSpec one_long = bad;
  one_long.offsets = OffsetsOf({1500});
  GradientProblem problem({table}, {good, narrow, bad, one_long}, 6);
  resembed_bad_ids want = {}, got = {};
  ForwardOptions options;
  options.bad_ids = &want;
  const ForwardResult skipped = RunForward(&problem, PlaceOf(nullptr), options);
  ASSERT_GT(want.count, 10);
  options.bad_ids = &got;
  DeviceProblem device(problem);
  for (const resembed_bounds bounds : {RESEMBED_BOUNDS_SKIP, RESEMBED_BOUNDS_CHECK}) {
    options.bounds = bounds;
    got = {};
    EXPECT_EQ(FirstDifference(RunOnDevice(&device, options), skipped), "");
    EXPECT_EQ(got.count, want.count);
    EXPECT_EQ(got.feature, 1);
    EXPECT_EQ(got.position, want.position);
    EXPECT_EQ(got.value, want.value);
  }
  options.bad_ids = nullptr;
  EXPECT_EQ(FirstDifference(RunOnDevice(&device, options), skipped), "") << "without a record";

  GradientProblem fine({table}, {good}, 6);
  DeviceProblem fine_device(fine);
  options.bad_ids = &got;
  for (const resembed_bounds bounds : {RESEMBED_BOUNDS_CHECK, RESEMBED_BOUNDS_SKIP, RESEMBED_BOUNDS_TRUST}) {
    options.bounds = bounds;
    got = {7, 7, 7, 7};
    EXPECT_EQ(FirstDifference(RunOnDevice(&fine_device, options), RunForward(&fine, PlaceOf(nullptr))), "");
    EXPECT_EQ(got.count, 0);
    EXPECT_EQ(got.feature, -1);
    EXPECT_EQ(got.position, -1);
  }
}

TEST(CudaForward, MaximumIsTheFirstOneAndNaNWins) {
  TableSpec table;
  table.dim = 4;
  table.n_items = 6;
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_MAX;
  feature.padding = true;  // item 3
  feature.ids = {0, 1, 2, 3, 2, 4, 1, 4, 5};
  feature.offsets = {0, 5, 5, 9};
  GradientProblem problem({table}, {feature}, 1);
  const float nan = std::nanf("");
  const float rows[6][4] = {{1, 5, -0.f, 2},  {1, 7, 0, nan},  {0, 7, 0, 9},
                            {99, 99, 99, 99}, {nan, 1, -3, 1}, {4, 1, -2, nan}};
  for (int64_t row = 0; row < 6; ++row) {
    std::memcpy(problem.tables[0]->ResidualRow(row), rows[row], sizeof(rows[row]));
  }
  DeviceProblem device(problem);
  const ForwardResult result = RunOnDevice(&device);
  ASSERT_EQ(result.status, RESEMBED_OK) << result.message;
  const FeatureOutput& out = result.features[0];
  EXPECT_EQ(out.argmax, (std::vector<int32_t>{0, 1, 0, 1, -1, -1, -1, -1, 0, 1, 1, 1}));
  EXPECT_EQ(out.values[1], 7);
  EXPECT_TRUE(std::isnan(out.values[3]) && std::isnan(out.values[8]) && std::isnan(out.values[11]));
  for (size_t col = 4; col < 8; ++col) EXPECT_EQ(out.values[col], 0) << "an empty bag";
}

TEST(CudaForward, EmptyIsValid) {
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
    ExpectSameAsCpu(&problem);
  }
  GradientProblem nothing({TableSpec()}, {}, 1);
  ExpectSameAsCpu(&nothing);
}

// Wrong offsets give wrong sums, never a read outside the ids (found by the address sanitizer, or memcheck).
TEST(CudaForward, WrongOffsetsStayInsideTheIds) {
  FeatureSpec feature;
  feature.offsets = OffsetsOf({2, 3, 4});
  GradientProblem problem({TableSpec()}, {feature}, 3);
  const int64_t wrong[4] = {-5, 1000000, 4, int64_t{1} << 40};
  std::memcpy(problem.features[0]->offset_bytes.data(), wrong, sizeof(wrong));
  DeviceProblem device(problem);
  EXPECT_EQ(RunOnDevice(&device).status, RESEMBED_OK);
}

TEST(CudaForward, APlanChangesNothing) {
  GradientProblem problem({TableSpec()}, {FeatureSpec()}, 3);
  DeviceProblem device(problem);
  const ForwardResult want = RunOnDevice(&device);
  const Stream stream;
  const resembed_place place = CudaPlace(stream.get());
  const resembed_forward_args forward = device.Args();
  resembed_plan_args args = {};
  args.struct_size = sizeof(args);
  args.tables = forward.tables;
  args.features = forward.features;
  args.n_features = forward.n_features;
  args.bounds = RESEMBED_BOUNDS_SKIP;
  std::vector<int64_t> layout(200);
  args.layout = layout.data();
  args.layout_bytes = layout.size() * 8;
  size_t plan_bytes = 0, bytes = 0;
  ASSERT_EQ(resembed_plan_size(&args, &place, &plan_bytes, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  const DeviceBuffer memory(plan_bytes), workspace(bytes);
  resembed_plan_header plan = {};
  plan.struct_size = sizeof(plan);
  ASSERT_EQ(resembed_plan(&args, memory.data(), plan_bytes, &plan, workspace.data(), bytes, &place),
            RESEMBED_OK)
      << resembed_last_error_message();
  stream.Wait();
  const ForwardCall with_plan = [&plan](resembed_forward_args given, void* memory_of_call, size_t size,
                                        const resembed_place& where) {
    given.plan = &plan;
    return PublicForward(given, memory_of_call, size, where);
  };
  EXPECT_EQ(FirstDifference(RunOnDevice(&device, {}, with_plan), want), "");
}

}  // namespace
}  // namespace resembed::testing
