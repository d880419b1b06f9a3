// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/launch_tables.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>

#include "host/descriptor.h"

namespace resembed::detail::cuda {

using kernels::LaunchBackward;
using kernels::LaunchForward;
using kernels::LaunchUpdate;

constexpr ForwardLaunches kForwardLaunches = {
    {LaunchForward<float, float>, LaunchForward<float, __half>, LaunchForward<float, __nv_bfloat16>},
    {LaunchForward<__half, float>, LaunchForward<__half, __half>, LaunchForward<__half, __nv_bfloat16>},
    {LaunchForward<__nv_bfloat16, float>, LaunchForward<__nv_bfloat16, __half>,
     LaunchForward<__nv_bfloat16, __nv_bfloat16>},
};

constexpr kernels::BackwardLaunch kBackwardLaunches[2][2] = {
    {LaunchBackward<false, 1>, LaunchBackward<false, 4>},
    {LaunchBackward<true, 1>, LaunchBackward<true, 4>},
};

constexpr UpdateLaunches kUpdateLaunches = {
    LaunchUpdate<RESEMBED_SGD>, LaunchUpdate<RESEMBED_ADAGRAD>, LaunchUpdate<RESEMBED_ROWWISE_ADAGRAD>,
    LaunchUpdate<RESEMBED_ADAM>, LaunchUpdate<RESEMBED_PARTIAL_ROWWISE_ADAM>};

namespace {

// Words with a space between them; what does not fit is left out.
struct WordList {
  char text[200] = "";
  size_t used = 0;

  void Add(const char* first, const char* second = nullptr) {
    const int wrote = std::snprintf(text + used, sizeof(text) - used, "%s%s%s%s", used == 0 ? "" : " ", first,
                                    second == nullptr ? "" : "/", second == nullptr ? "" : second);
    if (wrote > 0 && used + static_cast<size_t>(wrote) < sizeof(text)) used += static_cast<size_t>(wrote);
  }
};

}  // namespace

resembed_status CheckForwardTypes(const char* op, int32_t index, const resembed_table& table,
                                  const ForwardLaunches& built) {
  if (built[table.central_dtype][table.residual_dtype] != nullptr) return RESEMBED_OK;
  WordList pairs;
  for (resembed_dtype central = RESEMBED_F32; central <= RESEMBED_BF16; ++central) {
    for (resembed_dtype residual = RESEMBED_F32; residual <= RESEMBED_BF16; ++residual) {
      if (built[central][residual] != nullptr) pairs.Add(DtypeName(central), DtypeName(residual));
    }
  }
  return Fail(RESEMBED_UNSUPPORTED, "%s: tables[%d] is %s/%s (C/R); needs types that are built for cuda: %s",
              op, index, DtypeName(table.central_dtype), DtypeName(table.residual_dtype), pairs.text);
}

resembed_status CheckUpdates(const char* op, const resembed_table_step* const* steps, int32_t n_steps,
                             const UpdateLaunches& built) {
  for (int32_t index = 0; index < n_steps; ++index) {
    if (steps[index] == nullptr) continue;
    const resembed_table_step step = ReadDescriptor(steps[index]);
    for (const resembed_optimizer* given : {step.residual, step.central}) {
      if (given == nullptr) continue;
      const resembed_optimizer_kind kind = ReadDescriptor(given).kind;
      if (built[kind] != nullptr) continue;
      WordList kinds;
      for (resembed_optimizer_kind other = RESEMBED_SGD; other <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++other) {
        if (built[other] != nullptr) kinds.Add(OptimizerName(other));
      }
      return Fail(RESEMBED_UNSUPPORTED,
                  "%s: steps[%d].%s.kind is %s; needs an optimizer that is built for cuda: %s", op, index,
                  given == step.residual ? "residual" : "central", OptimizerName(kind), kinds.text);
    }
  }
  return RESEMBED_OK;
}

}  // namespace resembed::detail::cuda
