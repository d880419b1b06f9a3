// SPDX-License-Identifier: Apache-2.0
#include "host/train/dense.h"

namespace resembed::train {

namespace baseline {
const DenseOps& Ops();
}
#ifdef RESEMBED_DENSE_X86
namespace avx2 {
const DenseOps& Ops();
}
namespace avx512 {
const DenseOps& Ops();
}
#endif

const DenseOps& Dense() {
  static const DenseOps& ops = []() -> const DenseOps& {
#ifdef RESEMBED_DENSE_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
      return avx512::Ops();
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::Ops();
#endif
    return baseline::Ops();
  }();
  return ops;
}

}  // namespace resembed::train
