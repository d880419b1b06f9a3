// SPDX-License-Identifier: Apache-2.0
// Equations and order of sums in attention.h.
//
// Traffic   the scores read each row of a use once, the sums that follow read it once more (out of L2 while a batch
//           fits); 4 bytes an id between them, so that no embedding is written.
#include "kernels/attention/attention.h"

#include "kernels/common/items.cuh"

namespace resembed::kernels {
namespace {

constexpr int kWarpsOfBlock = 8;

// The item at `position`, -1 where nothing takes part.
__device__ __forceinline__ int64_t ItemAt(const AttentionParams& params, int64_t position) {
  const int64_t id = params.wide_ids ? static_cast<const int64_t*>(params.ids)[position]
                                     : static_cast<const int32_t*>(params.ids)[position];
  if (params.has_padding && id == params.padding_id) return -1;
  if (!params.trust && static_cast<uint64_t>(id) >= static_cast<uint64_t>(params.n_items)) return -1;
  return id;
}

// First position of a bag. Offsets are not checked on the device; a wrong one must not lead outside the ids.
__device__ __forceinline__ int64_t BagStart(const AttentionParams& params, int64_t bag) {
  if (params.offsets == nullptr) return bag * params.bag_length;
  const int64_t start = params.wide_offsets ? static_cast<const int64_t*>(params.offsets)[bag]
                                            : static_cast<const int32_t*>(params.offsets)[bag];
  return start < 0 ? 0 : start < params.n_ids ? start : params.n_ids;
}

// The bag of a position: the last one that begins at or before it.
__device__ __forceinline__ int64_t BagOf(const AttentionParams& params, int64_t position) {
  if (params.offsets == nullptr) return position / params.bag_length;
  int64_t low = 0, high = params.n_bags;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (BagStart(params, middle) <= position) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__global__ void __launch_bounds__(256, 2) ScoresKernel(const __grid_constant__ AttentionParams params) {
  RESEMBED_SHARED(float, all_weights, [kWarpsOfBlock][RESEMBED_MAX_NEIGHBORS]);
  float* const weights = all_weights[threadIdx.x / kLanes];
  for (int64_t position = FirstWarp(); position < params.n_ids; position += WarpStride()) {
    const int64_t item = ItemAt(params, position);
    float score = 0.0f;
    if (item >= 0) {
      const char* row = params.rows + BagOf(params, position) * params.pitch;
      const Embedding e = EmbeddingOf(params.table, item, weights);
      score = WarpDot(
          params.table.dim, [&](int64_t column) { return Element(row, params.dtype, column); }, e);
    }
    if (LaneOfWarp() == 0) params.scores[position] = score;
    __syncwarp();  // the weights of the next item replace these
  }
}

__device__ __forceinline__ float WarpMax(float value) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, half);
    value = other > value ? other : value;
  }
  return value;
}

__global__ void __launch_bounds__(256, 2) AttentionWeightsKernel(const __grid_constant__ AttentionParams params) {
  for (int64_t bag = FirstWarp(); bag < params.n_bags; bag += WarpStride()) {
    const int64_t first = BagStart(params, bag) + LaneOfWarp(), end = BagStart(params, bag + 1);
    float largest = -INFINITY;
    float sum[1] = {0.0f};
    if (params.softmax) {
      for (int64_t at = first; at < end; at += kLanes) {
        const float score = params.scale * params.scores[at];
        if (ItemAt(params, at) >= 0 && score > largest) largest = score;
      }
      largest = WarpMax(largest);
      for (int64_t at = first; at < end; at += kLanes) {
        if (ItemAt(params, at) >= 0) sum[0] += expf(params.scale * params.scores[at] - largest);
      }
    }
    const float total = TreeSum(sum);
    for (int64_t at = first; at < end; at += kLanes) {
      if (ItemAt(params, at) < 0) continue;
      const float score = params.scale * params.scores[at];
      params.scores[at] = params.softmax ? expf(score - largest) / total : 1.0f / (1.0f + expf(-score));
    }
  }
}

__global__ void __launch_bounds__(256, 2) ScoreGradientsKernel(const __grid_constant__ AttentionParams params) {
  for (int64_t bag = FirstWarp(); bag < params.n_bags; bag += WarpStride()) {
    const int64_t first = BagStart(params, bag) + LaneOfWarp(), end = BagStart(params, bag + 1);
    float sum[1] = {0.0f};
    for (int64_t at = first; at < end; at += kLanes) sum[0] += params.p[at] * params.scores[at];
    const float mean = TreeSum(sum);
    for (int64_t at = first; at < end; at += kLanes) {
      const float p = params.p[at], dp = params.scores[at];
      const float slope = params.softmax ? p * (dp - mean) : (p * (1.0f - p)) * dp;
      params.scores[at] = ItemAt(params, at) < 0 ? 0.0f : params.scale * slope;
    }
  }
}

}  // namespace

cudaError_t LaunchScores(const AttentionParams& params, const Grid& grid, cudaStream_t stream) {
  return LaunchWarps(ScoresKernel, params.n_bags == 0 ? 0 : params.n_ids, grid, stream, params);
}
cudaError_t LaunchAttentionWeights(const AttentionParams& params, const Grid& grid, cudaStream_t stream) {
  return LaunchWarps(AttentionWeightsKernel, params.n_bags, grid, stream, params);
}
cudaError_t LaunchScoreGradients(const AttentionParams& params, const Grid& grid, cudaStream_t stream) {
  return LaunchWarps(ScoreGradientsKernel, params.n_bags, grid, stream, params);
}

}  // namespace resembed::kernels
