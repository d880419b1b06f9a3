// SPDX-License-Identifier: Apache-2.0
// The id streams and sizes of the GPU benchmarks are what their names say; no GPU is needed for that.
#include "bench/gpu/streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/gpu/workload.h"

namespace resembed::bench {
namespace {

std::map<int32_t, int64_t> Uses(const std::vector<int32_t>& ids) {
  std::map<int32_t, int64_t> uses;
  for (const int32_t id : ids) ++uses[id];
  return uses;
}

TEST(GpuStreams, DistinctIdsAreAPermutationInRandomOrder) {
  for (const int64_t rows : {1, 2, 5, 64, 1000, 4097}) {
    const std::vector<int32_t> ids = DistinctIds(rows, rows, 3);
    const std::set<int32_t> unique(ids.begin(), ids.end());
    EXPECT_EQ(static_cast<int64_t>(unique.size()), rows);
    EXPECT_EQ(*unique.begin(), 0);
    EXPECT_EQ(*unique.rbegin(), rows - 1);
  }
  const std::vector<int32_t> ids = DistinctIds(100'000, 1000, 3);
  int64_t ascending = 0;
  for (size_t i = 1; i < ids.size(); ++i) ascending += ids[i] > ids[i - 1] ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(ascending), 500, 100);
  EXPECT_EQ(ids, DistinctIds(100'000, 1000, 3));
  EXPECT_NE(ids, DistinctIds(100'000, 1000, 4));
}

// p(rank) ~ rank^-alpha, where a bag that may not repeat an id does not change it.
TEST(GpuStreams, PowerLawHasItsSkewAndNoRepeatsInABag) {
  constexpr int64_t kRows = 100'000, kBags = 4000, kLength = 16;
  for (const double alpha : {0.0, 1.05, 1.15}) {
    const std::vector<int32_t> ids = PowerLawBags(kRows, alpha, kBags, kLength, 5);
    for (int64_t bag = 0; bag < kBags; ++bag) {
      const std::set<int32_t> unique(ids.begin() + bag * kLength, ids.begin() + (bag + 1) * kLength);
      ASSERT_EQ(static_cast<int64_t>(unique.size()), kLength);
    }
    std::vector<int64_t> counts;
    for (const auto& [id, uses] : Uses(ids)) counts.push_back(uses);
    std::sort(counts.rbegin(), counts.rend());
    if (alpha == 0) {
      EXPECT_LT(counts[0], 10);
      continue;
    }
    // Above the ranks that fill whole bags and below those that are drawn a few times.
    double expected[2] = {}, seen[2] = {};
    for (size_t rank = 20; rank < 400; ++rank) {
      expected[rank < 100 ? 0 : 1] += std::pow(static_cast<double>(rank + 1), -alpha);
      seen[rank < 100 ? 0 : 1] += static_cast<double>(counts[rank]);
    }
    EXPECT_NEAR(seen[0] / seen[1] / (expected[0] / expected[1]), 1, 0.08) << alpha;
  }
}

TEST(GpuStreams, CoherentBagsKeepToTheirInterests) {
  constexpr int64_t kRows = 10'007, kCenters = 100, kBags = 500, kLength = 32;
  const std::vector<int32_t> center_of = BlockCenters(kRows, kCenters);
  for (const int interests : {1, 4}) {
    for (const double alpha : {0.0, 1.15}) {
      const std::vector<int32_t> ids = CoherentBags(kRows, kCenters, interests, alpha, kBags, kLength, 7);
      std::set<int32_t> all_centers;
      for (int64_t bag = 0; bag < kBags; ++bag) {
        std::set<int32_t> centers;
        for (int64_t t = 0; t < kLength; ++t) {
          const int32_t id = ids[static_cast<size_t>(bag * kLength + t)];
          ASSERT_GE(id, 0);
          ASSERT_LT(id, kRows);
          centers.insert(center_of[static_cast<size_t>(id)]);
        }
        ASSERT_LE(static_cast<int>(centers.size()), interests);
        all_centers.insert(centers.begin(), centers.end());
      }
      EXPECT_GT(all_centers.size(), 40u);
    }
  }
}

TEST(GpuStreams, RandomCentersUseEveryCenterAlike) {
  std::vector<int64_t> counts(64);
  for (const int32_t center : RandomCenters(64'000, 64, 1)) ++counts[static_cast<size_t>(center)];
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 850);
  EXPECT_LT(*std::max_element(counts.begin(), counts.end()), 1150);
}

TEST(GpuStreams, HistogramGivesTheReuseOfItsBins) {
  ReuseHistogram histogram;
  histogram.row_share = {0.5, 0.2, 0.15, 0.1, 0.04, 0.01};  // 1, 2, 3-4, 5-8, 9-16, 17-32 uses
  histogram.mean_pooling = 6;
  histogram.lookups = 280'000;
  histogram.unique_rows = 100'000;
  const JaggedBags bags = HistogramBags(histogram, 1'000'000, 280'000, 9);
  std::vector<double> rows(6);
  const std::map<int32_t, int64_t> uses = Uses(bags.ids);
  for (const auto& [id, n] : uses) {
    ASSERT_LE(n, 32);
    ASSERT_LT(id, 1'000'000);
    rows[static_cast<size_t>(std::ceil(std::log2(static_cast<double>(n))))] += 1;
  }
  EXPECT_NEAR(static_cast<double>(uses.size()), 100'000, 200);
  for (size_t bin = 0; bin < rows.size(); ++bin) {
    EXPECT_NEAR(rows[bin] / static_cast<double>(uses.size()), histogram.row_share[bin], 0.002) << bin;
  }
  ASSERT_EQ(bags.offsets.front(), 0);
  ASSERT_EQ(bags.offsets.back(), static_cast<int32_t>(bags.ids.size()));
  EXPECT_TRUE(std::is_sorted(bags.offsets.begin(), bags.offsets.end()));
  const double mean = static_cast<double>(bags.ids.size()) / static_cast<double>(bags.offsets.size() - 1);
  EXPECT_NEAR(mean, 6, 0.3);
}

TEST(GpuStreams, HistogramFilesAreReadOrRefused) {
  const std::string path = ::testing::TempDir() + "resembed_reuse.json";
  std::ofstream(path) << R"({"sets": {"a": {"row_share_filled": [0.5, 0.5], "mean_pooling_factor": 2.5,
                            "lookups_per_table": 30, "unique_rows_per_table": 20}}})";
  const ReuseHistogram histogram = ReadHistogram(path, "a");
  EXPECT_EQ(histogram.lookups, 30);
  EXPECT_EQ(histogram.row_share.size(), 2u);
  EXPECT_THROW(ReadHistogram(path, "b"), std::runtime_error);
  EXPECT_THROW(ReadHistogram(path + ".none", "a"), std::runtime_error);
}

TEST(GpuWorkloads, NamesAreUniqueAndEveryGroupIsThere) {
  std::set<std::string> names, groups;
  const std::vector<Workload> list = Workloads(true);
  for (const Workload& workload : list) {
    names.insert(WorkloadName(workload));
    groups.insert(workload.group);
  }
  EXPECT_EQ(names.size(), list.size());
  EXPECT_THAT(groups, ::testing::ElementsAre("r1", "r2", "r3", "reuse", "rows", "w1", "w2"));
  const auto sweep = [](const Workload& workload) { return workload.group == "w2"; };
  EXPECT_EQ(std::count_if(list.begin(), list.end(), sweep), 108);
}

TEST(GpuWorkloads, ShrinkToTheCard) {
  for (const Workload& workload : Workloads(true)) {
    const Workload large = ShrinkTo(workload, int64_t{70} << 30);
    EXPECT_EQ(large.rows, workload.rows) << WorkloadName(workload);  // an 80 GB card takes them whole
    const Workload small = ShrinkTo(workload, int64_t{7} << 30);
    EXPECT_LE(DeviceBytes(small), int64_t{7} << 30) << WorkloadName(workload);
    EXPECT_GE(small.rows, 65'536);
    EXPECT_LE(small.centers, small.rows);
    // Distinct ids stay possible.
    if (workload.ids == Ids::kDistinct) {
      EXPECT_GE(small.rows, small.n_bags * small.bag_length);
    }
  }
}

}  // namespace
}  // namespace resembed::bench
