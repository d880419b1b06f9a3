// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/launch_tables.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>

namespace resembed::detail::cuda {

using kernels::LaunchForward;

const kernels::ForwardLaunch kForwardLaunches[3][3] = {
    {LaunchForward<float, float>, LaunchForward<float, __half>, LaunchForward<float, __nv_bfloat16>},
    {LaunchForward<__half, float>, LaunchForward<__half, __half>, LaunchForward<__half, __nv_bfloat16>},
    {LaunchForward<__nv_bfloat16, float>, LaunchForward<__nv_bfloat16, __half>,
     LaunchForward<__nv_bfloat16, __nv_bfloat16>},
};

resembed_status CheckForwardTypes(const char* op, int32_t index, const resembed_table& table) {
  if (kForwardLaunches[table.central_dtype][table.residual_dtype] != nullptr) return RESEMBED_OK;
  char built[160] = "";
  size_t used = 0;
  for (resembed_dtype central = RESEMBED_F32; central <= RESEMBED_BF16; ++central) {
    for (resembed_dtype residual = RESEMBED_F32; residual <= RESEMBED_BF16; ++residual) {
      if (kForwardLaunches[central][residual] == nullptr) continue;
      const int wrote = std::snprintf(built + used, sizeof(built) - used, "%s%s/%s", used == 0 ? "" : " ",
                                      DtypeName(central), DtypeName(residual));
      used += wrote > 0 ? static_cast<size_t>(wrote) : 0;
    }
  }
  return Fail(RESEMBED_UNSUPPORTED, "%s: tables[%d] is %s/%s (C/R); needs types that are built for cuda: %s",
              op, index, DtypeName(table.central_dtype), DtypeName(table.residual_dtype), built);
}

}  // namespace resembed::detail::cuda
