// SPDX-License-Identifier: Apache-2.0
// Items numbered center by center on the cuda backend: one sort, the same plan, the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/device_training.h"
#include "tests/support/numbered.h"

namespace resembed::testing {
namespace {

Training Assigned(bool u16_centers, uint64_t seed) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.n_items = u16_centers ? 1200 : 300;
  table.central_rows = u16_centers ? 2 : 40;  // two centers: runs past 256 pairs
  table.dim = 12;
  table.u16_centers = u16_centers;
  FeatureSpec mean = CaseFeature(RESEMBED_POOLING_MEAN, 80, 20),
              sequence = CaseFeature(RESEMBED_POOLING_NONE, u16_centers ? 2500 : 700, 1);
  mean.padding = mean.weights = true;
  mean.bad_ids = .1;
  sequence.id_dtype = RESEMBED_I32;
  OptimizerSpec adam, rowwise;
  adam.kind = RESEMBED_ADAM;
  rowwise.kind = RESEMBED_ROWWISE_ADAGRAD;
  return Training({table}, {mean, sequence}, adam, rowwise, seed);
}

template <typename T>
std::vector<T> Copy(const T* from, int64_t n) {
  return std::vector<T>(from, from + n);
}

TEST(CudaNumbering, ThePromiseChangesNothingInThePlan) {
  for (const bool u16_centers : {false, true}) {
    Training training = Assigned(u16_centers, 3);
    const Numbered numbered(&training);
    const Stream stream;
    DeviceProblem device(training.problem);
    device.tables[0].center_major = 0;
    DevicePlan sorted(device, stream);
    ASSERT_EQ(sorted.status, RESEMBED_OK) << sorted.message;
    sorted.Download(stream);
    device.tables[0].center_major = 1;
    DevicePlan promised(device, stream);
    ASSERT_EQ(promised.status, RESEMBED_OK) << promised.message;
    promised.Download(stream);
    const detail::PlanTable want = sorted.Table(0), got = promised.Table(0);
    ASSERT_GT(want.central.n_runs, 1);
    ASSERT_EQ(got.items.n_runs, want.items.n_runs);
    ASSERT_EQ(got.central.n_runs, want.central.n_runs);
    EXPECT_EQ(promised.Counts(0).status, 0);
    EXPECT_EQ(Copy(got.central.rows, got.central.n_runs), Copy(want.central.rows, want.central.n_runs));
    EXPECT_EQ(Copy(got.central.begin, got.central.n_runs + 1),
              Copy(want.central.begin, want.central.n_runs + 1));
    const int64_t n_pairs = want.central.begin[want.central.n_runs];
    EXPECT_EQ(Copy(got.pair, n_pairs), Copy(want.pair, n_pairs));
    EXPECT_EQ(u16_centers, n_pairs / want.central.n_runs > RESEMBED_SUM_BLOCK);
  }
}

// A promise that does not hold: the status says so, nothing is updated.
TEST(CudaNumbering, ABrokenPromiseUpdatesNothing) {
  Training training = Assigned(false, 3);
  training.wants_sample_weights = false;
  resembed_table& table = training.problem.tables[0]->descriptor;
  table.center_major = 1;
  const std::vector<unsigned char> before = training.Written();
  DeviceTraining device(&training);
  DevicePlan plan(device.device, device.stream);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  plan.Download(device.stream);
  EXPECT_EQ(plan.Counts(0).status, RESEMBED_OUT_OF_RANGE);
  EXPECT_EQ(plan.Counts(0).n_unique, 0);
  EXPECT_EQ(plan.Counts(0).n_unique_central, 0);
  device.Fused();
  EXPECT_TRUE(device.Written() == before);
}

// Two items in the wrong order, and not more centers than there may be.
TEST(CudaNumbering, OneDescentIsSeen) {
  Training training = Assigned(false, 3);
  const std::vector<int32_t>& centers = training.problem.tables[0]->centers32;
  int64_t low = 0, high = 1;
  while (centers[static_cast<size_t>(low)] <= centers[static_cast<size_t>(high)] ||
         centers[static_cast<size_t>(high)] < 0) {
    if (++high == 300) high = ++low + 1;
  }
  TableSpec table = training.problem.tables[0]->spec;
  FeatureSpec two = CaseFeature(RESEMBED_POOLING_NONE, 2, 1);
  two.ids = {low, high};
  const GradientProblem problem({table}, {two}, 3);
  ASSERT_EQ(problem.tables[0]->centers32, centers);
  DeviceProblem device(problem);
  const Stream stream;
  for (const int promised : {0, 1}) {
    device.tables[0].center_major = promised;
    DevicePlan plan(device, stream);
    ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
    plan.Download(stream);
    EXPECT_EQ(plan.Counts(0).status, promised == 0 ? 0 : RESEMBED_OUT_OF_RANGE);
    EXPECT_EQ(plan.Counts(0).n_unique_central, promised == 0 ? 2 : 0);
  }
}

TEST(CudaNumbering, TrainsWithTheBitsOfTheUnnumberedCpu) {
  for (const bool fused : {true, false}) {
    Training plain = Assigned(false, 5), moved = Assigned(false, 5);
    plain.wants_sample_weights = moved.wants_sample_weights = false;
    Numbered numbered(&moved);
    DeviceTraining device(&moved);
    for (int step = 1; step <= 4; ++step) {
      if (fused) {
        device.Fused();
        moved.Fused(PlaceOf(nullptr));
        plain.Fused(PlaceOf(nullptr));
      } else {
        device.Separate();
        moved.Separate(PlaceOf(nullptr));
        plain.Separate(PlaceOf(nullptr));
      }
      ASSERT_TRUE(device.Written() == moved.Written()) << "step " << step;
      ASSERT_TRUE(numbered.WrittenExternally() == plain.Written()) << "step " << step;
    }
  }
}

TEST(CudaNumbering, TranslatesIdsOnTheDevice) {
  std::vector<int32_t> map(10'000);
  std::iota(map.begin(), map.end(), 0);
  std::shuffle(map.begin(), map.end(), std::mt19937(7));
  std::vector<int64_t> ids = {-1, -9, 10'000, int64_t{1} << 33};
  for (int64_t at = 0; at < 30'000; ++at) ids.push_back(at * 7919 % 10'000);
  const std::vector<int32_t> narrow(ids.begin(), ids.end());
  const Stream stream;
  const DeviceBuffer on_device(map.data(), map.size() * 4);
  for (const bool wide : {true, false}) {
    for (const bool in_place : {true, false}) {
      const size_t bytes = ids.size() * (wide ? 8 : 4);
      DeviceBuffer input(wide ? static_cast<const void*>(ids.data()) : narrow.data(), bytes), other(bytes);
      DeviceBuffer& output = in_place ? input : other;
      resembed_translate_args args = {};
      args.struct_size = sizeof(args);
      args.ids = input.data();
      args.id_dtype = wide ? RESEMBED_I64 : RESEMBED_I32;
      args.n_ids = static_cast<int64_t>(ids.size());
      args.map = static_cast<const int32_t*>(on_device.data());
      args.n_map = static_cast<int64_t>(map.size());
      args.output = output.data();
      const resembed_place place = CudaPlace(stream.get());
      {
        const InOperation scope("translate");
        ASSERT_EQ(resembed_translate(&args, &place), RESEMBED_OK) << resembed_last_error_message();
      }
      ASSERT_TRUE(output.Download(stream));
      for (size_t at = 0; at < ids.size(); ++at) {
        const int64_t id = wide ? ids[at] : narrow[at];
        const int64_t want = id >= 0 && id < 10'000 ? map[static_cast<size_t>(id)] : id;
        int64_t got = 0;
        int32_t got_narrow = 0;
        std::memcpy(&got, output.host() + at * 8 * (wide ? 1 : 0), 8);
        std::memcpy(&got_narrow, output.host() + at * 4, 4);
        ASSERT_EQ(wide ? got : got_narrow, want) << at;
      }
    }
  }
}

}  // namespace
}  // namespace resembed::testing
