// SPDX-License-Identifier: Apache-2.0
#include "kernels/backward/optional.h"

#include "kernels/common/items.cuh"

namespace resembed::kernels {
namespace {

constexpr int kWarpsOfBlock = 8;
using Tables = Batch<OptionalParams>;

__global__ void __launch_bounds__(256) ZeroUnusedKernel(const __grid_constant__ Tables batch) {
  ForEntries(batch, [](const OptionalParams& params, int64_t block) {
    const int64_t use = ThreadOf(block);
    if (params.counts->status != 0 || use >= params.n_uses) return;
    if (params.inverse[use] >= 0) return;
    int source = 0;
    while (source + 1 < params.n_sources && params.sources[source + 1].first_use <= use) ++source;
    const BackwardSource& from = params.sources[source];
    if (from.grad_weights != nullptr) from.grad_weights[use - from.first_use] = 0.0f;
  });
}

__global__ void __launch_bounds__(256, gpu::kTightRegisters ? 4 : 2) SampleWeightsKernel(const __grid_constant__ Tables batch) {
  RESEMBED_SHARED(float, all_weights, [kWarpsOfBlock][RESEMBED_MAX_NEIGHBORS]);
  float* const weights = all_weights[threadIdx.x / kLanes];
  ForEntries(batch, [weights](const OptionalParams& params, int64_t block) {
    const TableRows& table = params.table;
    const int64_t n_unique = params.counts->status != 0 ? 0 : params.counts->n_unique;
    const int64_t n_uses = n_unique == 0 ? 0 : params.use_begin[n_unique];
    const int64_t at = WarpOf(block);
    if (at >= n_uses) return;
    const int64_t use = params.use[at];
    int number = 0;
    while (number + 1 < params.n_sources && params.sources[number + 1].first_use <= use) ++number;
    const BackwardSource& source = params.sources[number];
    if (source.grad_weights == nullptr) return;
    const int64_t item = params.unique[params.inverse[use]];
    const Embedding e = EmbeddingOf(table, item, weights);
    const int64_t out_row = params.use_row[at] - source.first_row;
    const char* dy = source.rows + out_row * source.pitch;
    float value =
        WarpDot(table.dim, [&](int64_t column) { return Element(dy, source.dtype, column); }, e);
    if (source.divisor != nullptr) value = value / source.divisor[out_row];
    if (LaneOfWarp() == 0) source.grad_weights[use - source.first_use] = value;
    __syncwarp();  // the weights of the next item replace these
  });
}

// dE of a unique item.
struct ItemRow {
  ItemGrad item;
  __device__ __forceinline__ float operator()(int64_t column) const {
    return item.row == nullptr ? 0.0f : item.a * Element(item.row, item.dtype, column);
  }
};

__global__ void __launch_bounds__(256, 2) StoredWeightsKernel(const __grid_constant__ Tables batch) {
  ForEntries(batch, [](const OptionalParams& params, int64_t block) {
    const TableRows& table = params.table;
    const int64_t n_unique = params.counts->status != 0 ? 0 : params.counts->n_unique;
    const int64_t unique = WarpOf(block);
    if (unique >= n_unique) return;
    const int32_t* list = table.neighbors + params.unique[unique] * table.neighbors_stride;
    const ItemRow g = {params.items[unique]};
    bool in_list = true;
    for (int slot = 0; slot < table.n_neighbors; ++slot) {
      in_list = in_list && list[slot] >= 0;
      float value = 0.0f;
      if (in_list) {
        const char* key = CentralRow(table, list[slot]);
        value = WarpDot(table.dim, g, [&](int64_t column) { return Element(key, table.central_dtype, column); });
      }
      if (LaneOfWarp() == 0) params.grad_stored[unique * table.n_neighbors + slot] = value;
    }
  });
}

__global__ void __launch_bounds__(256, 4) PrepareAttentionKernel(const __grid_constant__ Tables batch) {
  RESEMBED_SHARED(float, all_weights, [kWarpsOfBlock][RESEMBED_MAX_NEIGHBORS]);
  RESEMBED_SHARED(float, all_slopes, [kWarpsOfBlock][RESEMBED_MAX_NEIGHBORS]);
  float* const weights = all_weights[threadIdx.x / kLanes];
  float* const slopes = all_slopes[threadIdx.x / kLanes];
  ForEntries(batch, [weights, slopes](const OptionalParams& params, int64_t block) {
    const TableRows& table = params.table;
    const int64_t n_unique = params.counts->status != 0 ? 0 : params.counts->n_unique;
    const int64_t unique = WarpOf(block);
    if (unique >= n_unique) return;
    const int64_t item = params.unique[unique];
    const int32_t* list = table.neighbors + item * table.neighbors_stride;
    int64_t center;
    const int count = CountCentral(table, item, &center);
    if (count == 0) return;
    Softmax(table, item, list, count, weights);
    const ItemRow g = {params.items[unique]};
    float mean = 0.0f;
    for (int k = 0; k < count; ++k) {
      const char* key = CentralRow(table, list[k]);
      const float t =
          WarpDot(table.dim, g, [&](int64_t column) { return Element(key, table.central_dtype, column); });
      mean = k == 0 ? weights[k] * t : mean + weights[k] * t;
      if (LaneOfWarp() == 0) slopes[k] = t;
    }
    __syncwarp();
    const int64_t first = unique << params.slot_bits;
    for (int k = LaneOfWarp(); k < count; k += kLanes) {
      slopes[k] = weights[k] * (slopes[k] - mean);
      params.weight[first + k] = weights[k];
      params.slope[first + k] = slopes[k];
    }
    __syncwarp();
    const char* own = CentralRow(table, item);
    for (int64_t column = LaneOfWarp(); column < table.dim; column += kLanes) {
      float sum = 0.0f;
      for (int k = 0; k < count; ++k) {
        const float term = slopes[k] * Element(CentralRow(table, list[k]), table.central_dtype, column);
        sum = k == 0 ? term : sum + term;
      }
      params.query[unique * table.dim + column] = sum;
      params.own[unique * table.dim + column] = Element(own, table.central_dtype, column);
    }
    __syncwarp();
  });
}

}  // namespace

cudaError_t LaunchOptional(const Tables& batch, const Grid& grid, cudaStream_t stream) {
  switch (batch.pass) {
    case kZeroUnused:
      return LaunchEntries(ZeroUnusedKernel, batch, grid, stream);
    case kSampleWeights:
      return LaunchEntries(SampleWeightsKernel, batch, grid, stream);
    case kStoredWeights:
      return LaunchEntries(StoredWeightsKernel, batch, grid, stream);
    default:
      return LaunchEntries(PrepareAttentionKernel, batch, grid, stream);
  }
}

}  // namespace resembed::kernels
