// SPDX-License-Identifier: Apache-2.0
#include "host/train/tune.h"

#include <gtest/gtest.h>

namespace resembed::train {
namespace {

TunePoint Point(double lr, double lambda, double auc) { return {lr, lambda, auc, 1, false, 0}; }

TEST(Tune, ValuesAreTheSameForAllAndLambdaIsForPenaltiesOnly) {
  Hyper hyper = {};
  hyper.lr = 0.004;
  hyper.lambda = 0.002;
  const std::vector<TunePoint> plain = TuneGrid(*FindVariant("plain"), hyper);
  ASSERT_EQ(plain.size(), 5u);
  for (const TunePoint& point : plain) EXPECT_EQ(point.lambda, 0.002);
  EXPECT_EQ(plain[0].lr, 0.004);
  EXPECT_EQ(plain[3].lr, 0.001);
  EXPECT_EQ(plain[4].lr, 0.016);
  const std::vector<TunePoint> avg = TuneGrid(*FindVariant("avg"), hyper);
  ASSERT_EQ(avg.size(), 8u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(avg[i].lr, plain[i].lr);
  for (size_t i = 5; i < 8; ++i) EXPECT_EQ(avg[i].lr, 0);  // the best of those five
  EXPECT_EQ(avg[5].lambda, 0);
  EXPECT_EQ(avg[7].lambda, 0.02);
  hyper.lambda = 0;  // nothing to vary
  EXPECT_EQ(TuneGrid(*FindVariant("avg"), hyper).size(), 5u);
}

TEST(Tune, PenaltiesAreTriedWithTheBestRate) {
  Hyper hyper = {};
  hyper.lr = 0.004;
  hyper.lambda = 0.002;
  Tunings tunings;
  Tuning& tuning = tunings[{Head::kMlp, "avg"}];
  tuning.points = TuneGrid(*FindVariant("avg"), hyper);
  const double aucs[] = {0.9, 0.91, 0.89, 0.91, 0.8, 0.92, 0.9191, 0.9};
  for (int i = 0; i < 8; ++i) {
    const RowKey key = {Head::kMlp, "avg", 1, i};
    const Hyper tried = TunedHyper(hyper, key, tunings);
    EXPECT_EQ(tried.lr, i < 5 ? tuning.points[static_cast<size_t>(i)].lr : 0.002);  // the first of the best
    RowResult result;
    result.valid_auc = aucs[i];
    result.state.best_epoch = 3;
    EXPECT_EQ(FilePoint(key, result, &tunings).empty(), i < 7);
  }
  const Hyper chosen = TunedHyper(hyper, {Head::kMlp, "avg", 1}, tunings);
  EXPECT_EQ(chosen.lr, 0.002);
  EXPECT_DOUBLE_EQ(chosen.lambda, 0.0002);
}

TEST(Tune, ChoosesTheLargestPenaltyNearTheBest) {
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(1, 0, 0.9015), Point(1, 2, 0.8994), Point(2, 1, 0.901)}),
            3u);
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(1, 0, 0.903)}), 1u);
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(2, 1, 0.9)}), 0u);
}

}  // namespace
}  // namespace resembed::train
