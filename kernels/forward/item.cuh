// SPDX-License-Identifier: Apache-2.0
// From a position of a feature's ids to the rows that an item embedding is made of.
#pragma once

#include "kernels/common/pack.cuh"
#include "kernels/forward/forward.h"

namespace resembed::kernels {

constexpr int kWarp = 32;

// What a group of lanes works on: a tile of columns of one bag.
struct Lane {
  int64_t column;   // first column of this lane
  bool in_row;      // column < dim
  bool is_reporter;  // one lane of all that read the same ids
};

__device__ __forceinline__ void ReportBadId(const ForwardParams& params, const ForwardFeature& feature,
                                            int64_t position) {
  if (params.bad_ids == nullptr) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(&params.bad_ids->count), 1ull);
  atomicMin(params.first_bad, static_cast<unsigned long long>(feature.index) << 48 |
                                  static_cast<unsigned long long>(position));
}

// items[u] = the item at position + u, or -1 where nothing contributes: padding, bad ids, positions from `end`.
template <int kItems>
__device__ __forceinline__ void LoadItems(const ForwardParams& params, const ForwardFeature& feature,
                                          const Lane& lane, int64_t position, int64_t end,
                                          int64_t (&items)[kItems]) {
  if (feature.ids == nullptr) {
#pragma unroll
    for (int u = 0; u < kItems; ++u) items[u] = position + u < end ? feature.first_item + position + u : -1;
    return;
  }
  if (feature.wide_ids) {
    const int64_t* ids = static_cast<const int64_t*>(feature.ids) + position;
#pragma unroll
    for (int u = 0; u < kItems; ++u) items[u] = position + u < end ? ids[u] : -1;
  } else {
    const int32_t* ids = static_cast<const int32_t*>(feature.ids) + position;
#pragma unroll
    for (int u = 0; u < kItems; ++u) items[u] = position + u < end ? ids[u] : -1;
  }
#pragma unroll
  for (int u = 0; u < kItems; ++u) {
    if (position + u >= end) continue;
    if (feature.has_padding && items[u] == feature.padding_id) {
      items[u] = -1;
    } else if (!params.trust && static_cast<uint64_t>(items[u]) >= static_cast<uint64_t>(feature.n_items)) {
      items[u] = -1;
      if (lane.is_reporter) ReportBadId(params, feature, position + u);
    }
  }
}

// rows[u] = row of R, centers[u] = row of C of an assignment; -1 = none.
template <int kItems>
__device__ __forceinline__ void LoadMaps(const ForwardFeature& feature, const int64_t (&items)[kItems],
                                         int64_t (&rows)[kItems], int32_t (&centers)[kItems]) {
#pragma unroll
  for (int u = 0; u < kItems; ++u) centers[u] = -1;
  if (feature.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    if (feature.narrow_centers) {
      const auto* codes = static_cast<const uint16_t*>(feature.center_of);
#pragma unroll
      for (int u = 0; u < kItems; ++u) {
        if (items[u] >= 0) centers[u] = codes[items[u]];
      }
#pragma unroll
      for (int u = 0; u < kItems; ++u) centers[u] = centers[u] == 65535 ? -1 : centers[u];
    } else {
      const auto* codes = static_cast<const int32_t*>(feature.center_of);
#pragma unroll
      for (int u = 0; u < kItems; ++u) {
        if (items[u] >= 0) centers[u] = codes[items[u]];
      }
    }
  }
#pragma unroll
  for (int u = 0; u < kItems; ++u) rows[u] = feature.residual == nullptr ? -1 : items[u];
  if (feature.residual != nullptr && feature.residual_row_of != nullptr) {
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      if (items[u] >= 0) rows[u] = feature.residual_row_of[items[u]];
    }
  }
}

template <typename T, int kCols>
__device__ __forceinline__ void LoadCentral(Pack<T, kCols>& pack, const ForwardFeature& feature, int64_t row,
                                            int64_t column) {
  LoadPack<true>(pack, static_cast<const char*>(feature.central) + row * feature.central_pitch +
                           column * static_cast<int64_t>(sizeof(T)));
}
template <typename T, int kCols>
__device__ __forceinline__ void LoadResidual(Pack<T, kCols>& pack, const ForwardFeature& feature, int64_t row,
                                             int64_t column) {
  LoadPack<false>(pack, static_cast<const char*>(feature.residual) + row * feature.residual_pitch +
                            column * static_cast<int64_t>(sizeof(T)));
}

__device__ __forceinline__ float LoadElement(const void* row, const float*, int64_t column) {
  return static_cast<const float*>(row)[column];
}
template <typename T>
__device__ __forceinline__ float LoadElement(const void* row, const T*, int64_t column) {
  return Halves<T>::Value(static_cast<const unsigned short*>(row)[column]);
}

// scores[k] = C[item] . C[list[k]], then exp(scores[k] - max); returns their sum. The whole warp calls this for one
// item. Lane j has partial sum j of the dot product (columns j, j + 32, ...); the butterfly adds as the tree 16,
// 8, 4, 2, 1 does. `scores` is shared by the warp and may be overwritten after the next __syncwarp.
template <typename CentralT>
__device__ float AttentionScores(const ForwardFeature& feature, int64_t item, const int32_t* list, int count,
                                 float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto* query = static_cast<const char*>(feature.central) + item * feature.central_pitch;
  for (int k = 0; k < count; ++k) {
    const auto* key = static_cast<const char*>(feature.central) + list[k] * feature.central_pitch;
    float partial = 0.0f;
    for (int64_t col = lane; col < feature.dim; col += kWarp) {
      partial += LoadElement(query, static_cast<const CentralT*>(nullptr), col) *
                 LoadElement(key, static_cast<const CentralT*>(nullptr), col);
    }
    for (int half = kWarp / 2; half > 0; half /= 2) partial += __shfl_xor_sync(0xffffffffu, partial, half);
    if (lane == 0) scores[k] = partial;
  }
  __syncwarp();
  float largest = scores[0];
  for (int k = 1; k < count; ++k) largest = scores[k] > largest ? scores[k] : largest;
  __syncwarp();
  for (int k = lane; k < count; k += kWarp) scores[k] = expf(scores[k] - largest);
  __syncwarp();
  float sum = 0.0f;
  for (int k = 0; k < count; ++k) sum += scores[k];
  return sum;
}

