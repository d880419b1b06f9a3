// SPDX-License-Identifier: Apache-2.0
// Backward on the cuda backend, emulated or on a GPU: the bits of the CPU backend wherever no exp is involved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/device_gradients.h"

namespace resembed::testing {
namespace {

CaseLimits Limits() {
  CaseLimits limits;
  limits.forms.pop_back();  // attention
  return limits;
}

Asked AskedOf(resembed_grad_layout layout) {
  Asked asked;
  asked.neighbor_weights = asked.sample_weights = false;
  asked.layout = layout;
  return asked;
}

// With or without the positions of maxima that forward saved.
void ExpectSameAsCpu(const GradientCase& one, uint64_t seed, const Asked& asked, bool saves = true) {
  GradientProblem problem(one.tables, one.features, seed);
  DeviceProblem device(problem);
  std::deque<SavedArgmax> saved;
  if (saves) saved.emplace_back(&problem, &device);
  EXPECT_EQ(FirstDifference(RunBackwardOnDevice(problem, device, asked),
                            RunBackward(problem, PlaceOf(nullptr), asked)),
            "");
}

TEST(CudaBackward, CuratedBatchesHaveTheBitsOfTheCpu) {
  for (const GradientCase& one : CuratedCases(Limits())) {
    for (const auto layout : {RESEMBED_GRAD_COMPRESSED, RESEMBED_GRAD_DENSE}) {
      SCOPED_TRACE(one.name + (layout == RESEMBED_GRAD_DENSE ? ", dense" : ", compressed"));
      ExpectSameAsCpu(one, 7, AskedOf(layout));
    }
  }
}

TEST(CudaBackward, RandomBatchesHaveTheBitsOfTheCpu) {
  for (uint64_t seed = 300; seed < 360; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Asked asked = AskedOf(seed % 3 == 0 ? RESEMBED_GRAD_DENSE : RESEMBED_GRAD_COMPRESSED);
    asked.residual = seed % 5 != 0;
    asked.central = seed % 7 != 0;
    ExpectSameAsCpu(RandomCase(seed, Limits()), seed, asked);
    if (HasFailure()) return;
  }
}

TEST(CudaBackward, GradientsOfWeightsAndMaximaNobodySavedHaveTheBitsOfTheCpu) {
  for (const GradientCase& one : CuratedCases(Limits())) {
    SCOPED_TRACE(one.name);
    ExpectSameAsCpu(one, 7, Asked(), false);
  }
  for (uint64_t seed = 600; seed < 640; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Asked asked;
    asked.residual = seed % 3 != 0;
    asked.central = seed % 4 != 0;
    ExpectSameAsCpu(RandomCase(seed, Limits()), seed, asked, seed % 2 == 0);
    if (HasFailure()) return;
  }
}

double LargestDifference(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return INFINITY;
  double largest = 0, scale = 1;
  for (size_t at = 0; at < want.size(); ++at) {
    scale = std::max(scale, std::fabs(static_cast<double>(want[at])));
    largest = std::max(largest, std::fabs(static_cast<double>(got[at]) - static_cast<double>(want[at])));
  }
  return largest / scale;
}

// exp differs by an ulp or two between machines; everything it enters is a weighted mean, so the error stays relative.
TEST(CudaBackward, AttentionAgreesWithTheCpu) {
  CaseLimits attention;
  attention.forms = {RESEMBED_CENTRAL_ATTENTION};
  std::vector<GradientCase> cases = CuratedCases(attention);
  for (uint64_t seed = 700; seed < 730; ++seed) cases.push_back(RandomCase(seed, attention));
  for (size_t index = 0; index < cases.size(); ++index) {
    SCOPED_TRACE(::testing::Message() << index << " " << cases[index].name);
    const GradientProblem problem(cases[index].tables, cases[index].features, index);
    const Grads got = RunBackwardOnDevice(problem, DeviceProblem(problem));
    const Grads want = RunBackward(problem, PlaceOf(nullptr));
    ASSERT_EQ(got.tables.size(), want.tables.size());
    for (size_t table = 0; table < want.tables.size(); ++table) {
      EXPECT_EQ(got.tables[table].central.ids, want.tables[table].central.ids);
      EXPECT_LT(LargestDifference(got.tables[table].residual.rows, want.tables[table].residual.rows), 1e-5);
      EXPECT_LT(LargestDifference(got.tables[table].central.rows, want.tables[table].central.rows), 1e-5);
    }
    for (size_t feature = 0; feature < want.sample_weights.size(); ++feature) {
      EXPECT_LT(LargestDifference(got.sample_weights[feature], want.sample_weights[feature]), 1e-5);
    }
  }
}

TEST(CudaBackward, ManyFeaturesOverOneTable) {
  GradientCase one;
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.dim = 33;
  one.tables = {table};
  for (int index = 0; index < 60; ++index) {
    FeatureSpec feature = CaseFeature(static_cast<resembed_pooling>(index % 3), index % 4, 3);
    feature.has_grad = index % 6 != 5;
    one.features.push_back(feature);
  }
  ExpectSameAsCpu(one, 3, AskedOf(RESEMBED_GRAD_COMPRESSED));
}

TEST(CudaBackward, OneRowUsedSixtyThousandTimes) {
  GradientCase one;
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.dim = 8;
  one.tables = {table};
  FeatureSpec feature = CaseFeature(RESEMBED_POOLING_SUM, 600, 100);
  feature.fixed_length = true;
  feature.same_id = .999;
  one.features = {feature};
  ExpectSameAsCpu(one, 3, AskedOf(RESEMBED_GRAD_COMPRESSED));
}

TEST(CudaBackward, WideRowsOfEveryDim) {
  for (const int64_t dim : {1, 4, 28, 31, 32, 36, 64, 128, 132, 200, 256, 260, 513}) {
    SCOPED_TRACE(dim);
    GradientCase one;
    TableSpec table;
    table.form = RESEMBED_CENTRAL_STORED;
    table.dim = dim;
    table.extra_stride = 3;  // output gradients lie dim + 1 apart as well
    one.tables = {table};
    one.features = {CaseFeature(RESEMBED_POOLING_SUM, 12, 9)};
    GradientProblem problem(one.tables, one.features, 2);
    // Rows of output gradients at multiples of 16 bytes.
    GradientProblem aligned(one.tables, one.features, 2);
    FeatureData& feature = *aligned.features[0];
    const int64_t n_rows = feature.descriptor.n_bags;
    std::vector<unsigned char> packed(static_cast<size_t>(n_rows * dim) * 4);
    for (int64_t row = 0; row < n_rows; ++row) {
      std::memcpy(packed.data() + row * dim * 4, feature.grad_bytes.data() + row * (dim + 1) * 4,
                  static_cast<size_t>(dim) * 4);
    }
    feature.grad_bytes = packed;
    feature.grad.grad_output_stride = dim;
    feature.grad.grad_output = feature.grad_bytes.data();
    for (const auto layout : {RESEMBED_GRAD_COMPRESSED, RESEMBED_GRAD_DENSE}) {
      const Asked asked = AskedOf(layout);
      const Grads want = RunBackward(problem, PlaceOf(nullptr), asked);
      EXPECT_EQ(FirstDifference(RunBackwardOnDevice(problem, DeviceProblem(problem), asked), want), "");
      EXPECT_EQ(FirstDifference(RunBackwardOnDevice(aligned, DeviceProblem(aligned), asked), want), "");
    }
  }
}

TEST(CudaBackward, ABrokenPromiseLeavesNoGradient) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.dim = 4;
  FeatureSpec weighted;
  weighted.weights = true;
  weighted.bad_ids = .3;  // uses of no item
  const GradientProblem problem({table}, {weighted}, 3);
  const DeviceProblem device(problem);
  const Stream stream;
  PlanOptions options;
  options.max_unique = {2};
  DevicePlan plan(device, stream, options);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  DeviceGrad residual(RESEMBED_GRAD_COMPRESSED, 2, 4), central(RESEMBED_GRAD_DENSE, table.central_rows, 4);
  resembed_table_grad grad = {};
  grad.struct_size = sizeof(grad);
  grad.residual = &residual.grad;
  grad.central = &central.grad;
  const resembed_table_grad* grads[] = {&grad};
  DeviceOutputGrads output_grads(problem, {});
  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan.header;
  args.tables = device.Args().tables;
  args.features = device.Args().features;
  args.n_features = 1;
  args.feature_grads = output_grads.list.data();
  args.table_grads = grads;
  const resembed_place place = CudaPlace(stream.get());
  size_t bytes = 0;
  ASSERT_EQ(resembed_backward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  DeviceBuffer workspace(bytes);
  ASSERT_EQ(resembed_backward(&args, workspace.data(), bytes, &place), RESEMBED_OK);
  ASSERT_TRUE(residual.count.Download(stream) && residual.rows.Download(stream));
  EXPECT_EQ(residual.Count(), -1);
  for (size_t at = 0; at < residual.rows.size(); ++at)
    EXPECT_EQ(residual.rows.host()[at], 0xff) << "a row was written";
  ASSERT_TRUE(output_grads.weights[0].Download(stream));
  for (size_t at = 0; at < output_grads.weights[0].size(); ++at)
    ASSERT_EQ(output_grads.weights[0].host()[at], 0xff) << "a gradient of a weight was written";
  for (const float value : central.Read(stream).rows) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace resembed::testing
