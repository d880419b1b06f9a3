// SPDX-License-Identifier: Apache-2.0
// CUB under nvcc; a stand-in for the emulator, which runs as one thread in the order of the stream and holds the
// caller to the temporary memory it asked for.
#include "kernels/sort/sort.h"

#include "kernels/gpu.cuh"

#ifdef __CUDACC__
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#else
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>
#endif

namespace resembed::kernels {

#ifdef __CUDACC__

// CUB counts with the type it is given: 32 bits, since uses and pairs are numbered with as many.
cudaError_t SortPairs(void* temp, size_t* bytes, const uint32_t* keys, uint32_t* sorted_keys,
                      const uint32_t* values, uint32_t* sorted_values, int64_t n, int key_bits,
                      cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(temp, *bytes, keys, sorted_keys, values, sorted_values,
                                         static_cast<uint32_t>(n), 0, key_bits, stream);
}

cudaError_t InclusiveSum(void* temp, size_t* bytes, const uint32_t* in, uint32_t* sums, int64_t n,
                         cudaStream_t stream) {
  return cub::DeviceScan::InclusiveSum(temp, *bytes, in, sums, static_cast<uint32_t>(n), stream);
}

#else

namespace {

void SortKernel(void* temp, size_t bytes, const uint32_t* keys, uint32_t* sorted_keys, const uint32_t* values,
                uint32_t* sorted_values, int64_t n, int key_bits) {
  std::memset(temp, 0x5a, bytes);
  const uint32_t mask = key_bits >= 32 ? 0xffffffffu : (1u << key_bits) - 1;
  std::vector<uint32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return (keys[a] & mask) < (keys[b] & mask); });
  for (int64_t at = 0; at < n; ++at) {
    sorted_keys[at] = keys[order[static_cast<size_t>(at)]];
    sorted_values[at] = values[order[static_cast<size_t>(at)]];
  }
}

void ScanKernel(void* temp, size_t bytes, const uint32_t* in, uint32_t* sums, int64_t n) {
  std::memset(temp, 0x5a, bytes);
  uint32_t sum = 0;
  for (int64_t at = 0; at < n; ++at) sums[at] = sum += in[at];
}

// A size nobody would guess.
size_t TempBytes(int64_t n) { return static_cast<size_t>(n) * 9 + 1234; }

}  // namespace

cudaError_t SortPairs(void* temp, size_t* bytes, const uint32_t* keys, uint32_t* sorted_keys,
                      const uint32_t* values, uint32_t* sorted_values, int64_t n, int key_bits,
                      cudaStream_t stream) {
  if (n < 0 || key_bits < 1 || key_bits > 32) return cudaErrorInvalidValue;
  if (temp == nullptr) {
    *bytes = TempBytes(n);
    return cudaSuccess;
  }
  if (*bytes < TempBytes(n)) return cudaErrorInvalidValue;
  return gpu::Launch(SortKernel, dim3(1), dim3(1), 0, stream, temp, TempBytes(n), keys, sorted_keys, values,
                     sorted_values, n, key_bits);
}

cudaError_t InclusiveSum(void* temp, size_t* bytes, const uint32_t* in, uint32_t* sums, int64_t n,
                         cudaStream_t stream) {
  if (temp == nullptr) {
    *bytes = TempBytes(n);
    return cudaSuccess;
  }
  if (*bytes < TempBytes(n)) return cudaErrorInvalidValue;
  return gpu::Launch(ScanKernel, dim3(1), dim3(1), 0, stream, temp, TempBytes(n), in, sums, n);
}

#endif

}  // namespace resembed::kernels
