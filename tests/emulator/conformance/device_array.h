// SPDX-License-Identifier: Apache-2.0
// An array of device memory and a stream, for the conformance tests: emulated or on a GPU.
#ifndef RESEMBED_TESTS_EMULATOR_CONFORMANCE_DEVICE_ARRAY_H_
#define RESEMBED_TESTS_EMULATOR_CONFORMANCE_DEVICE_ARRAY_H_

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

namespace resembed::conformance {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n, T value = T()) : DeviceArray(std::vector<T>(n, value)) {}
  explicit DeviceArray(const std::vector<T>& values) : n_(values.size()) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&at_), n_ * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(at_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~DeviceArray() { cudaFree(at_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* get() const { return at_; }
  std::vector<T> Read() const {  // after all that was enqueued
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<T> values(n_);
    EXPECT_EQ(cudaMemcpy(values.data(), at_, n_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  std::size_t n_;
  T* at_ = nullptr;
};

class Stream {
 public:
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace resembed::conformance

#endif  // RESEMBED_TESTS_EMULATOR_CONFORMANCE_DEVICE_ARRAY_H_
