// SPDX-License-Identifier: Apache-2.0
// Stochastic rounding of rows on the CPU; generator and rules in kernels/common/philox.h.
#pragma once

#include "kernels/common/philox.h"

namespace resembed::detail {

using kernels::Philox4x32;
using kernels::PhiloxBlock;
using kernels::RoundingStream;
using kernels::RoundToBfloat;
using kernels::RoundToHalf;

// y[0, dim) of F16 or BF16 = stochastically rounded x.
inline void StoreStochastic(void* y, resembed_dtype dtype, const float* x, int64_t dim,
                            const RoundingStream& stream) {
  uint16_t* out = static_cast<uint16_t*>(y);
  for (int64_t first = 0; first < dim; first += 8) {
    const PhiloxBlock block = stream.Block(first / 8);
    for (int64_t column = first; column < dim && column < first + 8; ++column) {
      const uint32_t random16 = RoundingStream::Bits(block, column);
      out[column] =
          dtype == RESEMBED_BF16 ? RoundToBfloat(x[column], random16) : RoundToHalf(x[column], random16);
    }
  }
}

}  // namespace resembed::detail
