// SPDX-License-Identifier: Apache-2.0
// From a position of a feature's ids to the rows that an item embedding is made of.
#pragma once

#include "kernels/common/pack.cuh"
#include "kernels/forward/forward.h"

namespace resembed::kernels {

constexpr int kWarp = 32;

// One of the lanes that work on a tile of columns of one bag. All of them take part in shuffles; those past
// the end of the row read column 0 and store nothing.
struct Lane {
  int64_t column;     // first column of this lane
  bool in_row;        // whether that is one
  bool reports;       // one tile of a bag reports bad ids
  int index, lanes;   // of the group
  int shift;          // lane of the warp where the group begins
  unsigned int mask;  // lanes of the warp that form the group
};

__device__ __forceinline__ void ReportBadId(const ForwardParams& params, const ForwardFeature& feature,
                                            int64_t position) {
  if (params.bad_ids == nullptr) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(&params.bad_ids->count), 1ull);
  atomicMin(params.first_bad,
            static_cast<unsigned long long>(feature.index) << 48 | static_cast<unsigned long long>(position));
}

// The item at `position`, or -1 where nothing contributes: padding, bad ids, positions from `end`.
__device__ __forceinline__ int64_t LoadItem(const ForwardParams& params, const ForwardFeature& feature,
                                            const Lane& lane, int64_t position, int64_t end) {
  if (position >= end) return -1;
  if (feature.ids == nullptr) return feature.first_item + position;
  const int64_t id = feature.wide_ids ? static_cast<const int64_t*>(feature.ids)[position]
                                      : static_cast<const int32_t*>(feature.ids)[position];
  if (feature.has_padding && id == feature.padding_id) return -1;
  if (!params.trust && static_cast<uint64_t>(id) >= static_cast<uint64_t>(feature.n_items)) {
    if (lane.reports) ReportBadId(params, feature, position);
    return -1;
  }
  return id;
}

// Row `row` of R, null when it is -1; the same of C.
__device__ __forceinline__ const char* ResidualRow(const ForwardFeature& feature, int64_t row) {
  return row < 0 ? nullptr : static_cast<const char*>(feature.residual) + row * feature.residual_pitch;
}
__device__ __forceinline__ const char* CentralRow(const ForwardFeature& feature, int64_t row) {
  return row < 0 ? nullptr : static_cast<const char*>(feature.central) + row * feature.central_pitch;
}

// Row of R of an item, -1 = none.
__device__ __forceinline__ int64_t ResidualRowOf(const ForwardFeature& feature, int64_t item) {
  if (item < 0 || feature.residual == nullptr) return -1;
  return feature.residual_row_of == nullptr ? item : feature.residual_row_of[item];
}
// Row of C of an item under an assignment, -1 = none.
__device__ __forceinline__ int32_t CenterOf(const ForwardFeature& feature, int64_t item) {
  if (item < 0 || feature.form != RESEMBED_CENTRAL_ASSIGNMENT) return -1;
  if (!feature.narrow_centers) return static_cast<const int32_t*>(feature.center_of)[item];
  const int32_t code = static_cast<const uint16_t*>(feature.center_of)[item];
  return code == 65535 ? -1 : code;
}

// What one lane knows of the item at its position.
struct Use {
  const char* residual;  // rows, null = none
  const char* central;
  float weight;  // per-sample weight; 0 where nothing contributes
  bool here;     // contributes
};

__device__ __forceinline__ Use LoadUse(const ForwardFeature& feature, int64_t item, int64_t position) {
  Use use;
  use.here = item >= 0;
  use.residual = ResidualRow(feature, ResidualRowOf(feature, item));
  use.central = CentralRow(feature, CenterOf(feature, item));
  use.weight = !use.here ? 0.0f : feature.weights == nullptr ? 1.0f : feature.weights[position];
  return use;
}

// The value that lane `from` of the group has.
template <typename T>
__device__ __forceinline__ T FromLane(const Lane& lane, T value, int from) {
  return __shfl_sync(lane.mask, value, from, lane.lanes);
}
__device__ __forceinline__ const char* FromLane(const Lane& lane, const char* value, int from) {
  return reinterpret_cast<const char*>(
      __shfl_sync(lane.mask, reinterpret_cast<unsigned long long>(value), from, lane.lanes));
}

// This lane's columns of a row, or -0 where there is no row: x + -0 is x, bit for bit.
template <bool kKeep, typename T, int kCols>
__device__ __forceinline__ void LoadColumns(Pack<T, kCols>& pack, const char* row, const Lane& lane) {
  if (row != nullptr) {
    LoadPack<kKeep>(pack, row + (lane.in_row ? lane.column : 0) * static_cast<int64_t>(sizeof(T)));
  } else {
#pragma unroll
    for (int word = 0; word < Pack<T, kCols>::kWords; ++word) {
      pack.words[word] = sizeof(T) == 4 ? 0x80000000u : 0x80008000u;
    }
  }
}

__device__ __forceinline__ float LoadElement(const void* row, const float*, int64_t column) {
  return static_cast<const float*>(row)[column];
}
template <typename T>
__device__ __forceinline__ float LoadElement(const void* row, const T*, int64_t column) {
  return Halves<T>::Value(static_cast<const unsigned short*>(row)[column]);
}

