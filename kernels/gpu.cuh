// SPDX-License-Identifier: Apache-2.0
//
// The one CUDA header that kernels include. Under nvcc it is the toolkit; under any other compiler it is the
// emulator of the tests, which runs the same kernel sources on the CPU. What differs between the two, and what
// depends on the GPU's architecture, is in this file: shared memory, launches, and the loads and stores with hints
// that C++ cannot say.
//
// Rules for kernels: shared memory only through the two macros, launches only through Launch, no inline PTX and
// no __CUDA_ARCH__ outside this file, no return before a barrier that others still reach, no spin loop without
// __nanosleep, no __activemask.
#ifndef RESEMBED_KERNELS_GPU_CUH_
#define RESEMBED_KERNELS_GPU_CUH_

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// RESEMBED_SHARED(float, tile, [32][33]) declares one array of the block; RESEMBED_SHARED_DYN(float, buffer) a
// pointer to the bytes that the launch asked for, 16-byte aligned. A type with a comma needs a name first.
#define RESEMBED_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define RESEMBED_SHARED_DYN(T, name)                                       \
  extern __shared__ __align__(16) unsigned char resembed_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(resembed_dynamic_shared)
#else
#include "tests/emulator/device.h"
#endif

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace resembed::gpu {

// Shared memory of one block above which a kernel must opt in.
constexpr std::size_t kDefaultSharedBytes = 48 * 1024;

#ifdef __CUDACC__
// The only launch. Returns the launch's own status: what goes wrong later is reported by a later call.
template <class... P, class... A>
cudaError_t Launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   A&&... args) {
  static_assert((std::is_trivially_copyable_v<std::decay_t<P>> && ...),
                "kernel parameters are copied as bytes");
  if (shared_bytes > kDefaultSharedBytes) {
    const cudaError_t opted_in =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (opted_in != cudaSuccess) return opted_in;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<A>(args)...);
}
#else
using emulator::Launch;
#endif

// From sm_100 on the assembler takes a few registers more for the same code: where a bound on them just fits, there it
// would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
inline constexpr bool kTightRegisters = false;
#else
inline constexpr bool kTightRegisters = true;
#endif

// What one load or store moves: a word of 1, 2, 4, 8 or 16 bytes, aligned to its size.
template <class T>
inline constexpr bool kIsWord = std::is_trivially_copyable_v<T> && alignof(T) == sizeof(T) &&
                                (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 ||
                                 sizeof(T) == 16);

#if defined(__CUDA_ARCH__)
namespace detail {

#if __CUDA_ARCH__ >= 800
// A line that leaves the second-level cache first; a constant to the assembler.
__device__ __forceinline__ unsigned long long EvictFirst() {
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

template <class T>
__device__ __forceinline__ T LoadWord(const T* source) {
  const unsigned long long policy = EvictFirst();
  if constexpr (sizeof(T) == 16) {
    uint4 word;
    asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                 : "l"(source), "l"(policy));
    return *reinterpret_cast<const T*>(&word);
  } else if constexpr (sizeof(T) == 8) {
    uint2 word;
    asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v2.u32 {%0, %1}, [%2], %3;"
                 : "=r"(word.x), "=r"(word.y)
                 : "l"(source), "l"(policy));
    return *reinterpret_cast<const T*>(&word);
  } else if constexpr (sizeof(T) == 4) {
    unsigned int word;
    asm volatile("ld.global.L1::no_allocate.L2::cache_hint.u32 %0, [%1], %2;"
                 : "=r"(word)
                 : "l"(source), "l"(policy));
    return *reinterpret_cast<const T*>(&word);
  } else if constexpr (sizeof(T) == 2) {
    unsigned short word;
    asm volatile("ld.global.L1::no_allocate.L2::cache_hint.u16 %0, [%1], %2;"
                 : "=h"(word)
                 : "l"(source), "l"(policy));
    return *reinterpret_cast<const T*>(&word);
  } else {
    return *source;
  }
}

template <class T>
__device__ __forceinline__ void StoreWord(T* target, const T& value) {
  const unsigned long long policy = EvictFirst();
  if constexpr (sizeof(T) == 16) {
    const uint4 word = *reinterpret_cast<const uint4*>(&value);
    asm volatile("st.global.L1::no_allocate.L2::cache_hint.v4.u32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(target),
                 "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w), "l"(policy)
                 : "memory");
  } else if constexpr (sizeof(T) == 8) {
    const uint2 word = *reinterpret_cast<const uint2*>(&value);
    asm volatile("st.global.L1::no_allocate.L2::cache_hint.v2.u32 [%0], {%1, %2}, %3;" ::"l"(target),
                 "r"(word.x), "r"(word.y), "l"(policy)
                 : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("st.global.L1::no_allocate.L2::cache_hint.u32 [%0], %1, %2;" ::"l"(target),
                 "r"(*reinterpret_cast<const unsigned int*>(&value)), "l"(policy)
                 : "memory");
  } else {
    *target = value;
  }
}
#else
template <class T>
__device__ __forceinline__ T LoadWord(const T* source) {
  return *source;
}
template <class T>
__device__ __forceinline__ void StoreWord(T* target, const T& value) {
  *target = value;
}
#endif

}  // namespace detail
#endif

// Loads and stores of device memory with a hint to the caches; the values are those of a plain load or store.
// Not for memory that another thread of the same launch writes. Before sm_80 they are plain.
//
// LoadStreaming: read once by the grid (residual rows, ids): nothing is kept in L1, first to leave L2.
template <class T>
__device__ __forceinline__ T LoadStreaming(const T* source) {
  static_assert(kIsWord<T>, "one aligned word");
#if defined(__CUDA_ARCH__)
  return detail::LoadWord(source);
#else
  return *source;
#endif
}

// StoreStreaming: written once, read by a later launch at the earliest (outputs).
template <class T>
__device__ __forceinline__ void StoreStreaming(T* target, const T& value) {
  static_assert(kIsWord<T>, "one aligned word");
#if defined(__CUDA_ARCH__)
  detail::StoreWord(target, value);
#else
  *target = value;
#endif
}

}  // namespace resembed::gpu

#endif  // RESEMBED_KERNELS_GPU_CUH_
