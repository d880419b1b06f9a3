// SPDX-License-Identifier: Apache-2.0
// Neighbor lists made from others: symmetric, two hops, from edges, without one user.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;

TEST(GraphSymmetrize, MutualKeepsWhatBothListsHave) {
  Covisit counts(300);
  ASSERT_EQ(counts.Add(RandomLog(10, 300, 900, 12)), RESEMBED_OK);
  const Covisit::TopK top = counts.Top(6);
  std::set<std::pair<int32_t, int32_t>> edges;
  for (int32_t item = 0; item < 300; ++item) {
    for (int32_t slot = 0; slot < 6; ++slot) {
      const int32_t other = top.neighbors[static_cast<size_t>(item * 6 + slot)];
      if (other >= 0) edges.insert({item, other});
    }
  }
  std::vector<int32_t> neighbors(1800), united(static_cast<size_t>(300 * 64));
  std::vector<int64_t> values(1800), united_values(united.size());
  int64_t n_cut = -1;
  ASSERT_EQ(resembed_graph_symmetrize(top.neighbors.data(), top.counts.data(), 300, 6, RESEMBED_GRAPH_MUTUAL,
                                      6, neighbors.data(), values.data(), &n_cut),
            RESEMBED_OK);
  EXPECT_EQ(n_cut, 0);
  std::set<std::pair<int32_t, int32_t>> mutual, expected;
  for (const auto& edge : edges) {
    if (edges.count({edge.second, edge.first})) expected.insert(edge);
  }
  const PairMap pairs = counts.Pairs();
  for (int32_t item = 0; item < 300; ++item) {
    for (int32_t slot = 0; slot < 6; ++slot) {
      const auto at = static_cast<size_t>(item * 6 + slot);
      if (neighbors[at] < 0) continue;
      mutual.insert({item, neighbors[at]});
      EXPECT_EQ(values[at], pairs.at(std::minmax(item, neighbors[at])));
    }
  }
  EXPECT_EQ(mutual, expected);
  EXPECT_LT(mutual.size(), edges.size());

  ASSERT_EQ(resembed_graph_symmetrize(top.neighbors.data(), top.counts.data(), 300, 6, RESEMBED_GRAPH_UNION,
                                      64, united.data(), united_values.data(), &n_cut),
            RESEMBED_OK);
  std::set<std::pair<int32_t, int32_t>> both;
  for (int32_t item = 0; item < 300; ++item) {
    for (int32_t slot = 0; slot < 64; ++slot) {
      const auto at = static_cast<size_t>(item * 64 + slot);
      if (united[at] < 0) break;
      both.insert({item, united[at]});
      if (slot > 0) {
        EXPECT_TRUE(united_values[at - 1] > united_values[at] ||
                    (united_values[at - 1] == united_values[at] && united[at - 1] < united[at]));
      }
    }
  }
  std::set<std::pair<int32_t, int32_t>> either = edges;
  for (const auto& edge : edges) either.insert({edge.second, edge.first});
  EXPECT_EQ(static_cast<int64_t>(both.size()), static_cast<int64_t>(either.size()) - n_cut);
  if (n_cut == 0) {
    EXPECT_EQ(both, either);
  }
  EXPECT_EQ(resembed_graph_symmetrize(top.neighbors.data(), top.counts.data(), 300, 6, 3, 6, neighbors.data(),
                                      values.data(), nullptr),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(),
               "graph_symmetrize: symmetry is 3; needs mutual (1) or union (2)");
}

