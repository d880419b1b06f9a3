// SPDX-License-Identifier: Apache-2.0
// Communities of a weighted undirected graph: Louvain modularity with a limit on community size.
#pragma once

#include <cstdint>
#include <vector>

namespace resembed::detail {

// Each undirected edge stands in both rows. A node may stand for several items (a community of a finer
// level); then `inner` is the weight of edges inside it, each counted once.
struct WeightedGraph {
  std::vector<int64_t> offsets;  // [n_nodes + 1]
  std::vector<int32_t> to;       // [offsets[n_nodes]]
  std::vector<double> weight;    // the same; sums of integer counts, exact below 2^53
  std::vector<double> inner;     // [n_nodes]
  std::vector<int64_t> n_items;  // [n_nodes]

  int32_t n_nodes() const { return static_cast<int32_t>(n_items.size()); }
};

// Community of each node, numbered by lowest node. Blondel et al. 2008 with the resolution gamma of
// Reichardt and Bornholdt 2006: nodes move, in id order, to the neighboring community of largest
//   w(v, c) - gamma k_v K_c / 2m
// (ties: the lowest community; only for a true gain), until none moves; then communities become nodes. No
// move makes a community of more than max_items items. Deterministic. May throw std::bad_alloc.
std::vector<int32_t> Louvain(const WeightedGraph& items, double gamma, int64_t max_items);

// Reduces `community` to at most max_communities, none above max_items, by dissolving the smallest (ties:
// that of the highest lowest item) into the community it shares most weight with (ties: lowest item), else
// into the smallest; where it fits nowhere as a whole, item by item. Needs max_communities * max_items >=
// items. Leaves gaps in the numbering. May throw std::bad_alloc.
void MergeSmallest(const WeightedGraph& items, int64_t max_communities, int64_t max_items,
                   std::vector<int32_t>* community);

}  // namespace resembed::detail
