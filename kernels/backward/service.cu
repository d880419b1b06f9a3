// SPDX-License-Identifier: Apache-2.0
// What surrounds the sums of backward: sources, ids of gradients, weights of pairs.
#include "kernels/backward/backward.h"
#include "kernels/common/walk.cuh"

namespace resembed::kernels {

namespace {

__global__ void StoreSourcesKernel(const __grid_constant__ SourceBatch batch) {
  const int index = static_cast<int>(threadIdx.x);
  if (index < batch.n) batch.to[index] = batch.sources[index];
}

__global__ void __launch_bounds__(256) GradIdsKernel(const __grid_constant__ GradIds params) {
  const bool broken = params.counts->status != 0;
  const int64_t n = broken ? 0 : params.central ? params.counts->n_unique_central : params.counts->n_unique;
  for (int64_t run = FirstThread(); run < n; run += ThreadStride()) params.row_ids[run] = params.rows[run];
  if (FirstThread() == 0) *params.n_rows = broken ? -1 : n;
}

__global__ void __launch_bounds__(256) DenseFillKernel(const __grid_constant__ DenseFill params) {
  const float value = params.counts->status != 0 ? __uint_as_float(0x7fc00000u) : 0.0f;
  for (int64_t at = FirstThread(); at < params.n_rows * params.dim; at += ThreadStride()) {
    params.rows[at / params.dim * params.stride + at % params.dim] = value;
  }
}

__global__ void __launch_bounds__(256) UniformWeightsKernel(const __grid_constant__ UniformWeights params) {
  const int64_t n = params.counts->status != 0 ? 0 : params.counts->n_unique;
  for (int64_t unique = FirstThread(); unique < n; unique += ThreadStride()) {
    const int32_t* list = params.neighbors + params.unique[unique] * params.neighbors_stride;
    int count = 0;
    while (count < params.n_neighbors && list[count] >= 0) ++count;
    params.weight[unique] = count == 0 ? 0.0f : 1.0f / static_cast<float>(count);
  }
}

}  // namespace

cudaError_t LaunchStoreSources(const SourceBatch& batch, cudaStream_t stream) {
  return gpu::Launch(StoreSourcesKernel, dim3(1), dim3(32), 0, stream, batch);
}
cudaError_t LaunchGradIds(const GradIds& params, const Grid& grid, cudaStream_t stream) {
  return LaunchThreads(GradIdsKernel, params.max_rows < 1 ? 1 : params.max_rows, grid, stream, params);
}
cudaError_t LaunchDenseFill(const DenseFill& params, const Grid& grid, cudaStream_t stream) {
  return LaunchThreads(DenseFillKernel, params.n_rows * params.dim, grid, stream, params);
}
cudaError_t LaunchUniformWeights(const UniformWeights& params, const Grid& grid, cudaStream_t stream) {
  return LaunchThreads(UniformWeightsKernel, params.max_unique, grid, stream, params);
}

}  // namespace resembed::kernels
