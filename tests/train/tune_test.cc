// SPDX-License-Identifier: Apache-2.0
#include "host/train/tune.h"

#include <gtest/gtest.h>

#include <cmath>

namespace resembed::train {
namespace {

TunePoint Point(double lr, double lambda, double auc) { return {lr, lambda, auc, 1, false, 0}; }

TEST(Tune, ValuesAreTheSameForAllAndLambdaIsForPenaltiesOnly) {
  Hyper hyper = {};
  hyper.lr = 0.004;
  hyper.lambda = 0.002;
  const std::vector<TunePoint> plain = TuneGrid(*FindVariant("plain"), hyper);
  ASSERT_EQ(plain.size(), 9u);
  for (const TunePoint& point : plain) EXPECT_EQ(point.lambda, 0.002);
  EXPECT_EQ(plain[0].lr, 0.004);
  EXPECT_EQ(plain[3].lr, 0.001);
  EXPECT_EQ(plain[4].lr, 0.016);
  const std::vector<TunePoint> avg = TuneGrid(*FindVariant("avg"), hyper);
  ASSERT_EQ(avg.size(), 12u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(avg[i].lr, plain[i].lr);
  for (size_t i = 5; i < 12; ++i) EXPECT_EQ(avg[i].lr, 0);  // follows from those five
  EXPECT_EQ(avg[5].lambda, 0);
  EXPECT_EQ(avg[7].lambda, 0.02);
  hyper.lambda = 0;  // nothing to vary
  EXPECT_EQ(TuneGrid(*FindVariant("avg"), hyper).size(), 9u);
}

// What tuning tries of a row whose validation auc is `auc(lr, lambda)`, and what it takes.
struct Search {
  template <typename Auc>
  Search(const char* variant, const Auc& auc) {
    Hyper hyper = {};
    hyper.lr = 4;
    hyper.lambda = 1;
    Tunings tunings;
    Tuning& tuning = tunings[{Head::kMlp, variant}];
    tuning.points = TuneGrid(*FindVariant(variant), hyper);
    for (int i = 0; i < static_cast<int>(tuning.points.size()); ++i) {
      const RowKey key = {Head::kMlp, variant, 1, i};
      if (NotNeeded(key, tunings)) continue;
      const Hyper now = TunedHyper(hyper, key, tunings);
      tried.emplace_back(now.lr, now.lambda);
      RowResult result;
      result.valid_auc = auc(now.lr, now.lambda);
      result.state.best_epoch = 3;
      messages += FilePoint(key, result, &tunings).empty() ? 0 : 1;
    }
    chosen = TunedHyper(hyper, {Head::kMlp, variant, 1}, tunings);
    json = TuningJson(tunings);
  }
  std::vector<std::pair<double, double>> tried;
  Hyper chosen = {};
  nlohmann::json json;
  int messages = 0;
};

TEST(Tune, PenaltiesAreTriedWithTheBestRate) {
  const Search search("avg", [](double lr, double lambda) {
    return 0.9 - 0.01 * std::abs(lr - 2) - 0.005 * std::abs(lambda - 0.1);
  });
  const std::vector<std::pair<double, double>> expected = {{4, 1},  {2, 1}, {8, 1},   {1, 1},
                                                           {16, 1}, {2, 0}, {2, 0.1}, {2, 10}};
  EXPECT_EQ(search.tried, expected);
  EXPECT_EQ(search.chosen.lr, 2);
  EXPECT_EQ(search.chosen.lambda, 0.1);
  EXPECT_EQ(search.messages, 1);
  EXPECT_EQ(search.json["mlp"]["avg"]["points"].size(), 8u);
  EXPECT_EQ(search.json["mlp"]["avg"]["points"][search.json["mlp"]["avg"]["chosen"].get<size_t>()]["lambda"],
            0.1);
}

TEST(Tune, GoesOnBeyondTheLowestOrHighestRateWhereThatIsBest) {
  const auto rates = [](const Search& search) {
    std::vector<double> found;
    for (const auto& [lr, lambda] : search.tried) found.push_back(lr);
    return found;
  };
  const Search up("plain", [](double lr, double) { return lr / 100; });
  EXPECT_EQ(rates(up), (std::vector<double>{4, 2, 8, 1, 16, 32, 64, 128, 256}));
  EXPECT_EQ(up.chosen.lr, 256);
  const Search down("plain", [](double lr, double) { return 0.9 - lr / 100; });
  EXPECT_EQ(rates(down), (std::vector<double>{4, 2, 8, 1, 16, 0.5, 0.25, 0.125, 0.0625}));
  const Search once("plain", [](double lr, double) { return lr == 16 ? 0.9 : 0.5; });
  EXPECT_EQ(rates(once), (std::vector<double>{4, 2, 8, 1, 16, 32}));
  EXPECT_EQ(once.chosen.lr, 16);
  EXPECT_EQ(once.messages, 1);
  EXPECT_EQ(once.json["mlp"]["plain"]["points"].size(), 6u);
  const Search penalty("avg", [](double lr, double lambda) { return lr / 100 - lambda / 10; });
  EXPECT_EQ(penalty.tried.size(), 12u);
  EXPECT_EQ(penalty.tried.back(), (std::pair<double, double>{256, 0}));
}

TEST(Tune, ChoosesTheLargestPenaltyNearTheBest) {
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(1, 0, 0.9015), Point(1, 2, 0.8994), Point(2, 1, 0.901)}),
            3u);
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(1, 0, 0.903)}), 1u);
  EXPECT_EQ(ChoosePoint({Point(1, 1, 0.9), Point(2, 1, 0.9)}), 0u);
}

}  // namespace
}  // namespace resembed::train
