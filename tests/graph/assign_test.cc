// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "host/graph/communities.h"
#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Assignment {
  std::vector<int32_t> center_of;
  int64_t n_centers = -1;
};

Assignment Assign(const Covisit::TopK& top, int64_t n_items, int32_t k, int64_t max_center_items = 0,
                  int64_t max_centers = 0, float resolution = 0) {
  resembed_graph_assign_options options = {};
  options.struct_size = sizeof(options);
  options.max_center_items = max_center_items;
  options.max_centers = max_centers;
  options.resolution = resolution;
  Assignment result;
  result.center_of.assign(static_cast<size_t>(n_items), 77);
  EXPECT_EQ(resembed_graph_assign(top.neighbors.data(), top.counts.data(), n_items, k, &options,
                                  result.center_of.data(), &result.n_centers),
            RESEMBED_OK)
      << resembed_last_error_message();
  return result;
}

std::vector<int64_t> Sizes(const Assignment& assignment) {
  std::vector<int64_t> sizes(static_cast<size_t>(assignment.n_centers), 0);
  for (const int32_t center : assignment.center_of) {
    if (center >= 0) ++sizes.at(static_cast<size_t>(center));
  }
  return sizes;
}

// Adjusted Rand index (Hubert and Arabie 1985) over items with a center.
double AdjustedRand(const std::vector<int32_t>& found, const std::vector<int32_t>& truth) {
  std::map<std::pair<int32_t, int32_t>, double> both;
  std::map<int32_t, double> a, b;
  double n = 0;
  for (size_t item = 0; item < found.size(); ++item) {
    if (found[item] < 0) continue;
    ++both[{found[item], truth[item]}];
    ++a[found[item]];
    ++b[truth[item]];
    ++n;
  }
  const auto pairs = [](double x) { return x * (x - 1) / 2; };
  double together = 0, in_a = 0, in_b = 0;
  for (const auto& entry : both) together += pairs(entry.second);
  for (const auto& entry : a) in_a += pairs(entry.second);
  for (const auto& entry : b) in_b += pairs(entry.second);
  const double expected = in_a * in_b / pairs(n);
  return (together - expected) / ((in_a + in_b) / 2 - expected);
}

struct Planted {
  SequenceLog log;
  std::vector<int32_t> interest_of;
};

// Interest delay: an interest is held for five clicks; one click in ten comes from anywhere. Item ids are
// shuffled over the interests.
Planted PlantedLog(int32_t n_interests, int32_t items_each, int64_t n_sequences, uint64_t seed) {
  std::mt19937_64 random(seed);
  const int32_t n_items = n_interests * items_each;
  std::vector<int32_t> id(static_cast<size_t>(n_items));
  std::iota(id.begin(), id.end(), 0);
  std::shuffle(id.begin(), id.end(), random);
  Planted planted;
  planted.interest_of.resize(id.size());
  for (int32_t item = 0; item < n_items; ++item) {
    planted.interest_of[static_cast<size_t>(id[static_cast<size_t>(item)])] = item / items_each;
  }
  const auto below = [&random](int32_t n) {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(n));
  };
  for (int64_t s = 0; s < n_sequences; ++s) {
    std::vector<int32_t> sequence;
    for (int period = 0; period < 4; ++period) {
      const int32_t interest = below(n_interests);
      for (int click = 0; click < 5; ++click) {
        const int32_t item = below(10) == 0 ? below(n_items) : interest * items_each + below(items_each);
        sequence.push_back(id[static_cast<size_t>(item)]);
      }
    }
    planted.log.Add(sequence);
  }
  return planted;
}

Covisit::TopK Graph(const SequenceLog& log, int64_t n_items, int32_t k) {
  Covisit counts(n_items, 2);
  EXPECT_EQ(counts.Add(log), RESEMBED_OK);
  return counts.Top(k);
}

TEST(GraphAssign, FindsPlantedInterests) {
  const Planted planted = PlantedLog(40, 30, 6000, 1);
  const Covisit::TopK top = Graph(planted.log, 1200, 8);
  const Assignment found = Assign(top, 1200, 8);
  EXPECT_EQ(found.n_centers, 40);
  EXPECT_GT(AdjustedRand(found.center_of, planted.interest_of), 0.95);
  // The measure itself can fail: a shifted truth scores near zero.
  std::vector<int32_t> shifted = planted.interest_of;
  std::rotate(shifted.begin(), shifted.begin() + 1, shifted.end());
  EXPECT_LT(AdjustedRand(found.center_of, shifted), 0.05);
}

