// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/row_ops.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace resembed::detail {

namespace isa_portable {
extern const RowOps kRowOps;
}
#if defined(__x86_64__)
namespace isa_avx2 {
extern const RowOps kRowOps;
}
namespace isa_avx512 {
extern const RowOps kRowOps;
}
#endif

#if defined(__x86_64__)
// Conversions of fp16, which not every compiler's __builtin_cpu_supports knows; saved by the system with AVX.
// Asked once: cpuid leaves a virtual machine and takes microseconds, more than the rest of a small call.
static bool HasF16c() {
  static const bool has = [] {
    unsigned int a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  }();
  return has;
}
#endif

bool IsaAvailable(resembed_cpu_isa isa) {
  if (isa == RESEMBED_ISA_BEST || isa == RESEMBED_ISA_PORTABLE) return true;
#if defined(__x86_64__)
  if (isa == RESEMBED_ISA_AVX2) return __builtin_cpu_supports("avx2") && HasF16c();
  if (isa == RESEMBED_ISA_AVX512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && HasF16c();
  }
#endif
  return false;
}

resembed_cpu_isa ResolveIsa(resembed_cpu_isa isa) {
  if (isa != RESEMBED_ISA_BEST) return isa;
  if (IsaAvailable(RESEMBED_ISA_AVX512)) return RESEMBED_ISA_AVX512;
  if (IsaAvailable(RESEMBED_ISA_AVX2)) return RESEMBED_ISA_AVX2;
  return RESEMBED_ISA_PORTABLE;
}

const RowOps& GetRowOps(resembed_cpu_isa isa) {
#if defined(__x86_64__)
  switch (ResolveIsa(isa)) {
    case RESEMBED_ISA_AVX512:
      return isa_avx512::kRowOps;
    case RESEMBED_ISA_AVX2:
      return isa_avx2::kRowOps;
    default:
      break;
  }
#else
  static_cast<void>(isa);
#endif
  return isa_portable::kRowOps;
}

}  // namespace resembed::detail
