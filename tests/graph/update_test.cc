// SPDX-License-Identifier: Apache-2.0
// Stored counts: another day, decay, new numbers for items, and what was trained carried along.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class StoredCounts : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "resembed-update-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ + "/counts.safetensors";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Save(const SequenceLog& log, int64_t n_items) {
    Counting counts(Options(n_items));
    ASSERT_EQ(counts.Add(log), RESEMBED_OK);
    ASSERT_EQ(resembed_covisit_save(counts.get(), path_.c_str(), nullptr, 0), RESEMBED_OK)
        << resembed_last_error_message();
  }
  resembed_status AddFile(Counting* counts, double decay = 0, const std::vector<int32_t>& map = {}) {
    resembed_covisit_file_options options = {};
    options.struct_size = sizeof(options);
    options.decay = decay;
    options.item_map = map.empty() ? nullptr : map.data();
    options.n_map = static_cast<int64_t>(map.size());
    return resembed_covisit_add_file(counts->get(), path_.c_str(), &options);
  }
  void Overwrite(int64_t at, const std::vector<int64_t>& values) {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(8 * values.size()));
  }

  std::string folder_, path_;
};

TEST_F(StoredCounts, AddingADayEqualsARebuild) {
  const SequenceLog old_days = RandomLog(31, 400, 900, 12), day = RandomLog(32, 450, 80, 12);
  SequenceLog all = old_days;
  for (size_t s = 0; s + 1 < day.offsets.size(); ++s) {
    all.Add({day.ids.begin() + day.offsets[s], day.ids.begin() + day.offsets[s + 1]});
  }
  Save(old_days, 400);
  Counting rebuilt(Options(450));  // fifty items are new
  ASSERT_EQ(rebuilt.Add(all), RESEMBED_OK);
  for (const bool spill : {false, true}) {
    resembed_covisit_options options = Options(450);
    options.spill_folder = spill ? folder_.c_str() : nullptr;
    options.spill_bytes = 5000;
    Counting updated(options);
    ASSERT_EQ(AddFile(&updated), RESEMBED_OK) << resembed_last_error_message();
    ASSERT_EQ(updated.Add(day), RESEMBED_OK);
    EXPECT_EQ(updated.Pairs(), rebuilt.Pairs());
    // and stored again they are the same file
    const std::string again = folder_ + "/again", fresh = folder_ + "/fresh";
    ASSERT_EQ(resembed_covisit_save(updated.get(), again.c_str(), nullptr, 0), RESEMBED_OK);
    ASSERT_EQ(resembed_covisit_save(rebuilt.get(), fresh.c_str(), nullptr, 0), RESEMBED_OK);
    const auto bytes = [](const std::string& path) {
      std::ifstream file(path, std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(file), {});
    };
    EXPECT_EQ(bytes(again), bytes(fresh));
  }
}

TEST_F(StoredCounts, ListsOfUntouchedItemsDoNotChange) {
  constexpr int32_t kItems = 300, kK = 8;
  const SequenceLog old_days = RandomLog(33, kItems, 900, 12);
  SequenceLog day;
  day.Add({5, 6, 7});
  day.Add({250, 5});
  Save(old_days, kItems);
  Counting updated(Options(kItems));
  ASSERT_EQ(AddFile(&updated), RESEMBED_OK);
  std::vector<int32_t> before(kItems * kK), after(kItems * kK);
  ASSERT_EQ(resembed_covisit_top_k(updated.get(), kK, before.data(), nullptr), RESEMBED_OK);
  ASSERT_EQ(updated.Add(day), RESEMBED_OK);
  ASSERT_EQ(resembed_covisit_top_k(updated.get(), kK, after.data(), nullptr), RESEMBED_OK);
  for (int32_t item = 0; item < kItems; ++item) {
    const bool touched = item == 5 || item == 6 || item == 7 || item == 250;
    const auto at = item * kK;
    const bool same = std::equal(before.begin() + at, before.begin() + at + kK, after.begin() + at);
    if (!touched) {
      EXPECT_TRUE(same) << item;
    }
    if (item == 250) {
      EXPECT_FALSE(same);
    }
  }
}

