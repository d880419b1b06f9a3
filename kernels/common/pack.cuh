// SPDX-License-Identifier: Apache-2.0
// Consecutive elements of a row, as they lie in memory, and their values in fp32.
#pragma once

#include "kernels/gpu.cuh"

namespace resembed::kernels {

// kCols elements of T: 2 bytes, or words of 4 bytes that are loaded up to 16 bytes at a time.
template <typename T, int kCols>
struct Pack {
  static constexpr int kBytes = kCols * static_cast<int>(sizeof(T));
  static constexpr int kWords = kBytes < 4 ? 1 : kBytes / 4;
  unsigned int words[kWords];
};

// kKeep: rows that are read again soon (C). They may stay in L1, where the items of a bag that share a center find
// it; in L2 they outlive the others, which leave first (R). Nothing of this has been measured.
template <bool kKeep, typename Word>
__device__ __forceinline__ Word LoadWord(const Word* source) {
  if constexpr (kKeep) {
    return __ldca(source);
  } else {
    return gpu::LoadStreaming(source);
  }
}

// `source` is aligned to 16 bytes, or to the pack where that is smaller.
template <bool kKeep, typename T, int kCols>
__device__ __forceinline__ void LoadPack(Pack<T, kCols>& pack, const void* source) {
  constexpr int kBytes = Pack<T, kCols>::kBytes;
  if constexpr (kBytes >= 16) {
#pragma unroll
    for (int quad = 0; quad < kBytes / 16; ++quad) {
      const uint4 word = LoadWord<kKeep>(static_cast<const uint4*>(source) + quad);
      pack.words[4 * quad] = word.x;
      pack.words[4 * quad + 1] = word.y;
      pack.words[4 * quad + 2] = word.z;
      pack.words[4 * quad + 3] = word.w;
    }
  } else if constexpr (kBytes == 8) {
    const uint2 word = LoadWord<kKeep>(static_cast<const uint2*>(source));
    pack.words[0] = word.x;
    pack.words[1] = word.y;
  } else if constexpr (kBytes == 4) {
    pack.words[0] = LoadWord<kKeep>(static_cast<const unsigned int*>(source));
  } else {
    pack.words[0] = LoadWord<kKeep>(static_cast<const unsigned short*>(source));
  }
}

// The two halves of a word, low one first.
template <typename T>
struct Halves;
template <>
struct Halves<__half> {
  static __device__ __forceinline__ float Value(unsigned int bits) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits & 0xffffu)));
  }
  static __device__ __forceinline__ unsigned int Bits(float value) {
    return __half_as_ushort(__float2half_rn(value));
  }
};
template <>
struct Halves<__nv_bfloat16> {
  static __device__ __forceinline__ float Value(unsigned int bits) { return __uint_as_float(bits << 16); }
  static __device__ __forceinline__ unsigned int Bits(float value) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  }
};

template <typename T, int kCols>
__device__ __forceinline__ void Unpack(float (&values)[kCols], const Pack<T, kCols>& pack) {
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    if constexpr (sizeof(T) == 4) {
      values[col] = __uint_as_float(pack.words[col]);
    } else {
      const unsigned int word = pack.words[col / 2];
      values[col] = Halves<T>::Value(col % 2 == 0 ? word & 0xffffu : word >> 16);
    }
  }
}

// Rounds to nearest even; nobody reads it in this launch. With `wide` the destination takes whole words of 16 bytes or of the pack.
template <typename T, int kCols>
__device__ __forceinline__ void StoreValues(void* destination, const float (&values)[kCols], bool wide) {
  if constexpr (sizeof(T) == 4) {
    if constexpr (kCols % 4 == 0) {
      if (wide) {
#pragma unroll
        for (int quad = 0; quad < kCols / 4; ++quad) {
          gpu::StoreStreaming(static_cast<float4*>(destination) + quad,
                              make_float4(values[4 * quad], values[4 * quad + 1], values[4 * quad + 2],
                                          values[4 * quad + 3]));
        }
        return;
      }
    }
#pragma unroll
    for (int col = 0; col < kCols; ++col) static_cast<float*>(destination)[col] = values[col];
  } else {
    if constexpr (kCols % 4 == 0) {
      if (wide) {
#pragma unroll
        for (int quad = 0; quad < kCols / 4; ++quad) {
          uint2 word;
          word.x = Halves<T>::Bits(values[4 * quad]) | Halves<T>::Bits(values[4 * quad + 1]) << 16;
          word.y = Halves<T>::Bits(values[4 * quad + 2]) | Halves<T>::Bits(values[4 * quad + 3]) << 16;
          gpu::StoreStreaming(static_cast<uint2*>(destination) + quad, word);
        }
        return;
      }
    }
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
      static_cast<unsigned short*>(destination)[col] =
          static_cast<unsigned short>(Halves<T>::Bits(values[col]));
    }
  }
}

}  // namespace resembed::kernels
