// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/list_sum.h"

namespace resembed::detail::cpu {

const ListSumFunctions* FindListSum(const resembed_table& table, resembed_dtype id_dtype, bool has_cache,
                                    const RowOps& ops) {
  const bool serves = ops.list_sum != nullptr && MapKindOf(table) == MapKind::kList && IsDense(table);
  return serves ? ops.list_sum(table.dim, id_dtype, has_cache) : nullptr;
}

}  // namespace resembed::detail::cpu
