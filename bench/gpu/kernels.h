// SPDX-License-Identifier: Apache-2.0
// What the benchmarks need on the device besides the library: values, and the passes of the unfused baselines.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::bench::gpu {

// values[i] = a small number of i and the seed, the same on every GPU; F32, F16 or BF16.
cudaError_t FillValues(void* values, int64_t count, resembed_dtype dtype, uint32_t seed, cudaStream_t stream);

// slots[t, k] = lists[ids[t], k] and slot_weights[t, k] = weights[ids[t], k]; weights null: none.
cudaError_t GatherLists(const int32_t* ids, int64_t n_ids, const int32_t* lists, const float* weights,
                        int32_t k, int32_t* slots, float* slot_weights, cudaStream_t stream);

// sum[i] = a[i] + b[i] in fp32, rounded to dtype; count elements.
cudaError_t Add(const void* a, const void* b, void* sum, int64_t count, resembed_dtype dtype,
                cudaStream_t stream);

}  // namespace resembed::bench::gpu
