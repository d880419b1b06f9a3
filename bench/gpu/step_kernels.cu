// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/step_kernels.h"

#include "kernels/gpu.cuh"

#ifdef __CUDACC__
#include <cub/device/device_reduce.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/discard_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#endif

namespace resembed::bench::gpu {
namespace {

constexpr int kThreads = 256, kLanes = 32, kBlocks = 132 * 16;

struct Four {
  float x, y, z, w;
};

__device__ __forceinline__ float Widen(float value) { return value; }
__device__ __forceinline__ float Widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float Widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
struct alignas(4 * sizeof(T)) Pack {
  T values[4];
};
// One load of 8 or 16 bytes.
template <typename T>
__device__ __forceinline__ Four LoadFour(const T* from) {
  const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from);
  return {Widen(pack.values[0]), Widen(pack.values[1]), Widen(pack.values[2]), Widen(pack.values[3])};
}

__device__ __forceinline__ void AddFour(float* to, const Four& value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd(reinterpret_cast<float4*>(to), make_float4(value.x, value.y, value.z, value.w));
#else
  atomicAdd(to, value.x);
  atomicAdd(to + 1, value.y);
  atomicAdd(to + 2, value.z);
  atomicAdd(to + 3, value.w);
#endif
}

template <typename T>
__global__ void AddKernel(const T* grad, int64_t dim, int64_t bag_length, const int32_t* ids, const float* weights,
                          int64_t n, float* dense) {
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int lane = static_cast<int>(thread % kLanes);
  const int64_t stride = int64_t{gridDim.x} * blockDim.x / kLanes;
  for (int64_t use = thread / kLanes; use < n; use += stride) {
    const T* from = grad + use / bag_length * dim;
    float* to = dense + int64_t{ids[use]} * dim;
    const float weight = weights == nullptr ? 1.0f : weights[use];
    if (dim % 4 == 0) {
      for (int64_t column = 4 * lane; column < dim; column += 4 * kLanes) {
        Four value = LoadFour(from + column);
        if (weights != nullptr) value = {weight * value.x, weight * value.y, weight * value.z, weight * value.w};
        AddFour(to + column, value);
      }
    } else {
      for (int64_t column = lane; column < dim; column += kLanes) atomicAdd(to + column, weight * Widen(from[column]));
    }
  }
}

__global__ void KeysKernel(const int32_t* ids, int64_t n, uint32_t* keys, uint32_t* uses) {
  const int64_t use = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (use >= n) return;
  keys[use] = static_cast<uint32_t>(ids[use]);
  uses[use] = static_cast<uint32_t>(use);
}

struct alignas(16) Line {
  float values[4];
};
__global__ void ReadKernel(const Line* data, int64_t n_lines, int times, float* sink) {
  float sum = 0;
  for (int time = 0; time < times; ++time) {
    // Another block reads what this one read before, so that the first-level caches hold none of it.
    const int64_t block = (int64_t{blockIdx.x} + 37 * time) % gridDim.x;
    for (int64_t at = block * blockDim.x + threadIdx.x; at < n_lines; at += int64_t{gridDim.x} * blockDim.x) {
      const Line line = data[at];
      sum += line.values[0] + line.values[1] + line.values[2] + line.values[3];
    }
  }
  if (sum == 1.0e30f) *sink = sum;
}

template <typename T>
cudaError_t Add(const GradRows& rows, const int32_t* ids, const float* weights, int64_t n, float* dense,
                cudaStream_t stream) {
  const int64_t blocks = (n * kLanes + kThreads - 1) / kThreads;
  return resembed::gpu::Launch(AddKernel<T>, dim3(static_cast<unsigned>(blocks < (1 << 20) ? blocks : 1 << 20)),
                               dim3(kThreads), 0, stream, static_cast<const T*>(rows.grad), rows.dim, rows.bag_length,
                               ids, weights, n, dense);
}

#ifdef __CUDACC__

// Element (block, sorted use) of the reduction.
struct KeyOf {
  const uint32_t* sorted_keys;
  int64_t n;
  __device__ uint64_t operator()(int64_t at) const { return static_cast<uint64_t>(at / n) << 32 | sorted_keys[at % n]; }
};
template <typename T>
struct ValueOf {
  const T* grad;
  const uint32_t* sorted_uses;
  int64_t n, dim, bag_length;
  __device__ Four operator()(int64_t at) const {
    return LoadFour(grad + sorted_uses[at % n] / bag_length * dim + 4 * (at / n));
  }
};
struct AddFours {
  __device__ Four operator()(const Four& a, const Four& b) const {
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
  }
};

template <typename T>
cudaError_t Reduce(void* temp, size_t* bytes, const GradRows& rows, const uint32_t* sorted_keys,
                   const uint32_t* sorted_uses, int64_t n, float* sums, int64_t* n_runs, cudaStream_t stream) {
  const auto places = thrust::make_counting_iterator(int64_t{0});
  const auto keys = thrust::make_transform_iterator(places, KeyOf{sorted_keys, n});
  const auto values = thrust::make_transform_iterator(
      places, ValueOf<T>{static_cast<const T*>(rows.grad), sorted_uses, n, rows.dim, rows.bag_length});
  return cub::DeviceReduce::ReduceByKey(temp, *bytes, keys, thrust::make_discard_iterator(), values,
                                        reinterpret_cast<Four*>(sums), n_runs, AddFours{},
                                        static_cast<int>(n * (rows.dim / 4)), stream);
}

#else

// For the emulator: one thread.
template <typename T>
__global__ void ReduceKernel(const T* grad, int64_t dim, int64_t bag_length, const uint32_t* sorted_keys,
                             const uint32_t* sorted_uses, int64_t n, float* sums, int64_t* n_runs) {
  int64_t run = -1;
  for (int64_t block = 0; block < dim / 4; ++block) {
    for (int64_t at = 0; at < n; ++at) {
      const bool starts = at == 0 || sorted_keys[at] != sorted_keys[at - 1];
      run += starts ? 1 : 0;
      for (int64_t column = 0; column < 4; ++column) {
        const float value = Widen(grad[sorted_uses[at] / bag_length * dim + 4 * block + column]);
        float* sum = sums + 4 * run + column;
        *sum = starts ? value : *sum + value;
      }
    }
  }
  *n_runs = run + 1;
}

template <typename T>
cudaError_t Reduce(void* temp, size_t* bytes, const GradRows& rows, const uint32_t* sorted_keys,
                   const uint32_t* sorted_uses, int64_t n, float* sums, int64_t* n_runs, cudaStream_t stream) {
  *bytes = 1;
  if (temp == nullptr) return cudaSuccess;
  return resembed::gpu::Launch(ReduceKernel<T>, dim3(1), dim3(1), 0, stream, static_cast<const T*>(rows.grad), rows.dim,
                               rows.bag_length, sorted_keys, sorted_uses, n, sums, n_runs);
}

#endif

}  // namespace

