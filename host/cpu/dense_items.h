// SPDX-License-Identifier: Apache-2.0
// Items of the commonest kinds of table, whose loops have as constants what elsewhere is read and decided at run
// time: fp32 rows of whole cache lines without gaps, a residual row for each item, 16, 32, 64, 128 or 256 columns, and
// no center, one center, or a list of 8 neighbors. Their embeddings have the bits of ItemStream and RowOps::compose,
// which serve every other table.
//
// It is instructions that such loops wait for: the processor overlaps as many items as fit a window of a few hundred.
#pragma once

#include <cstdint>

#include "host/cpu/row_ops.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

// Where an item's central rows come from, where a loop knows it at compile time.
enum class MapKind { kAny, kNone, kCode, kList };

inline MapKind MapKindOf(const resembed_table& table) {
  return table.form == RESEMBED_CENTRAL_NONE         ? MapKind::kNone
         : table.form == RESEMBED_CENTRAL_ASSIGNMENT ? MapKind::kCode
                                                     : MapKind::kList;
}

// One stretch of positions of a feature, up to `last`, taken in order.
struct DenseItems {
  static constexpr int kNeighbors = 8;

  const float* central;
  const float* residual;
  const int32_t* neighbors;
  const float* weights;  // null: 1 / length of the list
  const void* center_of;
  bool has_short_codes;  // uint16
  const void* ids;
  int64_t n_items, padding_id;  // padding_id -1: none
  int64_t last;
  int64_t rows_sent, maps_sent;  // positions before which rows and maps have been sent for
};

// Whether `table`, resolved and checked, is of these kinds; of its columns it says nothing, see the functions over them.
bool IsDense(const resembed_table& table);
// Positions [first, last) of `feature`, a feature of `table`, which IsDense.
DenseItems DenseItemsOf(const resembed_table& table, const resembed_feature& feature, int64_t first,
                        int64_t last);

}  // namespace resembed::detail::cpu
