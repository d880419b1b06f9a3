// SPDX-License-Identifier: Apache-2.0
#include "host/train/figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "host/train/random.h"

namespace resembed::train {
namespace {

TEST(MeanAndStd, UsesNMinusOneAndHasNoneForOneSeed) {
  EXPECT_DOUBLE_EQ(MeanAndStd({1, 3}).mean, 2);
  EXPECT_DOUBLE_EQ(MeanAndStd({1, 3}).std, std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(MeanAndStd({5}).mean, 5);
  EXPECT_TRUE(std::isnan(MeanAndStd({5}).std));
  EXPECT_TRUE(std::isnan(MeanAndStd({}).mean));
}

TEST(PairedInterval, IsDeterministicAndContainsTheMean) {
  Random random(3);
  std::vector<float> row, base;
  for (int i = 0; i < 500; ++i) {
    base.push_back(static_cast<float>(random.Uniform()));
    row.push_back(base.back() + 0.01f + 0.02f * static_cast<float>(random.Uniform() - 0.5));
  }
  const Interval a = PairedInterval(row, base, 9), b = PairedInterval(row, base, 9),
                 c = PairedInterval(row, base, 10);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_NE(a.low, c.low);
  EXPECT_LT(a.low, a.mean);
  EXPECT_GT(a.high, a.mean);
  EXPECT_NEAR(a.mean, 0.01, 0.001);
  EXPECT_GT(a.low, 0.008);  // paired: the spread of the users themselves (0.3) does not enter
}

// Against the normal approximation of the same mean: +-1.96 s / sqrt(n).
TEST(MeanInterval, HasTheWidthOfTheNormalApproximation) {
  Random random(4);
  std::vector<float> values;
  std::vector<double> doubles;
  for (int i = 0; i < 2000; ++i) {
    values.push_back(static_cast<float>(random.Uniform()));
    doubles.push_back(values.back());
  }
  const Interval interval = MeanInterval(values, 1);
  const double half = 1.96 * MeanAndStd(doubles).std / std::sqrt(2000.0);
  EXPECT_NEAR(interval.high - interval.low, 2 * half, 0.2 * half);
}

// The percentiles themselves: all means of a bootstrap done in plain loops.
TEST(MeanInterval, CutsTheTailsOfTheSortedMeans) {
  const std::vector<float> values = {0, 1, 1, 0, 1, 0, 0, 1, 1, 1};
  std::vector<double> means;
  for (uint64_t resample = 0; resample < 200; ++resample) {
    Random random(5, resample);
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) sum += values[static_cast<size_t>(random.Below(10))];
    means.push_back(sum / 10);
  }
  std::sort(means.begin(), means.end());
  const Interval interval = MeanInterval(values, 5, 200);
  EXPECT_DOUBLE_EQ(interval.low, means[5]);
  EXPECT_DOUBLE_EQ(interval.high, means[194]);
  EXPECT_TRUE(std::isnan(MeanInterval({}, 5).mean));
}

TEST(CompareFigures, PairsWhatBothRowsHave) {
  Figures base;
  base.auc = {0.5f, 0.7f};
  base.hr20 = {0, 1, 0};
  base.ranked_repeat = {false, true, false};
  Figures row = base;
  row.auc = {0.6f, 0.9f};
  row.hr20 = {1, 1, 0};
  row.logloss = {0.1f, 0.2f};
  const auto over = CompareFigures(row, base, 1);
  EXPECT_NEAR(over.at("auc").mean, 0.15, 1e-6);
  EXPECT_NEAR(over.at("hr20").mean, 1.0 / 3, 1e-6);
  EXPECT_NEAR(over.at("hr20_new").mean, 0.5, 1e-6);
  EXPECT_NEAR(over.at("hr20_repeat").mean, 0, 1e-6);
  EXPECT_EQ(over.count("logloss"), 0u);
  EXPECT_EQ(over.count("auc_pop"), 0u);
  EXPECT_EQ(FigureIntervals(row, 1).count("logloss"), 1u);
  EXPECT_NEAR(NamedFigures(row).at("logloss"), 0.15, 1e-6);
}

TEST(MeanOfSeeds, AveragesTargetByTarget) {
  Figures a, b;
  a.auc = {0, 1};
  b.auc = {1, 1};
  a.hr20 = {1};
  b.hr20 = {0};
  a.ranked_repeat = b.ranked_repeat = {true};
  const Figures mean = MeanOfSeeds({a, b});
  EXPECT_THAT(mean.auc, ::testing::ElementsAre(0.5f, 1.0f));
  EXPECT_THAT(mean.hr20, ::testing::ElementsAre(0.5f));
  EXPECT_TRUE(mean.ranked_repeat[0]);
  EXPECT_TRUE(mean.logloss.empty());
}

TEST(CompareInterests, IsOneForARenamedPartitionAndZeroForOneThatSaysNothing) {
  const std::vector<int32_t> truth = {0, 0, 1, 1, 2, 2}, renamed = {5, 5, 3, 3, 4, 4},
                             single = {0, 0, 0, 0, 0, 0};
  const std::vector<int32_t> neighbors = {1, 2, 0, -1, 3, -1, 2, -1, 5, -1, 4, -1};
  const Agreement agreement = CompareInterests(truth, renamed, neighbors, 2);
  EXPECT_NEAR(agreement.nmi, 1, 1e-12);
  EXPECT_NEAR(agreement.edge_share, 6.0 / 7, 1e-12);
  // Ends by interest: 5, 5, 4 of 14.
  EXPECT_NEAR(agreement.edge_share_by_chance, (25 + 25 + 16) / 196.0, 1e-12);
  EXPECT_NEAR(CompareInterests(truth, single, neighbors, 2).nmi, 0, 1e-12);
}

}  // namespace
}  // namespace resembed::train
