// SPDX-License-Identifier: Apache-2.0
// The obvious code for a top-K graph without the library, on one thread, for logs that fit in memory several times.
#pragma once

#include <cstdint>
#include <vector>

namespace resembed::bench {

// Sequences of equal length, one behind the other.
struct PlainLog {
  const int32_t* ids;
  int64_t n_interactions, length, n_items;
};

struct PlainGraph {
  std::vector<int32_t> neighbors;  // [n_items, k], -1 past the end
  std::vector<int64_t> counts;     // [n_items, k], 0 past the end
  int64_t n_pairs = 0;
};

// ++count[pair] in a std::unordered_map, then a list of partners for each item and a partial sort of it.
PlainGraph HashedGraph(const PlainLog& log, int32_t window, int32_t k);
// All pairs in a std::vector, std::sort, lengths of equal runs, the same lists.
PlainGraph SortedGraph(const PlainLog& log, int32_t window, int32_t k);

}  // namespace resembed::bench