TEST(GraphTwoHop, IsTheProductOfTheMatrices) {
  constexpr int32_t kItems = 60, kK = 4, kOut = 9;
  Covisit counts(kItems);
  ASSERT_EQ(counts.Add(RandomLog(12, kItems, 60, 8)), RESEMBED_OK);
  const Covisit::TopK top = counts.Top(kK);
  std::vector<float> weights(kItems * kK);
  ASSERT_EQ(resembed_graph_weights(top.neighbors.data(), top.counts.data(), kItems, kK, RESEMBED_GRAPH_GCN,
                                   weights.data()),
            RESEMBED_OK);
  std::vector<std::vector<double>> w(kItems, std::vector<double>(kItems, 0.0));
  for (size_t at = 0; at < weights.size(); ++at) {
    if (top.neighbors[at] >= 0)
      w[at / kK][static_cast<size_t>(top.neighbors[at])] = static_cast<double>(weights[at]);
  }
  for (const float one_hop : {0.0f, 0.5f}) {
    std::vector<int32_t> neighbors(kItems * kOut);
    std::vector<float> out(neighbors.size());
    ASSERT_EQ(resembed_graph_two_hop(top.neighbors.data(), weights.data(), kItems, kK, one_hop, kOut,
                                     neighbors.data(), out.data()),
              RESEMBED_OK);
    for (size_t row = 0; row < kItems; ++row) {
      std::vector<double> expected(kItems, 0.0);
      for (size_t middle = 0; middle < kItems; ++middle) {
        for (size_t column = 0; column < kItems; ++column)
          expected[column] += w[row][middle] * w[middle][column];
        expected[middle] += static_cast<double>(one_hop) * w[row][middle];
      }
      std::vector<double> sorted = expected;
      std::sort(sorted.rbegin(), sorted.rend());
      std::set<int32_t> seen;
      for (size_t slot = 0; slot < kOut; ++slot) {
        const size_t at = row * kOut + slot;
        if (neighbors[at] < 0) {
          EXPECT_NEAR(sorted[slot], 0.0, 1e-12);
          continue;
        }
        EXPECT_TRUE(seen.insert(neighbors[at]).second);
        EXPECT_NEAR(static_cast<double>(out[at]), expected[static_cast<size_t>(neighbors[at])], 1e-6);
        EXPECT_NEAR(static_cast<double>(out[at]), sorted[slot], 1e-6);
      }
    }
  }
}

TEST(GraphTwoHop, RejectsBadArguments) {
  const int32_t neighbors[] = {1, 0};
  const float weights[] = {1, 1};
  int32_t neighbors_out[] = {-7, -7};
  float weights_out[] = {-7, -7};
  const auto expect = [&](const float* given, float one_hop, int32_t k_out, int32_t* out,
                          const char* sentence) {
    EXPECT_EQ(resembed_graph_two_hop(neighbors, given, 2, 1, one_hop, k_out, out, weights_out),
              RESEMBED_INVALID_ARGUMENT);
    EXPECT_STREQ(resembed_last_error_message(), sentence);
  };
  expect(nullptr, 0, 1, neighbors_out, "graph_two_hop: weights is null; needs a pointer");
  expect(weights, -0.5f, 1, neighbors_out, "graph_two_hop: one_hop is -0.5; needs a finite number >= 0");
  expect(weights, INFINITY, 1, neighbors_out, "graph_two_hop: one_hop is inf; needs a finite number >= 0");
  expect(weights, 0, 65, neighbors_out, "graph_two_hop: k_out is 65; needs 1 .. 64");
  expect(weights, 0, 1, nullptr, "graph_two_hop: neighbors_out is null; needs a pointer");
  EXPECT_EQ(neighbors_out[0], -7);
  EXPECT_EQ(weights_out[0], -7);
}

