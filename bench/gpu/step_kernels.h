// SPDX-License-Identifier: Apache-2.0
// What plan, backward and step are compared with on the device: atomics into a dense gradient, CUB's reduction by key,
// and the rate at which the second-level cache is read.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::bench::gpu {

// Bags of bag_length uses each; row u / bag_length of grad [rows, dim] belongs to use u.
struct GradRows {
  const void* grad;
  resembed_dtype dtype;
  int64_t dim, bag_length;
};

// dense[ids[u], :] += weights[u] * row of use u, for n uses; weights null = 1. One warp a use; with 4 columns a lane
// (dim a multiple of 4) the GPU adds vectors where it can.
cudaError_t AddAtomically(const GradRows& rows, const int32_t* ids, const float* weights, int64_t n,
                          float* dense, cudaStream_t stream);

// sums[block, run, 4] = sum of columns [4 block, 4 block + 4) over the uses of each run of equal keys, for every block
// of 4 columns: one reduction by key over (block, sorted use). dim a multiple of 4, n * dim / 4 < 2^31. Two phases, as
// in CUB. *n_runs: runs times blocks.
cudaError_t ReduceByKey(void* temp, size_t* bytes, const GradRows& rows, const uint32_t* sorted_keys,
                        const uint32_t* sorted_uses, int64_t n, float* sums, int64_t* n_runs,
                        cudaStream_t stream);

// keys[u] = ids[u], uses[u] = u.
cudaError_t FillKeys(const int32_t* ids, int64_t n, uint32_t* keys, uint32_t* uses, cudaStream_t stream);

// Reads `bytes` (a multiple of 16 KiB) `times` times over; sink [1] keeps the reads.
cudaError_t ReadAgain(const void* data, int64_t bytes, int times, float* sink, cudaStream_t stream);

}  // namespace resembed::bench::gpu
