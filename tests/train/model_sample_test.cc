// SPDX-License-Identifier: Apache-2.0
#include "host/train/model_sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace resembed::train {
namespace {

using ::testing::ElementsAre;

struct Fixture {
  Log log;
  TrainingView training;
  LogView view;
  Fixture() {
    log.offsets = {0, 6, 8, 40};
    log.items = {0, 1, 2, 1, 3, 1, 4, 5};
    for (int32_t event = 0; event < 32; ++event) log.items.push_back(event % 6);
    log.item_names = {"a", "b", "c", "d", "e", "f"};
    log.user_names = {"u", "v", "w"};
    training.popularity = {3, 5, 0, 2, 1, 1};
    training.candidates = {0, 1, 3, 4, 5};  // item 2 was never seen in training
    view = MakeLogView(log, training);
  }
};

Hyper SomeHyper() {
  Hyper hyper = {};
  hyper.history_length = 3;
  hyper.history_decay = 0.5;
  hyper.normalize_history = true;
  hyper.repeat_features = true;
  return hyper;
}

TEST(DrawSamples, GivesDistinctPositionsWithAHistory) {
  const Fixture f;
  const std::vector<Sample> samples = DrawSamples(f.log, {0, 1, 2}, 10, 1, 1);
  std::set<std::pair<int32_t, int64_t>> distinct;
  int per_user[3] = {0, 0, 0};
  for (const Sample& sample : samples) {
    distinct.insert({sample.user, sample.position});
    ++per_user[sample.user];
    EXPECT_GT(sample.position, f.view.UserBegin(sample.user));
    EXPECT_LT(sample.position, f.log.offsets[static_cast<size_t>(sample.user) + 1]);
  }
  EXPECT_EQ(distinct.size(), samples.size());
  EXPECT_THAT(per_user, ElementsAre(5, 1, 10));
}

TEST(DrawSamples, IsAFunctionOfSeedAndEpoch) {
  const Fixture f;
  const auto positions = [&](uint64_t seed, int64_t epoch) {
    std::vector<int64_t> list;
    for (const Sample& sample : DrawSamples(f.log, {0, 1, 2}, 10, seed, epoch))
      list.push_back(sample.position);
    return list;
  };
  EXPECT_EQ(positions(1, 1), positions(1, 1));
  EXPECT_NE(positions(1, 1), positions(1, 2));
  EXPECT_NE(positions(1, 1), positions(2, 1));
}

TEST(FillHistory, WeighsTheLastKnownEventsNewestFirst) {
  const Fixture f;
  int32_t ids[3];
  float weights[3];
  // Events 0 1 2 1 3 before position 5; item 2 is unknown.
  ASSERT_EQ(FillHistory(f.view, SomeHyper(), 0, 5, ids, weights), 3);
  EXPECT_THAT(ids, ElementsAre(3, 1, 1));
  EXPECT_FLOAT_EQ(weights[0], 1.0f / 1.75f);
  EXPECT_FLOAT_EQ(weights[2], 0.25f / 1.75f);
}

TEST(RepeatIndex, CountsTheWholeHistory) {
  const Fixture f;
  RepeatIndex index(6);
  index.Load(f.view, 0, 5);
  EXPECT_THAT(index.items(), ElementsAre(3, 1, 2, 0));
  float features[kRepeatFeatures];
  index.Features(1, features);  // twice among five, last two events ago
  EXPECT_FLOAT_EQ(features[1], 1.0f);
  EXPECT_FLOAT_EQ(features[8], std::log(2.0f));
  EXPECT_FLOAT_EQ(features[9], 0.25f * std::log(0.4f));
  index.Features(5, features);
  for (const float feature : features) EXPECT_EQ(feature, 0.0f);
  index.Load(f.view, 1, 7);
  EXPECT_FALSE(index.Contains(1));
  EXPECT_TRUE(index.Contains(4));
}

TEST(RepeatFeatures, CoverEveryDistanceOnce) {
  for (int64_t distance = 1; distance < 2000; ++distance) {
    float features[kRepeatFeatures];
    RepeatFeatures(1, distance, 5000, features);
    float sum = 0;
    for (int bucket = 0; bucket < 8; ++bucket) sum += features[bucket];
    EXPECT_EQ(sum, 1.0f) << distance;
  }
}

}  // namespace
}  // namespace resembed::train
