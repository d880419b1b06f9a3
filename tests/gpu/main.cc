// SPDX-License-Identifier: Apache-2.0
// Main of the tests that need a GPU: says which one it is, or leaves with 77 (skipped) where there is none.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  int n_devices = 0;  // not written on failure
  const cudaError_t error = cudaGetDeviceCount(&n_devices);
  if (error != cudaSuccess || n_devices < 1) {
    std::printf("no GPU: %s\n", error == cudaSuccess ? "no device" : cudaGetErrorString(error));
    return 77;
  }
  cudaDeviceProp device = {};
  if (cudaGetDeviceProperties(&device, 0) == cudaSuccess) {
    std::printf("GPU: %s, compute capability %d.%d\n", device.name, device.major, device.minor);
  }
  return RUN_ALL_TESTS();
}
