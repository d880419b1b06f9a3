// SPDX-License-Identifier: Apache-2.0
// What is measured while a row trains, and what follows from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "host/train/row_instrument.h"
#include "tests/train/end_to_end_support.h"

namespace resembed::train {
namespace {

// Interest i has sizes[i] items, in turn; every seventh item has none.
Partition Interests(const std::vector<int64_t>& sizes) {
  Partition partition;
  partition.n_interests = static_cast<int64_t>(sizes.size());
  std::vector<int64_t> left = sizes;
  for (bool any = true; any;) {
    any = false;
    for (size_t interest = 0; interest < left.size(); ++interest) {
      if (left[interest]-- <= 0) continue;
      if (partition.interest_of.size() % 7 == 6) partition.interest_of.push_back(-1);
      partition.interest_of.push_back(static_cast<int32_t>(interest));
      any = true;
    }
  }
  return partition;
}

std::map<int32_t, int64_t> Sizes(const EnvelopeSample& sample) {
  std::map<int32_t, int64_t> sizes;
  for (const int32_t place : sample.interest_of) {
    if (place >= 0) ++sizes[place];
  }
  return sizes;
}

TEST(EnvelopeSample, IsEverythingWhereThatFits) {
  const Partition partition = Interests({20, 4, 5, 0, 300});
  const EnvelopeSample sample = SampleEnvelope(partition, 325);
  EXPECT_THAT(sample.interests, ::testing::ElementsAre(0, 2, 4));
  EXPECT_EQ(sample.n_items, 325);
  for (size_t item = 0; item < partition.interest_of.size(); ++item) {
    const int32_t place = sample.interest_of[item], interest = partition.interest_of[item];
    const bool small = interest < 0 || interest == 1;
    ASSERT_EQ(place < 0, small) << item;
    if (small) continue;
    ASSERT_EQ(sample.interests[static_cast<size_t>(place)], interest) << item;
  }
}

TEST(EnvelopeSample, TakesInterestsByHashAndCutsLargeOnes) {
  std::vector<int64_t> sizes(400, 30);
  sizes[7] = 5000;
  sizes[9] = 4;
  const Partition partition = Interests(sizes);
  const EnvelopeSample few = SampleEnvelope(partition, 600), more = SampleEnvelope(partition, 9000);
  EXPECT_GE(few.n_items, 600);
  EXPECT_LT(few.n_items, 600 + EnvelopeSample::kMaxMembers);
  EXPECT_EQ(more.interests.size(), static_cast<size_t>(EnvelopeSample::kMaxInterests));
  EXPECT_TRUE(std::is_sorted(more.interests.begin(), more.interests.end()));
  // The smaller sample is the beginning of the larger one.
  for (const int32_t interest : few.interests) EXPECT_THAT(more.interests, ::testing::Contains(interest));
  int64_t n_items = 0;
  for (const auto& [place, size] : Sizes(more)) {
    const int32_t interest = more.interests[static_cast<size_t>(place)];
    EXPECT_NE(interest, 9);
    EXPECT_EQ(size, interest == 7 ? EnvelopeSample::kMaxMembers : 30);
    n_items += size;
  }
  EXPECT_EQ(n_items, more.n_items);
  EXPECT_EQ(SampleEnvelope(partition, 600).interest_of, few.interest_of);
}

TEST(EnvelopeLog, CutLeavesOtherRowsAndEarlierSteps) {
  const testing::Folder folder("envelope_log");
  const std::string path = folder / "envelope.jsonl";
  const RowKey row = {Head::kMlp, "avg", 1}, other = {Head::kMlp, "avg", 2};
  EnvelopeLog log(path);
  log.Cut(row, 3);  // nothing there
  for (const RowKey& key : {row, other}) {
    for (const int64_t step : {0, 100, 200}) {
      log.Append({{"head", "mlp"}, {"variant", key.variant}, {"seed", key.seed}, {"step", step}});
    }
  }
  testing::WriteFile(path, testing::ReadFile(path) + "{\"head\":\"mlp\",\"va");
  const auto steps = [&] {
    std::string text;
    std::istringstream lines(testing::ReadFile(path));
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json json = nlohmann::json::parse(line);
      text += std::to_string(json["seed"].get<int>()) + ":" + std::to_string(json["step"].get<int>()) + " ";
    }
    return text;
  };
  log.Cut(row, 100);
  EXPECT_EQ(steps(), "1:0 1:100 2:0 2:100 2:200 ");
  log.Cut(other, -1);
  EXPECT_EQ(steps(), "1:0 1:100 ");
  CopyLines(path, row, folder / "copy.jsonl");
  EXPECT_EQ(testing::ReadFile(folder / "copy.jsonl"), testing::ReadFile(path));
  log.Clear();
  EXPECT_EQ(testing::ReadFile(path), "");
}

Hyper Target(double ratio, double cap) {
  Options options;
  options.residual_ratio = ratio;
  options.residual_cap = cap;
  return HyperOf(options, Head::kMlp, 1000);
}

TEST(ResidualControl, LambdaMovesAgainstTheError) {
  const Hyper hyper = Target(0.1, 0);
  ResidualRule rule = FirstRule(hyper);
  EXPECT_EQ(rule.lambda, hyper.lambda);
  rule.error = 0;
  const ResidualRule same = Follow(hyper, rule, 0.1, 1);
  EXPECT_DOUBLE_EQ(same.lambda, hyper.lambda);
  EXPECT_EQ(same.max_norm, 0);
  const ResidualRule above = Follow(hyper, rule, 0.2, 1), below = Follow(hyper, rule, 0.05, 1);
  EXPECT_GT(above.lambda, hyper.lambda);
  EXPECT_LT(below.lambda, hyper.lambda);
  EXPECT_NEAR(above.lambda * below.lambda, hyper.lambda * hyper.lambda, 1e-9);
  // Coming from far below, at half of the target already: what rises is braked.
  rule.error = -1;
  EXPECT_GT(Follow(hyper, rule, 0.07, 1).lambda, hyper.lambda);
  // No residual yet is an error of full size, and steps have a largest size.
  EXPECT_EQ(Follow(hyper, rule, 0, 1).error, -1);
  EXPECT_EQ(Follow(hyper, rule, 1e9, 1).error, 1);
}

TEST(ResidualControl, LambdaKeepsARange) {
  const Hyper hyper = Target(0.1, 0);
  ResidualRule high = FirstRule(hyper), low = high;
  for (int i = 0; i < 100; ++i) {
    high = Follow(hyper, high, 5, 1);
    low = Follow(hyper, low, 0, 1);
  }
  EXPECT_NEAR(high.lambda, 1000 * hyper.lambda, 1e-9);
  EXPECT_NEAR(low.lambda, hyper.lambda / 1000, 1e-9);
}

TEST(ResidualControl, CapFollowsTheCentralNormAndOnlyVariantsWithBothPartsAreControlled) {
  const Hyper capped = Target(0, 0.25);
  const ResidualRule rule = Follow(capped, FirstRule(capped), 0.7, 3.0);
  EXPECT_DOUBLE_EQ(rule.max_norm, 0.75);
  EXPECT_EQ(rule.lambda, capped.lambda);
  for (const Variant& variant : Variants()) {
    const bool both = variant.residual && variant.form != RESEMBED_CENTRAL_NONE;
    EXPECT_EQ(ControlsResidual(capped, variant), both) << variant.name;
    EXPECT_FALSE(ControlsResidual(Target(0, 0), variant)) << variant.name;
  }
}

}  // namespace
}  // namespace resembed::train
