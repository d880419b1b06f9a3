// SPDX-License-Identifier: Apache-2.0
// Weights of a top-K graph (Zhou et al. 2019, eq. 6 and 7).
//
//   AVG  W[i, j] = 1 / n_i,               n_i = neighbors of i
//   GCN  W[i, j] = Z_ij / sqrt(D_i D_j),  D_i = sum of row i of the top-K graph
#include <cmath>
#include <new>
#include <vector>

#include "host/graph/neighbor_lists.h"
#include "host/status.h"
#include "resembed/resembed.h"

extern "C" resembed_status resembed_graph_weights(const int32_t* neighbors, const int64_t* counts,
                                                  int64_t n_items, int32_t k,
                                                  resembed_graph_weighting weighting, float* weights) {
  using resembed::detail::Fail;
  using resembed::detail::NeighborLists;
  if (weighting != RESEMBED_GRAPH_AVG && weighting != RESEMBED_GRAPH_GCN) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "graph_weights: weighting is %d; needs avg (%d) or gcn (%d)",
                weighting, RESEMBED_GRAPH_AVG, RESEMBED_GRAPH_GCN);
  }
  const bool needs_counts = weighting == RESEMBED_GRAPH_GCN;
  NeighborLists lists;
  RESEMBED_RETURN_IF_ERROR(lists.Init("graph_weights", neighbors, counts, n_items, k, needs_counts));
  if (weights == nullptr && n_items > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "graph_weights: weights is null; needs a pointer");
  }
  std::vector<double> row_sums;
  try {
    row_sums.resize(needs_counts ? static_cast<size_t>(n_items) : 0);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "graph_weights: n_items is %lld; needs 8 bytes for each",
                static_cast<long long>(n_items));
  }
  for (int64_t item = 0; needs_counts && item < n_items; ++item) {
    for (int32_t slot = 0; slot < lists.size(item); ++slot) {
      row_sums[static_cast<size_t>(item)] += static_cast<double>(lists.count(item, slot));
    }
  }
  for (int64_t item = 0; item < n_items; ++item) {
    const int32_t n = lists.size(item);
    float* row = weights + item * k;
    for (int32_t slot = 0; slot < k; ++slot) {
      if (slot >= n) {
        row[slot] = 0;
      } else if (!needs_counts) {
        row[slot] = 1.0f / static_cast<float>(n);
      } else {
        // A neighbor with an empty row of its own cannot come from the top-K of a symmetric Z: weight 0.
        const double product =
            row_sums[static_cast<size_t>(item)] * row_sums[static_cast<size_t>(lists.neighbor(item, slot))];
        row[slot] =
            product > 0
                ? static_cast<float>(static_cast<double>(lists.count(item, slot)) / std::sqrt(product))
                : 0.0f;
      }
    }
  }
  return RESEMBED_OK;
}
