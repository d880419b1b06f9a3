// SPDX-License-Identifier: Apache-2.0
// Sums of items of the commonest kind of table with neighbor lists, at the price of few instructions: fp32
// rows of whole cache lines without gaps, 16, 32, 64, 128 or 256 columns, K = 8, a residual row for each
// item; AVX-512. The bits are those of ItemStream and RowOps::pool, which serve every other table.
//
// What can be is a constant here, because instructions are what skewed ids wait for: an item of 16 columns
// takes about a hundred, and the processor overlaps as many items as fit a window of a few hundred.
#pragma once

#include <cstdint>

#include "host/cpu/item_cache.h"
#include "host/cpu/row_ops.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

// One stretch of positions of a feature, up to `last`, taken in order.
struct ListSum {
  static constexpr int kNeighbors = 8;
  // Items whose rows are on their way, into the second-level cache. Three are 27 rows, each on a page of its
  // own: with 50 and more, translations of the earliest have left the first level when they are read. Of
  // items with a cache many are kept and send for little.
  static constexpr int RowsAhead(bool has_cache) { return has_cache ? 7 : 3; }
  static constexpr int kListsAhead = 24;
  static constexpr int kSlots = 8;  // > RowsAhead

  const float* central;
  const float* residual;
  const int32_t* neighbors;
  const float* weights;  // null: 1 / length of the list
  const void* ids;
  int64_t n_items, padding_id;  // padding_id -1: none
  int64_t last;
  ItemCache* cache;  // or null

  // With a cache, of the positions from the one in hand to RowsAhead later: where the embedding is kept or is
  // to be.
  struct Slot {
    float* row;
    bool is_kept;
  };
  Slot slots[kSlots];
};

struct ListSumFunctions {
  // Sends for what the first positions need. Once, before add.
  void (*begin)(ListSum* sum, int64_t first);
  // y += a_0 e_0, then a_1 e_1, ... of positions [first, first + n), which follow those of the call before; a
  // null: all are 1. Returns how many items took part.
  int64_t (*add)(ListSum* sum, int64_t first, int64_t n, const float* a, float* y);
};

// Null where `table` is of another kind or the instruction set of `ops` has no such functions.
const ListSumFunctions* FindListSum(const resembed_table& table, resembed_dtype id_dtype, bool has_cache,
                                    const RowOps& ops);

}  // namespace resembed::detail::cpu