TEST(GraphFromEdges, EdgesInAnyOrderGiveTheGraphTheyCameFrom) {
  constexpr int32_t kItems = 200, kK = 8;
  Covisit counts(kItems);
  ASSERT_EQ(counts.Add(RandomLog(13, kItems, 500, 10)), RESEMBED_OK);
  const Covisit::TopK top = counts.Top(kK);
  std::vector<std::array<int64_t, 3>> edges;
  for (size_t at = 0; at < top.neighbors.size(); ++at) {
    if (top.neighbors[at] >= 0)
      edges.push_back({static_cast<int64_t>(at / kK), top.neighbors[at], top.counts[at]});
  }
  std::shuffle(edges.begin(), edges.end(), std::mt19937_64(1));
  std::vector<int32_t> items, neighbors_of;
  std::vector<int64_t> values;
  for (const auto& edge : edges) {
    items.push_back(static_cast<int32_t>(edge[0]));
    neighbors_of.push_back(static_cast<int32_t>(edge[1]));
    values.push_back(edge[2]);
  }
  Covisit::TopK read{std::vector<int32_t>(kItems * kK, 99), std::vector<int64_t>(kItems * kK, 99)};
  const auto from_edges = [&] {
    return resembed_graph_from_edges(items.data(), neighbors_of.data(), values.data(),
                                     static_cast<int64_t>(items.size()), kItems, kK, read.neighbors.data(),
                                     read.counts.data());
  };
  ASSERT_EQ(from_edges(), RESEMBED_OK);
  EXPECT_TRUE(read == top);
  items.push_back(items[0]);
  neighbors_of.push_back(neighbors_of[0]);
  values.push_back(values[0] + 1);
  EXPECT_EQ(from_edges(), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("is given twice; needs each edge once"));
  neighbors_of.back() = kItems;
  EXPECT_EQ(from_edges(), RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("neighbors_of"));
  neighbors_of.back() = 0;
  values.back() = 0;
  EXPECT_EQ(from_edges(), RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("is 0; needs > 0"));
}

// Against counting the log again without that sequence.
TEST(GraphLeaveOut, EqualsTheGraphOfTheOtherSequences) {
  constexpr int32_t kItems = 40, kK = 5;
  const SequenceLog log = RandomLog(14, kItems, 60, 10);
  resembed_covisit_options counting = Options(kItems, 3);
  const uint32_t weights[] = {3, 2, 1};
  counting.distance_weights = weights;
  counting.max_pair_uses = 2;
  counting.max_sequence_items = 12;
  for (const int64_t self_loop : {0, -1}) {
    resembed_graph_options graph = GraphOptions(kK);
    graph.min_count = 2;
    graph.self_loop = self_loop;
    resembed_covisit* all = nullptr;
    ASSERT_EQ(resembed_covisit_create(&counting, &all), RESEMBED_OK);
    ASSERT_EQ(resembed_covisit_add(all, log.ids.data(), RESEMBED_I32, log.offsets.data(), RESEMBED_I64,
                                   log.n_sequences()),
              RESEMBED_OK);
    int64_t n_pairs = 0;
    ASSERT_EQ(resembed_covisit_n_pairs(all, &n_pairs), RESEMBED_OK);
    std::vector<int64_t> row_offsets(kItems + 1), values(static_cast<size_t>(2 * n_pairs));
    std::vector<int32_t> columns(values.size());
    ASSERT_EQ(resembed_covisit_export(all, row_offsets.data(), columns.data(), values.data()), RESEMBED_OK);
    std::vector<int32_t> full(kItems * kK);
    ASSERT_EQ(resembed_covisit_graph(all, &graph, full.data(), nullptr), RESEMBED_OK);
    resembed_covisit_destroy(all);
    resembed_covisit_matrix matrix = {};
    matrix.struct_size = sizeof(matrix);
    matrix.n_items = kItems;
    matrix.row_offsets = row_offsets.data();
    matrix.columns = columns.data();
    matrix.values = values.data();
    int64_t n_changed = 0;
    for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
      SequenceLog rest, own;
      for (size_t other = 0; other + 1 < log.offsets.size(); ++other) {
        (other == s ? own : rest)
            .Add({log.ids.begin() + log.offsets[other], log.ids.begin() + log.offsets[other + 1]});
      }
      resembed_covisit* without = nullptr;
      ASSERT_EQ(resembed_covisit_create(&counting, &without), RESEMBED_OK);
      ASSERT_EQ(resembed_covisit_add(without, rest.ids.data(), RESEMBED_I32, rest.offsets.data(),
                                     RESEMBED_I64, rest.n_sequences()),
                RESEMBED_OK);
      std::vector<int32_t> expected(kItems * kK);
      std::vector<int64_t> expected_counts(expected.size());
      ASSERT_EQ(resembed_covisit_graph(without, &graph, expected.data(), expected_counts.data()),
                RESEMBED_OK);
      resembed_covisit_destroy(without);

      resembed_covisit_sequences sequence = {};
      sequence.struct_size = sizeof(sequence);
      sequence.ids = log.ids.data();
      sequence.id_dtype = RESEMBED_I32;
      sequence.offsets = log.offsets.data() + s;
      sequence.offset_dtype = RESEMBED_I64;
      sequence.n_sequences = 1;
      const size_t length = own.ids.size();
      int64_t n_rows = -1;
      std::vector<int32_t> items(length + 1), neighbors((length + 1) * kK);
      std::vector<int64_t> counts(neighbors.size());
      ASSERT_EQ(resembed_graph_leave_out(&matrix, &counting, &sequence, &graph, &n_rows, items.data(),
                                         neighbors.data(), counts.data()),
                RESEMBED_OK)
          << resembed_last_error_message();
      const std::set<int32_t> distinct(own.ids.begin(), own.ids.end());
      ASSERT_EQ(n_rows, static_cast<int64_t>(distinct.size()));
      std::vector<int32_t> rows = full;  // the full graph with these rows put in
      for (size_t row = 0; row < static_cast<size_t>(n_rows); ++row) {
        const auto at = static_cast<size_t>(items[row]) * kK;
        for (size_t slot = 0; slot < kK; ++slot) {
          n_changed += rows[at + slot] != neighbors[row * kK + slot];
          rows[at + slot] = neighbors[row * kK + slot];
          EXPECT_EQ(counts[row * kK + slot], expected_counts[at + slot]);
        }
      }
      EXPECT_EQ(rows, expected) << "sequence " << s;
    }
    EXPECT_GT(n_changed, 100);
  }
}

