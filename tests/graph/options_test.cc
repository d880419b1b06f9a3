// SPDX-License-Identifier: Apache-2.0
// Departures from Algorithm 1, each against plain loops; none of them changes the default.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Rows of Z by (score, lower id), with plain sorting.
Covisit::TopK OracleGraph(const PairMap& pairs, int64_t n_items, const resembed_graph_options& options) {
  struct Candidate {
    double score;
    int32_t item;
    int64_t count;
  };
  std::vector<double> sums(static_cast<size_t>(n_items), 0.0);
  for (const auto& [pair, count] : pairs) {
    sums[static_cast<size_t>(pair.first)] += static_cast<double>(count);
    sums[static_cast<size_t>(pair.second)] += static_cast<double>(count);
  }
  std::vector<std::vector<Candidate>> rows(sums.size());
  const auto candidate = [&](int32_t item, int32_t other, int64_t count) {
    if (count < options.min_count) return;
    const double divisor = std::pow(sums[static_cast<size_t>(other)], options.popularity);
    rows[static_cast<size_t>(item)].push_back({static_cast<double>(count) / divisor, other, count});
  };
  for (const auto& [pair, count] : pairs) {
    candidate(pair.first, pair.second, count);
    candidate(pair.second, pair.first, count);
  }
  Covisit::TopK top;
  for (size_t item = 0; item < rows.size(); ++item) {
    auto& row = rows[item];
    std::sort(row.begin(), row.end(), [](const Candidate& a, const Candidate& b) {
      return a.score != b.score ? a.score > b.score : a.item < b.item;
    });
    std::vector<std::pair<int32_t, int64_t>> kept;
    int64_t largest = 1;
    const size_t room = static_cast<size_t>(options.k) - (options.self_loop != 0 ? 1 : 0);
    for (size_t slot = 0; slot < std::min(room, row.size()); ++slot) {
      kept.push_back({row[slot].item, row[slot].count});
      largest = std::max(largest, row[slot].count);
    }
    if (options.self_loop != 0) {
      const int64_t count = options.self_loop > 0 ? options.self_loop : largest;
      kept.insert(kept.begin(), {static_cast<int32_t>(item), count});
    }
    kept.resize(static_cast<size_t>(options.k), {-1, 0});
    for (const auto& [other, count] : kept) {
      top.neighbors.push_back(other);
      top.counts.push_back(count);
    }
  }
  return top;
}

TEST(CovisitGraph, EveryCombinationOfOptionsEqualsPlainSorting) {
  for (const int32_t n_items : {2, 40, 700}) {
    const SequenceLog log = RandomLog(11, n_items, 900, 12);
    Covisit counts(n_items);
    ASSERT_EQ(counts.Add(log), RESEMBED_OK);
    const PairMap pairs = OracleCounts(log, 2, {});
    for (const int32_t k : {1, 2, 8, 64}) {
      for (const int64_t min_count : {0, 2, 7}) {
        for (const double popularity : {0.0, 0.5, 1.0, 0.75}) {
          for (const int64_t self_loop : {0, -1, 5}) {
            resembed_graph_options options = GraphOptions(k);
            options.min_count = min_count;
            options.popularity = popularity;
            options.self_loop = self_loop;
            EXPECT_TRUE(GraphWith(&counts, n_items, options) == OracleGraph(pairs, n_items, options))
                << n_items << " items, k " << k << ", min_count " << min_count << ", popularity "
                << popularity << ", self_loop " << self_loop;
          }
        }
      }
    }
  }
}

TEST(CovisitGraph, WithoutOptionsIsTopK) {
  Covisit counts(500);
  ASSERT_EQ(counts.Add(RandomLog(2, 500, 800, 15)), RESEMBED_OK);
  EXPECT_TRUE(GraphWith(&counts, 500, GraphOptions(8)) == counts.Top(8));
}

TEST(CovisitGraph, PopularityCorrectionDemotesTheItemEverybodyHas) {
  Covisit counts(12, 1);
  SequenceLog log;
  for (int32_t i = 1; i < 12; ++i) {
    for (int n = 0; n < 10; ++n) log.Add({i, 0});
  }
  for (int n = 0; n < 8; ++n) log.Add({1, 2});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  resembed_graph_options options = GraphOptions(1);
  EXPECT_EQ(GraphWith(&counts, 12, options).neighbors[1], 0);
  options.popularity = 0.5;
  const Covisit::TopK corrected = GraphWith(&counts, 12, options);
  EXPECT_EQ(corrected.neighbors[1], 2);
  EXPECT_EQ(corrected.counts[1], 8);  // of Z
}

