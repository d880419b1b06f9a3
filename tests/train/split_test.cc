// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "host/train/baselines.h"
#include "host/train/eval.h"
#include "host/train/log.h"

namespace resembed::train {
namespace {

using ::testing::HasSubstr;

Log MakeLog(const std::vector<std::string>& users, int64_t n_events) {
  Log log;
  log.source = "test.tsv";
  log.offsets = {0};
  log.user_names = users;
  log.item_names = {"a", "b", "c"};
  for (size_t user = 0; user < users.size(); ++user) {
    for (int64_t event = 0; event < n_events; ++event) log.items.push_back(static_cast<int32_t>(event % 3));
    log.offsets.push_back(static_cast<int64_t>(log.items.size()));
  }
  return log;
}

std::vector<std::string> Users(int n) {
  std::vector<std::string> users;
  for (int user = 0; user < n; ++user) users.push_back("u" + std::to_string(user));
  return users;
}

std::set<std::string> Names(const Log& log, const std::vector<int32_t>& users) {
  std::set<std::string> names;
  for (const int32_t user : users) names.insert(log.user_names[static_cast<size_t>(user)]);
  return names;
}

std::string Failure(const Log& log, double fraction = 1) {
  try {
    SplitUsers(log, 1, fraction);
  } catch (const Error& error) {
    return error.message;
  }
  return "no error";
}

TEST(SplitUsers, TrainsOnTheUsersThatHashToTraining) {
  const Log log = MakeLog(Users(500), 3);
  for (const uint64_t seed : {1u, 7u}) {
    std::vector<int32_t> users;
    for (int32_t user = 0; user < 500; ++user) {
      if (HashesToTraining(log.user_names[static_cast<size_t>(user)], seed)) users.push_back(user);
    }
    EXPECT_EQ(users, SplitUsers(log, seed, 1).train) << seed;
  }
}

TEST(SplitUsers, GivesTenPercentEachToValidationAndTest) {
  const Split split = SplitUsers(MakeLog(Users(20000), 3), 1, 1);
  EXPECT_NEAR(static_cast<double>(split.valid.size()), 2000, 150);
  EXPECT_NEAR(static_cast<double>(split.test.size()), 2000, 150);
  EXPECT_EQ(split.train.size() + split.valid.size() + split.test.size(), 20000u);
  for (const auto* users : {&split.train, &split.valid, &split.test})
    EXPECT_TRUE(std::is_sorted(users->begin(), users->end()));
}

TEST(SplitUsers, DependsOnNameAndSeedOnly) {
  std::vector<std::string> users = Users(1000);
  const Log log = MakeLog(users, 3);
  const Split split = SplitUsers(log, 7, 1);
  std::reverse(users.begin(), users.end());
  users.push_back("another");
  const Log other = MakeLog(users, 4);
  std::set<std::string> test = Names(other, SplitUsers(other, 7, 1).test);
  test.erase("another");
  EXPECT_EQ(test, Names(log, split.test));
  EXPECT_NE(Names(log, split.test), Names(log, SplitUsers(log, 8, 1).test));
}

TEST(SplitUsers, TrainFractionKeepsValidationAndTestAndNests) {
  const Log log = MakeLog(Users(5000), 3);
  const Split whole = SplitUsers(log, 1, 1), half = SplitUsers(log, 1, 0.5), fifth = SplitUsers(log, 1, 0.2);
  EXPECT_EQ(fifth.test, whole.test);
  EXPECT_EQ(fifth.valid, whole.valid);
  EXPECT_NEAR(static_cast<double>(fifth.train.size()), 0.2 * static_cast<double>(whole.train.size()), 80);
  EXPECT_TRUE(std::includes(half.train.begin(), half.train.end(), fifth.train.begin(), fifth.train.end()));
  EXPECT_TRUE(std::includes(whole.train.begin(), whole.train.end(), half.train.begin(), half.train.end()));
}

TEST(SplitUsers, LeavesOutUsersOfFewerThanThreeEvents) {
  Log log = MakeLog(Users(100), 3);
  log.user_names.push_back("short");
  log.items.insert(log.items.end(), {0, 1});
  log.offsets.push_back(log.offsets.back() + 2);
  const Split split = SplitUsers(log, 1, 1);
  EXPECT_EQ(split.too_short, 1);
  EXPECT_EQ(split.train.size() + split.valid.size() + split.test.size(), 100u);
}

TEST(SplitUsers, RejectsLogsThatLeaveAPartEmpty) {
  EXPECT_THAT(Failure(MakeLog({"only"}, 5)),
              HasSubstr("test.tsv: 1 user, 1 with 3 events or more: the split gives "));
  EXPECT_THAT(Failure(MakeLog(Users(10), 2)), HasSubstr("10 users, 0 with 3 events or more: the split gives "
                                                        "0 for training, 0 for validation, 0 for the test"));
  EXPECT_THAT(Failure(MakeLog(Users(100), 3), 1e-9), HasSubstr("(0 kept)"));
  EXPECT_THAT(Failure(MakeLog(Users(100), 3), 0), HasSubstr("train fraction is 0.000000; needs more than 0"));
}

// Users u0..: events at the given times, item = the event's number.
Log TimedLog(const std::vector<std::vector<int64_t>>& times) {
  Log log;
  log.source = "timed.tsv";
  log.offsets = {0};
  for (size_t user = 0; user < times.size(); ++user) {
    log.user_names.push_back("u" + std::to_string(user));
    for (const int64_t time : times[user]) {
      log.items.push_back(static_cast<int32_t>(log.items.size()));
      log.item_names.push_back(std::to_string(log.items.size()));
      log.times.push_back(time);
    }
    log.offsets.push_back(static_cast<int64_t>(log.items.size()));
  }
  return log;
}

TEST(SplitByTime, PutsEveryEventOnOneSideOfTheCut) {
  // 20 events, cut .5: the event of rank 10 has order 4, that of rank 15 order 7.
  const Log log = TimedLog({{0, 1, 2, 3, 9}, {0, 1, 2, 4, 5}, {3, 4, 5, 6, 7}, {0, 1, 8, 9, 9}});
  const Split split = SplitByTime(log, 0.5, 1, 1);
  EXPECT_EQ(split.valid_from, 4);
  EXPECT_EQ(split.test_from, 7);
  EXPECT_THAT(split.train_ends, ::testing::ElementsAre(4, 8, 11, 17));
  EXPECT_THAT(split.valid_ends, ::testing::ElementsAre(4, 10, 14, 17));
  EXPECT_THAT(split.test_ends, ::testing::ElementsAre(5, 10, 15, 20));
  EXPECT_THAT(split.train, ::testing::ElementsAre(0, 1));  // three events before the cut
  EXPECT_THAT(split.valid, ::testing::ElementsAre(1, 2));  // one in the period, two before it
  EXPECT_THAT(split.test, ::testing::ElementsAre(0, 2, 3));
  EXPECT_EQ(split.too_short, 0);
}

TEST(SplitByTime, ComparesFractionsAndKeepsEqualOrdersTogether) {
  Log log = TimedLog({{0, 0, 0, 5, 5, 5, 6, 7}, {0, 0, 0, 5, 5, 6, 7, 8}});
  const Split whole = SplitByTime(log, 0.5, 1, 1);  // rank 8 is one of the fives: all of them validate
  EXPECT_THAT(whole.train_ends, ::testing::ElementsAre(3, 11));
  log.time_fractions.assign(log.items.size(), 0);
  for (const size_t event : {5u, 12u}) log.time_fractions[event] = 1;
  EXPECT_THAT(SplitByTime(log, 0.6, 1, 1).train_ends, ::testing::ElementsAre(5, 12));
}

// What lies after the cut decides neither who trains nor on what; nor does the generator's.
TEST(SplitByTime, TrainingViewKnowsNothingAfterTheCut) {
  GeneratorOptions options;
  options.n_users = 500;
  options.n_items = 200;
  options.n_interests = 10;
  options.keep_times = true;
  const Log log = GenerateLog(options);
  const Split split = SplitByTime(log, 0.8, 1, 1);
  Log other = log;
  for (int64_t user = 0; user < log.n_users(); ++user) {
    for (int64_t at = split.train_ends[static_cast<size_t>(user)];
         at < split.test_ends[static_cast<size_t>(user)]; ++at)
      other.items[static_cast<size_t>(at)] = (other.items[static_cast<size_t>(at)] + 7) % 200;
  }
  ASSERT_NE(log.items, other.items);
  EXPECT_EQ(SplitByTime(other, 0.8, 1, 1).train, split.train);
  const TrainingView view = MakeTrainingView(log, split);
  EXPECT_EQ(MakeTrainingView(other, split).popularity, view.popularity);
  int64_t n_events = 0;
  for (const int64_t popularity : view.popularity) n_events += popularity;
  EXPECT_NEAR(static_cast<double>(n_events), 0.8 * static_cast<double>(log.n_events()),
              0.02 * static_cast<double>(log.n_events()));
  for (const auto* part : {&split.valid, &split.test}) {
    const std::vector<int64_t>& ends = part == &split.valid ? split.valid_ends : split.test_ends;
    const int64_t from = part == &split.valid ? split.valid_from : split.test_from;
    EXPECT_GT(part->size(), 50u);
    for (const Target& target : MakeEvalSet(log, view, *part, 100, 1, ends).targets) {
      EXPECT_GE(log.times[static_cast<size_t>(target.position)], from);
      EXPECT_EQ(target.position, ends[static_cast<size_t>(target.user)] - 1);
    }
  }
}

// The counting baselines: what all but the users tested do after the cut changes no figure.
TEST(SplitByTime, CountsKnowNothingAfterTheCut) {
  GeneratorOptions options;
  options.n_users = 400;
  options.n_items = 150;
  options.n_interests = 10;
  options.keep_times = true;
  const Log log = GenerateLog(options);
  const Split split = SplitByTime(log, 0.7, 1, 1);
  const std::vector<int32_t> tested = SampleUsers(log, split.test, 40, 1);
  Log other = log;
  for (int32_t user = 0; user < 400; ++user) {
    if (std::find(tested.begin(), tested.end(), user) != tested.end()) continue;
    for (int64_t at = EndOf(log, split.train_ends, user); at < EndOf(log, {}, user); ++at)
      other.items[static_cast<size_t>(at)] = static_cast<int32_t>(at % 3);
  }
  const auto figures = [&](const Log& seen, const Split& by) {
    const TrainingView view = MakeTrainingView(log, split);
    const EvalSet set = MakeEvalSet(seen, view, tested, 40, 1, split.test_ends);
    std::vector<std::vector<float>> values;
    for (const auto& [name, row] : RunBaselines(seen, by, view, set, set, 1)) {
      values.push_back(row.figures.auc);
      values.push_back(row.figures.hr20);
    }
    return values;
  };
  EXPECT_EQ(figures(other, split), figures(log, split));
  Split leaking = split;
  leaking.train_ends.clear();
  EXPECT_NE(figures(other, leaking), figures(log, leaking));
}

TEST(SplitByTime, RejectsLogsItCannotCut) {
  const auto failure = [](const Log& log, double cut) -> std::string {
    try {
      SplitByTime(log, cut, 1, 1);
    } catch (const Error& error) {
      return error.message;
    }
    return "no error";
  };
  EXPECT_THAT(failure(MakeLog(Users(3), 3), 0.5), HasSubstr("test.tsv: has no order column"));
  EXPECT_THAT(failure(TimedLog({{1, 1, 1, 1}}), 0.5), HasSubstr("another --time-cut"));
  EXPECT_THAT(failure(TimedLog({{1, 2, 3, 4}}), 1), HasSubstr("time cut is 1.0"));
}

TEST(SampleUsers, ChoosesByNameAndKeepsOrder) {
  const Log log = MakeLog(Users(500), 3);
  const std::vector<int32_t> users = SplitUsers(log, 1, 1).train;
  const std::vector<int32_t> some = SampleUsers(log, users, 50, 3);
  EXPECT_EQ(some.size(), 50u);
  EXPECT_TRUE(std::is_sorted(some.begin(), some.end()));
  EXPECT_TRUE(std::includes(users.begin(), users.end(), some.begin(), some.end()));
  EXPECT_EQ(SampleUsers(log, users, 100000, 3), users);
  EXPECT_NE(SampleUsers(log, users, 50, 4), some);
}

}  // namespace
}  // namespace resembed::train
