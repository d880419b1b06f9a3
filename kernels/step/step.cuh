// SPDX-License-Identifier: Apache-2.0
// Updates of rows; a group of lanes has one row, 32 columns at a time.
//
// Pass 1    is the gradient finite? row-wise kinds: its squared norm
// Pass 2    with a cap: norm of the new row, nothing written
// Pass 3    new row and states
// Later passes find what they read in the first-level cache; the first one brings it from memory. A lane reads and
// writes its own columns only, so no pass disturbs another lane's.
#pragma once

#include "kernels/common/philox.h"
#include "kernels/common/rows.cuh"
#include "kernels/step/step.h"

namespace resembed::kernels {

template <resembed_optimizer_kind kKind>
constexpr bool kIsRowwise = kKind == RESEMBED_ROWWISE_ADAGRAD || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM;
template <resembed_optimizer_kind kKind>
constexpr bool kHasMatrix1 = kKind == RESEMBED_ADAGRAD || kKind == RESEMBED_ADAM ||
                             kKind == RESEMBED_PARTIAL_ROWWISE_ADAM;
template <resembed_optimizer_kind kKind>
constexpr bool kHasMatrix2 = kKind == RESEMBED_ADAM;

__device__ __forceinline__ bool IsFinite(float x) { return (__float_as_uint(x) & 0x7fffffffu) <= 0x7f7fffffu; }

// What an update knows of its row; the same in every lane of a group.
struct RowPlace {
  const void* gradient;  // null = zeros
  float a;               // gradient = a * row
  resembed_dtype gradient_dtype;
  char* row;
  char* state1;
  char* state2;
  float factor;  // row-wise kinds: one step length for all columns
  float shrink;  // of the cap; 1 = none
  int64_t id;
};

template <int kCols>
__device__ __forceinline__ void ScaledGradient(float (&g)[kCols], const RowPlace& place, float scale, int64_t column) {
  if (place.gradient == nullptr) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) g[col] = scale * 0.0f;
    return;
  }
  LoadColumns(g, place.gradient, place.gradient_dtype, column);
#pragma unroll
  for (int col = 0; col < kCols; ++col) g[col] = scale * (place.a * g[col]);
}

// Columns of the new row and states before the cap; g is the scaled gradient.
template <resembed_optimizer_kind kKind, int kCols>
__device__ __forceinline__ void NewValues(const ResolvedRule& rule, const RowPlace& place, const float (&scaled)[kCols],
                                          float (&value)[kCols], float (&state1)[kCols], float (&state2)[kCols]) {
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    float g = scaled[col];
    if (rule.l2 != 0.0f) g = g + rule.l2 * value[col];
    if (rule.keep != 1.0f) value[col] = rule.keep * value[col];
    if constexpr (kKind == RESEMBED_SGD) {
      value[col] = value[col] - rule.lr * g;
    } else if constexpr (kKind == RESEMBED_ADAGRAD) {
      state1[col] = state1[col] + g * g;
      value[col] = value[col] - (rule.lr * g) / (__fsqrt_rn(state1[col]) + rule.eps);
    } else if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) {
      value[col] = value[col] - place.factor * g;
    } else {
      state1[col] = rule.beta1 * state1[col] + rule.rest1 * g;
      if constexpr (kKind == RESEMBED_ADAM) {
        state2[col] = rule.beta2 * state2[col] + rule.rest2 * (g * g);
        value[col] =
            value[col] - (rule.lr * state1[col]) / (__fsqrt_rn(state2[col] / rule.correct2) + rule.eps);
      } else {
        value[col] = value[col] - place.factor * state1[col];
      }
    }
  }
}

template <resembed_optimizer_kind kKind, int kCols>
__device__ __forceinline__ void LoadAndStep(const UpdateParams& params, const ResolvedRule& rule,
                                            const RowPlace& place, int64_t column, float (&value)[kCols],
                                            float (&state1)[kCols], float (&state2)[kCols]) {
  float g[kCols];
  LoadColumns(value, place.row, params.dtype, column);
  if constexpr (kHasMatrix1<kKind>) LoadColumns(state1, place.state1, params.state_dtype, column);
  if constexpr (kHasMatrix2<kKind>) LoadColumns(state2, place.state2, params.state_dtype, column);
  ScaledGradient(g, place, rule.scale, column);
  NewValues<kKind>(rule, place, g, value, state1, state2);
}

