// SPDX-License-Identifier: Apache-2.0
// Memory, sorting and state of the device graph. Compiled by nvcc for a GPU, and by the host compiler with
// THRUST_DEVICE_SYSTEM_CPP, where "device" memory is malloc's.
#pragma once

#include <thrust/execution_policy.h>
#include <thrust/iterator/constant_iterator.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <thrust/system_error.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <utility>
#include <vector>

#ifdef __CUDACC__
#include <cuda_runtime_api.h>
#include <thrust/system/cuda/execution_policy.h>

#include <cub/device/device_radix_sort.cuh>
#define RESEMBED_HOST_DEVICE __host__ __device__
#else
#include <thrust/sort.h>
#include <thrust/system/cpp/execution_policy.h>
#define RESEMBED_HOST_DEVICE
#endif

#include "kernels/graph/graph.h"

namespace resembed::kernels {

// Room for what sorts and reductions of CUB take whatever the size of their input; Thrust's host backend
// takes nothing.
#ifdef __CUDACC__
constexpr int64_t kScratchBytes = int64_t{32} << 20;
#else
constexpr int64_t kScratchBytes = 0;
#endif

// Thrust's allocator and everybody else's: counts, and fails beyond the budget and kScratchBytes.
class GraphMemory {
 public:
  using value_type = char;

  GraphMemory(int64_t budget, void* stream) : budget_(budget), stream_(stream) {}
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;

  char* allocate(std::ptrdiff_t bytes) {
    void* memory = nullptr;
    if (used_ + bytes <= budget_ + kScratchBytes) {
#ifdef __CUDACC__
      if (cudaMallocAsync(&memory, static_cast<size_t>(bytes > 0 ? bytes : 1), stream()) != cudaSuccess) {
        cudaGetLastError();
        memory = nullptr;
      }
#else
      memory = std::malloc(static_cast<size_t>(bytes > 0 ? bytes : 1));
#endif
    }
    // Thrust has no other way to hear of it.
    if (memory == nullptr) std::rethrow_exception(std::make_exception_ptr(std::bad_alloc()));
    used_ += bytes;
    peak_ = used_ > peak_ ? used_ : peak_;
    return static_cast<char*>(memory);
  }
  void deallocate(char* memory, size_t bytes) {
#ifdef __CUDACC__
    cudaFreeAsync(memory, stream());
#else
    std::free(memory);
#endif
    used_ -= static_cast<int64_t>(bytes);
  }

  int64_t budget() const { return budget_; }
  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }
#ifdef __CUDACC__
  cudaStream_t stream() const { return static_cast<cudaStream_t>(stream_); }
  auto policy() { return thrust::cuda::par(*this).on(stream()); }
#else
  auto policy() { return thrust::cpp::par(*this); }
#endif

 private:
  int64_t budget_, used_ = 0, peak_ = 0;
  [[maybe_unused]] void* stream_;
};

#ifdef __CUDACC__
inline void CheckCuda(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  std::rethrow_exception(std::make_exception_ptr(thrust::system_error(error, thrust::cuda_category())));
}
#endif

// Either side may be host or device memory; done when it returns.
inline void CopyBytes([[maybe_unused]] GraphMemory* memory, void* to, const void* from, int64_t bytes) {
  if (bytes <= 0) return;
#ifdef __CUDACC__
  CheckCuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, memory->stream()));
  CheckCuda(cudaStreamSynchronize(memory->stream()));
#else
  std::memcpy(to, from, static_cast<size_t>(bytes));
#endif
}

template <typename T>
class GraphBuffer {
 public:
  GraphBuffer() = default;
  GraphBuffer(GraphMemory* memory, int64_t n)
      : memory_(memory),
        data_(reinterpret_cast<T*>(memory->allocate(n * static_cast<int64_t>(sizeof(T))))),
        size_(n) {}
  GraphBuffer(GraphMemory* memory, const T* host, int64_t n) : GraphBuffer(memory, n) {
    CopyBytes(memory, data_, host, n * static_cast<int64_t>(sizeof(T)));
  }
  ~GraphBuffer() { Free(); }
  GraphBuffer(GraphBuffer&& other) noexcept { Swap(&other); }
  GraphBuffer& operator=(GraphBuffer&& other) noexcept {
    GraphBuffer old;
    old.Swap(this);
    Swap(&other);
    return *this;
  }