TEST(GraphAssign, TwoTrianglesJoinedByAThinEdge) {
  // 1-3-5 and 0-2-4 with weight 10, 4-5 with weight 1; item 6 is alone.
  Covisit counts(7, 1);
  SequenceLog log;
  for (int i = 0; i < 10; ++i) {
    for (const auto& pair : {std::pair{1, 3}, {3, 5}, {1, 5}, {0, 2}, {2, 4}, {0, 4}})
      log.Add({pair.first, pair.second});
  }
  log.Add({4, 5});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const Assignment found = Assign(counts.Top(3), 7, 3);
  EXPECT_EQ(found.n_centers, 2);
  // Equal sizes: the center with item 0 comes first.
  EXPECT_THAT(found.center_of, ElementsAre(0, 1, 0, 1, 0, 1, -1));
}

TEST(GraphAssign, CentersAreNumberedBySizeThenByLowestItem) {
  Covisit counts(9, 1);
  SequenceLog log;
  for (const auto& chain : {std::vector<int32_t>{0, 8}, {1, 2, 3, 1}, {4, 5, 6, 4}}) log.Add(chain);
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const Assignment found = Assign(counts.Top(2), 9, 2);
  EXPECT_THAT(found.center_of, ElementsAre(2, 0, 0, 0, 1, 1, 1, -1, 2));
  EXPECT_EQ(found.n_centers, 3);
}

TEST(GraphAssign, ColdItemsMayShareTheLastCenter) {
  Covisit counts(7, 1);
  SequenceLog log;
  log.Add({1, 2, 5});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const Covisit::TopK top = counts.Top(2);
  resembed_graph_assign_options options = {};
  options.struct_size = sizeof(options);
  options.max_centers = 1;
  options.cold_center = 1;
  std::vector<int32_t> center_of(7);
  int64_t n_centers = 0;
  ASSERT_EQ(resembed_graph_assign(top.neighbors.data(), top.counts.data(), 7, 2, &options, center_of.data(),
                                  &n_centers),
            RESEMBED_OK);
  EXPECT_THAT(center_of, ElementsAre(1, 0, 0, 1, 1, 0, 1));
  EXPECT_EQ(n_centers, 2);
  options.cold_center = 2;
  EXPECT_EQ(resembed_graph_assign(top.neighbors.data(), top.counts.data(), 7, 2, &options, center_of.data(),
                                  &n_centers),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_assign: cold_center is 2; needs 0 or 1");
}

TEST(GraphAssign, SizeLimitIsKept) {
  const Planted planted = PlantedLog(10, 60, 4000, 2);
  const Covisit::TopK top = Graph(planted.log, 600, 8);
  for (const int64_t limit : {1, 7, 25, 60}) {
    const Assignment found = Assign(top, 600, 8, limit);
    const std::vector<int64_t> sizes = Sizes(found);
    EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()), limit);
    EXPECT_TRUE(std::is_sorted(sizes.rbegin(), sizes.rend()));
    EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}), 600);
    EXPECT_GT(sizes.back(), 0);
  }
  EXPECT_EQ(Assign(top, 600, 8, 1).n_centers, 600);
}

TEST(GraphAssign, NumberOfCentersIsKept) {
  const Planted planted = PlantedLog(30, 20, 3000, 3);
  const Covisit::TopK top = Graph(planted.log, 600, 8);
  ASSERT_GE(Assign(top, 600, 8).n_centers, 30);
  for (const int64_t limit : {1, 2, 13, 29}) {
    const Assignment found = Assign(top, 600, 8, 0, limit);
    EXPECT_EQ(found.n_centers, limit);
    const std::vector<int64_t> sizes = Sizes(found);
    EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}), 600);
  }
}

TEST(GraphAssign, BothLimitsTogetherEvenWithoutSlack) {
  const Planted planted = PlantedLog(10, 60, 4000, 4);
  const Covisit::TopK top = Graph(planted.log, 600, 8);
  for (const auto& [max_items, max_centers] :
       {std::pair<int64_t, int64_t>{60, 10}, {50, 12}, {7, 86}, {100, 7}}) {
    const Assignment found = Assign(top, 600, 8, max_items, max_centers);
    EXPECT_LE(found.n_centers, max_centers);
    const std::vector<int64_t> sizes = Sizes(found);
    EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()), max_items);
    EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}), 600);
  }
}

TEST(GraphAssign, SmallestCenterGoesToTheOneItIsTiedToMost) {
  // Triangles 0-1-2 and 3-4-5-6 (a ring), the pair 7-8 tied to the triangle by one more edge than to the
  // ring.
  Covisit counts(9, 1);
  SequenceLog log;
  for (int i = 0; i < 20; ++i) {
    log.Add({0, 1, 2, 0});
    log.Add({3, 4, 5, 6, 3});
    log.Add({7, 8});
  }
  log.Add({7, 0});
  log.Add({7, 0});
  log.Add({8, 3});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const Covisit::TopK top = counts.Top(4);
  EXPECT_EQ(Assign(top, 9, 4).n_centers, 3);
  const Assignment found = Assign(top, 9, 4, 0, 2);
  EXPECT_THAT(found.center_of, ElementsAre(0, 0, 0, 1, 1, 1, 1, 0, 0));
}

