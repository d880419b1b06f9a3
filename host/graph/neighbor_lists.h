// SPDX-License-Identifier: Apache-2.0
// A checked view of a top-K graph given by a caller.
#pragma once

#include <cstdint>
#include <limits>

#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// neighbors [n_items, k], -1 ends a list, the item itself may be in it; counts [n_items, k] or null, > 0
// inside a list.
class NeighborLists {
 public:
  resembed_status Init(const char* op, const int32_t* neighbors, const int64_t* counts, int64_t n_items,
                       int32_t k, bool needs_counts) {
    if (n_items < 0 || n_items > std::numeric_limits<int32_t>::max()) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_items is %lld; needs 0 .. 2147483647", op,
                  static_cast<long long>(n_items));
    }
    if (k < 1 || k > RESEMBED_MAX_NEIGHBORS) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: k is %d; needs 1 .. %d", op, k, RESEMBED_MAX_NEIGHBORS);
    }
    if (n_items > 0 && (neighbors == nullptr || (needs_counts && counts == nullptr))) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", op,
                  neighbors == nullptr ? "neighbors" : "counts");
    }
    neighbors_ = neighbors;
    counts_ = counts;
    k_ = k;
    for (int64_t item = 0; item < n_items; ++item) {
      for (int32_t slot = 0; slot < k; ++slot) {
        const int64_t at = item * k + slot;
        if (neighbors[at] == -1) break;
        if (neighbors[at] < 0 || neighbors[at] >= n_items) {
          return Fail(RESEMBED_OUT_OF_RANGE, "%s: neighbors[%lld, %d] is %d; needs -1 or an item below %lld",
                      op, static_cast<long long>(item), slot, neighbors[at], static_cast<long long>(n_items));
        }
        if (needs_counts && counts[at] <= 0) {
          return Fail(RESEMBED_OUT_OF_RANGE, "%s: counts[%lld, %d] is %lld; needs > 0", op,
                      static_cast<long long>(item), slot, static_cast<long long>(counts[at]));
        }
      }
    }
    return RESEMBED_OK;
  }

  int32_t size(int64_t item) const {
    int32_t n = 0;
    while (n < k_ && neighbors_[item * k_ + n] != -1) ++n;
    return n;
  }
  int32_t neighbor(int64_t item, int32_t slot) const { return neighbors_[item * k_ + slot]; }
  int64_t count(int64_t item, int32_t slot) const { return counts_[item * k_ + slot]; }
  // Count of `other` in the list of `item`; 0 when it is not there.
  int64_t CountOf(int64_t item, int64_t other) const {
    const int32_t n = size(item);
    for (int32_t slot = 0; slot < n; ++slot) {
      if (neighbor(item, slot) == other) return count(item, slot);
    }
    return 0;
  }

 private:
  const int32_t* neighbors_ = nullptr;
  const int64_t* counts_ = nullptr;
  int32_t k_ = 0;
};

}  // namespace resembed::detail
