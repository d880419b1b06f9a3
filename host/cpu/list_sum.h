// SPDX-License-Identifier: Apache-2.0
// Sums of items of dense_items.h with neighbor lists, at the price of few instructions; AVX-512. An item of 16 columns
// takes about a hundred.
#pragma once

#include <cstdint>

#include "host/cpu/dense_items.h"
#include "host/cpu/item_cache.h"
#include "host/cpu/row_ops.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

// One stretch of positions of a feature, up to `last`, taken in order.
struct ListSum {
  // Items whose rows are on their way, into the second-level cache. Three are 27 rows, each on a page of its
  // own: with 50 and more, translations of the earliest have left the first level when they are read. Of
  // items with a cache many are kept and send for little.
  static constexpr int RowsAhead(bool has_cache) { return has_cache ? 7 : 3; }
  static constexpr int kListsAhead = 24;
  static constexpr int kSlots = 8;  // > RowsAhead

  DenseItems items;
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
