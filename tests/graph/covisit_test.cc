// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <thread>

#include "host/graph/pair_counts.h"
#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using detail::PairCounts;
using ::testing::HasSubstr;

// Rows of Z sorted by count, then by lower id: what top_k has to give.
Covisit::TopK OracleTopK(const PairMap& pairs, int64_t n_items, int32_t k) {
  std::vector<std::vector<std::pair<int64_t, int32_t>>> rows(static_cast<size_t>(n_items));
  for (const auto& [pair, count] : pairs) {
    rows[static_cast<size_t>(pair.first)].push_back({-count, pair.second});
    rows[static_cast<size_t>(pair.second)].push_back({-count, pair.first});
  }
  Covisit::TopK top;
  for (auto& row : rows) {
    std::sort(row.begin(), row.end());
    for (size_t slot = 0; slot < static_cast<size_t>(k); ++slot) {
      top.neighbors.push_back(slot < row.size() ? row[slot].second : -1);
      top.counts.push_back(slot < row.size() ? -row[slot].first : 0);
    }
  }
  return top;
}

struct RandomCase {
  int32_t n_items;
  int64_t n_sequences;
  int32_t mean_length, window;
  std::vector<uint32_t> weights;
  size_t buffer_bytes;

  friend std::ostream& operator<<(std::ostream& out, const RandomCase& c) {
    return out << "items" << c.n_items << "_window" << c.window << "_buffer" << c.buffer_bytes;
  }
};

class RandomLogs : public ::testing::TestWithParam<RandomCase> {};

TEST_P(RandomLogs, EqualAPlainMap) {
  const RandomCase& c = GetParam();
  const SequenceLog log = RandomLog(17, c.n_items, c.n_sequences, c.mean_length);
  const PairMap expected = OracleCounts(log, c.window, c.weights);
  Covisit counts(c.n_items, c.window, c.weights, c.buffer_bytes);
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  EXPECT_EQ(counts.NumPairs(), static_cast<int64_t>(expected.size()));
  EXPECT_EQ(counts.Pairs(), expected);
  for (const int32_t k : {1, 3, 8, 64}) {
    EXPECT_TRUE(counts.Top(k) == OracleTopK(expected, c.n_items, k)) << "k " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Covisit, RandomLogs,
                         ::testing::Values(RandomCase{1, 50, 5, 2, {}, 4096},
                                           RandomCase{2, 200, 5, 3, {}, 4096},
                                           RandomCase{50, 2000, 10, 1, {}, 4096},
                                           RandomCase{50, 2000, 10, 20, {}, 1},
                                           RandomCase{1000, 2000, 20, 2, {}, 4096},
                                           RandomCase{1000, 2000, 20, 2, {}, size_t{64} << 20},
                                           RandomCase{1000, 2000, 20, 5, {60, 30, 20, 15, 12}, 4096},
                                           RandomCase{1000, 500, 20, 3, {0, 4000000000u, 1}, 8192},
                                           RandomCase{30000, 1500, 30, 4, {}, 1 << 18}));

TEST(Covisit, OneBigBufferEqualsManyMerges) {
  const SequenceLog log = RandomLog(3, 5000, 4000, 25);
  Covisit big(5000, 3, {}, size_t{256} << 20);
  ASSERT_EQ(big.Add(log), RESEMBED_OK);
  const PairMap pairs = big.Pairs();
  const Covisit::TopK top = big.Top(8);
  for (const size_t buffer_bytes : {size_t{1}, size_t{5000}, size_t{1} << 16, size_t{1} << 20}) {
    Covisit small(5000, 3, {}, buffer_bytes);
    ASSERT_EQ(small.Add(log), RESEMBED_OK);
    EXPECT_EQ(small.Pairs(), pairs) << buffer_bytes;
    EXPECT_TRUE(small.Top(8) == top) << buffer_bytes;
  }
}

TEST(Covisit, OrderOfSequencesAndSizeOfCallsDoNotMatter) {
  const SequenceLog log = RandomLog(4, 300, 1000, 12);
  Covisit whole(300, 2, {3, 1});
  ASSERT_EQ(whole.Add(log), RESEMBED_OK);
  std::vector<size_t> order(1000);
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(9));
  Covisit shuffled(300, 2, {3, 1}, 4096);
  for (const size_t s : order) {
    SequenceLog one;
    one.Add({log.ids.begin() + log.offsets[s], log.ids.begin() + log.offsets[s + 1]});
    ASSERT_EQ(shuffled.Add(one), RESEMBED_OK);
  }
  EXPECT_EQ(whole.Pairs(), shuffled.Pairs());
  EXPECT_TRUE(whole.Top(5) == shuffled.Top(5));
}

