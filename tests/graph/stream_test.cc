// SPDX-License-Identifier: Apache-2.0
// Counts that do not fit in memory: sorted runs on disk give the same graph, within the stated memory.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <numeric>
#include <string>

#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class Streamed : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "resembed-stream-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  resembed_covisit_options Spilling(int64_t n_items, size_t buffer_bytes, size_t spill_bytes) {
    resembed_covisit_options options = Options(n_items);
    options.buffer_bytes = buffer_bytes;
    options.spill_folder = folder_.c_str();
    options.spill_bytes = spill_bytes;
    return options;
  }
  Covisit::TopK Top(Counting* counts, int64_t n_items) {
    const auto size = static_cast<size_t>(n_items * 8);
    Covisit::TopK top{std::vector<int32_t>(size), std::vector<int64_t>(size)};
    EXPECT_EQ(resembed_covisit_top_k(counts->get(), 8, top.neighbors.data(), top.counts.data()), RESEMBED_OK)
        << resembed_last_error_message();
    return top;
  }

  std::string folder_;
};

// From one entry a run (every flush goes to disk, more than 64 runs) to nothing on disk.
TEST_F(Streamed, EveryBudgetGivesTheSameCountsAndGraph) {
  const SequenceLog log = RandomLog(21, 900, 1500, 12);
  Covisit whole(900);
  ASSERT_EQ(whole.Add(log), RESEMBED_OK);
  const PairMap pairs = whole.Pairs();
  const Covisit::TopK top = whole.Top(8);
  for (const size_t buffer_bytes : {size_t{1}, size_t{1} << 14, size_t{1} << 20}) {
    for (const size_t spill_bytes : {size_t{16}, size_t{4000}, size_t{100000}, size_t{1} << 30}) {
      Counting counts(Spilling(900, buffer_bytes, spill_bytes));
      ASSERT_EQ(counts.Add(log), RESEMBED_OK);
      EXPECT_EQ(counts.Pairs(), pairs) << buffer_bytes << " " << spill_bytes;
      EXPECT_TRUE(Top(&counts, 900) == top) << buffer_bytes << " " << spill_bytes;
    }
  }
}

TEST_F(Streamed, CountingGoesOnAfterReading) {
  const SequenceLog log = RandomLog(22, 300, 600, 12);
  const PairMap once = OracleCounts(log, 2, {});
  Counting counts(Spilling(300, 4096, 4096));
  for (int64_t times = 1; times <= 4; ++times) {
    ASSERT_EQ(counts.Add(log), RESEMBED_OK);
    PairMap expected = once;
    for (auto& entry : expected) entry.second *= times;
    EXPECT_EQ(counts.Pairs(), expected) << times;
  }
}

TEST_F(Streamed, CountsPassTwoToThe32AndStayAtTheLimit) {
  const uint32_t heavy[] = {4294967295u};
  resembed_covisit_options options = Spilling(3, 4096, 16);
  options.window = 1;
  options.distance_weights = heavy;
  Counting counts(options);
  SequenceLog log;
  for (int n = 0; n < 1000; ++n) log.Add({0, 1, 0, 1});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), (PairMap{{{0, 1}, int64_t{4294967295} * 3000}}));
  const int32_t items[] = {0, 1}, others[] = {1, 2};
  const int64_t most[] = {INT64_MAX - 5, INT64_MAX};
  ASSERT_EQ(resembed_covisit_add_pairs(counts.get(), items, others, most, 2), RESEMBED_OK);
  ASSERT_EQ(resembed_covisit_add_pairs(counts.get(), items, others, most, 2), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), (PairMap{{{0, 1}, INT64_MAX}, {{1, 2}, INT64_MAX}}));
}

TEST_F(Streamed, LeavesNothingInTheFolder) {
  {
    Counting counts(Spilling(500, 4096, 4096));
    ASSERT_EQ(counts.Add(RandomLog(23, 500, 800, 12)), RESEMBED_OK);
    EXPECT_GT(counts.Pairs().size(), 1000u);
    EXPECT_TRUE(fs::is_empty(folder_));  // the files have no names
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Streamed, AFolderThatCannotBeWrittenIsAStatusAndIsRemembered) {
  const std::string nowhere = folder_ + "/none";
  resembed_covisit_options options = Spilling(500, 4096, 4096);
  options.spill_folder = nowhere.c_str();
  Counting counts(options);
  EXPECT_EQ(counts.Add(RandomLog(24, 500, 800, 12)), RESEMBED_IO_ERROR);
  EXPECT_EQ(std::string(resembed_last_error_message()),
            "covisit_add: spill_folder is " + nowhere +
                " (No such file or directory); needs a folder with room to write");
  int64_t n_pairs = -7;
  EXPECT_EQ(resembed_covisit_n_pairs(counts.get(), &n_pairs), RESEMBED_IO_ERROR);
  EXPECT_STREQ(
      resembed_last_error_message(),
      "covisit_n_pairs: counts is incomplete since a call could not write its files; needs new counts");
  EXPECT_EQ(n_pairs, -7);
}

}  // namespace
}  // namespace resembed::testing