TEST(GraphAssign, ACenterThatFitsNowhereIsTakenApart) {
  // Rings 0-1-2-3 and 4-5-6-7 with one place left each; the pair 8-9 is tied to the first one.
  Covisit counts(10, 1);
  SequenceLog log;
  for (int i = 0; i < 20; ++i) {
    log.Add({0, 1, 2, 3, 0});
    log.Add({4, 5, 6, 7, 4});
    log.Add({8, 9});
  }
  log.Add({8, 0});
  log.Add({9, 0});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  const Assignment found = Assign(counts.Top(4), 10, 4, 5, 2);
  EXPECT_EQ(found.n_centers, 2);
  EXPECT_THAT(found.center_of, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 0, 1));
}

TEST(GraphAssign, IsDeterministic) {
  const Planted planted = PlantedLog(20, 50, 3000, 5);
  const Covisit::TopK top = Graph(planted.log, 1000, 8);
  const Assignment first = Assign(top, 1000, 8, 45, 30);
  for (int repeat = 0; repeat < 3; ++repeat) {
    EXPECT_EQ(Assign(top, 1000, 8, 45, 30).center_of, first.center_of);
  }
}

TEST(GraphAssign, HigherResolutionGivesMoreCenters) {
  const Planted planted = PlantedLog(10, 100, 6000, 6);
  const Covisit::TopK top = Graph(planted.log, 1000, 8);
  const int64_t coarse = Assign(top, 1000, 8, 0, 0, 0.25f).n_centers;
  const int64_t usual = Assign(top, 1000, 8, 0, 0, 1.0f).n_centers;
  const int64_t fine = Assign(top, 1000, 8, 0, 0, 20.0f).n_centers;
  EXPECT_LE(coarse, usual);
  EXPECT_LT(usual, fine);
  EXPECT_EQ(Assign(top, 1000, 8).n_centers, usual);
}

// Modularity with resolution 1, from its definition.
double Modularity(const Covisit::TopK& top, int64_t n_items, int32_t k,
                  const std::vector<int32_t>& center_of) {
  std::map<std::pair<int64_t, int64_t>, double> edges;
  for (int64_t item = 0; item < n_items; ++item) {
    for (int32_t slot = 0; slot < k; ++slot) {
      const auto at = static_cast<size_t>(item * k + slot);
      if (top.neighbors[at] < 0) continue;
      double& weight = edges[std::minmax<int64_t>(item, top.neighbors[at])];
      weight = std::max(weight, static_cast<double>(top.counts[at]));
    }
  }
  std::vector<double> degree(static_cast<size_t>(n_items), 0.0);
  std::map<int32_t, double> inside, total;
  double all = 0;
  for (const auto& [pair, weight] : edges) {
    const auto a = static_cast<size_t>(pair.first), b = static_cast<size_t>(pair.second);
    total[center_of[a]] += weight;
    total[center_of[b]] += weight;
    if (center_of[a] == center_of[b]) inside[center_of[a]] += weight;
    all += weight;
  }
  double modularity = 0;
  for (const auto& [center, weight] : total) {
    modularity += inside[center] / all - std::pow(weight / (2 * all), 2);
  }
  return modularity;
}

TEST(GraphAssign, ModularityIsAtLeastThatOfThePlantedPartition) {
  const Planted planted = PlantedLog(25, 40, 2500, 7);
  const Covisit::TopK top = Graph(planted.log, 1000, 8);
  const Assignment found = Assign(top, 1000, 8);
  const double planted_modularity = Modularity(top, 1000, 8, planted.interest_of);
  EXPECT_GT(planted_modularity, 0.5);
  EXPECT_GE(Modularity(top, 1000, 8, found.center_of), planted_modularity - 0.005);
}

TEST(GraphAssign, EmptyIsValid) {
  int64_t n_centers = -1;
  EXPECT_EQ(resembed_graph_assign(nullptr, nullptr, 0, 4, nullptr, nullptr, &n_centers), RESEMBED_OK);
  EXPECT_EQ(n_centers, 0);
  const Assignment lonely = Assign({std::vector<int32_t>(6, -1), std::vector<int64_t>(6, 0)}, 3, 2, 1, 1);
  EXPECT_EQ(lonely.n_centers, 0);
  EXPECT_THAT(lonely.center_of, ElementsAre(-1, -1, -1));
}

