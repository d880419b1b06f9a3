// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/batch.h"
#include "kernels/gpu.cuh"

namespace resembed::kernels {
namespace {

constexpr int kWarps = 8;

// A warp takes a value.
template <int kWords>
__global__ void __launch_bounds__(256) StoreKernel(const __grid_constant__ StoreParams<kWords> params) {
  for (int value = static_cast<int>(threadIdx.x) / kLanes; value < params.n; value += kWarps) {
    const uint32_t first = params.first[value], n = params.first[value + 1] - first;
    for (uint32_t word = threadIdx.x % kLanes; word < n; word += kLanes) {
      params.to[value][word] = params.words[first + word];
    }
  }
}

}  // namespace

template <int kWords>
cudaError_t LaunchStore(const StoreParams<kWords>& params, cudaStream_t stream) {
  return gpu::Launch(StoreKernel<kWords>, dim3(1), dim3(kLanes * kWarps), 0, stream, params);
}
template cudaError_t LaunchStore(const StoreParams<kFewWords>& params, cudaStream_t stream);
#if CUDART_VERSION >= 13000
template cudaError_t LaunchStore(const StoreParams<kManyWords>& params, cudaStream_t stream);
#endif

}  // namespace resembed::kernels