// scores[k] = C[item] . C[list[k]], then exp(scores[k] - max); returns their sum. The whole warp calls this
// for one item. Lane j has partial sum j of the dot product (columns j, j + 32, ...); the butterfly adds as
// the tree 16, 8, 4, 2, 1 does. `scores` is shared by the warp and may be overwritten after the next
// __syncwarp.
template <typename CentralT>
__device__ float AttentionScores(const ForwardFeature& feature, int64_t item, int count, float* scores) {
  const int32_t* list = feature.neighbors + item * feature.neighbors_stride;
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

// Neighbors whose numbers and weights are read together; their rows, too, or two by two where a lane takes 32
// bytes of each.
constexpr int kNeighborsInFlight = 4;

// neighbors[k] = list[from + k], -1 from the end of the list.
__device__ __forceinline__ void LoadNeighbors(const ForwardFeature& feature, int64_t item, int from,
                                              int32_t (&neighbors)[kNeighborsInFlight]) {
  const int32_t* list = feature.neighbors + item * feature.neighbors_stride;
#pragma unroll
  for (int k = 0; k < kNeighborsInFlight; ++k) {
    neighbors[k] = item >= 0 && from + k < feature.n_neighbors ? list[from + k] : -1;
  }
}

// Length of the list whose first neighbors are given.
__device__ __forceinline__ int CountNeighbors(const ForwardFeature& feature, int64_t item,
                                              const int32_t (&first)[kNeighborsInFlight]) {
  int count = 0;
#pragma unroll
  for (int k = 0; k < kNeighborsInFlight; ++k) count += count == k && first[k] >= 0;
  for (int from = kNeighborsInFlight; count == from && from < feature.n_neighbors;
       from += kNeighborsInFlight) {
    int32_t neighbors[kNeighborsInFlight];
    LoadNeighbors(feature, item, from, neighbors);
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) count += count == from + k && neighbors[k] >= 0;
  }
  return count;
}

// e = the embedding of `item` from its neighbor list, this lane's columns; `first` are the list's first
// neighbors.
template <typename CentralT, typename ResidualT, int kCols>
__device__ __forceinline__ void ComposeFromList(const ForwardFeature& feature, const Lane& lane, int64_t item,
                                                const int32_t (&first)[kNeighborsInFlight], float* scores,
                                                float (&e)[kCols]) {
  constexpr int kRows = kCols * static_cast<int>(sizeof(CentralT)) > 16 ? 2 : kNeighborsInFlight;
  const int64_t row = ResidualRowOf(feature, item);
  Pack<ResidualT, kCols> residual;
  LoadColumns<false>(residual, ResidualRow(feature, row), lane);
  const int count = CountNeighbors(feature, item, first);
  float sum = 1.0f;
  if (feature.form == RESEMBED_CENTRAL_ATTENTION && count > 0) {
    sum = AttentionScores<CentralT>(feature, item, count, scores);
  }
  const float uniform = 1.0f / static_cast<float>(count);
#pragma unroll
  for (int col = 0; col < kCols; ++col) e[col] = -0.0f;
  for (int from = 0; from < count; from += kNeighborsInFlight) {
    int32_t neighbors[kNeighborsInFlight];
    if (from == 0) {
#pragma unroll
      for (int k = 0; k < kNeighborsInFlight; ++k) neighbors[k] = first[k];
    } else {
      LoadNeighbors(feature, item, from, neighbors);
    }
    float weights[kNeighborsInFlight];
#pragma unroll
    for (int k = 0; k < kNeighborsInFlight; ++k) {
      weights[k] = 1.0f;
      if (from + k >= count) continue;
      if (feature.form == RESEMBED_CENTRAL_UNIFORM) {
        weights[k] = uniform;
      } else if (feature.form == RESEMBED_CENTRAL_STORED) {
        weights[k] = feature.neighbor_weights[item * feature.weights_stride + from + k];
      } else {
        weights[k] = scores[from + k] / sum;
      }
    }
#pragma unroll
    for (int part = 0; part < kNeighborsInFlight; part += kRows) {
      Pack<CentralT, kCols> rows[kRows];
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        LoadColumns<true>(rows[k], CentralRow(feature, from + part + k < count ? neighbors[part + k] : -1),
                          lane);
      }
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        float values[kCols];
        Unpack(values, rows[k]);
#pragma unroll
        for (int col = 0; col < kCols; ++col) e[col] += weights[part + k] * values[col];
      }
    }
  }
  float values[kCols];
  Unpack(values, residual);
#pragma unroll
  for (int col = 0; col < kCols; ++col) e[col] = count == 0 && row < 0 ? 0.0f : e[col] + values[col];
  // The scores of the next item replace these.
  if (feature.form == RESEMBED_CENTRAL_ATTENTION) __syncwarp();
}

template <int kCols>
__device__ __forceinline__ void StoreOutput(const ForwardFeature& feature, int64_t row, const Lane& lane,
                                            const float (&values)[kCols]) {
  if (!lane.in_row) return;
  const int64_t at = row * feature.output_stride + lane.column;
  if (feature.output_dtype == RESEMBED_F32) {
    StoreValues<float>(static_cast<float*>(feature.output) + at, values, feature.wide_output);
  } else if (feature.output_dtype == RESEMBED_F16) {
    StoreValues<__half>(static_cast<unsigned short*>(feature.output) + at, values, feature.wide_output);
  } else {
    StoreValues<__nv_bfloat16>(static_cast<unsigned short*>(feature.output) + at, values,
                               feature.wide_output);
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