TEST(GraphAssign, RejectsBadArguments) {
  std::vector<int32_t> neighbors = {1, -1, 0, -1, -1, -1};
  std::vector<int64_t> counts = {2, 0, 2, 0, 0, 0};
  std::vector<int32_t> center_of(3, 9);
  int64_t n_centers = 9;
  resembed_graph_assign_options options = {};
  options.struct_size = sizeof(options);
  const auto assign = [&] {
    return resembed_graph_assign(neighbors.data(), counts.data(), 3, 2, &options, center_of.data(),
                                 &n_centers);
  };
  const auto rejects = [&](resembed_status status, const char* message) {
    EXPECT_EQ(assign(), status);
    EXPECT_STREQ(resembed_last_error_message(), message);
    EXPECT_THAT(center_of, ElementsAre(9, 9, 9));
    EXPECT_EQ(n_centers, 9);
  };
  options.max_center_items = -1;
  rejects(RESEMBED_INVALID_ARGUMENT, "graph_assign: max_center_items is -1; needs >= 1, or 0 for no limit");
  options.max_center_items = 0;
  options.max_centers = -2;
  rejects(RESEMBED_INVALID_ARGUMENT, "graph_assign: max_centers is -2; needs >= 1, or 0 for no limit");
  options.max_centers = 0;
  options.resolution = -1;
  rejects(RESEMBED_INVALID_ARGUMENT, "graph_assign: resolution is -1; needs a finite number > 0, or 0 for 1");
  options.resolution = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(assign(), RESEMBED_INVALID_ARGUMENT);
  options.resolution = 0;
  options.max_center_items = 1;
  options.max_centers = 1;
  rejects(RESEMBED_INVALID_ARGUMENT,
          "graph_assign: max_centers is 1; needs >= 2 for 2 items at max_center_items 1");
  options.max_center_items = options.max_centers = 0;
  neighbors[2] = 3;
  rejects(RESEMBED_OUT_OF_RANGE, "graph_assign: neighbors[1, 0] is 3; needs -1 or an item below 3");
  neighbors[2] = -5;
  rejects(RESEMBED_OUT_OF_RANGE, "graph_assign: neighbors[1, 0] is -5; needs -1 or an item below 3");
  neighbors[2] = 0;
  counts[2] = 0;
  rejects(RESEMBED_OUT_OF_RANGE, "graph_assign: counts[1, 0] is 0; needs > 0");
  EXPECT_EQ(resembed_graph_assign(nullptr, counts.data(), 3, 2, nullptr, center_of.data(), &n_centers),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_assign: neighbors is null; needs a pointer");
  EXPECT_EQ(resembed_graph_assign(neighbors.data(), nullptr, 3, 2, nullptr, center_of.data(), &n_centers),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_assign: counts is null; needs a pointer");
  EXPECT_EQ(resembed_graph_assign(neighbors.data(), counts.data(), 3, 2, nullptr, nullptr, &n_centers),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_assign: center_of is null; needs a pointer");
  EXPECT_EQ(
      resembed_graph_assign(neighbors.data(), counts.data(), -3, 2, nullptr, center_of.data(), &n_centers),
      RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_assign: n_items is -3; needs 0 .. 2147483647");
}

TEST(GraphWeights, RejectsBadArguments) {
  const std::vector<int32_t> neighbors = {1, 0};
  const std::vector<int64_t> counts = {2, 2};
  std::vector<float> weights(2, 9);
  EXPECT_EQ(resembed_graph_weights(neighbors.data(), counts.data(), 2, 1, 3, weights.data()),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_weights: weighting is 3; needs avg (1) or gcn (2)");
  EXPECT_EQ(resembed_graph_weights(neighbors.data(), nullptr, 2, 1, RESEMBED_GRAPH_GCN, weights.data()),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_weights: counts is null; needs a pointer");
  EXPECT_EQ(
      resembed_graph_weights(neighbors.data(), counts.data(), 2, 65, RESEMBED_GRAPH_GCN, weights.data()),
      RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "graph_weights: k is 65; needs 1 .. 64");
  EXPECT_EQ(resembed_graph_weights(neighbors.data(), counts.data(), 2, 1, RESEMBED_GRAPH_GCN, nullptr),
            RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("graph_weights: weights is null"));
  EXPECT_THAT(weights, ElementsAre(9, 9));
}

TEST(GraphWeights, ANeighborWithoutAListGetsNoGcnWeight) {
  const std::vector<int32_t> neighbors = {1, 2, -1, -1, 0, -1};
  const std::vector<int64_t> counts = {3, 1, 0, 0, 1, 0};
  std::vector<float> weights(6);
  ASSERT_EQ(resembed_graph_weights(neighbors.data(), counts.data(), 3, 2, RESEMBED_GRAPH_GCN, weights.data()),
            RESEMBED_OK);
  EXPECT_THAT(weights, ElementsAre(0, 0.5f, 0, 0, 0.5f, 0));
}

}  // namespace
}  // namespace resembed::testing
