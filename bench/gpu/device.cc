// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/device.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace resembed::bench::gpu {

void CheckCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // whoever goes on after it does not meet it again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

DeviceArray::DeviceArray(size_t bytes) : bytes_(bytes) {
  CheckCuda(cudaMalloc(&data_, std::max<size_t>(bytes, 1)), "cudaMalloc");
}

DeviceArray::~DeviceArray() { cudaFree(data_); }

DeviceArray::DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }

DeviceArray& DeviceArray::operator=(DeviceArray&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

std::string WhyNoGpu() {
  int count = 0;  // not written on failure
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no device";
}

const Gpu& TheGpu() {
  static const Gpu gpu = [] {
    cudaDeviceProp properties = {};
    CheckCuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    Gpu found;
    found.name = properties.name;
    found.major = properties.major;
    found.minor = properties.minor;
    found.n_multiprocessors = properties.multiProcessorCount;
    found.l2_bytes = properties.l2CacheSize;
    found.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
    CheckCuda(cudaDriverGetVersion(&found.driver), "cudaDriverGetVersion");
    CheckCuda(cudaRuntimeGetVersion(&found.runtime), "cudaRuntimeGetVersion");
    return found;
  }();
  return gpu;
}

int64_t FreeBytes() {
  size_t free = 0, total = 0;
  CheckCuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

Bench::Bench() {
  CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  CheckCuda(cudaEventCreate(&start_), "cudaEventCreate");
  CheckCuda(cudaEventCreate(&stop_), "cudaEventCreate");
  flush_ = DeviceArray(4 * static_cast<size_t>(std::max<int64_t>(TheGpu().l2_bytes, 1)));
}

Bench::~Bench() {
  if (replay_ != nullptr) cudaGraphExecDestroy(replay_);
  if (graph_ != nullptr) cudaGraphDestroy(graph_);
  cudaEventDestroy(start_);
  cudaEventDestroy(stop_);
  cudaStreamDestroy(stream_);
}

void Bench::BeginRecording() {
  CheckCuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  if (replay_ != nullptr) CheckCuda(cudaGraphExecDestroy(replay_), "cudaGraphExecDestroy");
  if (graph_ != nullptr) CheckCuda(cudaGraphDestroy(graph_), "cudaGraphDestroy");
  replay_ = nullptr;
  graph_ = nullptr;
  CheckCuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

void Bench::EndRecording() {
  CheckCuda(cudaStreamEndCapture(stream_, &graph_), "cudaStreamEndCapture");
  CheckCuda(cudaGraphInstantiate(&replay_, graph_, 0), "cudaGraphInstantiate");
}

void Bench::Flush() {
  CheckCuda(cudaMemsetAsync(flush_.data(), ++flushes_ & 0xff, flush_.bytes(), stream_), "cudaMemsetAsync");
}

double Bench::CopyGbps(int64_t bytes) {
  if (copy_gbps_ > 0) return copy_gbps_;
  constexpr int kRuns = 12;
  const DeviceArray from(static_cast<size_t>(bytes)), to(static_cast<size_t>(bytes));
  CheckCuda(cudaMemsetAsync(from.data(), 0x35, from.bytes(), stream_), "cudaMemsetAsync");
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double seconds = Seconds([&] {
      CheckCuda(cudaMemcpyAsync(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToDevice, stream_),
                "cudaMemcpyAsync");
    });
    if (seconds > 0) best = std::max(best, 2e-9 * static_cast<double>(bytes) / seconds);
  }
  return copy_gbps_ = best;
}

}  // namespace resembed::bench::gpu
