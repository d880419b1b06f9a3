// SPDX-License-Identifier: Apache-2.0
// The one sort and the one scan of the cuda backend. Two phases, as in CUB: with temp null only *bytes is written;
// then temp points to as many bytes of device memory. Nothing waits, nothing is allocated.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace resembed::kernels {

// n < 2^32. Sorts n pairs by the low `key_bits` bits of their keys; equal keys keep their order. Inputs are kept.
cudaError_t SortPairs(void* temp, size_t* bytes, const uint32_t* keys, uint32_t* sorted_keys,
                      const uint32_t* values, uint32_t* sorted_values, int64_t n, int key_bits,
                      cudaStream_t stream);

// sums[i] = in[0] + ... + in[i].
cudaError_t InclusiveSum(void* temp, size_t* bytes, const uint32_t* in, uint32_t* sums, int64_t n,
                         cudaStream_t stream);

}  // namespace resembed::kernels
