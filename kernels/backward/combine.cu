// SPDX-License-Identifier: Apache-2.0
#include "kernels/backward/combine.h"

#include "kernels/common/rows.cuh"

namespace resembed::kernels {
namespace {

__global__ void StoreInputsKernel(const __grid_constant__ InputBatch batch) {
  const int index = static_cast<int>(threadIdx.x);
  if (index < batch.n) batch.to[index] = batch.inputs[index];
}

__global__ void __launch_bounds__(256) EnterRowsKernel(const __grid_constant__ EnterRows params) {
  const CombineInput& input = params.input;
  const int64_t n = *input.n_rows;
  const bool counts = n >= 0 && n <= input.capacity;
  if (!counts && FirstThread() == 0) params.counts->status = RESEMBED_OUT_OF_RANGE;
  for (int64_t at = FirstThread(); at < input.capacity; at += ThreadStride()) {
    const int64_t id = counts && at < n ? input.ids[at] : -1;
    const bool is_row = id >= 0 && id < params.table_rows;
    params.keys[input.first + at] = static_cast<uint32_t>(is_row ? id : params.table_rows);
    params.places[input.first + at] = static_cast<uint32_t>(input.first + at);
  }
}

template <int kCols>
__global__ void __launch_bounds__(256, 2) CombineKernel(const __grid_constant__ CombineParams params) {
  const bool broken = params.counts->status != 0;
  const int64_t n_runs = broken ? 0 : params.counts->n_unique_central;
  if (FirstThread() == 0) *params.n_rows = broken ? -1 : n_runs;
  for (int64_t run = Group<kCols>::First(); run < n_runs; run += Group<kCols>::Stride()) {
    const int64_t begin = params.begin[run], end = params.begin[run + 1];
    if (Group<kCols>::Lane() == 0) params.out_ids[run] = params.rows[run];
    for (int64_t tile = 0; tile < TilesOf(params.dim); ++tile) {
      const int64_t column = Group<kCols>::Column(tile);
      if (column >= params.dim) break;
      float sum[kCols];
      for (int64_t at = begin; at < end; ++at) {
        const int64_t place = params.places[at];
        int low = 0, high = params.n_inputs - 1;
        while (low < high) {
          const int middle = low + (high - low + 1) / 2;
          if (params.inputs[middle].first <= place) {
            low = middle;
          } else {
            high = middle - 1;
          }
        }
        const CombineInput& input = params.inputs[low];
        float values[kCols];
        LoadColumns(values, input.rows + (place - input.first) * input.stride, RESEMBED_F32, column);
#pragma unroll
        for (int col = 0; col < kCols; ++col) sum[col] = at == begin ? values[col] : sum[col] + values[col];
      }
      StoreColumns(params.out + run * params.out_stride, RESEMBED_F32, column, sum);
    }
  }
}

}  // namespace

cudaError_t LaunchStoreInputs(const InputBatch& batch, cudaStream_t stream) {
  return gpu::Launch(StoreInputsKernel, dim3(1), dim3(kInputsPerLaunch), 0, stream, batch);
}
cudaError_t LaunchEnterRows(const EnterRows& params, const Grid& grid, cudaStream_t stream) {
  return LaunchThreads(EnterRowsKernel, params.input.capacity < 1 ? 1 : params.input.capacity, grid, stream, params);
}
cudaError_t LaunchCombine(const CombineParams& params, bool wide, const Grid& grid, cudaStream_t stream) {
  const int64_t n = params.capacity < 1 ? 1 : params.capacity;
  return wide ? LaunchGroups<4>(CombineKernel<4>, n, grid, stream, params)
              : LaunchGroups<1>(CombineKernel<1>, n, grid, stream, params);
}

}  // namespace resembed::kernels