TEST(Covisit, CountingGoesOnAfterReading) {
  const SequenceLog log = RandomLog(5, 100, 400, 10);
  Covisit counts(100);
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const PairMap once = counts.Pairs();
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  PairMap twice = once;
  for (auto& entry : twice) entry.second *= 2;
  EXPECT_EQ(counts.Pairs(), twice);
}

TEST(Covisit, EveryIdAndOffsetTypeIsRead) {
  const SequenceLog log = RandomLog(6, 80, 100, 10);
  Covisit expected(80);
  ASSERT_EQ(expected.Add(log), RESEMBED_OK);
  const std::vector<int64_t> wide_ids(log.ids.begin(), log.ids.end());
  std::vector<int32_t> narrow_offsets;
  for (const int64_t offset : log.offsets) narrow_offsets.push_back(static_cast<int32_t>(offset));
  for (const resembed_dtype id_dtype : {RESEMBED_I32, RESEMBED_I64}) {
    for (const resembed_dtype offset_dtype : {RESEMBED_I32, RESEMBED_I64}) {
      const void* ids = id_dtype == RESEMBED_I32 ? static_cast<const void*>(log.ids.data()) : wide_ids.data();
      const void* offsets =
          offset_dtype == RESEMBED_I32 ? static_cast<const void*>(narrow_offsets.data()) : log.offsets.data();
      Covisit counts(80);
      ASSERT_EQ(resembed_covisit_add(counts.get(), ids, id_dtype, offsets, offset_dtype, 100), RESEMBED_OK);
      EXPECT_EQ(counts.Pairs(), expected.Pairs());
    }
  }
}

TEST(Covisit, SequencesMayBeASliceOfALongerList) {
  const std::vector<int32_t> ids = {7, 7, 0, 1, 2};
  const std::vector<int64_t> offsets = {2, 5};
  Covisit counts(8);
  ASSERT_EQ(resembed_covisit_add(counts.get(), ids.data(), RESEMBED_I32, offsets.data(), RESEMBED_I64, 1),
            RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), (PairMap{{{0, 1}, 1}, {{0, 2}, 1}, {{1, 2}, 1}}));
}

TEST(Covisit, EmptyIsValid) {
  Covisit none(0);
  EXPECT_EQ(none.NumPairs(), 0);
  EXPECT_EQ(resembed_covisit_top_k(none.get(), 4, nullptr, nullptr), RESEMBED_OK);
  int64_t row_offset = -1;
  EXPECT_EQ(resembed_covisit_export(none.get(), &row_offset, nullptr, nullptr), RESEMBED_OK);
  EXPECT_EQ(row_offset, 0);
  EXPECT_EQ(resembed_covisit_add(none.get(), nullptr, RESEMBED_I32, nullptr, RESEMBED_I32, 0), RESEMBED_OK);
  Covisit quiet(3);
  const std::vector<int64_t> offsets = {0, 0, 0};
  EXPECT_EQ(resembed_covisit_add(quiet.get(), nullptr, RESEMBED_I32, offsets.data(), RESEMBED_I64, 2),
            RESEMBED_OK);
  EXPECT_EQ(quiet.Top(2).neighbors, std::vector<int32_t>(6, -1));
}

