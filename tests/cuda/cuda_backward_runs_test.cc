// SPDX-License-Identifier: Apache-2.0
// Rows used 1 .. 100,000 times, centers of as many items, and the same call a hundred times over: the bits of the CPU.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/device_training.h"

namespace resembed::testing {
namespace {

// Around the ends of lanes, warps, chunks of 256 terms and of 256 such chunks.
const int64_t kLengths[] = {1,    2,    3,    4,    5,     7,     8,     9,     31,     32,
                            33,   63,   64,   65,   127,   128,   129,   255,   256,    257,
                            258,  511,  512,  513,  767,   768,   769,   1023,  1024,   1025,
                            4095, 4096, 4097, 8193, 65535, 65536, 65537, 66000, 100'000};

// A hundred thousand terms are a hundred thousand emulated threads' work: fewer where each access is watched.
bool TooLong(int64_t length) {
#if defined(__SANITIZE_ADDRESS__) || defined(RESEMBED_EMULATOR_TSAN)
  return length > 5000;
#else
  return length < 0;
#endif
}

void ExpectTheCpusBits(const TableSpec& table, const std::vector<int64_t>& ids, bool one_center = false) {
  FeatureSpec sequence = CaseFeature(RESEMBED_POOLING_NONE, static_cast<int64_t>(ids.size()), 1);
  sequence.ids = ids;
  GradientProblem problem({table}, {sequence}, 21);
  std::vector<int32_t>& centers = problem.tables[0]->centers32;
  if (one_center) std::fill(centers.begin(), centers.end(), 0);
  Asked asked;
  asked.neighbor_weights = asked.sample_weights = false;
  EXPECT_EQ(FirstDifference(RunBackwardOnDevice(problem, DeviceProblem(problem), asked),
                            RunBackward(problem, PlaceOf(nullptr), asked)),
            "");
  // Rows at multiples of 16 bytes: the kernels with four columns a lane.
  FeatureData& feature = *problem.features[0];
  const auto row_bytes = static_cast<size_t>(table.dim) * 4;
  for (size_t row = 0; row < ids.size(); ++row) {
    std::memmove(feature.grad_bytes.data() + row * row_bytes,
                 feature.grad_bytes.data() + row * (row_bytes + 4), row_bytes);
  }
  feature.grad.grad_output_stride = table.dim;
  EXPECT_EQ(FirstDifference(RunBackwardOnDevice(problem, DeviceProblem(problem), asked),
                            RunBackward(problem, PlaceOf(nullptr), asked)),
            "");
}

TEST(CudaBackward, OneRowUsedOneToAHundredThousandTimes) {
  for (const int64_t length : kLengths) {
    if (TooLong(length)) continue;
    SCOPED_TRACE(length);
    TableSpec table;
    table.form = RESEMBED_CENTRAL_ASSIGNMENT;
    table.dim = 4;
    table.n_items = 9;
    table.central_rows = 2;
    // Others before and after it, so that the run begins anywhere in a chunk; in no order.
    std::vector<int64_t> ids(static_cast<size_t>(length), 5);
    for (int64_t other = 0; other < 300 + length % 5; ++other)
      ids.push_back(other % 8 + (other % 8 >= 5 ? 1 : 0));
    std::shuffle(ids.begin(), ids.end(), std::mt19937(static_cast<uint32_t>(length)));
    ExpectTheCpusBits(table, ids);
    if (HasFailure()) return;
  }
}

TEST(CudaBackward, OneCenterOfOneToAHundredThousandItems) {
  for (const int64_t length : kLengths) {
    if (TooLong(length)) continue;
    SCOPED_TRACE(length);
    TableSpec table;
    table.form = RESEMBED_CENTRAL_ASSIGNMENT;
    table.dim = 4;
    table.n_items = 2 * length + 1;
    table.central_rows = 1;  // every other item has none
    std::vector<int64_t> ids(static_cast<size_t>(table.n_items));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(static_cast<uint32_t>(length)));
    ExpectTheCpusBits(table, ids);
    if (HasFailure()) return;
  }
}

// One less than a chunk of terms, as many, and one more.
TEST(CudaBackward, OneCenterOfAboutAChunkOfItems) {
  for (const int64_t length : {RESEMBED_SUM_BLOCK - 1, RESEMBED_SUM_BLOCK, RESEMBED_SUM_BLOCK + 1}) {
    SCOPED_TRACE(length);
    TableSpec table;
    table.form = RESEMBED_CENTRAL_ASSIGNMENT;
    table.dim = 4;
    table.n_items = length;
    table.central_rows = 1;
    std::vector<int64_t> ids(static_cast<size_t>(length));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(static_cast<uint32_t>(length)));
    ExpectTheCpusBits(table, ids, /*one_center=*/true);
  }
}

// Plan, backward and fused step of one training, each run on a stream of its own, with another plan on the way.
TEST(CudaStep, AHundredRunsOnTheirOwnStreamsHaveTheSameBits) {
#if defined(RESEMBED_EMULATOR_TSAN)
  constexpr int kRuns = 3;
#else
  constexpr int kRuns = 100;
#endif
  for (const resembed_central_form form : {RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_ATTENTION}) {
    TableSpec table;
    table.form = form;
    table.dim = 20;
    table.n_items = 40;
    table.central_rows = 40;
    FeatureSpec mean = CaseFeature(RESEMBED_POOLING_MEAN, 60, 10),
                max = CaseFeature(RESEMBED_POOLING_MAX, 10, 4);
    mean.weights = true;
    mean.same_id = .6;  // more than 256 times
    mean.fixed_length = true;
    OptimizerSpec spec;
    spec.kind = RESEMBED_ADAM;
    spec.stochastic = true;
    table.residual_dtype = RESEMBED_BF16;
    Training training({table}, {mean, max}, spec, spec, 8);
    std::vector<unsigned char> want;
    Training other({table}, {mean}, spec, spec, 9);
    DeviceTraining busy(&other);
    for (int run = 0; run < kRuns; ++run) {
      DeviceTraining device(&training);
      DevicePlan busy_plan(busy.device, busy.stream);
      ASSERT_EQ(busy_plan.status, RESEMBED_OK);
      device.Fused();
      if (run == 0) want = device.Written();
      ASSERT_TRUE(device.Written() == want) << "form " << form << ", run " << run;
      busy.stream.Wait();
    }
    if (form == RESEMBED_CENTRAL_ATTENTION) continue;
    training.Fused(PlaceOf(nullptr));
    EXPECT_TRUE(want == training.Written());
  }
}

}  // namespace
}  // namespace resembed::testing