  T* data() const { return data_; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  int64_t size() const { return size_; }
  void Free() {
    if (data_ != nullptr)
      memory_->deallocate(reinterpret_cast<char*>(data_), static_cast<size_t>(size_) * sizeof(T));
    data_ = nullptr;
    size_ = 0;
  }
  void Swap(GraphBuffer* other) {
    std::swap(memory_, other->memory_);
    std::swap(data_, other->data_);
    std::swap(size_, other->size_);
  }

 private:
  GraphMemory* memory_ = nullptr;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

// Stable, by the low `bits` bits; higher ones are zero.
template <typename Key>
void SortKeys(GraphMemory* memory, GraphBuffer<Key>* keys, [[maybe_unused]] int bits) {
#ifdef __CUDACC__
  GraphBuffer<Key> other(memory, keys->size());
  cub::DoubleBuffer<Key> both(keys->data(), other.data());
  size_t bytes = 0;
  CheckCuda(cub::DeviceRadixSort::SortKeys(nullptr, bytes, both, keys->size(), 0, bits, memory->stream()));
  GraphBuffer<char> scratch(memory, static_cast<int64_t>(bytes));
  CheckCuda(
      cub::DeviceRadixSort::SortKeys(scratch.data(), bytes, both, keys->size(), 0, bits, memory->stream()));
  if (both.Current() != keys->data()) keys->Swap(&other);
#else
  thrust::stable_sort(memory->policy(), keys->begin(), keys->end());
#endif
}

template <typename Key, typename Value>
void SortPairs(GraphMemory* memory, GraphBuffer<Key>* keys, GraphBuffer<Value>* values,
               [[maybe_unused]] int bits) {
#ifdef __CUDACC__
  GraphBuffer<Key> other_keys(memory, keys->size());
  GraphBuffer<Value> other_values(memory, keys->size());
  cub::DoubleBuffer<Key> both_keys(keys->data(), other_keys.data());
  cub::DoubleBuffer<Value> both_values(values->data(), other_values.data());
  size_t bytes = 0;
  CheckCuda(cub::DeviceRadixSort::SortPairs(nullptr, bytes, both_keys, both_values, keys->size(), 0, bits,
                                            memory->stream()));
  GraphBuffer<char> scratch(memory, static_cast<int64_t>(bytes));
  CheckCuda(cub::DeviceRadixSort::SortPairs(scratch.data(), bytes, both_keys, both_values, keys->size(), 0,
                                            bits, memory->stream()));
  if (both_keys.Current() != keys->data()) keys->Swap(&other_keys);
  if (both_values.Current() != values->data()) values->Swap(&other_values);
#else
  thrust::stable_sort_by_key(memory->policy(), keys->begin(), keys->end(), values->begin());
#endif
}

// Sorted distinct pairs: keys lower << 32 | higher.
struct DeviceRun {
  GraphBuffer<uint64_t> keys;
  GraphBuffer<int64_t> counts;
  int64_t size() const { return keys.size(); }
};

struct DeviceLists {
  GraphListRules rules;
  int32_t first = 0;  // slot of the first neighbor: 1 behind a self-loop
  GraphBuffer<int32_t> neighbors;
  GraphBuffer<int64_t> counts;
  GraphBuffer<double> scores, divisors;  // empty when ranked by count
};

inline int BitsFor(uint64_t n_values) {
  int bits = 1;
  while (bits < 64 && (n_values - 1) >> bits != 0) ++bits;
  return bits;
}

struct DeviceGraph {
  DeviceGraph(const GraphRules& given, int64_t budget, void* stream)
      : rules(given),
        weights(given.distance_weights, given.distance_weights + given.window),
        item_bits(BitsFor(static_cast<uint64_t>(given.n_items > 2 ? given.n_items : 2))),
        memory(budget, stream) {}

  GraphRules rules;
  std::vector<uint32_t> weights;
  int item_bits;
  GraphMemory memory;  // outlives the buffers below
  DeviceRun run;
  DeviceLists lists;
  double* stage_seconds = nullptr;  // [kGraphStages]
};

// Adds its lifetime to a stage of TimeStages. Not for regions that throw on purpose.
class StageTime {
 public:
  StageTime(DeviceGraph* graph, GraphStage stage) : graph_(graph), stage_(stage) {
    if (graph->stage_seconds != nullptr) start_ = Clock::now();
  }
  ~StageTime() {
    if (graph_->stage_seconds == nullptr) return;
#ifdef __CUDACC__
    cudaStreamSynchronize(graph_->memory.stream());
#endif
    graph_->stage_seconds[stage_] += std::chrono::duration<double>(Clock::now() - start_).count();
  }
  StageTime(const StageTime&) = delete;
  StageTime& operator=(const StageTime&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  DeviceGraph* graph_;
  GraphStage stage_;
  Clock::time_point start_;
};

// Runs `body`; what it throws becomes a fault. What a sink throws must not look like it: sinks are called
// outside.
template <typename Body>
bool GuardGraph(const DeviceGraph* graph, GraphFault* fault, Body&& body) {
  try {
    body();
    return true;
  } catch (const std::bad_alloc&) {
    fault->kind = GraphFault::kMemory;
    std::snprintf(fault->what, sizeof(fault->what),
                  "device_bytes is %lld; needs more, or more memory free on the device",
                  static_cast<long long>(graph->memory.budget()));
  } catch (const std::exception& error) {
    fault->kind = GraphFault::kDevice;
    std::snprintf(fault->what, sizeof(fault->what), "the device is in error (%s); needs success",
                  error.what());
  }
  return false;
}

}  // namespace resembed::kernels
