// SPDX-License-Identifier: Apache-2.0
// Rows of a matrix cut into tiles of 32 columns, a group of 32 / kCols lanes for one row: lane l owns the columns
// 32 t + kCols l, ... of each tile t. So column c's partial sum of a reduction, number c mod 32, belongs to one lane
// whatever kCols is, and a row of a tile is one line of fp32 (kCols 4: 16 bytes a lane).
#pragma once

#include "kernels/common/batch.cuh"
#include "kernels/common/pack.cuh"
#include "kernels/common/walk.cuh"
#include "resembed/types.h"

namespace resembed::kernels {

template <int kCols>
struct Group {
  static constexpr int kSize = kTileColumns / kCols;

  static __device__ __forceinline__ int Lane() { return static_cast<int>(threadIdx.x) % kSize; }
  // Lanes of this group, for __shfl_sync and its like.
  static __device__ __forceinline__ unsigned int Mask() {
    if constexpr (kSize == kLanes) return 0xffffffffu;
    return ((1u << (kSize % kLanes)) - 1) << (static_cast<unsigned int>(LaneOfWarp()) / kSize * kSize);
  }
  static __device__ __forceinline__ int64_t First() { return FirstThread() / kSize; }
  static __device__ __forceinline__ int64_t Stride() { return ThreadStride() / kSize; }
  // Of an entry whose blocks are launched with others (batch.cuh).
  static __device__ __forceinline__ int64_t Of(int64_t block) { return ThreadOf(block) / kSize; }
  static __device__ __forceinline__ int64_t Column(int64_t tile) { return tile * kTileColumns + Lane() * kCols; }
};

__host__ __device__ constexpr int64_t TilesOf(int64_t dim) { return (dim + kTileColumns - 1) / kTileColumns; }

// Columns [column, column + kCols) of a row. With kCols 4 they are 16 aligned bytes of fp32, or 8 of 16 bits.
template <int kCols>
__device__ __forceinline__ void LoadColumns(float (&values)[kCols], const void* row, resembed_dtype dtype,
                                            int64_t column) {
  if (dtype == RESEMBED_F32) {
    const float* from = static_cast<const float*>(row) + column;
    if constexpr (kCols == 4) {
      const float4 word = *reinterpret_cast<const float4*>(from);
      values[0] = word.x;
      values[1] = word.y;
      values[2] = word.z;
      values[3] = word.w;
    } else {
      values[0] = *from;
    }
    return;
  }
  const unsigned short* from = static_cast<const unsigned short*>(row) + column;
  unsigned int halves[kCols];
  if constexpr (kCols == 4) {
    const uint2 word = *reinterpret_cast<const uint2*>(from);
    halves[0] = word.x & 0xffffu;
    halves[1] = word.x >> 16;
    halves[2] = word.y & 0xffffu;
    halves[3] = word.y >> 16;
  } else {
    halves[0] = *from;
  }
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    values[col] = dtype == RESEMBED_F16 ? Halves<__half>::Value(halves[col]) : Halves<__nv_bfloat16>::Value(halves[col]);
  }
}

template <int kCols>
__device__ __forceinline__ void StoreHalves(void* row, int64_t column, const unsigned int (&halves)[kCols]) {
  unsigned short* to = static_cast<unsigned short*>(row) + column;
  if constexpr (kCols == 4) {
    uint2 word;
    word.x = halves[0] | halves[1] << 16;
    word.y = halves[2] | halves[3] << 16;
    *reinterpret_cast<uint2*>(to) = word;
  } else {
    *to = static_cast<unsigned short>(halves[0]);
  }
}

// Rounds to nearest even.
template <int kCols>
__device__ __forceinline__ void StoreColumns(void* row, resembed_dtype dtype, int64_t column,
                                             const float (&values)[kCols]) {
  if (dtype == RESEMBED_F32) {
    float* to = static_cast<float*>(row) + column;
    if constexpr (kCols == 4) {
      *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
      *to = values[0];
    }
    return;
  }
  unsigned int halves[kCols];
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    halves[col] = dtype == RESEMBED_F16 ? Halves<__half>::Bits(values[col]) : Halves<__nv_bfloat16>::Bits(values[col]);
  }
  StoreHalves(row, column, halves);
}

// The 32 partial sums of a reduction, kCols a lane, to one: 16 + 16, 8 + 8, 4 + 4, 2 + 2, 1 + 1. Every lane of the group
// calls this and gets the sum.
template <int kCols>
__device__ __forceinline__ float TreeSum(float (&partial)[kCols]) {
  const unsigned int mask = Group<kCols>::Mask();
#pragma unroll
  for (int half = Group<kCols>::kSize / 2; half > 0; half /= 2) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) partial[col] += __shfl_xor_sync(mask, partial[col], half);
  }
  if constexpr (kCols == 4) return (partial[0] + partial[2]) + (partial[1] + partial[3]);
  return partial[0];
}

template <int kCols, typename Params>
cudaError_t LaunchGroups(void (*kernel)(Params), int64_t n_groups, const Grid& grid, cudaStream_t stream,
                         const Params& params) {
  return LaunchThreads(kernel, n_groups * Group<kCols>::kSize, grid, stream, params);
}

}  // namespace resembed::kernels
