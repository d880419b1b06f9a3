// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "host/train/log.h"
#include "host/train/random.h"

namespace resembed::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GeneratorOptions Small() {
  GeneratorOptions options;
  options.n_users = 400;
  options.n_items = 300;
  options.n_interests = 10;
  return options;
}

uint64_t Fingerprint(const Log& log) {
  uint64_t hash = 1;
  for (const int32_t item : log.items) hash = MixBits(hash ^ static_cast<uint64_t>(item)) + 1;
  for (const int32_t interest : log.interest_of) hash = MixBits(hash ^ static_cast<uint64_t>(interest)) + 1;
  for (const int64_t offset : log.offsets) hash = MixBits(hash ^ static_cast<uint64_t>(offset)) + 1;
  return hash;
}

// SplitMix64's published first outputs for state 0, without this project's mixing of seed and stream.
TEST(Random, MixesAsSplitMix64) {
  EXPECT_EQ(MixBits(0x9E3779B97F4A7C15u), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(MixBits(2 * 0x9E3779B97F4A7C15u), 0x6E789E6AA1B965F4u);
}

TEST(Random, DrawsFollowTheirWeights) {
  const WeightedDraw draw({3, 0, 1});
  Random random(1, 2);
  std::vector<int> counts(3);
  for (int i = 0; i < 40000; ++i) ++counts[static_cast<size_t>(draw.Draw(random))];
  EXPECT_NEAR(counts[0], 30000, 500);
  EXPECT_EQ(counts[1], 0);
  double sum = 0;
  for (int i = 0; i < 20000; ++i) sum += random.Poisson(4);
  EXPECT_NEAR(sum / 20000, 4, 0.06);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(random.Below(3), 3);
}

TEST(GenerateLog, IsTheSameOnEveryPlatform) {
  EXPECT_EQ(Fingerprint(GenerateLog(Small())), Fingerprint(GenerateLog(Small())));
  EXPECT_EQ(Fingerprint(GenerateLog(Small())), 11242484728151719813u);
  GeneratorOptions other = Small();
  other.seed = 2;
  EXPECT_NE(Fingerprint(GenerateLog(other)), Fingerprint(GenerateLog(Small())));
}

TEST(GenerateLog, TimesRiseAndChangeNoItem) {
  GeneratorOptions options = Small();
  options.keep_times = true;
  const Log log = GenerateLog(options);
  EXPECT_EQ(Fingerprint(log), Fingerprint(GenerateLog(Small())));
  EXPECT_TRUE(GenerateLog(Small()).times.empty());
  ASSERT_EQ(log.times.size(), log.items.size());
  std::set<int64_t> starts;
  for (size_t user = 0; user < 400; ++user) {
    starts.insert(log.times[static_cast<size_t>(log.offsets[user])]);
    for (int64_t at = log.offsets[user] + 1; at < log.offsets[user + 1]; ++at) {
      const int64_t gap = log.times[static_cast<size_t>(at)] - log.times[static_cast<size_t>(at - 1)];
      const bool next_period = (at - log.offsets[user]) % options.period == 0;
      ASSERT_GT(gap, 0);
      ASSERT_LE(gap, next_period ? 60 * 86400 : 600);
    }
  }
  EXPECT_GT(starts.size(), 390u);
  EXPECT_GT(*starts.rbegin() - *starts.begin(), 300 * 86400);
}

TEST(GenerateLog, FirstUsersDoNotDependOnHowManyFollow) {
  GeneratorOptions more = Small();
  more.n_users = 500;
  const Log few = GenerateLog(Small()), many = GenerateLog(more);
  EXPECT_TRUE(std::equal(few.items.begin(), few.items.end(), many.items.begin()));
}

TEST(GenerateLog, EveryItemHasAnInterestOfAtLeastTwo) {
  const Log log = GenerateLog(Small());
  std::vector<int> sizes(10);
  for (const int32_t interest : log.interest_of) ++sizes.at(static_cast<size_t>(interest));
  EXPECT_EQ(log.n_items(), 300);
  EXPECT_GE(*std::min_element(sizes.begin(), sizes.end()), 2);
  EXPECT_GT(sizes[0], sizes[9]);
}

// Without noise, overlap and repeats, each period stays within one interest.
TEST(GenerateLog, HoldsAnInterestForAPeriod) {
  GeneratorOptions options = Small();
  options.noise = options.overlap = options.repeat = 0;
  const Log log = GenerateLog(options);
  std::set<int32_t> seen;
  for (size_t user = 0; user < 400; ++user) {
    ASSERT_EQ((log.offsets[user + 1] - log.offsets[user]) % options.period, 0);
    for (int64_t event = log.offsets[user]; event < log.offsets[user + 1]; ++event) {
      const int64_t start = log.offsets[user] + (event - log.offsets[user]) / options.period * options.period;
      const auto interest = [&](int64_t e) {
        return log.interest_of[static_cast<size_t>(log.items[static_cast<size_t>(e)])];
      };
      ASSERT_EQ(interest(event), interest(start));
      seen.insert(interest(event));
    }
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_NEAR(static_cast<double>(log.n_events()) / 400, options.period * options.mean_periods, 2.5);
}

TEST(GenerateLog, RejectsOptionsWithoutAMeaning) {
  const auto failure = [](auto change) -> std::string {
    GeneratorOptions options = Small();
    change(options);
    try {
      GenerateLog(options);
    } catch (const Error& error) {
      return error.message;
    }
    return "no error";
  };
  EXPECT_THAT(failure([](auto& o) { o.n_users = 0; }), HasSubstr("1 to 2^31 users"));
  EXPECT_THAT(failure([](auto& o) { o.n_interests = 0; }), HasSubstr("at least one interest"));
  EXPECT_THAT(failure([](auto& o) { o.n_items = 19; }), HasSubstr("at least two items for each interest"));
  EXPECT_THAT(failure([](auto& o) { o.period = 0; }), HasSubstr("periods of at least one click"));
  EXPECT_THAT(failure([](auto& o) { o.stay = 1.5; }), HasSubstr("shares from 0 to 1"));
  EXPECT_THAT(failure([](auto& o) {
                o.noise = 0.9;
                o.repeat = 0.2;
              }),
              HasSubstr("sum to 1 at most"));
  EXPECT_THAT(failure([](auto& o) { o.zipf = -1; }), HasSubstr("Zipf exponents from 0"));
}

TEST(WriteLog, IsReadBackAsItWas) {
  GeneratorOptions options;
  options.n_users = 300;
  options.n_items = 200;
  options.n_interests = 10;
  const Log log = GenerateLog(options);
  for (const char* name : {"resembed_written.tsv", "resembed_written.tsv.gz"}) {
    const std::string path = ::testing::TempDir() + name;
    WriteLog(log, path);
    const Log read = ReadLog(path, {});
    EXPECT_EQ(read.columns, "user=user,item=item,order=order");
    EXPECT_EQ(read.user_names, log.user_names);
    EXPECT_EQ(read.offsets, log.offsets);
    ASSERT_EQ(read.n_events(), log.n_events());
    for (size_t event = 0; event < log.items.size(); ++event) {
      ASSERT_EQ(read.item_names[static_cast<size_t>(read.items[event])],
                log.item_names[static_cast<size_t>(log.items[event])]);
    }
  }
  EXPECT_THROW(WriteLog(log, ::testing::TempDir() + "nowhere/log.tsv"), Error);
}

}  // namespace
}  // namespace resembed::train
