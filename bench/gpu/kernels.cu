// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/kernels.h"

#include "kernels/gpu.cuh"

namespace resembed::bench::gpu {
namespace {

constexpr int kThreads = 256;

// 16-bit types by their bits; rounding to nearest even as the library does.
template <typename T>
__device__ float ToFloat(T value);
template <>
__device__ float ToFloat(float value) {
  return value;
}
template <>
__device__ float ToFloat(__half value) {
  return __half2float(value);
}
template <>
__device__ float ToFloat(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <typename T>
__device__ T FromFloat(float value);
template <>
__device__ float FromFloat(float value) {
  return value;
}
template <>
__device__ __half FromFloat(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __nv_bfloat16 FromFloat(float value) {
  return __float2bfloat16_rn(value);
}

// Multiples of 1/64 between -1 and 1: sums of 64 and more of them are exact in fp32.
template <typename T>
__global__ void FillKernel(T* values, int64_t count, uint32_t seed) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  uint32_t bits = static_cast<uint32_t>(i) * 2654435761u ^ static_cast<uint32_t>(i >> 32) ^ seed;
  bits ^= bits >> 15;
  bits *= 2246822519u;
  bits ^= bits >> 13;
  values[i] = FromFloat<T>(static_cast<float>(static_cast<int>(bits % 129u) - 64) * 0.015625f);
}

__global__ void ListKernel(const int32_t* ids, int64_t n_slots, const int32_t* lists, const float* weights, int32_t k,
                           int32_t* slots, float* slot_weights) {
  const int64_t slot = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (slot >= n_slots) return;
  const int64_t from = int64_t{ids[slot / k]} * k + slot % k;
  slots[slot] = lists[from];
  if (weights != nullptr) slot_weights[slot] = weights[from];
}

template <typename T>
__global__ void AddKernel(const T* a, const T* b, T* sum, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) sum[i] = FromFloat<T>(ToFloat(a[i]) + ToFloat(b[i]));
}

dim3 Grid(int64_t n) { return dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads)); }

template <typename T>
cudaError_t Fill(void* values, int64_t count, uint32_t seed, cudaStream_t stream) {
  return resembed::gpu::Launch(FillKernel<T>, Grid(count), dim3(kThreads), 0, stream, static_cast<T*>(values), count,
                               seed);
}

template <typename T>
cudaError_t AddOf(const void* a, const void* b, void* sum, int64_t count, cudaStream_t stream) {
  return resembed::gpu::Launch(AddKernel<T>, Grid(count), dim3(kThreads), 0, stream, static_cast<const T*>(a),
                               static_cast<const T*>(b), static_cast<T*>(sum), count);
}

}  // namespace

cudaError_t FillValues(void* values, int64_t count, resembed_dtype dtype, uint32_t seed, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  switch (dtype) {
    case RESEMBED_F32:
      return Fill<float>(values, count, seed, stream);
    case RESEMBED_F16:
      return Fill<__half>(values, count, seed, stream);
    default:
      return Fill<__nv_bfloat16>(values, count, seed, stream);
  }
}

cudaError_t GatherLists(const int32_t* ids, int64_t n_ids, const int32_t* lists, const float* weights, int32_t k,
                        int32_t* slots, float* slot_weights, cudaStream_t stream) {
  const int64_t n_slots = n_ids * k;
  if (n_slots == 0) return cudaSuccess;
  return resembed::gpu::Launch(ListKernel, Grid(n_slots), dim3(kThreads), 0, stream, ids, n_slots, lists, weights, k,
                               slots, slot_weights);
}

cudaError_t Add(const void* a, const void* b, void* sum, int64_t count, resembed_dtype dtype, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  switch (dtype) {
    case RESEMBED_F32:
      return AddOf<float>(a, b, sum, count, stream);
    case RESEMBED_F16:
      return AddOf<__half>(a, b, sum, count, stream);
    default:
      return AddOf<__nv_bfloat16>(a, b, sum, count, stream);
  }
}

}  // namespace resembed::bench::gpu
