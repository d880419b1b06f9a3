// SPDX-License-Identifier: Apache-2.0
// The graph against a file worked out by hand.
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

struct GoldenCase {
  std::string claim;
  int64_t n_items = 0;
  int32_t window = 0, k = 0;
  std::vector<uint32_t> weights;
  SequenceLog log;
  PairMap pairs;
  std::map<int32_t, std::vector<int64_t>> top;  // item -> neighbor, count, ...
  std::map<int32_t, std::vector<double>> gcn;

  friend std::ostream& operator<<(std::ostream& out, const GoldenCase& c) { return out << c.claim; }
};

template <typename T>
std::vector<T> Rest(std::istringstream& line) {
  std::vector<T> values;
  for (T value; line >> value;) values.push_back(value);
  return values;
}

std::vector<GoldenCase> ReadGolden() {
  std::ifstream file(RESEMBED_TESTS_DIR "/graph/golden/covisit.txt");
  std::vector<GoldenCase> cases;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string word;
    if (!(line >> word) || word == "#") continue;
    if (word == "case") {
      cases.emplace_back();
      std::getline(line >> std::ws, cases.back().claim);
      continue;
    }
    GoldenCase& golden = cases.back();
    char colon;
    int32_t item, other;
    if (word == "items") {
      line >> golden.n_items;
    } else if (word == "window") {
      line >> golden.window;
    } else if (word == "weights") {
      golden.weights = Rest<uint32_t>(line);
    } else if (word == "k") {
      line >> golden.k;
    } else if (word == "sequence") {
      golden.log.Add(Rest<int32_t>(line));
    } else if (word == "pair") {
      line >> item >> other >> golden.pairs[{item, other}];
    } else if (word == "top") {
      line >> item >> colon;
      golden.top[item] = Rest<int64_t>(line);
    } else if (word == "gcn") {
      line >> item >> colon;
      golden.gcn[item] = Rest<double>(line);
    } else {
      ADD_FAILURE() << "golden file: " << text;
    }
  }
  return cases;
}

class Golden : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(Golden, MatchesHandWork) {
  const GoldenCase& golden = GetParam();
  Covisit counts(golden.n_items, golden.window, golden.weights);
  ASSERT_EQ(counts.Add(golden.log), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), golden.pairs);

  const Covisit::TopK top = counts.Top(golden.k);
  std::vector<float> avg(top.counts.size(), -1), gcn(top.counts.size(), -1);
  ASSERT_EQ(resembed_graph_weights(top.neighbors.data(), nullptr, golden.n_items, golden.k,
                                   RESEMBED_GRAPH_AVG, avg.data()),
            RESEMBED_OK);
  ASSERT_EQ(resembed_graph_weights(top.neighbors.data(), top.counts.data(), golden.n_items, golden.k,
                                   RESEMBED_GRAPH_GCN, gcn.data()),
            RESEMBED_OK);
  for (int32_t item = 0; item < golden.n_items; ++item) {
    const auto row = golden.top.count(item) ? golden.top.at(item) : std::vector<int64_t>();
    const size_t n = row.size() / 2;
    for (size_t slot = 0; slot < static_cast<size_t>(golden.k); ++slot) {
      const size_t at = static_cast<size_t>(item) * static_cast<size_t>(golden.k) + slot;
      EXPECT_EQ(top.neighbors[at], slot < n ? row[2 * slot] : -1) << "item " << item << " slot " << slot;
      EXPECT_EQ(top.counts[at], slot < n ? row[2 * slot + 1] : 0) << "item " << item << " slot " << slot;
      EXPECT_FLOAT_EQ(avg[at], slot < n ? 1.0f / static_cast<float>(n) : 0.0f);
      if (slot >= n) {
        EXPECT_EQ(gcn[at], 0.0f);
      }
      if (golden.gcn.count(item)) {
        EXPECT_NEAR(gcn[at], golden.gcn.at(item)[slot], 1e-7);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Covisit, Golden, ::testing::ValuesIn(ReadGolden()));

TEST(GoldenFile, HoldsCases) { EXPECT_GE(ReadGolden().size(), 6u); }

}  // namespace
}  // namespace resembed::testing
