// SPDX-License-Identifier: Apache-2.0
// Centers found by the graph against the interests of a generated log, beside chance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "host/train/log.h"
#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

struct Agreement {
  double adjusted_rand, normalized_information;
};

// Adjusted Rand index (Hubert and Arabie 1985) and mutual information over the mean of both entropies.
Agreement Compare(const std::vector<int32_t>& found, const std::vector<int32_t>& truth) {
  std::map<std::pair<int32_t, int32_t>, double> both;
  std::map<int32_t, double> a, b;
  const auto n = static_cast<double>(found.size());
  for (size_t item = 0; item < found.size(); ++item) {
    ++both[{found[item], truth[item]}];
    ++a[found[item]];
    ++b[truth[item]];
  }
  const auto pairs = [](double x) { return x * (x - 1) / 2; };
  const auto entropy = [n](double x) { return -x / n * std::log(x / n); };
  double together = 0, in_a = 0, in_b = 0, joint = 0, of_a = 0, of_b = 0;
  for (const auto& entry : both) together += pairs(entry.second), joint += entropy(entry.second);
  for (const auto& entry : a) in_a += pairs(entry.second), of_a += entropy(entry.second);
  for (const auto& entry : b) in_b += pairs(entry.second), of_b += entropy(entry.second);
  const double expected = in_a * in_b / pairs(n);
  return {(together - expected) / ((in_a + in_b) / 2 - expected), 2 * (of_a + of_b - joint) / (of_a + of_b)};
}

// Items without a center count as a center of their own each.
std::vector<int32_t> Complete(std::vector<int32_t> center_of, int64_t n_centers) {
  auto next = static_cast<int32_t>(n_centers);
  for (int32_t& center : center_of) {
    if (center < 0) center = next++;
  }
  return center_of;
}

// The trivial baseline: the same sizes, items drawn at random.
TEST(GraphAssign, FindsTheInterestsOfAGeneratedLog) {
  for (const uint64_t seed : {1, 2, 3}) {
    train::GeneratorOptions generator;
    generator.seed = seed;
    const train::Log log = train::GenerateLog(generator);
    Counting counts(Options(log.n_items()));
    SequenceLog sequences;
    sequences.ids = log.items;
    sequences.offsets = log.offsets;
    ASSERT_EQ(counts.Add(sequences), RESEMBED_OK);
    const auto n_entries = static_cast<size_t>(log.n_items() * 8);
    std::vector<int32_t> neighbors(n_entries), center_of(static_cast<size_t>(log.n_items()));
    std::vector<int64_t> values(n_entries);
    int64_t n_centers = 0;
    resembed_graph_options graph = GraphOptions(8);
    for (const double popularity : {0.0, 0.5}) {
      graph.popularity = popularity;
      ASSERT_EQ(resembed_covisit_graph(counts.get(), &graph, neighbors.data(), values.data()), RESEMBED_OK);
      ASSERT_EQ(resembed_graph_assign(neighbors.data(), values.data(), log.n_items(), 8, nullptr,
                                      center_of.data(), &n_centers),
                RESEMBED_OK);
      const std::vector<int32_t> found = Complete(center_of, n_centers);
      std::vector<int32_t> shuffled = found;
      std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937_64(seed));
      const Agreement graph_agrees = Compare(found, log.interest_of),
                      chance = Compare(shuffled, log.interest_of);
      std::printf(
          "seed %llu popularity %g: %lld centers, adjusted Rand %.3f (chance %.3f), information %.3f "
          "(chance %.3f)\n",
          static_cast<unsigned long long>(seed), popularity, static_cast<long long>(n_centers),
          graph_agrees.adjusted_rand, chance.adjusted_rand, graph_agrees.normalized_information,
          chance.normalized_information);
      EXPECT_LT(std::abs(chance.adjusted_rand), 0.01);
      EXPECT_GT(graph_agrees.normalized_information, (1 + chance.normalized_information) / 2);
      EXPECT_GT(graph_agrees.adjusted_rand, (1 + chance.adjusted_rand) / 2);
    }
  }
}

}  // namespace
}  // namespace resembed::testing
