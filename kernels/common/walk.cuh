// SPDX-License-Identifier: Apache-2.0
// Kernels that walk over rows of work with a grid of any size: threads, or warps, `stride` apart.
#pragma once

#include "kernels/common/batch.h"
#include "kernels/gpu.cuh"

namespace resembed::kernels {

__device__ __forceinline__ int64_t FirstThread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t ThreadStride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }
__device__ __forceinline__ int64_t FirstWarp() { return FirstThread() / kLanes; }
__device__ __forceinline__ int64_t WarpStride() { return ThreadStride() / kLanes; }
__device__ __forceinline__ int LaneOfWarp() { return static_cast<int>(threadIdx.x) % kLanes; }

// Nothing is launched for no work.
template <typename Params>
cudaError_t LaunchThreads(void (*kernel)(Params), int64_t n_threads, const Grid& grid, cudaStream_t stream,
                          const Params& params) {
  if (n_threads <= 0) return cudaSuccess;
  const int64_t blocks = (n_threads + grid.threads - 1) / grid.threads;
  return gpu::Launch(kernel,
                     dim3(static_cast<unsigned int>(blocks < grid.blocks ? blocks : grid.blocks)),
                     dim3(static_cast<unsigned int>(grid.threads)), 0, stream, params);
}
template <typename Params>
cudaError_t LaunchWarps(void (*kernel)(Params), int64_t n_warps, const Grid& grid, cudaStream_t stream,
                        const Params& params) {
  return LaunchThreads(kernel, n_warps * kLanes, grid, stream, params);
}

}  // namespace resembed::kernels
