// SPDX-License-Identifier: Apache-2.0
// What surrounds the sums of backward: sources, ids of gradients, weights of pairs.
#include "kernels/backward/backward.h"
#include "kernels/common/rows.cuh"

namespace resembed::kernels {

namespace {

__global__ void __launch_bounds__(256) GradIdsKernel(const __grid_constant__ Batch<GradIds> batch) {
  ForEntries(batch, [](const GradIds& params, int64_t block) {
    const int64_t run = ThreadOf(block);
    const bool broken = params.counts->status != 0;
    const int64_t n = broken ? 0 : params.central ? params.counts->n_unique_central : params.counts->n_unique;
    if (run < n) params.row_ids[run] = params.rows[run];
    if (run == 0) *params.n_rows = broken ? -1 : n;
  });
}

__global__ void __launch_bounds__(256) DenseFillKernel(const __grid_constant__ Batch<DenseFill> batch) {
  ForEntries(batch, [](const DenseFill& params, int64_t block) {
    const int64_t at = ThreadOf(block);
    if (at >= params.n_rows * params.dim) return;
    const float value = params.counts->status != 0 ? __uint_as_float(0x7fc00000u) : 0.0f;
    params.rows[at / params.dim * params.stride + at % params.dim] = value;
  });
}

__global__ void __launch_bounds__(256) UniformWeightsKernel(const __grid_constant__ Batch<UniformWeights> batch) {
  ForEntries(batch, [](const UniformWeights& params, int64_t block) {
    const int64_t unique = ThreadOf(block);
    const int64_t n = params.counts->status != 0 ? 0 : params.counts->n_unique;
    if (unique >= n) return;
    const int32_t* list = params.neighbors + params.unique[unique] * params.neighbors_stride;
    int count = 0;
    while (count < params.n_neighbors && list[count] >= 0) ++count;
    params.weight[unique] = count == 0 ? 0.0f : 1.0f / static_cast<float>(count);
  });
}

}  // namespace

int64_t BackwardBlocks(const BackwardVariant& variant, int64_t n, int64_t dim, const Grid& grid) {
  const int tiles = variant.one_tile ? 1 : kTilesOfGroup;
  const int64_t threads = n * (variant.wide ? Group<4>::kSize : Group<1>::kSize);
  return (threads + grid.threads - 1) / grid.threads * ((TilesOf(dim) + tiles - 1) / tiles);
}

cudaError_t LaunchGradIds(const Batch<GradIds>& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(GradIdsKernel, batch, grid, stream);
}
cudaError_t LaunchDenseFill(const Batch<DenseFill>& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(DenseFillKernel, batch, grid, stream);
}
cudaError_t LaunchUniformWeights(const Batch<UniformWeights>& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(UniformWeightsKernel, batch, grid, stream);
}

}  // namespace resembed::kernels