TEST(Covisit, TopKWithoutCountsGivesTheSameNeighbors) {
  Covisit counts(200);
  ASSERT_EQ(counts.Add(RandomLog(8, 200, 500, 10)), RESEMBED_OK);
  std::vector<int32_t> neighbors(200 * 8);
  ASSERT_EQ(resembed_covisit_top_k(counts.get(), 8, neighbors.data(), nullptr), RESEMBED_OK);
  EXPECT_EQ(neighbors, counts.Top(8).neighbors);
}

TEST(Covisit, IdsMayReachTheLimit) {
  constexpr int64_t kItems = 2147483647;
  const std::vector<int64_t> ids = {kItems - 1, 0, kItems - 2, kItems - 1};
  const std::vector<int64_t> offsets = {0, 4};
  Covisit counts(kItems, 3);
  ASSERT_EQ(resembed_covisit_add(counts.get(), ids.data(), RESEMBED_I64, offsets.data(), RESEMBED_I64, 1),
            RESEMBED_OK);
  EXPECT_EQ(counts.NumPairs(), 3);
}

// ---- PairCounts --------------------------------------------------------------------------------

// Calls tasks from `width` threads, each taking every width-th task.
struct Threads {
  explicit Threads(int32_t width) {
    executor.struct_size = sizeof(executor);
    executor.width = width;
    executor.context = this;
    executor.parallel_for = [](void* context, int64_t n, void (*task)(void*, int64_t), void* arg) {
      auto* self = static_cast<Threads*>(context);
      self->n_tasks_seen += n;
      std::vector<std::thread> threads;
      for (int32_t t = 0; t < self->executor.width; ++t) {
        threads.emplace_back([=] {
          for (int64_t index = t; index < n; index += self->executor.width) task(arg, index);
        });
      }
      for (std::thread& thread : threads) thread.join();
    };
    place.struct_size = sizeof(place);
    place.executor = &executor;
  }
  resembed_executor executor = {};
  resembed_place place = {};
  int64_t n_tasks_seen = 0;
};

std::vector<std::pair<uint64_t, int64_t>> Entries(PairCounts* counts) {
  counts->Compact();
  std::vector<std::pair<uint64_t, int64_t>> entries;
  const auto source = counts->Read();
  for (detail::PairBlock block = source->Next(); block.begin != block.end; block = source->Next()) {
    for (const detail::PairCount* pair = block.begin; pair != block.end; ++pair) {
      if (!entries.empty()) {
        EXPECT_LT(entries.back().first, pair->key);
      }
      entries.push_back({pair->key, pair->count});
    }
  }
  EXPECT_EQ(counts->size(), static_cast<int64_t>(entries.size()));
  return entries;
}

PairMap Read(PairCounts* counts) {
  PairMap pairs;
  for (const auto& [key, count] : Entries(counts)) {
    pairs[{static_cast<int32_t>(key >> 32), static_cast<int32_t>(key & 0xffffffffu)}] = count;
  }
  return pairs;
}

TEST(PairCounts, AnyNumberOfThreadsGivesTheSameCounts) {
  std::vector<std::pair<uint64_t, int64_t>> expected;
  for (const int32_t width : {1, 2, 3, 7, 40}) {
    Threads threads(width);
    PairCounts counts(3000, {7, 1}, size_t{4} << 20, detail::Executor(threads.place));
    std::mt19937_64 random(2);
    for (int i = 0; i < 500000; ++i) {
      const auto lower = static_cast<uint32_t>(random() % 2999);
      const auto span = static_cast<uint32_t>(random() % (2999 - lower));
      counts.Add(lower, lower + 1 + span, 1 + i % 2);
    }
    const auto pairs = Entries(&counts);
    if (width == 1) {
      expected = pairs;
    } else {
      EXPECT_GE(threads.n_tasks_seen, 2);
      EXPECT_TRUE(pairs == expected) << width;
    }
  }
  EXPECT_GT(expected.size(), 100000u);
}

