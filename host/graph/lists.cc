// SPDX-License-Identifier: Apache-2.0
// From one list of neighbors to another: symmetric, two hops long, or read from edges.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "host/graph/neighbor_lists.h"
#include "host/graph/top_k.h"
#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {
namespace {

struct Edge {
  int32_t item, neighbor;
  int64_t count;
};

bool RowThenBest(const Edge& a, const Edge& b) {
  if (a.item != b.item) return a.item < b.item;
  if (a.count != b.count) return a.count > b.count;
  return a.neighbor < b.neighbor;
}

// Sorted edges to lists of at most k; returns how many were left out.
int64_t WriteLists(const std::vector<Edge>& edges, int64_t n_items, int32_t k, int32_t* neighbors,
                   int64_t* counts) {
  std::fill_n(neighbors, n_items * k, -1);
  std::fill_n(counts, n_items * k, 0);
  int64_t slot = 0, cut = 0;
  for (size_t e = 0; e < edges.size(); ++e) {
    slot = e > 0 && edges[e - 1].item == edges[e].item ? slot + 1 : 0;
    if (slot >= k) {
      ++cut;
      continue;
    }
    neighbors[edges[e].item * int64_t{k} + slot] = edges[e].neighbor;
    counts[edges[e].item * int64_t{k} + slot] = edges[e].count;
  }
  return cut;
}

resembed_status CheckWidth(const char* op, const char* name, int32_t k) {
  if (k >= 1 && k <= RESEMBED_MAX_NEIGHBORS) return RESEMBED_OK;
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is %d; needs 1 .. %d", op, name, k, RESEMBED_MAX_NEIGHBORS);
}

resembed_status NoMemory(const char* op, int64_t n_items, int64_t bytes) {
  return Fail(RESEMBED_OUT_OF_MEMORY, "%s: n_items is %lld; needs about %lld bytes of memory", op,
              static_cast<long long>(n_items), static_cast<long long>(bytes));
}

std::vector<Edge> SymmetricEdges(const NeighborLists& lists, int64_t n_items,
                                 resembed_graph_symmetry symmetry) {
  std::vector<Edge> edges;
  for (int64_t item = 0; item < n_items; ++item) {
    for (int32_t slot = 0; slot < lists.size(item); ++slot) {
      const int32_t other = lists.neighbor(item, slot);
      const int64_t back = other == item ? 1 : lists.CountOf(other, item);
      if (symmetry == RESEMBED_GRAPH_MUTUAL && back == 0) continue;
      edges.push_back({static_cast<int32_t>(item), other, lists.count(item, slot)});
      if (back == 0) edges.push_back({other, static_cast<int32_t>(item), lists.count(item, slot)});
    }
  }
  std::sort(edges.begin(), edges.end(), RowThenBest);
  return edges;
}

// Rows of one_hop W + W W, each over a dense accumulator that is cleared by what was touched.
void TwoHop(const NeighborLists& lists, const float* weights, int64_t n_items, int32_t k, float one_hop,
            int32_t k_out, int32_t* neighbors_out, float* weights_out) {
  std::vector<double> sum(static_cast<size_t>(n_items), 0.0);
  std::vector<char> seen(static_cast<size_t>(n_items), 0);
  std::vector<int32_t> touched;
  const auto add = [&](int32_t item, double weight) {
    if (!seen[static_cast<size_t>(item)]) {
      seen[static_cast<size_t>(item)] = 1;
      touched.push_back(item);
    }
    sum[static_cast<size_t>(item)] += weight;
  };
  for (int64_t item = 0; item < n_items; ++item) {
    touched.clear();
    for (int32_t slot = 0; slot < lists.size(item); ++slot) {
      const int64_t middle = lists.neighbor(item, slot);
      const auto weight = static_cast<double>(weights[item * k + slot]);
      if (one_hop != 0) add(static_cast<int32_t>(middle), static_cast<double>(one_hop) * weight);
      for (int32_t next = 0; next < lists.size(middle); ++next) {
        add(lists.neighbor(middle, next), weight * static_cast<double>(weights[middle * k + next]));
      }
    }
    const auto n = std::min(touched.size(), static_cast<size_t>(k_out));
    std::partial_sort(touched.begin(), touched.begin() + static_cast<std::ptrdiff_t>(n), touched.end(),
                      [&sum](int32_t a, int32_t b) {
                        const double x = sum[static_cast<size_t>(a)], y = sum[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    for (size_t slot = 0; slot < static_cast<size_t>(k_out); ++slot) {
      const int64_t at = item * k_out + static_cast<int64_t>(slot);
      neighbors_out[at] = slot < n ? touched[slot] : -1;
      weights_out[at] = slot < n ? static_cast<float>(sum[static_cast<size_t>(touched[slot])]) : 0.0f;
    }
    for (const int32_t other : touched) {
      sum[static_cast<size_t>(other)] = 0;
      seen[static_cast<size_t>(other)] = 0;
    }
  }
}

resembed_status CheckEdges(const int32_t* items, const int32_t* neighbors_of, const int64_t* values,
                           int64_t n_edges, int64_t n_items) {
  for (int64_t e = 0; e < n_edges; ++e) {
    for (const int32_t id : {items[e], neighbors_of[e]}) {
      if (id >= 0 && id < n_items) continue;
      return Fail(RESEMBED_OUT_OF_RANGE, "graph_from_edges: %s[%lld] is %d; needs 0 .. n_items - 1 (%lld)",
                  id == items[e] ? "items" : "neighbors_of", static_cast<long long>(e), id,
                  static_cast<long long>(n_items - 1));
    }
    if (values[e] <= 0) {
      return Fail(RESEMBED_OUT_OF_RANGE, "graph_from_edges: values[%lld] is %lld; needs > 0",
                  static_cast<long long>(e), static_cast<long long>(values[e]));
    }
  }
  return RESEMBED_OK;
}

resembed_status FromEdges(std::vector<Edge> edges, int64_t n_items, int32_t k, int32_t* neighbors,
                          int64_t* counts) {
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) {
    return a.item != b.item ? a.item < b.item : a.neighbor < b.neighbor;
  });
  for (size_t e = 1; e < edges.size(); ++e) {
    if (edges[e - 1].item == edges[e].item && edges[e - 1].neighbor == edges[e].neighbor) {
      return Fail(RESEMBED_INVALID_ARGUMENT,
                  "graph_from_edges: edge %d -> %d is given twice; needs each edge once", edges[e].item,
                  edges[e].neighbor);
    }
  }
  std::sort(edges.begin(), edges.end(), RowThenBest);
  WriteLists(edges, n_items, k, neighbors, counts);
  return RESEMBED_OK;
}

resembed_status CheckOutputs(const char* op, int64_t n_items, const void* neighbors, const void* values,
                             const char* values_name) {
  if (n_items == 0 || (neighbors != nullptr && values != nullptr)) return RESEMBED_OK;
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", op,
              neighbors == nullptr ? "neighbors_out" : values_name);
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

using resembed::detail::Fail;
using resembed::detail::NeighborLists;

resembed_status resembed_graph_symmetrize(const int32_t* neighbors, const int64_t* counts, int64_t n_items,
                                          int32_t k, resembed_graph_symmetry symmetry, int32_t k_out,
                                          int32_t* neighbors_out, int64_t* counts_out, int64_t* n_cut) {
  constexpr const char* kOp = "graph_symmetrize";
  NeighborLists lists;
  RESEMBED_RETURN_IF_ERROR(lists.Init(kOp, neighbors, counts, n_items, k, true));
  if (symmetry != RESEMBED_GRAPH_MUTUAL && symmetry != RESEMBED_GRAPH_UNION) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: symmetry is %d; needs mutual (%d) or union (%d)", kOp,
                symmetry, RESEMBED_GRAPH_MUTUAL, RESEMBED_GRAPH_UNION);
  }
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckWidth(kOp, "k_out", k_out));
  RESEMBED_RETURN_IF_ERROR(
      resembed::detail::CheckOutputs(kOp, n_items, neighbors_out, counts_out, "counts_out"));
  try {
    const auto edges = resembed::detail::SymmetricEdges(lists, n_items, symmetry);
    const int64_t cut = resembed::detail::WriteLists(edges, n_items, k_out, neighbors_out, counts_out);
    if (n_cut != nullptr) *n_cut = cut;
    return RESEMBED_OK;
  } catch (const std::bad_alloc&) {
    return resembed::detail::NoMemory(kOp, n_items, 64 * n_items * k);
  }
}

