// SPDX-License-Identifier: Apache-2.0
// The GPU of a benchmark process: memory, times by events, a cold second-level cache, and what a plain copy reaches.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace resembed::bench::gpu {

// Throws std::runtime_error.
void CheckCuda(cudaError_t error, const char* what);

class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t bytes);
  ~DeviceArray();
  DeviceArray(DeviceArray&& other) noexcept;
  DeviceArray& operator=(DeviceArray&& other) noexcept;

  template <typename T>
  static DeviceArray Of(const std::vector<T>& values) {
    DeviceArray array(values.size() * sizeof(T));
    CheckCuda(cudaMemcpy(array.data(), values.data(), array.bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
    return array;
  }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

struct Gpu {
  std::string name;
  int major = 0, minor = 0, n_multiprocessors = 0, driver = 0, runtime = 0;
  int64_t l2_bytes = 0, memory_bytes = 0;
};

// Empty message: there is one. Otherwise why not.
std::string WhyNoGpu();
const Gpu& TheGpu();
int64_t FreeBytes();

// One stream, one pair of events, and a buffer of four second-level caches that `Flush` overwrites.
class Bench {
 public:
  Bench();
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  cudaStream_t stream() const { return stream_; }
  void Flush();
  // Seconds between two events around body(); what was enqueued before is done first.
  template <typename Body>
  double Seconds(const Body& body) {
    CheckCuda(cudaEventRecord(start_, stream_), "cudaEventRecord");
    body();
    CheckCuda(cudaEventRecord(stop_, stream_), "cudaEventRecord");
    CheckCuda(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0;
    CheckCuda(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }
  // Records what body() enqueues, for Replay: times then hold no host code. One recording at a time.
  template <typename Body>
  void Record(const Body& body) {
    BeginRecording();
    body();
    EndRecording();
  }
  void Replay() { CheckCuda(cudaGraphLaunch(replay_, stream_), "cudaGraphLaunch"); }
  // Bytes read plus bytes written a second, by the best of several device-to-device copies of `bytes` each; the
  // first call measures.
  double CopyGbps(int64_t bytes);

 private:
  void BeginRecording();
  void EndRecording();

  cudaStream_t stream_ = nullptr;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t replay_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
  DeviceArray flush_;
  int flushes_ = 0;
  double copy_gbps_ = 0;
};

}  // namespace resembed::bench::gpu
