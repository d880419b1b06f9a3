// SPDX-License-Identifier: Apache-2.0
// Forward on the cuda backend, emulated or on a GPU: the CPU backend's bits wherever no exp is involved, the float64
// oracle's bound everywhere.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "host/cuda/forward.h"
#include "tests/cuda/support/device_problem.h"

namespace resembed::testing {
namespace {

#if defined(RESEMBED_EMULATOR_TSAN) || defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kRandomCases = 12;
constexpr int64_t kHugeBag = 3000;
const int64_t kDims[] = {1, 18, 64, 130};
#else
constexpr uint64_t kRandomCases = 60;
constexpr int64_t kHugeBag = 60000;
const int64_t kDims[] = {1, 7, 18, 32, 64, 130, 256, 513};
#endif

const resembed_central_form kForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                        RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                        RESEMBED_CENTRAL_ATTENTION};
const resembed_pooling kPoolings[] = {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN,
                                      RESEMBED_POOLING_MAX};
const resembed_dtype kTypes[] = {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16};

struct Shape {
  resembed_central_form form;
  int64_t dim;
};
void PrintTo(const Shape& shape, std::ostream* out) { *out << "form " << shape.form << " dim " << shape.dim; }

class CudaForwardShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(CudaForwardShapes, EveryPoolingAndBagLengthHasTheBitsOfTheCpu) {
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
  table.misaligned = shape.dim == 130;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : kPoolings) {
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.offsets = OffsetsOf({0, 1, 31, 33, 0, 255, 256, 257, 300, 0, 3});
    if (pooling == RESEMBED_POOLING_NONE) feature.offsets = OffsetsOf(std::vector<int64_t>(37, 1));
    feature.weights = pooling != RESEMBED_POOLING_MAX;
    feature.padding = pooling == RESEMBED_POOLING_MEAN || pooling == RESEMBED_POOLING_MAX;
    feature.id_dtype = pooling == RESEMBED_POOLING_SUM ? RESEMBED_I32 : RESEMBED_I64;
    feature.offset_dtype = pooling == RESEMBED_POOLING_MEAN ? RESEMBED_I32 : RESEMBED_I64;
    features.push_back(feature);
  }
  GradientProblem problem({table}, features, 11);
  ForwardOptions options;
  options.output_dtype = kTypes[static_cast<size_t>(shape.dim + shape.form) % 3];
  options.extra_stride = shape.dim == 7 ? 3 : 0;
  DeviceProblem device(problem);
  const ForwardResult got = RunOnDevice(&device, options);
  // The CPU's bits have been held against the oracle elsewhere; here a few are again.
  if (shape.form == RESEMBED_CENTRAL_ATTENTION || shape.dim <= 32) {
    ExpectMatchesOracle(&problem, got, options.output_dtype);
  }
  if (shape.form != RESEMBED_CENTRAL_ATTENTION) {
    EXPECT_EQ(FirstDifference(got, RunForward(&problem, PlaceOf(nullptr), options)), "");
  }
}

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (const resembed_central_form form : kForms) {
    // Each of the tiles of a long row takes its dot products again: slow to emulate.
    for (const int64_t dim : kDims) {
      if (form != RESEMBED_CENTRAL_ATTENTION || dim <= 256) shapes.push_back({form, dim});
    }
  }
  return shapes;
}
INSTANTIATE_TEST_SUITE_P(Curated, CudaForwardShapes, ::testing::ValuesIn(Shapes()));

TEST(CudaForward, EveryPairOfTypesHasTheBitsOfTheCpu) {
  for (const resembed_dtype residual : kTypes) {
    for (const resembed_dtype central : kTypes) {
      std::vector<TableSpec> tables;
      std::vector<FeatureSpec> features;
      for (const int64_t dim : {24, 18}) {
        for (const resembed_central_form form : {RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_STORED}) {
          TableSpec table;
          table.form = form;
          table.dim = dim;
          table.residual_dtype = residual;
          table.central_dtype = central;
          for (const resembed_pooling pooling : kPoolings) {
            FeatureSpec feature;
            feature.table = static_cast<int32_t>(tables.size());
            feature.pooling = pooling;
            feature.n_bags = 9;
            feature.max_length = 11;
            features.push_back(feature);
          }
          tables.push_back(table);
        }
      }
      GradientProblem problem(tables, features, 3);
      for (const resembed_dtype output : kTypes) {
        SCOPED_TRACE(::testing::Message() << "R " << residual << " C " << central << " output " << output);
        ForwardOptions options;
        options.output_dtype = output;
        options.extra_stride = output == RESEMBED_F16 ? 1 : 0;
        ExpectSameAsCpu(&problem, options);
      }
    }
  }
}

