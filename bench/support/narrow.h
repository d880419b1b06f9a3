// SPDX-License-Identifier: Apache-2.0
// 16-bit floats of the benchmarks' own code, which vectorizes; finite numbers only.
#pragma once

#include <cstdint>
#include <cstring>

#include "resembed/resembed.h"

namespace resembed::bench {

inline float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The 15 low bits of an fp16 number, moved to where fp32 has them, are 2^112 times too small, subnormals too.
inline float FromHalf(uint16_t half) {
  const float size = FromBits(static_cast<uint32_t>(half & 0x7fff) << 13) * 0x1p112f;
  return (half & 0x8000) != 0 ? -size : size;
}

inline float FromBfloat(uint16_t bits) { return FromBits(static_cast<uint32_t>(bits) << 16); }

// Nearest, ties to even.
inline uint16_t ToBfloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// out[i] = element first + i of a matrix.
inline void ReadElements(const void* matrix, resembed_dtype dtype, int64_t first, int64_t n, float* out) {
  if (dtype == RESEMBED_F32) {
    std::memcpy(out, static_cast<const float*>(matrix) + first, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const auto* bits = static_cast<const uint16_t*>(matrix) + first;
  if (dtype == RESEMBED_F16) {
    for (int64_t i = 0; i < n; ++i) out[i] = FromHalf(bits[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = FromBfloat(bits[i]);
  }
}

}  // namespace resembed::bench