// Neighbors in flight together.
constexpr int kNeighborsInFlight = 4;

// e = the embedding of `item` from its neighbor list, this lane's columns.
template <typename CentralT, typename ResidualT, int kCols>
__device__ __forceinline__ void ComposeFromList(const ForwardFeature& feature, const Lane& lane, int64_t item,
                                                float* scores, float (&e)[kCols]) {
  int64_t row = feature.residual == nullptr ? -1 : item;
  if (row >= 0 && feature.residual_row_of != nullptr) row = feature.residual_row_of[item];
  Pack<ResidualT, kCols> residual;
  if (row >= 0 && lane.in_row) LoadResidual(residual, feature, row, lane.column);
  const int32_t* list = feature.neighbors + item * feature.neighbors_stride;
  int count = 0;
  for (int from = 0; from < feature.n_neighbors && count == from; from += kNeighborsInFlight) {
    int32_t neighbors[kNeighborsInFlight];
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) {
      neighbors[k] = from + k < feature.n_neighbors ? list[from + k] : -1;
    }
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) count += count == from + k && neighbors[k] >= 0;
  }
  float sum = 1.0f;
  if (feature.form == RESEMBED_CENTRAL_ATTENTION && count > 0) {
    sum = AttentionScores<CentralT>(feature, item, list, count, scores);
  }
  const float uniform = 1.0f / static_cast<float>(count);
#pragma unroll
  for (int col = 0; col < kCols; ++col) e[col] = 0.0f;
  for (int from = 0; from < count && lane.in_row; from += kNeighborsInFlight) {
    Pack<CentralT, kCols> rows[kNeighborsInFlight];
    float weights[kNeighborsInFlight];
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) {
      if (from + k < count) LoadCentral(rows[k], feature, list[from + k], lane.column);
    }
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) {
      if (from + k >= count) {
        weights[k] = 0.0f;
      } else if (feature.form == RESEMBED_CENTRAL_UNIFORM) {
        weights[k] = uniform;
      } else if (feature.form == RESEMBED_CENTRAL_STORED) {
        weights[k] = feature.neighbor_weights[item * feature.weights_stride + from + k];
      } else {
        weights[k] = scores[from + k] / sum;
      }
    }
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) {
      if (from + k >= count) break;
      float values[kCols];
      Unpack(values, rows[k]);
#pragma unroll
      for (int col = 0; col < kCols; ++col) {
        const float term = weights[k] * values[col];
        e[col] = from + k == 0 ? term : e[col] + term;
      }
    }
  }
  if (row >= 0 && lane.in_row) {
    float values[kCols];
    Unpack(values, residual);
#pragma unroll
    for (int col = 0; col < kCols; ++col) e[col] = count > 0 ? e[col] + values[col] : values[col];
  }
  // The scores of the next item replace these.
  if (feature.form == RESEMBED_CENTRAL_ATTENTION) __syncwarp();
}

// e = center + residual, as far as the item has them.
template <typename CentralT, typename ResidualT, int kCols>
__device__ __forceinline__ void ComposeFromRows(int32_t center, const Pack<CentralT, kCols>& central,
                                                int64_t row, const Pack<ResidualT, kCols>& residual,
                                                float (&e)[kCols]) {
  float values[kCols];
#pragma unroll
  for (int col = 0; col < kCols; ++col) e[col] = 0.0f;
  if (center >= 0) Unpack(e, central);
  if (row < 0) return;
  Unpack(values, residual);
#pragma unroll
  for (int col = 0; col < kCols; ++col) e[col] = center >= 0 ? e[col] + values[col] : values[col];
}

template <int kCols>
__device__ __forceinline__ void StoreOutput(const ForwardFeature& feature, int64_t row, const Lane& lane,
                                            const float (&values)[kCols]) {
  const int64_t at = row * feature.output_stride + lane.column;
  if (feature.output_dtype == RESEMBED_F32) {
    StoreValues<float>(static_cast<float*>(feature.output) + at, values, feature.wide_output);
  } else if (feature.output_dtype == RESEMBED_F16) {
    StoreValues<__half>(static_cast<unsigned short*>(feature.output) + at, values, feature.wide_output);
  } else {
    StoreValues<__nv_bfloat16>(static_cast<unsigned short*>(feature.output) + at, values, feature.wide_output);
  }
}

__device__ __forceinline__ int64_t BagStart(const ForwardFeature& feature, int64_t bag) {
  if (feature.offsets == nullptr) return bag * feature.bag_length;
  const int64_t start = feature.wide_offsets ? static_cast<const int64_t*>(feature.offsets)[bag]
                                             : static_cast<const int32_t*>(feature.offsets)[bag];
  // Offsets are not checked on the device; a wrong one must not read outside the ids.
  return start < 0 ? 0 : start < feature.n_ids ? start : feature.n_ids;
}

}  // namespace resembed::kernels