TEST_F(StoredCounts, DecayRoundsDownAndDropsWhatIsGone) {
  SequenceLog log;
  for (int n = 0; n < 10; ++n) log.Add({0, 1});
  log.Add({1, 2});
  for (int n = 0; n < 3; ++n) log.Add({0, 3});
  Save(log, 4);
  for (const auto& [decay, expected] :
       {std::pair<double, PairMap>{0.0, {{{0, 1}, 10}, {{0, 3}, 3}, {{1, 2}, 1}}},
        {1.0, {{{0, 1}, 10}, {{0, 3}, 3}, {{1, 2}, 1}}},
        {0.5, {{{0, 1}, 5}, {{0, 3}, 1}}},
        {0.25, {{{0, 1}, 2}}},
        {1e-12, {}}}) {
    Counting counts(Options(4));
    ASSERT_EQ(AddFile(&counts, decay), RESEMBED_OK);
    EXPECT_EQ(counts.Pairs(), expected) << decay;
  }
  Counting counts(Options(4));
  EXPECT_EQ(AddFile(&counts, 1.5), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_add_file: decay is 1.5; needs a factor in (0, 1], or 0 for 1");
  EXPECT_EQ(AddFile(&counts, std::nan("")), RESEMBED_INVALID_ARGUMENT);
}

TEST_F(StoredCounts, ItemsAreRenumberedRemovedAndMerged) {
  const SequenceLog log = RandomLog(34, 80, 500, 12);
  Save(log, 80);
  std::vector<int32_t> map(80);
  for (int32_t item = 0; item < 80; ++item) map[static_cast<size_t>(item)] = 100 - item;
  map[7] = -1;
  map[9] = map[8];
  PairMap expected;
  for (const auto& [pair, count] : OracleCounts(log, 2, {})) {
    const int32_t a = map[static_cast<size_t>(pair.first)], b = map[static_cast<size_t>(pair.second)];
    if (a >= 0 && b >= 0 && a != b) expected[std::minmax(a, b)] += count;
  }
  for (const size_t buffer_bytes : {size_t{1}, size_t{1} << 20}) {
    resembed_covisit_options options = Options(120);
    options.buffer_bytes = buffer_bytes;
    Counting counts(options);
    ASSERT_EQ(AddFile(&counts, 0, map), RESEMBED_OK) << resembed_last_error_message();
    EXPECT_EQ(counts.Pairs(), expected);
  }
  Counting counts(Options(120));
  EXPECT_EQ(AddFile(&counts, 0, {1, 2, 3}), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add_file: n_map is 3; needs n_items of the file (80)");
  map[3] = 120;
  EXPECT_EQ(AddFile(&counts, 0, map), RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_add_file: item_map[3] is 120; needs -1 or an item below 120");
  Counting small(Options(79));
  EXPECT_EQ(AddFile(&small), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("n_items of the file is 80; needs at most that of counts (79)"));
  EXPECT_TRUE(counts.Pairs().empty());
}

TEST_F(StoredCounts, TheFileIsTheDocumentedOne) {
  SequenceLog log;
  log.Add({2, 0, 2});
  log.Add({1, 2});
  Counting counts(Options(3));
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const char* metadata[] = {"window", "2"};
  ASSERT_EQ(resembed_covisit_save(counts.get(), path_.c_str(), metadata, 1), RESEMBED_OK);
  resembed_file* file = nullptr;
  ASSERT_EQ(resembed_file_open(path_.c_str(), &file), RESEMBED_OK);
  int32_t index = -1;
  ASSERT_EQ(resembed_file_find(file, "pairs", &index), RESEMBED_OK);
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  ASSERT_EQ(resembed_file_tensor(file, index, &tensor), RESEMBED_OK);
  EXPECT_EQ(tensor.dtype, RESEMBED_I64);
  ASSERT_EQ(tensor.n_dims, 2);
  EXPECT_EQ(tensor.shape[0], 2);
  EXPECT_EQ(tensor.shape[1], 2);
  std::vector<int64_t> rows(4);
  ASSERT_EQ(resembed_file_read(file, index, rows.data(), 0, 32), RESEMBED_OK);
  EXPECT_THAT(rows, ElementsAre(2, 2, (int64_t{1} << 32) + 2, 1));
  for (const auto& [key, value] : {std::pair{"kind", "resembed_pairs"}, {"n_items", "3"}, {"window", "2"}}) {
    const char* found = nullptr;
    ASSERT_EQ(resembed_file_metadata(file, key, &found), RESEMBED_OK);
    EXPECT_STREQ(found, value);
  }
  resembed_file_close(file);
}

TEST_F(StoredCounts, AMalformedFileIsRefusedAndAddsNothing) {
  SequenceLog log;
  log.Add({0, 1, 2, 3});
  Save(log, 4);
  const auto bytes = static_cast<int64_t>(fs::file_size(path_));
  const auto first = bytes - 5 * 16;
  const auto rejects = [&](const char* message) {
    Counting counts(Options(4));
    EXPECT_EQ(AddFile(&counts), RESEMBED_IO_ERROR);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr(message));
    EXPECT_TRUE(counts.Pairs().empty());
    Save(log, 4);
  };
  Overwrite(first, {1, 0});
  rejects("pairs[0] of");
  Overwrite(first, {1, -1});
  rejects("is (0, 1) x -1; needs lower < higher < n_items, increasing pairs and counts > 0");
  Overwrite(first, {4, 1});
  rejects("(0, 4)");
  Overwrite(first + 16, {1, 1});
  rejects("pairs[1] of");
  Overwrite(first, {int64_t{3} << 32 | 2, 1});
  rejects("(3, 2)");
  fs::resize_file(path_, static_cast<uintmax_t>(bytes - 8));
  rejects("file_open");
  const std::vector<float> plain(4, 1.0f);
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  tensor.name = "pairs";
  tensor.dtype = RESEMBED_F32;
  tensor.n_dims = 1;
  tensor.shape[0] = 4;
  tensor.data = plain.data();
  const resembed_tensor* tensors[] = {&tensor};
  ASSERT_EQ(resembed_save(path_.c_str(), tensors, 1, nullptr, 0), RESEMBED_OK);
  rejects("needs stored pair counts");
  fs::remove(path_);
  rejects("file_open");
}

TEST(CarryRows, MovesRowsAndLeavesNewOnes) {
  const std::vector<float> old_rows = {0, 1, 2, 10, 11, 12, 20, 21, 22};
  std::vector<float> rows(4 * 4, -1);
  const int32_t source[] = {2, -1, 0, 2};
  ASSERT_EQ(resembed_carry_rows(old_rows.data(), 3, 0, RESEMBED_F32, 3, source, rows.data(), 4, 4),
            RESEMBED_OK);
  EXPECT_THAT(rows, ElementsAre(20, 21, 22, -1, -1, -1, -1, -1, 0, 1, 2, -1, 20, 21, 22, -1));
  const int32_t bad[] = {3, 0, 0, 0};
  EXPECT_EQ(resembed_carry_rows(old_rows.data(), 3, 0, RESEMBED_F32, 3, bad, rows.data(), 4, 4),
            RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(), "carry_rows: source[0] is 3; needs -1 or a row below 3");
  EXPECT_EQ(resembed_carry_rows(rows.data(), 3, 0, RESEMBED_F32, 3, source, rows.data() + 4, 4, 4),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "carry_rows: to is memory of from; needs memory of its own");
  const auto rejects = [&](int64_t from_stride, resembed_dtype dtype, int64_t dim, int64_t to_stride,
                           const char* sentence) {
    EXPECT_EQ(
        resembed_carry_rows(old_rows.data(), 3, from_stride, dtype, dim, source, rows.data(), 4, to_stride),
        RESEMBED_INVALID_ARGUMENT);
    EXPECT_STREQ(resembed_last_error_message(), sentence);
  };
  rejects(0, 99, 3, 4, "carry_rows: dtype is 99; needs a known type");
  const char* const rule = "; needs rows >= 0, dim >= 1 and strides >= dim";
  rejects(2, RESEMBED_F32, 3, 4,
          (std::string("carry_rows: rows, dim and strides are 3, 4, 3, 2, 4") + rule).c_str());
  rejects(0, RESEMBED_F32, 3, 2,
          (std::string("carry_rows: rows, dim and strides are 3, 4, 3, 0, 2") + rule).c_str());
  rejects(0, RESEMBED_F32, 0, 4,
          (std::string("carry_rows: rows, dim and strides are 3, 4, 0, 0, 4") + rule).c_str());
  EXPECT_EQ(resembed_carry_rows(nullptr, 0, 0, RESEMBED_F32, 3, nullptr, nullptr, 0, 0), RESEMBED_OK);
}

// A table of two centers trained with Adam, items regrouped: rows and both states of each center go along.
TEST(MatchCenters, ANewCenterGoesOnFromTheOldOneItSharesMostWith) {
  const std::vector<int32_t> before = {0, 0, 0, 1, 1, 1, 2, -1, 2};
  const std::vector<int32_t> after = {2, 2, 0, 0, 0, 1, 3, 3, -1};
  std::vector<int32_t> source(5, 77);
  ASSERT_EQ(resembed_graph_match_centers(before.data(), 3, after.data(), 5, 9, source.data()), RESEMBED_OK);
  EXPECT_THAT(source, ElementsAre(1, 1, 0, 2, -1));
  const std::vector<float> central = {0.5f, 1.5f, 2.5f}, moment = {5, 6, 7};
  std::vector<float> new_central(5, 9), new_moment(5, 0);
  ASSERT_EQ(
      resembed_carry_rows(central.data(), 3, 0, RESEMBED_F32, 1, source.data(), new_central.data(), 5, 0),
      RESEMBED_OK);
  ASSERT_EQ(resembed_carry_rows(moment.data(), 3, 0, RESEMBED_F32, 1, source.data(), new_moment.data(), 5, 0),
            RESEMBED_OK);
  EXPECT_THAT(new_central, ElementsAre(1.5f, 1.5f, 0.5f, 2.5f, 9));
  EXPECT_THAT(new_moment, ElementsAre(6, 6, 5, 7, 0));
  // A tie goes to the lower old center.
  const std::vector<int32_t> one = {0, 0, 0, 0};
  const std::vector<int32_t> halves = {1, 0, 1, 0};
  ASSERT_EQ(resembed_graph_match_centers(halves.data(), 2, one.data(), 1, 4, source.data()), RESEMBED_OK);
  EXPECT_EQ(source[0], 0);
  const std::vector<int32_t> bad = {0, 2, 0, 0};
  EXPECT_EQ(resembed_graph_match_centers(bad.data(), 2, one.data(), 1, 4, source.data()),
            RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(),
               "graph_match_centers: old_center_of[1] is 2; needs -1 or a center below 2");
}

}  // namespace
}  // namespace resembed::testing
