// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/dense_sum.h"

namespace resembed::detail::cpu {

const DenseSumFunctions* FindDenseSum(const resembed_table& table, resembed_dtype id_dtype, bool has_cache,
                                      const RowOps& ops) {
  if (ops.dense_sum == nullptr || !IsDense(table)) return nullptr;
  return ops.dense_sum(MapKindOf(table), table.dim, id_dtype, has_cache);
}

}  // namespace resembed::detail::cpu
