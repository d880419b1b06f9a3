// SPDX-License-Identifier: Apache-2.0
#include "host/train/tune.h"

#include <gtest/gtest.h>

namespace resembed::train {
namespace {

TunePoint Point(double lr, double lambda, double auc) { return {lr, lambda, auc, 1, false, 0}; }

TEST(Tune, GridIsTheSameForAllAndLambdaIsForPenaltiesOnly) {
  Hyper hyper = {};
  hyper.lr = 0.004;
  hyper.lambda = 0.002;
  const std::vector<TunePoint> plain = TuneGrid(*FindVariant("plain"), hyper);
  ASSERT_EQ(plain.size(), 3u);
  for (const TunePoint& point : plain) EXPECT_EQ(point.lambda, 0.002);
  EXPECT_EQ(plain[0].lr, 0.004);
  const std::vector<TunePoint> avg = TuneGrid(*FindVariant("avg"), hyper);
  ASSERT_EQ(avg.size(), 12u);
  for (size_t i = 0; i < avg.size(); ++i) EXPECT_EQ(avg[i].lr, plain[i / 4].lr);
  EXPECT_EQ(avg[1].lambda, 0);
  EXPECT_EQ(avg[3].lambda, 0.02);
  hyper.lambda = 0;  // nothing to vary
  EXPECT_EQ(TuneGrid(*FindVariant("avg"), hyper).size(), 3u);
}

TEST(Tune, ChoosesTheLargestPenaltyNearTheBest) {
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(1, 0, 0.9015), Point(1, 2, 0.8994), Point(2, 1, 0.901)}),
            3u);
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(1, 0, 0.903)}), 1u);
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(2, 1, 0.9)}), 0u);
}

}  // namespace
}  // namespace resembed::train