template <int kCols>
__device__ __forceinline__ void StoreRow(const UpdateParams& params, const ResolvedRule& rule, const RowPlace& place,
                                         int64_t column, const float (&value)[kCols]) {
  if (!params.stochastic) return StoreColumns(place.row, params.dtype, column, value);
  const RoundingStream random = {params.seed, place.id, params.table_number, params.part,
                                 static_cast<int64_t>(rule.step)};
  const PhiloxBlock block = random.Block(column / 8);
  unsigned int halves[kCols];
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    // RoundingStream::Bits without an array in memory.
    const auto part = static_cast<unsigned int>((column + col) & 7);
    const uint32_t low = part < 2 ? block.word[0] : block.word[1], high = part < 6 ? block.word[2] : block.word[3];
    const uint32_t bits = (part < 4 ? low : high) >> (16 * (part & 1)) & 0xffffu;
    halves[col] = params.dtype == RESEMBED_BF16 ? RoundToBfloat(value[col], bits) : RoundToHalf(value[col], bits);
  }
  StoreHalves(place.row, column, halves);
}

__device__ __forceinline__ float LoadOne(const char* state, resembed_dtype dtype) {
  float value[1];
  LoadColumns(value, state, dtype, 0);
  return value[0];
}

// False: the gradient is not finite and nothing was changed.
template <resembed_optimizer_kind kKind, int kCols>
__device__ __forceinline__ bool UpdateRow(const UpdateParams& params, const ResolvedRule& rule, RowPlace place) {
  const unsigned int mask = Group<kCols>::Mask();
  const int64_t n_tiles = TilesOf(params.dim);
  float partial[kCols];
#pragma unroll
  for (int col = 0; col < kCols; ++col) partial[col] = 0.0f;
  bool finite = true;
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    const int64_t column = Group<kCols>::Column(tile);
    if (column >= params.dim) break;
    float g[kCols], value[kCols];
    ScaledGradient(g, place, rule.scale, column);
    if (kIsRowwise<kKind> && rule.l2 != 0.0f) LoadColumns(value, place.row, params.dtype, column);
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
      finite = finite && IsFinite(g[col]);
      if constexpr (kIsRowwise<kKind>) {
        const float x = rule.l2 != 0.0f ? g[col] + rule.l2 * value[col] : g[col];
        partial[col] = partial[col] + x * x;
      }
    }
  }
  if (__any_sync(mask, finite ? 0 : 1) != 0) return false;
  place.factor = 0.0f;
  if constexpr (kIsRowwise<kKind>) {
    const float mean = TreeSum(partial) / static_cast<float>(params.dim);
    char* const state = kKind == RESEMBED_ROWWISE_ADAGRAD ? place.state1 : place.state2;
    float sum[1] = {LoadOne(state, params.state_dtype)};
    if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) {
      sum[0] = sum[0] + mean;
      place.factor = rule.lr / (__fsqrt_rn(sum[0]) + rule.eps);
    } else {
      sum[0] = rule.beta2 * sum[0] + rule.rest2 * mean;
      place.factor = rule.lr / (__fsqrt_rn(sum[0] / rule.correct2) + rule.eps);
    }
    __syncwarp(mask);  // every lane has read the state
    if (Group<kCols>::Lane() == 0) StoreColumns(state, params.state_dtype, 0, sum);
  }
  float value[kCols], state1[kCols], state2[kCols];
  float shrink = 1.0f;
  bool shrinks = false;
  if (rule.max_norm > 0.0f) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) partial[col] = 0.0f;
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      const int64_t column = Group<kCols>::Column(tile);
      if (column >= params.dim) break;
      LoadAndStep<kKind>(params, rule, place, column, value, state1, state2);
