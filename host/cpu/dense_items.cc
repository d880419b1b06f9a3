// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/dense_items.h"

namespace resembed::detail::cpu {

bool IsDense(const resembed_table& table) {
  constexpr int64_t kWidth = DenseItems::kNeighbors;
  const auto is_dense = [&table](const void* rows, int64_t stride, resembed_dtype dtype) {
    return rows != nullptr && dtype == RESEMBED_F32 && stride == table.dim &&
           reinterpret_cast<uintptr_t>(rows) % 64 == 0;
  };
  if (!is_dense(table.residual, table.residual_stride, table.residual_dtype) ||
      table.residual_row_of != nullptr) {
    return false;
  }
  if (table.form == RESEMBED_CENTRAL_NONE) return true;
  if (!is_dense(table.central, table.central_stride, table.central_dtype)) return false;
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) return true;
  const bool is_stored = table.form == RESEMBED_CENTRAL_STORED;
  return (is_stored || table.form == RESEMBED_CENTRAL_UNIFORM) && table.n_neighbors == kWidth &&
         table.neighbors_stride == kWidth && (!is_stored || table.neighbor_weights_stride == kWidth);
}

DenseItems DenseItemsOf(const resembed_table& table, const resembed_feature& feature, int64_t first,
                        int64_t last) {
  DenseItems items = {};
  items.central = static_cast<const float*>(table.central);
  items.residual = static_cast<const float*>(table.residual);
  items.neighbors = table.neighbors;
  items.weights = table.neighbor_weights;
  items.center_of = table.center_of;
  items.has_short_codes = table.center_of_dtype == RESEMBED_U16;
  items.ids = feature.ids;
  items.n_items = table.n_items;
  items.padding_id = feature.has_padding != 0 ? feature.padding_id : -1;
  items.last = last;
  items.rows_sent = items.maps_sent = first;
  return items;
}

}  // namespace resembed::detail::cpu