TEST(CovisitGraph, RejectsBadOptions) {
  Covisit counts(10);
  std::vector<int32_t> neighbors(640, 7);
  const auto rejects = [&](resembed_graph_options options, const char* message) {
    EXPECT_EQ(resembed_covisit_graph(counts.get(), &options, neighbors.data(), nullptr),
              RESEMBED_INVALID_ARGUMENT);
    EXPECT_STREQ(resembed_last_error_message(), message);
    EXPECT_EQ(neighbors[0], 7);
  };
  EXPECT_EQ(resembed_covisit_graph(counts.get(), nullptr, neighbors.data(), nullptr),
            RESEMBED_INVALID_ARGUMENT);
  rejects(GraphOptions(0), "covisit_graph: k is 0; needs 1 .. 64");
  resembed_graph_options options = GraphOptions(4);
  options.min_count = -1;
  rejects(options, "covisit_graph: min_count is -1; needs >= 0");
  options.min_count = 0;
  options.popularity = std::nan("");
  EXPECT_EQ(resembed_covisit_graph(counts.get(), &options, neighbors.data(), nullptr),
            RESEMBED_INVALID_ARGUMENT);
  options.popularity = 1.5;
  rejects(options, "covisit_graph: popularity is 1.5; needs 0 .. 1");
  options.popularity = 0;
  options.self_loop = -2;
  rejects(options, "covisit_graph: self_loop is -2; needs a count, 0 for none or -1 for the largest");
}

TEST(CovisitOptions, OnlyTheLastItemsOfALongSequenceCount) {
  const SequenceLog log = RandomLog(3, 60, 300, 15);
  resembed_covisit_options options = Options(60);
  options.max_sequence_items = 7;
  Counting counts(options);
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  SequenceLog cut;
  for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
    const int64_t last = log.offsets[s + 1], first = std::max(log.offsets[s], last - 7);
    cut.Add({log.ids.begin() + first, log.ids.begin() + last});
  }
  EXPECT_EQ(counts.Pairs(), OracleCounts(cut, 2, {}));
}

TEST(CovisitOptions, ASequenceCountsOnePairAtMostSoOften) {
  const SequenceLog log = RandomLog(4, 8, 200, 20);
  for (const int32_t limit : {1, 3}) {
    resembed_covisit_options options = Options(8);
    options.max_pair_uses = limit;
    const uint32_t weights[] = {5, 2};
    options.distance_weights = weights;
    Counting counts(options);
    ASSERT_EQ(counts.Add(log), RESEMBED_OK);
    PairMap expected;
    for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
      std::map<std::pair<int32_t, int32_t>, int> uses;
      for (int64_t a = log.offsets[s]; a < log.offsets[s + 1]; ++a) {
        for (int64_t b = a + 1; b < log.offsets[s + 1] && b <= a + 2; ++b) {
          const auto pair = std::minmax(log.ids[static_cast<size_t>(a)], log.ids[static_cast<size_t>(b)]);
          if (pair.first == pair.second || ++uses[pair] > limit) continue;
          expected[pair] += weights[b - a - 1];
        }
      }
    }
    EXPECT_EQ(counts.Pairs(), expected) << limit;
    EXPECT_NE(expected, OracleCounts(log, 2, {5, 2}));
  }
}

// Sequences cut by hand where the gap is longer.
TEST(CovisitOptions, ASessionGapCutsASequence) {
  const SequenceLog log = RandomLog(5, 50, 300, 15);
  std::mt19937_64 random(6);
  std::vector<int64_t> times(log.ids.size());
  SequenceLog cut;
  for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
    std::vector<int32_t> session;
    int64_t now = -1000;
    for (auto at = static_cast<size_t>(log.offsets[s]); at < static_cast<size_t>(log.offsets[s + 1]); ++at) {
      const auto gap = static_cast<int64_t>(random() % 40);
      now += gap;
      times[at] = now;
      if (gap > 30 && !session.empty()) {
        cut.Add(session);
        session.clear();
      }
      session.push_back(log.ids[at]);
    }
    cut.Add(session);
  }
  resembed_covisit_options options = Options(50, 3);
  options.session_gap = 30;
  Counting counts(options);
  ASSERT_EQ(counts.Add(log, times), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), OracleCounts(cut, 3, {}));
  // Without times nothing is cut.
  Counting whole(options);
  ASSERT_EQ(whole.Add(log), RESEMBED_OK);
  EXPECT_EQ(whole.Pairs(), OracleCounts(log, 3, {}));
}

TEST(CovisitOptions, ASequenceMayGoOnInALaterCall) {
  const SequenceLog log = RandomLog(7, 60, 200, 12);
  for (const int64_t context : {3, 5, 1000}) {
    Counting counts(Options(60, 3));
    SequenceLog early, late;
    std::vector<int64_t> n_seen;
    for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
      const int64_t first = log.offsets[s], last = log.offsets[s + 1], middle = first + (last - first) / 3;
      const int64_t from = std::max(first, middle - context);
      early.Add({log.ids.begin() + first, log.ids.begin() + middle});
      late.Add({log.ids.begin() + from, log.ids.begin() + last});
      n_seen.push_back(middle - from);
    }
    ASSERT_EQ(counts.Add(early), RESEMBED_OK);
    ASSERT_EQ(counts.Add(late, {}, n_seen), RESEMBED_OK);
    EXPECT_EQ(counts.Pairs(), OracleCounts(log, 3, {})) << context;
  }
}

