// SPDX-License-Identifier: Apache-2.0
// One center per item from a top-K graph.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "host/descriptor.h"
#include "host/graph/communities.h"
#include "host/graph/neighbor_lists.h"
#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {
namespace {

// Calls edge(a, b, weight) once for each undirected edge, self-loops left out; where both directions are
// given, the larger count.
template <typename Edge>
void ForEachEdge(const NeighborLists& lists, int64_t n_items, Edge&& edge) {
  for (int64_t item = 0; item < n_items; ++item) {
    const int32_t n = lists.size(item);
    for (int32_t slot = 0; slot < n; ++slot) {
      const int64_t other = lists.neighbor(item, slot);
      const int64_t back = lists.CountOf(other, item);
      if (other == item || (back > 0 && other < item)) continue;
      edge(static_cast<size_t>(item), static_cast<size_t>(other),
           static_cast<double>(std::max(lists.count(item, slot), back)));
    }
  }
}

// The symmetric graph over items that have an edge; node_items [nodes] says which they are, increasing.
WeightedGraph Symmetrize(const NeighborLists& lists, int64_t n_items, std::vector<int32_t>* node_items) {
  const auto n = static_cast<size_t>(n_items);
  std::vector<int64_t> degree(n, 0);
  ForEachEdge(lists, n_items, [&](size_t a, size_t b, double) { ++degree[a], ++degree[b]; });
  std::vector<int32_t> node_of(n, -1);
  WeightedGraph graph;
  graph.offsets.assign(1, 0);
  for (size_t item = 0; item < n; ++item) {
    if (degree[item] == 0) continue;
    node_of[item] = static_cast<int32_t>(node_items->size());
    node_items->push_back(static_cast<int32_t>(item));
    graph.offsets.push_back(graph.offsets.back() + degree[item]);
  }
  graph.inner.assign(node_items->size(), 0.0);
  graph.n_items.assign(node_items->size(), 1);
  graph.to.resize(static_cast<size_t>(graph.offsets.back()));
  graph.weight.resize(graph.to.size());
  std::vector<int64_t> next(graph.offsets.begin(), graph.offsets.end() - 1);
  const auto put = [&](size_t from, size_t to, double weight) {
    const auto at = static_cast<size_t>(next[static_cast<size_t>(node_of[from])]++);
    graph.to[at] = node_of[to];
    graph.weight[at] = weight;
  };
  ForEachEdge(lists, n_items, [&](size_t a, size_t b, double weight) {
    put(a, b, weight);
    put(b, a, weight);
  });
  return graph;
}

// New numbers by size (largest first), then by lowest item; returns how many communities there are.
int64_t NumberBySize(std::vector<int32_t>* community) {
  std::vector<int64_t> size(community->size(), 0);
  std::vector<int32_t> order;  // in order of lowest node
  for (const int32_t c : *community) {
    if (size[static_cast<size_t>(c)]++ == 0) order.push_back(c);
  }
  std::stable_sort(order.begin(), order.end(), [&size](int32_t a, int32_t b) {
    return size[static_cast<size_t>(a)] > size[static_cast<size_t>(b)];
  });
  std::vector<int32_t> number(community->size());
  for (size_t rank = 0; rank < order.size(); ++rank)
    number[static_cast<size_t>(order[rank])] = static_cast<int32_t>(rank);
  for (int32_t& c : *community) c = number[static_cast<size_t>(c)];
  return static_cast<int64_t>(order.size());
}

resembed_status Assign(const NeighborLists& lists, int64_t n_items,
                       const resembed_graph_assign_options& options, int32_t* center_of, int64_t* n_centers) {
  constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  const int64_t max_items = options.max_center_items == 0 ? kNoLimit : options.max_center_items;
  const int64_t max_centers = options.max_centers == 0 ? kNoLimit : options.max_centers;
  std::vector<int32_t> node_items;
  const WeightedGraph graph = Symmetrize(lists, n_items, &node_items);
  const auto n_nodes = static_cast<int64_t>(node_items.size());
  if (max_items != kNoLimit && n_nodes > 0 && (n_nodes - 1) / max_items + 1 > max_centers) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "graph_assign: max_centers is %lld; needs >= %lld for %lld items at max_center_items %lld",
                static_cast<long long>(max_centers), static_cast<long long>((n_nodes - 1) / max_items + 1),
                static_cast<long long>(n_nodes), static_cast<long long>(max_items));
  }
  const double gamma = options.resolution == 0.0f ? 1.0 : static_cast<double>(options.resolution);
  std::vector<int32_t> community = Louvain(graph, gamma, max_items);
  if (max_centers < n_nodes) MergeSmallest(graph, max_centers, max_items, &community);
  const int64_t n = NumberBySize(&community);
  std::fill_n(center_of, n_items, -1);
  for (size_t node = 0; node < node_items.size(); ++node) center_of[node_items[node]] = community[node];
  const bool cold = options.cold_center == 1 && n_nodes < n_items;
  if (cold) std::replace(center_of, center_of + n_items, -1, static_cast<int32_t>(n));
  *n_centers = cold ? n + 1 : n;
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" resembed_status resembed_graph_assign(const int32_t* neighbors, const int64_t* counts,
                                                 int64_t n_items, int32_t k,
                                                 const resembed_graph_assign_options* options,
                                                 int32_t* center_of, int64_t* n_centers) {
  using resembed::detail::Fail;
  const resembed_graph_assign_options read = resembed::detail::ReadDescriptor(options);
  if (n_centers == nullptr || (center_of == nullptr && n_items > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "graph_assign: %s is null; needs a pointer",
                n_centers == nullptr ? "n_centers" : "center_of");
  }
  if (read.max_center_items < 0 || read.max_centers < 0) {
    const bool items = read.max_center_items < 0;
    return Fail(RESEMBED_INVALID_ARGUMENT, "graph_assign: %s is %lld; needs >= 1, or 0 for no limit",
                items ? "max_center_items" : "max_centers",
                static_cast<long long>(items ? read.max_center_items : read.max_centers));
  }
  if (!(read.resolution >= 0.0f) || std::isinf(read.resolution)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "graph_assign: resolution is %g; needs a finite number > 0, or 0 for 1",
                static_cast<double>(read.resolution));
  }
  if (read.cold_center != 0 && read.cold_center != 1) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "graph_assign: cold_center is %d; needs 0 or 1", read.cold_center);
  }
  resembed::detail::NeighborLists lists;
  RESEMBED_RETURN_IF_ERROR(lists.Init("graph_assign", neighbors, counts, n_items, k, true));
  try {
    return resembed::detail::Assign(lists, n_items, read, center_of, n_centers);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "graph_assign: n_items is %lld; needs about %lld bytes of memory",
                static_cast<long long>(n_items), static_cast<long long>(n_items * (k * 24 + 100)));
  }
}