cudaError_t AddAtomically(const GradRows& rows, const int32_t* ids, const float* weights, int64_t n, float* dense,
                          cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  if (rows.dtype == RESEMBED_F32) return Add<float>(rows, ids, weights, n, dense, stream);
  if (rows.dtype == RESEMBED_F16) return Add<__half>(rows, ids, weights, n, dense, stream);
  return Add<__nv_bfloat16>(rows, ids, weights, n, dense, stream);
}

cudaError_t ReduceByKey(void* temp, size_t* bytes, const GradRows& rows, const uint32_t* sorted_keys,
                        const uint32_t* sorted_uses, int64_t n, float* sums, int64_t* n_runs, cudaStream_t stream) {
  if (rows.dtype == RESEMBED_F32)
    return Reduce<float>(temp, bytes, rows, sorted_keys, sorted_uses, n, sums, n_runs, stream);
  if (rows.dtype == RESEMBED_F16)
    return Reduce<__half>(temp, bytes, rows, sorted_keys, sorted_uses, n, sums, n_runs, stream);
  return Reduce<__nv_bfloat16>(temp, bytes, rows, sorted_keys, sorted_uses, n, sums, n_runs, stream);
}

cudaError_t FillKeys(const int32_t* ids, int64_t n, uint32_t* keys, uint32_t* uses, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  return resembed::gpu::Launch(KeysKernel, dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads)), dim3(kThreads),
                               0, stream, ids, n, keys, uses);
}

cudaError_t ReadAgain(const void* data, int64_t bytes, int times, float* sink, cudaStream_t stream) {
  const int64_t n_lines = bytes / 16;
  const int64_t blocks = n_lines / kThreads < kBlocks ? n_lines / kThreads : kBlocks;
  return resembed::gpu::Launch(ReadKernel, dim3(static_cast<unsigned>(blocks > 0 ? blocks : 1)), dim3(kThreads), 0,
                               stream, static_cast<const Line*>(data), n_lines, times, sink);
}

}  // namespace resembed::bench::gpu