TEST(PairCounts, WeightsThatDoNotFitBesideTheKeyShareTheBuffer) {
  // 31 bits an item leave room for 4 weights in a key; here are 11.
  constexpr uint32_t kItems = 2147483647;
  std::vector<uint32_t> weights(11);
  std::iota(weights.begin(), weights.end(), 4294967285u);
  Threads threads(2);
  PairCounts counts(kItems, weights, 4096, detail::Executor(threads.place));
  PairMap expected;
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    const auto distance = static_cast<int32_t>(1 + random() % 11);
    const auto lower = static_cast<uint32_t>(random() % 50);
    const uint32_t higher = kItems - 1 - static_cast<uint32_t>(random() % 50);
    counts.Add(lower, higher, distance);
    expected[{static_cast<int32_t>(lower), static_cast<int32_t>(higher)}] +=
        int64_t{weights[static_cast<size_t>(distance - 1)]};
  }
  EXPECT_EQ(Read(&counts), expected);
}

TEST(PairCounts, SumsStayAtTheLargestCount) {
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(detail::SaturatingAdd(kLargest - 5, 4), kLargest - 1);
  EXPECT_EQ(detail::SaturatingAdd(kLargest - 5, 5), kLargest);
  EXPECT_EQ(detail::SaturatingAdd(kLargest - 5, 6), kLargest);
  EXPECT_EQ(detail::SaturatingAdd(kLargest, kLargest), kLargest);
}

TEST(PairCounts, RadixSortOrdersTheLowBitsOnly) {
  for (const int bits : {2, 11, 12, 40, 62, 64}) {
    for (const int64_t n : {0, 1, 511, 512, 10000}) {
      std::mt19937_64 random(static_cast<uint64_t>(bits));
      std::vector<uint64_t> keys(static_cast<size_t>(n)), scratch(keys.size());
      for (uint64_t& key : keys) key = random();
      const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
      std::vector<uint64_t> expected = keys;
      std::sort(expected.begin(), expected.end());
      const uint64_t* sorted = detail::RadixSort(keys.data(), scratch.data(), n, bits);
      std::vector<uint64_t> result(sorted, sorted + n);
      EXPECT_TRUE(std::is_sorted(result.begin(), result.end(),
                                 [mask](uint64_t a, uint64_t b) { return (a & mask) < (b & mask); }))
          << bits << " bits, " << n << " keys";
      std::sort(result.begin(), result.end());
      EXPECT_EQ(result, expected);
    }
  }
}

// ---- rejections --------------------------------------------------------------------------------

resembed_status Create(int64_t n_items, int32_t window, size_t buffer_bytes = 0) {
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = n_items;
  options.window = window;
  options.buffer_bytes = buffer_bytes;
  resembed_covisit* counts = nullptr;
  const resembed_status status = resembed_covisit_create(&options, &counts);
  resembed_covisit_destroy(counts);
  return status;
}

