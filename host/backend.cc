// SPDX-License-Identifier: Apache-2.0
// What this build and this machine can run.
#include "host/cpu/row_ops.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/device.h"
#endif
#include "host/status.h"
#include "resembed/resembed.h"

using resembed::detail::Fail;
using resembed::detail::IsaName;

extern "C" {

resembed_status resembed_backend_available(resembed_backend backend, int32_t device) {
  switch (backend) {
    case RESEMBED_CPU:
      if (device != 0) {
        return Fail(RESEMBED_INVALID_ARGUMENT, "backend_available: device is %d; needs 0 on the cpu", device);
      }
      return RESEMBED_OK;
    case RESEMBED_CUDA:
#ifdef RESEMBED_WITH_CUDA
      return resembed::detail::cuda::CheckBackend("backend_available", device);
#else
      return Fail(RESEMBED_UNSUPPORTED,
                  "backend_available: backend is cuda; needs cpu (this build has no cuda kernels)");
#endif
    default:
      return Fail(RESEMBED_INVALID_ARGUMENT, "backend_available: backend is %d; needs cpu (%d) or cuda (%d)",
                  backend, RESEMBED_CPU, RESEMBED_CUDA);
  }
}

resembed_status resembed_isa_available(resembed_cpu_isa isa) {
  if (isa < RESEMBED_ISA_BEST || isa > RESEMBED_ISA_AVX512) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "isa_available: isa is %d; needs best, portable, avx2 or avx512",
                isa);
  }
  if (!resembed::detail::IsaAvailable(isa)) {
    return Fail(RESEMBED_UNSUPPORTED, "isa_available: isa is %s; needs what this machine has (widest: %s)",
                IsaName(isa), IsaName(resembed_best_isa()));
  }
  return RESEMBED_OK;
}

resembed_cpu_isa resembed_best_isa(void) { return resembed::detail::ResolveIsa(RESEMBED_ISA_BEST); }

}  // extern "C"
