// SPDX-License-Identifier: Apache-2.0
// One launch over the work of many tables, or features. Each entry has blocks of its own, one after the other; a block
// finds its entry among them, keeps it in shared memory and does its part.
#pragma once

#include "kernels/common/batch.h"
#include "kernels/gpu.cuh"

namespace resembed::kernels {

// Calls body(entry, number of the block among the entry's own) for every block of the batch, by all threads of it. A
// thread may return from the body early.
template <typename Entry, typename Body>
__device__ __forceinline__ void ForEntries(const Batch<Entry>& batch, const Body& body) {
  RESEMBED_SHARED(Entry, here, [1]);
  int32_t at = -1;
  for (int64_t block = blockIdx.x; block < batch.n_blocks; block += gridDim.x) {
    int32_t now = batch.n == 1 ? 0 : -1;
    for (int32_t first = 0; batch.n > 1 && first < batch.n; first += static_cast<int32_t>(blockDim.x)) {
      const int32_t mine = first + static_cast<int32_t>(threadIdx.x);
      now += __syncthreads_count(mine < batch.n && batch.entries[mine].first_block[batch.pass] <= block);
    }
    if (now != at) {
      const auto* from = reinterpret_cast<const unsigned long long*>(batch.entries + now);
      auto* to = reinterpret_cast<unsigned long long*>(here);
      for (unsigned int word = threadIdx.x; word < sizeof(Entry) / 8; word += blockDim.x) to[word] = from[word];
      __syncthreads();
      at = now;
    }
    body(here[0], block - here[0].first_block[batch.pass]);
  }
}

// The thread of an entry, and its warp.
__device__ __forceinline__ int64_t ThreadOf(int64_t block) {
  return block * static_cast<int64_t>(blockDim.x) + threadIdx.x;
}
__device__ __forceinline__ int64_t WarpOf(int64_t block) { return ThreadOf(block) / kLanes; }

// Nothing is launched for no work.
template <typename Entry>
cudaError_t LaunchEntries(void (*kernel)(Batch<Entry>), const Batch<Entry>& batch, const Grid& grid,
                          cudaStream_t stream) {
  static_assert(sizeof(Entry) % 8 == 0, "copied in words of 8 bytes");
  if (batch.n_blocks <= 0) return cudaSuccess;
  const int64_t blocks = batch.n_blocks < grid.blocks ? batch.n_blocks : grid.blocks;
  return gpu::Launch(kernel, dim3(static_cast<unsigned int>(blocks)), dim3(static_cast<unsigned int>(grid.threads)), 0,
                     stream, batch);
}

}  // namespace resembed::kernels