TEST(GraphLeaveOut, RejectsASequenceThatWasNotCounted) {
  Covisit counts(10, 2);
  SequenceLog log;
  log.Add({1, 2, 3});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  std::vector<int64_t> row_offsets(11), values(6);
  std::vector<int32_t> columns(6);
  ASSERT_EQ(resembed_covisit_export(counts.get(), row_offsets.data(), columns.data(), values.data()),
            RESEMBED_OK);
  resembed_covisit_matrix matrix = {sizeof(resembed_covisit_matrix), 10, row_offsets.data(), columns.data(),
                                    values.data()};
  const std::vector<int32_t> ids = {1, 2, 4};
  const std::vector<int64_t> offsets = {0, 3};
  resembed_covisit_sequences sequence = {};
  sequence.struct_size = sizeof(sequence);
  sequence.ids = ids.data();
  sequence.id_dtype = RESEMBED_I32;
  sequence.offsets = offsets.data();
  sequence.offset_dtype = RESEMBED_I64;
  sequence.n_sequences = 1;
  const resembed_covisit_options counting = Options(10);
  resembed_graph_options graph = GraphOptions(2);
  int64_t n_rows = -1;
  std::vector<int32_t> items(3), neighbors(6);
  std::vector<int64_t> values_out(6);
  const auto leave_out = [&] {
    return resembed_graph_leave_out(&matrix, &counting, &sequence, &graph, &n_rows, items.data(),
                                    neighbors.data(), values_out.data());
  };
  EXPECT_EQ(leave_out(), RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(),
               "graph_leave_out: count of pair (1, 4) is 0; needs at least the sequence's own 1");
  graph.popularity = 0.5;
  EXPECT_EQ(leave_out(), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(), "graph_leave_out: popularity is 0.5; needs 0");
  graph.popularity = 0;
  const int64_t seen[] = {1};
  sequence.n_seen = seen;
  EXPECT_EQ(leave_out(), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(),
               "graph_leave_out: n_seen is given; needs the whole sequence and null");
  EXPECT_EQ(n_rows, -1);
}

}  // namespace
}  // namespace resembed::testing