#pragma unroll
      for (int col = 0; col < kCols; ++col) partial[col] = partial[col] + value[col] * value[col];
    }
    const float norm = __fsqrt_rn(TreeSum(partial));
    shrinks = norm > rule.max_norm;
    if (shrinks) shrink = rule.max_norm / norm;
  }
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    const int64_t column = Group<kCols>::Column(tile);
    if (column >= params.dim) break;
    LoadAndStep<kKind>(params, rule, place, column, value, state1, state2);
    if (shrinks) {
#pragma unroll
      for (int col = 0; col < kCols; ++col) value[col] = shrink * value[col];
    }
    StoreRow(params, rule, place, column, value);
    if constexpr (kHasMatrix1<kKind>) StoreColumns(place.state1, params.state_dtype, column, state1);
    if constexpr (kHasMatrix2<kKind>) StoreColumns(place.state2, params.state_dtype, column, state2);
  }
  return true;
}

__device__ __forceinline__ int64_t IdAt(const UpdateParams& params, int64_t index) {
  return params.ids != nullptr ? params.ids[index] : params.plan_ids[index];
}

// Ids in the list; -1: a promise was broken, or the count is none, and nothing is updated.
__device__ __forceinline__ int64_t ListedIds(const UpdateParams& params) {
  if (params.counts != nullptr) {
    if (params.counts->status != 0) return -1;
    return params.central ? params.counts->n_unique_central : params.counts->n_unique;
  }
  const int64_t n = *params.n_rows;
  return n < 0 || n > params.capacity ? -1 : n;
}

__device__ __forceinline__ bool IsListed(const UpdateParams& params, int64_t n, int64_t id) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (IdAt(params, middle) < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < n && IdAt(params, low) == id;
}

template <resembed_optimizer_kind kKind, int kCols>
__global__ void __launch_bounds__(256, 2) UpdateKernel(const __grid_constant__ Batch<UpdateParams> batch) {
  ForEntries(batch, [](const UpdateParams& params, int64_t block) {
    const ResolvedRule rule = *params.rule;
    const int64_t n_listed = params.mode == UpdateMode::kDense ? 0 : ListedIds(params);
    if (rule.skip != 0 || n_listed < 0) return;
    const int64_t n = params.mode == UpdateMode::kListed ? n_listed : params.n_ids;
    const int64_t index = Group<kCols>::Of(block);
    if (index >= n) return;
    RowPlace place = {};
    place.id = params.mode == UpdateMode::kListed ? IdAt(params, index) : index;
    if (place.id < 0 || place.id >= params.n_ids) return;
    if (params.mode == UpdateMode::kOthers && IsListed(params, n_listed, place.id)) return;
    const int64_t row = params.row_of == nullptr ? place.id : params.row_of[place.id];
    if (row < 0) return;
    place.a = 1.0f;
    place.gradient_dtype = RESEMBED_F32;
    if (params.mode == UpdateMode::kDense) {
      place.gradient = params.grad + row * params.grad_stride;
    } else if (params.mode == UpdateMode::kListed && params.items != nullptr) {
      const ItemGrad item = params.items[index];
      place.gradient = item.row;
      place.a = item.a;
      place.gradient_dtype = item.dtype;
    } else if (params.mode == UpdateMode::kListed) {
      place.gradient = params.grad + index * params.grad_stride;
    }
    place.row = params.rows + row * params.row_pitch;
    if constexpr (kKind != RESEMBED_SGD) place.state1 = params.state1 + row * params.state1_pitch;
    if constexpr (kKind == RESEMBED_ADAM || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
      place.state2 = params.state2 + row * params.state2_pitch;
    }
    const bool updated = UpdateRow<kKind, kCols>(params, rule, place);
    if (!updated && params.n_skipped != nullptr && Group<kCols>::Lane() == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(params.n_skipped), 1ull);
    }
  });
}

template <resembed_optimizer_kind kKind>
cudaError_t LaunchUpdate(const Batch<UpdateParams>& batch, bool wide, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(wide ? UpdateKernel<kKind, 4> : UpdateKernel<kKind, 1>, batch, grid, stream);
}

}  // namespace resembed::kernels
