// SPDX-License-Identifier: Apache-2.0
// The byte models of the training benchmarks against rows counted one by one, and their workloads.
#include "bench/gpu/step_bytes.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "bench/gpu/step_workload.h"

namespace resembed::bench {
namespace {

// Three bags of two ids over items 0 .. 4 with centers, dim 3.
struct Counted {
  const std::vector<int> ids = {4, 1, 1, 1, 0, 4};
  const std::vector<int> center_of = {0, 1, 0, 1, 0};
  StepShape shape;
  std::set<int> items, centers;
  Counted() {
    for (const int id : ids) {
      items.insert(id);
      centers.insert(center_of[static_cast<size_t>(id)]);
    }
    shape.batch.n_bags = 3;
    shape.batch.n_ids = 6;
    shape.batch.dim = 3;
    shape.batch.n_unique = static_cast<int64_t>(items.size());
    shape.batch.n_unique_central = static_cast<int64_t>(centers.size());
    shape.batch.residual_bytes = 2;
    shape.batch.central_bytes = 4;
    shape.batch.output_bytes = 2;
    shape.n_pairs = shape.batch.n_unique;
    shape.key_bits = 3;
  }
};

TEST(StepBytes, EveryGradientRowOnceAndEveryTouchedRowReadAndWritten) {
  Counted counted;
  StepShape& shape = counted.shape;
  int64_t gradients = 0, rows = 0, compressed = 0;
  for (int bag = 0; bag < 3; ++bag) gradients += 3 * 2;
  for (size_t item = 0; item < counted.items.size(); ++item) {
    rows += 2 * 3 * 2;        // R, read and written, 16 bits
    compressed += 3 * 4 + 8;  // fp32 and an id
  }
  for (size_t center = 0; center < counted.centers.size(); ++center) {
    rows += 2 * 3 * 4;
    compressed += 3 * 4 + 8;
  }
  EXPECT_EQ(GradientBytes(shape), gradients);
  EXPECT_EQ(LogicalGradientBytes(shape), 6 * 3 * 2);
  EXPECT_EQ(CompulsoryBackward(shape), gradients + compressed);
  EXPECT_EQ(CompulsoryBackwardStep(shape), gradients + rows);
  // Row-wise Adagrad: one number a row; Adam with 16-bit states: two an element.
  const auto n_rows = static_cast<int64_t>(counted.items.size() + counted.centers.size());
  shape.row_states = 1;
  EXPECT_EQ(CompulsoryBackwardStep(shape), gradients + rows + n_rows * 2 * 4);
  shape.row_states = 0;
  shape.element_states = 2;
  shape.state_bytes = 2;
  EXPECT_EQ(CompulsoryBackwardStep(shape), gradients + rows + n_rows * 2 * 2 * 3 * 2);
}

TEST(StepBytes, AgreesWithTheModelOfTheCpuBenchmarks) {
  StepShape shape;
  shape.batch.n_bags = 40;
  shape.batch.n_ids = 800;
  shape.batch.dim = 64;
  shape.batch.n_unique = 500;
  shape.batch.n_unique_central = 70;
  for (const int64_t row_states : {0, 1}) {
    for (const int64_t element_states : {0, 1, 2}) {
      shape.row_states = row_states;
      shape.element_states = element_states;
      EXPECT_EQ(CompulsoryBackwardStep(shape), CompulsoryUpdate(shape.batch, {row_states, element_states}));
    }
  }
}

// Bytes of a least-significant-digit sort, counted while it sorts.
TEST(StepBytes, ASortReadsAndWritesEveryPairOnceAPass) {
  for (const int64_t key_bits : {1, 8, 9, 17, 24, 32}) {
    int64_t bytes = 0;
    constexpr int64_t kPairs = 100;
    bytes += kPairs * 4;
    for (int64_t bit = 0; bit < key_bits; bit += 8) bytes += kPairs * (8 + 8);
    EXPECT_EQ(SortBytes(kPairs, key_bits), bytes) << key_bits;
  }
  Counted counted;
  const StepShape& shape = counted.shape;
  EXPECT_EQ(PlanBytes(shape), 6 * 4 + 6 * 8 + SortBytes(6, 3) + 6 * 8 + 6 * 12 + 3 * 8);
}

TEST(StepBytes, TheLeastTimeIsThatOfTheSlowerMemory) {
  Counted counted;
  const StepShape& shape = counted.shape;
  const auto compulsory = static_cast<double>(CompulsoryBackward(shape));
  const auto logical = static_cast<double>(LogicalGradientBytes(shape));
  EXPECT_DOUBLE_EQ(LeastBackwardSeconds(shape, 1, 1e6), 1e-9 * compulsory);
  EXPECT_DOUBLE_EQ(LeastBackwardSeconds(shape, 1e6, 1), 1e-9 * logical);
}

TEST(StepBytes, NeighborsAreARowAPairAndOneOfEachItem) {
  StepShape shape;
  shape.batch.dim = 8;
  shape.batch.n_unique = 10;
  shape.n_pairs = 4 * 10;
  EXPECT_EQ(NeighborBytes(shape), (4 + 1) * 10 * 8 * 4);
}

TEST(StepWorkloads, AreThoseOfTheTableAtThreeSkews) {
  std::map<std::string, std::set<double>> skews;
  std::map<std::string, int> counts;
  std::set<std::string> names;
  for (const StepWorkload& w : StepWorkloads()) {
    skews[w.batch.group].insert(w.batch.alpha);
    ++counts[w.batch.group];
    EXPECT_TRUE(names.insert(StepWorkloadName(w)).second) << StepWorkloadName(w) << " twice";
    EXPECT_EQ(StepWorkloadName(w).rfind("BM_Step/", 0), 0u);
    const StepWorkload small = ShrinkTo(w, int64_t{2} << 30);
    EXPECT_LE(StepDeviceBytes(small), int64_t{2} << 30) << StepWorkloadName(w);
    EXPECT_LE(StepDeviceBytes(w), int64_t{80'000'000'000}) << StepWorkloadName(w);
    EXPECT_LE(Tiny(w).batch.rows, 509);
  }
  for (const char* group : {"w1", "w2", "w3", "w4", "r1", "r2", "r3", "r4"}) {
    EXPECT_EQ(skews[group], (std::set<double>{0, 1.05, 1.15})) << group;
  }
  EXPECT_EQ(counts["w2"], 108);
  EXPECT_EQ(counts["w3"], 9);
}

}  // namespace
}  // namespace resembed::bench