GradientProblem RandomProblem(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&random](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  std::vector<TableSpec> tables;
  for (int64_t count = 1 + below(4); count > 0; --count) {
    TableSpec table;
    table.form = kForms[below(5)];
    table.n_items = 1 + below(80);
    table.central_rows = 1 + below(50);
    table.dim = below(2) == 0 ? 8 * (1 + below(40)) : 1 + below(140);
    table.n_neighbors = static_cast<int32_t>(1 + below(below(4) == 0 ? 64 : 9));
    table.residual = table.form == RESEMBED_CENTRAL_NONE || below(4) != 0;
    table.row_map = below(3) == 0;
    table.u16_centers = below(2) == 0;
    table.residual_dtype = kTypes[below(3)];
    table.central_dtype = kTypes[below(3)];
    table.extra_stride = below(2) * below(9);
    table.misaligned = below(4) == 0;
    tables.push_back(table);
  }
  std::vector<FeatureSpec> features;
  for (int64_t count = 1 + below(5); count > 0; --count) {
    FeatureSpec feature;
    feature.table = static_cast<int32_t>(below(static_cast<int64_t>(tables.size())));
    feature.pooling = kPoolings[below(4)];
    feature.n_bags = below(20);
    feature.max_length = below(6) == 0 ? below(700) : below(12);
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

TEST(CudaForward, RandomProblemsHaveTheBitsOfTheCpu) {
  for (uint64_t seed = 2000; seed < 2000 + kRandomCases; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    GradientProblem problem = RandomProblem(seed);
    ForwardOptions options;
    options.output_dtype = kTypes[seed % 3];
    options.extra_stride = static_cast<int64_t>(seed % 5);
    ExpectSameAsCpu(&problem, options);
    if (HasFailure()) return;
  }
}

// Bags around the lengths where work is cut; one is a single id many times.
GradientProblem LongProblem(resembed_central_form form, int64_t dim, int64_t huge) {
  TableSpec table;
  table.form = form;
  table.dim = dim;
  table.n_items = 40;
  table.residual_dtype = dim == 64 ? RESEMBED_BF16 : RESEMBED_F32;
  table.central_dtype = table.residual_dtype;
  std::vector<FeatureSpec> features;
  for (const resembed_pooling pooling : {RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN, RESEMBED_POOLING_MAX}) {
    FeatureSpec feature;
    feature.pooling = pooling;
    feature.padding = true;
    feature.bad_ids = .02;
    feature.weights = pooling == RESEMBED_POOLING_SUM;
    feature.offsets = OffsetsOf({0, 513, 513, 1, 512, 514, 0, 767, 768, 769, 1024, 1025, 513, 2000, 511, 3});
    features.push_back(feature);
    FeatureSpec fixed = feature;
    fixed.fixed_length = true;
    fixed.offsets.clear();
    fixed.n_bags = 3;
    fixed.max_length = 700;
    features.push_back(fixed);
  }
  FeatureSpec one;
  one.offsets = OffsetsOf({2, huge, 2});
  one.ids.assign(static_cast<size_t>(huge) + 4, 7);
  features.push_back(one);
  return GradientProblem({table}, features, 9);
}

TEST(CudaForward, LongBagsHaveTheBitsOfTheCpu) {
  for (const resembed_central_form form : {RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_UNIFORM}) {
    for (const int64_t dim : {9, 64}) {
      GradientProblem problem = LongProblem(form, dim, dim == 9 ? kHugeBag : 3000);
      ExpectSameAsCpu(&problem);
    }
  }
}

TEST(CudaForward, ManyFeaturesOfManyTables) {
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
  for (int64_t number = 0; number < 40; ++number) {
    TableSpec table;
    table.form = number % 3 == 0 ? RESEMBED_CENTRAL_ASSIGNMENT : RESEMBED_CENTRAL_NONE;
    table.dim = 4 * (1 + number % 7);
    table.n_items = 10 + number;
    table.central_rows = 5;
    tables.push_back(table);
    FeatureSpec feature;
    feature.table = static_cast<int32_t>(number);
    feature.n_bags = number % 4 == 3 ? 0 : 5 + number;
    feature.bad_ids = .05;
    features.push_back(feature);
  }
  GradientProblem problem(tables, features, 4);
  resembed_bad_ids want = {}, got = {};
  ForwardOptions options;
  options.bad_ids = &want;
  const ForwardResult on_cpu = RunForward(&problem, PlaceOf(nullptr), options);
  ASSERT_GT(want.count, 0);
  DeviceProblem device(problem);
  options.bad_ids = &got;
  EXPECT_EQ(FirstDifference(RunOnDevice(&device, options), on_cpu), "");
  EXPECT_EQ(got.count, want.count);
  EXPECT_EQ(got.feature, want.feature);
  EXPECT_EQ(got.position, want.position);
  EXPECT_EQ(got.value, want.value);
}

// One launch shape after another, down to one warp that walks over all work.
TEST(CudaForward, SameBitsForAnyLaunchShape) {
  for (const resembed_central_form form : kForms) {
    TableSpec table;
    table.form = form;
    table.dim = 40;
    FeatureSpec feature;
    feature.offsets = OffsetsOf({3, 0, 700, 20, 1300, 1});
    FeatureSpec gather;
    gather.pooling = RESEMBED_POOLING_NONE;
    gather.n_bags = 50;
    GradientProblem problem({table}, {feature, gather}, 5);
    DeviceProblem device(problem);
    const ForwardResult want = RunOnDevice(&device);
    ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
    for (const kernels::LaunchShape shape :
         {kernels::LaunchShape{32, 1}, kernels::LaunchShape{64, 3}, kernels::LaunchShape{256, 2}}) {
      const ForwardCall call = [&](const resembed_forward_args& args, void* workspace, size_t,
                                   const resembed_place& place) {
        detail::Tables tables;
        const resembed_status status = detail::CheckTables("forward", args.tables, place, &tables);
        return status != RESEMBED_OK
                   ? status
                   : detail::cuda::Forward("forward", args, tables, workspace, place, shape);
      };
      EXPECT_EQ(FirstDifference(RunOnDevice(&device, {}, call), want), "")
          << "form " << form << ": " << shape.blocks << " blocks of " << shape.threads;
    }
  }
}

// Two calls at once on two streams that nothing orders.
TEST(CudaForward, StreamsDoNotDisturbEachOther) {
  GradientProblem problems[2] = {LongProblem(RESEMBED_CENTRAL_STORED, 20, 1500), RandomProblem(2001)};
  const Stream streams[2];
  for (int round = 0; round < 2; ++round) {
    std::deque<DeviceProblem> devices;
    std::deque<DeviceBuffer> outputs, workspaces;
    for (int which = 0; which < 2; ++which) {
      devices.emplace_back(problems[which]);
      for (resembed_feature& feature : devices.back().features) {
        const int64_t dim = devices.back().tables[static_cast<size_t>(feature.table)].dim;
        const int64_t rows = feature.pooling == RESEMBED_POOLING_NONE ? feature.n_ids : feature.n_bags;
        outputs.emplace_back(static_cast<size_t>(rows * dim * 4));
        feature.output = outputs.back().data();
      }
      resembed_forward_args args = devices.back().Args();
      args.bounds = RESEMBED_BOUNDS_SKIP;
      const resembed_place place = CudaPlace(streams[which].get());
      size_t bytes = 0;
      ASSERT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK);
      workspaces.emplace_back(bytes);
      ASSERT_EQ(PublicForward(args, workspaces.back().data(), bytes, place), RESEMBED_OK)
          << resembed_last_error_message();
    }
    size_t output = 0;
    for (int which = 0; which < 2; ++which) {
      ForwardOptions options;
      options.saved_argmax = false;
      const ForwardResult want = RunForward(&problems[which], PlaceOf(nullptr), options);
      for (const FeatureOutput& feature : want.features) {
        ASSERT_TRUE(outputs[output].Download(streams[which]));
        EXPECT_TRUE(std::memcmp(outputs[output].host(), feature.bytes.data(), feature.bytes.size()) == 0)
            << "stream " << which;
        ++output;
      }
    }
  }
}

}  // namespace
}  // namespace resembed::testing
