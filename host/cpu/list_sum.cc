// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/list_sum.h"

namespace resembed::detail::cpu {

const ListSumFunctions* FindListSum(const resembed_table& table, resembed_dtype id_dtype, bool has_cache,
                                    const RowOps& ops) {
  constexpr int64_t kWidth = ListSum::kNeighbors;
  const auto is_dense = [&table](const void* rows, int64_t stride, resembed_dtype dtype) {
    return rows != nullptr && dtype == RESEMBED_F32 && stride == table.dim &&
           reinterpret_cast<uintptr_t>(rows) % 64 == 0;
  };
  const bool is_stored = table.form == RESEMBED_CENTRAL_STORED;
  const bool serves = ops.list_sum != nullptr && (is_stored || table.form == RESEMBED_CENTRAL_UNIFORM) &&
                      is_dense(table.central, table.central_stride, table.central_dtype) &&
                      is_dense(table.residual, table.residual_stride, table.residual_dtype) &&
                      table.residual_row_of == nullptr && table.n_neighbors == kWidth &&
                      table.neighbors_stride == kWidth &&
                      (!is_stored || table.neighbor_weights_stride == kWidth);
  return serves ? ops.list_sum(table.dim, id_dtype, has_cache) : nullptr;
}

}  // namespace resembed::detail::cpu
