// SPDX-License-Identifier: Apache-2.0
// Sums of items of dense_items.h, at the price of few instructions. An item of 8 neighbors and 16 columns takes
// about a hundred.
#pragma once

#include <cstdint>

#include "host/cpu/dense_items.h"
#include "host/cpu/item_cache.h"
#include "host/cpu/row_ops.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

// One stretch of positions of a feature, up to `last`, taken in order.
struct DenseSum {
  static constexpr int kSlots = 8;

  DenseItems items;
  ItemCache* cache;  // or null

  // With a cache, of the positions from the one in hand to kSlots - 1 later: where the embedding is kept or is
  // to be.
  struct Slot {
    float* row;
    bool is_kept;
  };
  Slot slots[kSlots];
};

struct DenseSumFunctions {
  // Sends for what the first positions need. Once, before add.
  void (*begin)(DenseSum* sum, int64_t first);
  // y += a_0 e_0, then a_1 e_1, ... of positions [first, first + n), which follow those of the call before; a
  // null: all are 1. Returns how many items took part.
  int64_t (*add)(DenseSum* sum, int64_t first, int64_t n, const float* a, float* y);
};

// Null where `table` is of another kind or the instruction set of `ops` has no such functions.
const DenseSumFunctions* FindDenseSum(const resembed_table& table, resembed_dtype id_dtype, bool has_cache,
                                      const RowOps& ops);

}  // namespace resembed::detail::cpu