TEST(CovisitCreate, RejectsBadOptions) {
  resembed_covisit* counts = nullptr;
  EXPECT_EQ(resembed_covisit_create(nullptr, &counts), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_create: options is null; needs a pointer");
  EXPECT_EQ(Create(-1, 2), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_create: n_items is -1; needs 0 .. 2147483647");
  EXPECT_EQ(Create(int64_t{1} << 31, 2), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("n_items is 2147483648"));
  EXPECT_EQ(Create(10, -3), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_create: window is -3; needs >= 1, or 0 for 2");
  EXPECT_EQ(Create(10, 2, ~size_t{0}), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("covisit_create: buffer_bytes is 18446744073709551615"));
  EXPECT_EQ(Create(10, 0), RESEMBED_OK);
}

TEST(CovisitAdd, RejectsBadInputAndAddsNothing) {
  Covisit counts(10);
  const std::vector<int32_t> ids = {1, 2, 3, 10};
  const auto add = [&](const void* id, resembed_dtype id_dtype, std::vector<int64_t> offsets,
                       resembed_dtype offset_dtype, int64_t n) {
    return resembed_covisit_add(counts.get(), id, id_dtype, offsets.empty() ? nullptr : offsets.data(),
                                offset_dtype, n);
  };
  EXPECT_EQ(resembed_covisit_add(nullptr, ids.data(), RESEMBED_I32, ids.data(), RESEMBED_I32, 1),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: counts is null; needs a pointer");
  EXPECT_EQ(add(ids.data(), RESEMBED_F32, {0, 3}, RESEMBED_I64, 1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: id_dtype is f32; needs i32 or i64");
  EXPECT_EQ(add(ids.data(), RESEMBED_I32, {0, 3}, RESEMBED_U16, 1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: offset_dtype is u16; needs i32 or i64");
  EXPECT_EQ(add(ids.data(), RESEMBED_I32, {0, 3}, RESEMBED_I64, -1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: n_sequences is -1; needs >= 0");
  EXPECT_EQ(add(ids.data(), RESEMBED_I32, {}, RESEMBED_I64, 1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: offsets is null; needs 2 offsets");
  EXPECT_EQ(add(ids.data(), RESEMBED_I32, {-1, 3}, RESEMBED_I64, 1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: offsets[0] is -1; needs >= 0");
  EXPECT_EQ(add(ids.data(), RESEMBED_I32, {0, 3, 2}, RESEMBED_I64, 2), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_add: offsets[2] is 2; needs non-decreasing values, offsets[1] is 3");
  EXPECT_EQ(add(nullptr, RESEMBED_I32, {0, 3}, RESEMBED_I64, 1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: ids is null; needs 3 ids");
  EXPECT_EQ(add(ids.data(), RESEMBED_I32, {0, 4}, RESEMBED_I64, 1), RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: ids[3] is 10; needs 0 .. n_items - 1 (9)");
  const std::vector<int64_t> wide = {1, 2, int64_t{1} << 40};
  EXPECT_EQ(add(wide.data(), RESEMBED_I64, {0, 3}, RESEMBED_I64, 1), RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("ids[2] is 1099511627776"));
  const std::vector<int32_t> negative = {1, -1};
  EXPECT_EQ(add(negative.data(), RESEMBED_I32, {0, 2}, RESEMBED_I64, 1), RESEMBED_OUT_OF_RANGE);
  EXPECT_EQ(counts.NumPairs(), 0);
}

TEST(CovisitTopK, RejectsBadArguments) {
  Covisit counts(10);
  std::vector<int32_t> neighbors(640);
  EXPECT_EQ(resembed_covisit_top_k(nullptr, 1, neighbors.data(), nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_top_k: counts is null; needs a pointer");
  EXPECT_EQ(resembed_covisit_top_k(counts.get(), 1, nullptr, nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_top_k: neighbors is null; needs a pointer");
  for (const int32_t k : {0, -1, 65}) {
    EXPECT_EQ(resembed_covisit_top_k(counts.get(), k, neighbors.data(), nullptr), RESEMBED_INVALID_ARGUMENT);
    EXPECT_EQ(resembed_last_error_message(), "covisit_top_k: k is " + std::to_string(k) + "; needs 1 .. 64");
  }
  EXPECT_EQ(resembed_covisit_n_pairs(counts.get(), nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_n_pairs: n_pairs is null; needs a pointer");
  EXPECT_EQ(resembed_covisit_export(nullptr, nullptr, nullptr, nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_export: counts is null; needs a pointer");
  resembed_covisit_destroy(nullptr);
}

}  // namespace
}  // namespace resembed::testing
