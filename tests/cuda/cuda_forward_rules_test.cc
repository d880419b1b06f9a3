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

// The same where parts of a bag are pooled apart: the first NaN of all parts wins, and keeps its place.
TEST(CudaForward, NaNOfALaterPartOfALongBagWins) {
  TableSpec table;
  table.dim = 4;
  table.n_items = 4;
  FeatureSpec feature;
  feature.pooling = RESEMBED_POOLING_MAX;
  feature.ids.assign(1600, 0);
  feature.ids[600] = 1;
  feature.ids[1100] = 2;
  feature.ids[1500] = 3;
  feature.offsets = {0, 1600};
  GradientProblem problem({table}, {feature}, 1);
  const float nan = std::nanf("");
  const float rows[4][4] = {{1, 1, 1, 1}, {nan, 2, 1, -9}, {nan, nan, 1, 5}, {9, 9, 0, 5}};
  for (int64_t row = 0; row < 4; ++row) {
    std::memcpy(problem.tables[0]->ResidualRow(row), rows[row], sizeof(rows[row]));
  }
  DeviceProblem device(problem);
  const ForwardResult result = RunOnDevice(&device);
  ASSERT_EQ(result.status, RESEMBED_OK) << result.message;
  EXPECT_EQ(result.features[0].argmax, (std::vector<int32_t>{600, 1100, 0, 1100}));
  EXPECT_TRUE(std::isnan(result.features[0].values[0]) && std::isnan(result.features[0].values[1]));
  EXPECT_EQ(result.features[0].values[3], 5);
}

// Bags just longer than what one group pools lie side by side: the parts of one are not the next one's.
TEST(CudaForward, LongBagsSideBySideHaveTheBitsOfTheCpu) {
  TableSpec table;
  table.dim = 8;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : {RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN, RESEMBED_POOLING_MAX}) {
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.offsets = OffsetsOf({513, 513, 512, 513, 1025, 513, 1024, 513});
    features.push_back(feature);
  }
  GradientProblem problem({table}, features, 4);
  ExpectSameAsCpu(&problem);
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

// Forward alone, captured once and replayed with other ids, offsets and weights; long bags and a record of bad ids
// among them.
TEST(CudaForward, ACapturedGraphReplaysWithOtherIds) {
  TableSpec codes, lists;
  codes.form = RESEMBED_CENTRAL_ASSIGNMENT;
  codes.dim = 40;
  lists.form = RESEMBED_CENTRAL_STORED;
  lists.dim = 7;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : kPoolings) {
    FeatureSpec feature;
    feature.table = pooling == RESEMBED_POOLING_MEAN ? 1 : 0;
    feature.pooling = pooling;
    feature.weights = pooling != RESEMBED_POOLING_MAX;
    feature.bad_ids = .05;
    feature.offsets = pooling == RESEMBED_POOLING_NONE ? OffsetsOf(std::vector<int64_t>(30, 1))
                                                       : OffsetsOf({3, 0, 700, 20, 1});
    features.push_back(feature);
  }
  GradientProblem problem({codes, lists}, features, 12);
  DeviceProblem device(problem);
  const Stream stream;
  const resembed_place place = CudaPlace(stream.get());
  std::deque<DeviceBuffer> outputs, argmax;
  for (resembed_feature& feature : device.features) {
    const int64_t dim = device.tables[static_cast<size_t>(feature.table)].dim;
    const int64_t rows = feature.pooling == RESEMBED_POOLING_NONE ? feature.n_ids : feature.n_bags;
    outputs.emplace_back(static_cast<size_t>(rows * dim * 4));
    feature.output = outputs.back().data();
    feature.output_stride = dim;
    argmax.emplace_back(static_cast<size_t>(rows * dim * 4));
    if (feature.pooling == RESEMBED_POOLING_MAX)
      feature.saved_argmax = static_cast<int32_t*>(argmax.back().data());
  }
  DeviceBuffer record(sizeof(resembed_bad_ids));
  resembed_forward_args args = device.Args();
  args.bounds = RESEMBED_BOUNDS_SKIP;
  args.bad_ids = static_cast<resembed_bad_ids*>(record.data());
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK);
  DeviceBuffer workspace(bytes);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(PublicForward(args, workspace.data(), bytes, place), RESEMBED_OK)
      << resembed_last_error_message();
  ASSERT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  std::vector<int64_t> lengths = {3, 0, 700, 20, 1};
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    for (size_t index = 0; index < problem.features.size(); ++index) {
      FeatureData& data = *problem.features[index];
      std::rotate(data.id_bytes.begin(), data.id_bytes.begin() + 8 * (1 + round), data.id_bytes.end());
      std::rotate(data.weights.begin(), data.weights.begin() + (data.weights.empty() ? 0 : 1),
                  data.weights.end());
      if (data.spec.pooling != RESEMBED_POOLING_NONE) {
        const std::vector<int64_t> offsets = OffsetsOf(lengths);
        ASSERT_EQ(data.offset_bytes.size(), offsets.size() * 8);
        std::memcpy(data.offset_bytes.data(), offsets.data(), offsets.size() * 8);
      }
      const auto put = [](const void* to, const void* from, size_t n) {
        ASSERT_TRUE(n == 0 ||
                    cudaMemcpy(const_cast<void*>(to), from, n, cudaMemcpyHostToDevice) == cudaSuccess);
      };
      const resembed_feature& on_device = device.features[index];
      put(on_device.ids, data.id_bytes.data(), data.id_bytes.size());
      put(on_device.weights, data.weights.data(), data.weights.size() * 4);
      if (on_device.offsets != nullptr)
        put(on_device.offsets, data.offset_bytes.data(), data.offset_bytes.size());
    }
    std::rotate(lengths.begin(), lengths.begin() + 1, lengths.end());
    ASSERT_EQ(cudaGraphLaunch(executable, stream.get()), cudaSuccess);
    resembed_bad_ids want_bad = {}, got_bad = {};
    ForwardOptions options;
    options.bad_ids = &want_bad;
    const ForwardResult want = RunForward(&problem, PlaceOf(nullptr), options);
    ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
    for (size_t index = 0; index < outputs.size(); ++index) {
      const FeatureOutput& feature = want.features[index];
      ASSERT_TRUE(outputs[index].Download(stream) && argmax[index].Download(stream));
      EXPECT_EQ(std::memcmp(outputs[index].host(), feature.bytes.data(), feature.bytes.size()), 0) << index;
      if (device.features[index].pooling != RESEMBED_POOLING_MAX) continue;
      EXPECT_EQ(std::memcmp(argmax[index].host(), feature.argmax.data(), feature.argmax.size() * 4), 0);
    }
    ASSERT_TRUE(record.Download(stream) && workspace.Download(stream));
    std::memcpy(&got_bad, record.host(), sizeof(got_bad));
    EXPECT_GT(want_bad.count, 10);
    EXPECT_EQ(got_bad.count, want_bad.count);
    EXPECT_EQ(got_bad.feature, want_bad.feature);
    EXPECT_EQ(got_bad.position, want_bad.position);
    EXPECT_EQ(got_bad.value, want_bad.value);
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

}  // namespace
}  // namespace resembed::testing