resembed_status resembed_graph_two_hop(const int32_t* neighbors, const float* weights, int64_t n_items,
                                       int32_t k, float one_hop, int32_t k_out, int32_t* neighbors_out,
                                       float* weights_out) {
  constexpr const char* kOp = "graph_two_hop";
  NeighborLists lists;
  RESEMBED_RETURN_IF_ERROR(lists.Init(kOp, neighbors, nullptr, n_items, k, false));
  if (weights == nullptr && n_items > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: weights is null; needs a pointer", kOp);
  }
  if (!std::isfinite(one_hop) || one_hop < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: one_hop is %g; needs a finite number >= 0", kOp,
                static_cast<double>(one_hop));
  }
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckWidth(kOp, "k_out", k_out));
  RESEMBED_RETURN_IF_ERROR(
      resembed::detail::CheckOutputs(kOp, n_items, neighbors_out, weights_out, "weights_out"));
  try {
    resembed::detail::TwoHop(lists, weights, n_items, k, one_hop, k_out, neighbors_out, weights_out);
    return RESEMBED_OK;
  } catch (const std::bad_alloc&) {
    return resembed::detail::NoMemory(kOp, n_items, 9 * n_items + 4 * int64_t{k} * (k + 1));
  }
}

resembed_status resembed_graph_from_edges(const int32_t* items, const int32_t* neighbors_of,
                                          const int64_t* values, int64_t n_edges, int64_t n_items, int32_t k,
                                          int32_t* neighbors, int64_t* counts) {
  constexpr const char* kOp = "graph_from_edges";
  if (n_edges < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_edges is %lld; needs >= 0", kOp,
                static_cast<long long>(n_edges));
  }
  if (n_edges > 0 && (items == nullptr || neighbors_of == nullptr || values == nullptr)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", kOp,
                items == nullptr          ? "items"
                : neighbors_of == nullptr ? "neighbors_of"
                                          : "values");
  }
  if (n_items < 0 || n_items > std::numeric_limits<int32_t>::max()) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_items is %lld; needs 0 .. 2147483647", kOp,
                static_cast<long long>(n_items));
  }
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckWidth(kOp, "k", k));
  if (n_items > 0 && (neighbors == nullptr || counts == nullptr)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", kOp,
                neighbors == nullptr ? "neighbors" : "counts");
  }
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckEdges(items, neighbors_of, values, n_edges, n_items));
  try {
    std::vector<resembed::detail::Edge> edges(static_cast<size_t>(n_edges));
    for (int64_t e = 0; e < n_edges; ++e)
      edges[static_cast<size_t>(e)] = {items[e], neighbors_of[e], values[e]};
    return resembed::detail::FromEdges(std::move(edges), n_items, k, neighbors, counts);
  } catch (const std::bad_alloc&) {
    return resembed::detail::NoMemory(kOp, n_items, 16 * n_edges);
  }
}

}  // extern "C"