TEST(CovisitOptions, PairsFromElsewhereAddUp) {
  const SequenceLog log = RandomLog(8, 90, 400, 10);
  const PairMap pairs = OracleCounts(log, 2, {});
  std::vector<int32_t> items, others;
  std::vector<int64_t> values;
  for (const auto& [pair, count] : pairs) {  // in two parts, one of them the other way round
    items.insert(items.end(), {pair.first, pair.second});
    others.insert(others.end(), {pair.second, pair.first});
    values.insert(values.end(), {count, 10});
  }
  Counting counts(Options(90));
  resembed_covisit* raw = nullptr;
  const resembed_covisit_options options = Options(90);
  ASSERT_EQ(resembed_covisit_create(&options, &raw), RESEMBED_OK);
  ASSERT_EQ(resembed_covisit_add_pairs(raw, items.data(), others.data(), values.data(),
                                       static_cast<int64_t>(items.size())),
            RESEMBED_OK);
  int64_t n_pairs = 0;
  ASSERT_EQ(resembed_covisit_n_pairs(raw, &n_pairs), RESEMBED_OK);
  EXPECT_EQ(n_pairs, static_cast<int64_t>(pairs.size()));
  std::vector<int64_t> sums(91), exported(static_cast<size_t>(2 * n_pairs));
  std::vector<int32_t> columns(exported.size());
  ASSERT_EQ(resembed_covisit_export(raw, sums.data(), columns.data(), exported.data()), RESEMBED_OK);
  int64_t at = 0;
  for (int32_t row = 0; row < 90; ++row) {
    for (; at < sums[static_cast<size_t>(row) + 1]; ++at) {
      const auto pair = std::minmax(row, columns[static_cast<size_t>(at)]);
      EXPECT_EQ(exported[static_cast<size_t>(at)], pairs.at(pair) + 10);
    }
  }
  const int32_t one[] = {1}, same[] = {1}, far[] = {90};
  const int64_t value[] = {1}, zero[] = {0};
  EXPECT_EQ(resembed_covisit_add_pairs(raw, one, same, value, 1), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add_pairs: pair 0 is item 1 twice; needs two items");
  EXPECT_EQ(resembed_covisit_add_pairs(raw, one, far, value, 1), RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_add_pairs: pair 0 has item 90; needs 0 .. n_items - 1 (89)");
  EXPECT_EQ(resembed_covisit_add_pairs(raw, far, one, zero, 1), RESEMBED_OUT_OF_RANGE);
  EXPECT_EQ(resembed_covisit_add_pairs(raw, nullptr, one, value, 1), RESEMBED_INVALID_ARGUMENT);
  resembed_covisit_destroy(raw);
}

TEST(CovisitOptions, RejectsWhatMakesNoSense) {
  resembed_covisit* raw = nullptr;
  const auto rejects = [&](const resembed_covisit_options& options, const char* message) {
    EXPECT_EQ(resembed_covisit_create(&options, &raw), RESEMBED_INVALID_ARGUMENT);
    EXPECT_STREQ(resembed_last_error_message(), message);
  };
  resembed_covisit_options options = Options(10);
  options.max_sequence_items = -1;
  rejects(options, "covisit_create: max_sequence_items is -1; needs >= 1, or 0 for none");
  options = Options(10);
  options.max_pair_uses = -1;
  rejects(options, "covisit_create: max_pair_uses is -1; needs >= 1, or 0 for none");
  options = Options(10);
  options.session_gap = -1;
  rejects(options, "covisit_create: session_gap is -1; needs >= 1, or 0 for none");
  Counting counts(Options(10));
  SequenceLog log;
  log.Add({1, 2, 3});
  EXPECT_EQ(counts.Add(log, {5, 6, 4}), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_add: times[2] is 4; needs at least the time before (6)");
  EXPECT_EQ(counts.Add(log, {}, {4}), RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: n_seen[0] is 4; needs 0 .. 3");
  EXPECT_TRUE(counts.Pairs().empty());
}

// A caller compiled before the options existed passes the shorter struct.
TEST(CovisitOptions, AnOlderCallersStructMeansTheDefaults) {
  resembed_covisit_options options = Options(60);
  options.max_sequence_items = 2;
  options.max_pair_uses = 1;
  options.struct_size = offsetof(resembed_covisit_options, max_sequence_items);
  const SequenceLog log = RandomLog(9, 60, 100, 10);
  Counting counts(options);
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), OracleCounts(log, 2, {}));
}

}  // namespace
}  // namespace resembed::testing
