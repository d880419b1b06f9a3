// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/step_ops.h"

#include "host/cpu/row_ops.h"

namespace resembed::detail {

namespace isa_portable {
extern const StepOps kStepOps;
}
#if defined(__x86_64__)
namespace isa_avx2 {
extern const StepOps kStepOps;
}
namespace isa_avx512 {
extern const StepOps kStepOps;
}
#endif

const StepOps& GetStepOps(resembed_cpu_isa isa) {
#if defined(__x86_64__)
  switch (ResolveIsa(isa)) {
    case RESEMBED_ISA_AVX512:
      return isa_avx512::kStepOps;
    case RESEMBED_ISA_AVX2:
      return isa_avx2::kStepOps;
    default:
      break;
  }
#else
  static_cast<void>(isa);
#endif
  return isa_portable::kStepOps;
}

}  // namespace resembed::detail
