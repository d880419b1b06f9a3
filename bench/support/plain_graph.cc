// SPDX-License-Identifier: Apache-2.0
#include "bench/support/plain_graph.h"

#include <algorithm>
#include <unordered_map>

namespace resembed::bench {
namespace {

struct Partner {
  int64_t count;
  int32_t item;
};

template <typename Pair>
void ForEachPair(const PlainLog& log, int32_t window, const Pair& pair) {
  for (int64_t first = 0; first < log.n_interactions; first += log.length) {
    const int64_t last = std::min(first + log.length, log.n_interactions);
    for (int64_t at = first; at < last; ++at) {
      for (int64_t other = at + 1; other < last && other <= at + window; ++other) {
        const int32_t low = std::min(log.ids[at], log.ids[other]),
                      high = std::max(log.ids[at], log.ids[other]);
        if (low != high) pair(static_cast<uint64_t>(low) << 32 | static_cast<uint64_t>(high));
      }
    }
  }
}

class Partners {
 public:
  explicit Partners(int64_t n_items) : of_(static_cast<size_t>(n_items)) {}
  void Add(uint64_t pair, int64_t count) {
    of_[pair >> 32].push_back({count, static_cast<int32_t>(pair & 0xffffffff)});
    of_[pair & 0xffffffff].push_back({count, static_cast<int32_t>(pair >> 32)});
    ++n_pairs_;
  }
  PlainGraph TopK(int32_t k) {
    PlainGraph out;
    const auto width = static_cast<size_t>(k);
    out.neighbors.assign(of_.size() * width, -1);
    out.counts.assign(of_.size() * width, 0);
    out.n_pairs = n_pairs_;
    for (size_t item = 0; item < of_.size(); ++item) {
      std::vector<Partner>& list = of_[item];
      const size_t n = std::min(list.size(), width);
      std::partial_sort(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(n), list.end(),
                        [](const Partner& a, const Partner& b) {
                          return a.count != b.count ? a.count > b.count : a.item < b.item;
                        });
      for (size_t slot = 0; slot < n; ++slot) {
        out.neighbors[item * width + slot] = list[slot].item;
        out.counts[item * width + slot] = list[slot].count;
      }
    }
    return out;
  }

 private:
  std::vector<std::vector<Partner>> of_;
  int64_t n_pairs_ = 0;
};

}  // namespace

PlainGraph HashedGraph(const PlainLog& log, int32_t window, int32_t k) {
  std::unordered_map<uint64_t, int64_t> counts;
  ForEachPair(log, window, [&counts](uint64_t pair) { ++counts[pair]; });
  Partners partners(log.n_items);
  for (const auto& [pair, count] : counts) partners.Add(pair, count);
  return partners.TopK(k);
}

PlainGraph SortedGraph(const PlainLog& log, int32_t window, int32_t k) {
  std::vector<uint64_t> pairs;
  ForEachPair(log, window, [&pairs](uint64_t pair) { pairs.push_back(pair); });
  std::sort(pairs.begin(), pairs.end());
  Partners partners(log.n_items);
  for (size_t at = 0, end = 0; at < pairs.size(); at = end) {
    while (end < pairs.size() && pairs[end] == pairs[at]) ++end;
    partners.Add(pairs[at], static_cast<int64_t>(end - at));
  }
  return partners.TopK(k);
}

}  // namespace resembed::bench
