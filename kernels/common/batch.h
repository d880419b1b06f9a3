// SPDX-License-Identifier: Apache-2.0
// Entries of a launch over many tables or features, and how they come into device memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace resembed::kernels {

// Threads of a warp.
constexpr int kLanes = 32;
// Columns that a group of lanes takes of a row at a time (rows.cuh).
constexpr int kTileColumns = 32;

// Threads of a block, and most blocks of a grid; kernels walk over what is left.
struct Grid {
  int threads = 256;
  int64_t blocks = int64_t{1} << 20;
};

// Entry has an array first_block, by pass: where its blocks begin in the launch. They increase from entry to entry; one
// without work in a pass has the start of the next one.
template <typename Entry>
struct Batch {
  const Entry* entries;  // [n] device memory
  int32_t n, pass;
  int64_t n_blocks;  // of all entries; the grid may be smaller and walks over them
};

// Blocks that hold so many threads.
inline int64_t BlocksFor(int64_t n_threads, const Grid& grid) {
  return n_threads <= 0 ? 0 : (n_threads + grid.threads - 1) / grid.threads;
}

// Values of 8-byte words and where they go. They are the parameters of a launch, so nothing waits and a captured
// graph keeps them.
template <int kWords>
struct StoreParams {
  static constexpr int kMost = kWords / 16;
  int32_t n;
  uint32_t first[kMost + 1];  // words of value i are [first[i], first[i + 1])
  unsigned long long* to[kMost];
  unsigned long long words[kWords];
};
// 4 KB of parameters are what every driver takes; those of CUDA 13 take 32,764 bytes.
constexpr int kFewWords = 420;
constexpr int kManyWords = CUDART_VERSION >= 13000 ? 3500 : kFewWords;
static_assert(sizeof(StoreParams<kFewWords>) <= 4096 && sizeof(StoreParams<kManyWords>) <= 32764,
              "parameters of one launch");
template <int kWords>
cudaError_t LaunchStore(const StoreParams<kWords>& params, cudaStream_t stream);

}  // namespace resembed::kernels
