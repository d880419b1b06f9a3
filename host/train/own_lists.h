// SPDX-License-Identifier: Apache-2.0
// The neighbor lists that a training user's samples see when her own clicks are left out of the graph.
#pragma once

#include <cstdint>
#include <vector>

#include "host/train/log.h"

namespace resembed::train {

struct InterestGraph;

// Lists of (user, item) that differ from everybody's stand as rows of their own behind those of the items.
// Memory: 4 k + 4 bytes for each of them, at most one for each distinct (training user, item) of the log.
struct OwnLists {
  std::vector<int64_t> offsets;    // [n_users + 1] into items
  std::vector<int32_t> items;      // a user's items whose list changes, increasing
  std::vector<int32_t> neighbors;  // [n_rows(), k]: n_items lists of everybody, then one for each of `items`
  int64_t n_items = 0;

  bool empty() const { return neighbors.empty(); }
  int64_t n_rows() const { return n_items + static_cast<int64_t>(items.size()); }
  // The row of `neighbors` that holds the item's list as the user sees it.
  int32_t RowOf(int32_t user, int32_t item) const;
};

// graph: as BuildGraph made it from the same log and split. The counts of all pairs are made again, and take
// 24 bytes a pair while this runs. Throws Error.
OwnLists MakeOwnLists(const Log& log, const Split& split, const InterestGraph& graph, int n_threads);

}  // namespace resembed::train
