// SPDX-License-Identifier: Apache-2.0
// Device memory of exactly the size asked for, with canaries on both sides, and the device a test runs on: a GPU, or
// the emulated one.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "resembed/resembed.h"
#ifdef RESEMBED_EMULATED
#include "tests/emulator/emulator.h"
#endif

namespace resembed::testing {

// A stream that waits for nothing but its own work.
class Stream {
 public:
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void Wait() const { EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

 private:
  cudaStream_t stream_ = nullptr;
};

inline resembed_place CudaPlace(cudaStream_t stream) {
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CUDA;
  place.stream = stream;
  return place;
}

// `bytes` bytes between two canaries of 256 bytes, filled with 0xff (NaN, negative ids).
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes = 0) : bytes_(bytes), host_(bytes + 2 * kGuard, kCanary) {
    std::memset(host_.data() + kGuard, 0xff, bytes);
    ok_ = cudaMalloc(&memory_, host_.size()) == cudaSuccess;
    if (!ok_) {
      cudaGetLastError();
      memory_ = nullptr;
      return;
    }
#ifdef RESEMBED_EMULATED
    emulator::SetGap(memory_, kGuard);  // a kernel that touches a canary is found by AddressSanitizer, too
    emulator::SetGap(static_cast<char*>(memory_) + kGuard + bytes, kGuard);
#endif
    ToDevice();
  }
  DeviceBuffer(const void* data, size_t bytes) : DeviceBuffer(bytes) {
    if (bytes > 0) std::memcpy(host_.data() + kGuard, data, bytes);
    ToDevice();
  }
  ~DeviceBuffer() { cudaFree(memory_); }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : bytes_(other.bytes_), host_(std::move(other.host_)), memory_(other.memory_), ok_(other.ok_) {
    other.memory_ = nullptr;
  }
  DeviceBuffer& operator=(DeviceBuffer&&) = delete;

  bool ok() const { return ok_; }
  size_t size() const { return bytes_; }
  void* data() const { return static_cast<char*>(memory_) + kGuard; }

  // Copies to the host after `stream`'s work; false when a canary is gone.
  bool Download(const Stream& stream) {
    EXPECT_EQ(cudaMemcpyAsync(host_.data(), memory_, host_.size(), cudaMemcpyDeviceToHost, stream.get()),
              cudaSuccess);
    stream.Wait();
    const auto is_canary = [](unsigned char byte) { return byte == kCanary; };
    return std::all_of(host_.begin(), host_.begin() + kGuard, is_canary) &&
           std::all_of(host_.end() - kGuard, host_.end(), is_canary);
  }
  const unsigned char* host() const { return host_.data() + kGuard; }

 private:
  static constexpr int kGuard = 256;
  static constexpr unsigned char kCanary = 0xa5;

  void ToDevice() {
    if (!ok_) return;
    EXPECT_EQ(cudaMemcpy(memory_, host_.data(), host_.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }

  size_t bytes_;
  std::vector<unsigned char> host_;
  void* memory_ = nullptr;
  bool ok_ = false;
};

}  // namespace resembed::testing
