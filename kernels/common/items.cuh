// SPDX-License-Identifier: Apache-2.0
// Item embeddings column by column, one warp an item, types known at run time: for what reads table values beside the
// kernels of forward. Dot products as 32 partial sums, one a lane, and the fixed tree.
#pragma once

#include "kernels/common/rows.cuh"
#include "kernels/common/table_rows.h"

namespace resembed::kernels {

__device__ __forceinline__ float Element(const void* row, resembed_dtype dtype, int64_t column) {
  float value[1];
  LoadColumns(value, row, dtype, column);
  return value[0];
}

// sum_c left(c) right(c), in every lane of the warp.
template <typename Left, typename Right>
__device__ __forceinline__ float WarpDot(int64_t dim, const Left& left, const Right& right) {
  float partial[1] = {0.0f};
  for (int64_t column = LaneOfWarp(); column < dim; column += kLanes) {
    partial[0] += left(column) * right(column);
  }
  return TreeSum(partial);
}

__device__ __forceinline__ const char* CentralRow(const TableRows& table, int64_t row) {
  return table.central + row * table.central_pitch;
}

// Central rows of an item: the center of an assignment counts as a list of one.
__device__ __forceinline__ int CountCentral(const TableRows& table, int64_t item, int64_t* center) {
  *center = -1;
  if (table.form == RESEMBED_CENTRAL_NONE) return 0;
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    if (table.narrow_centers) {
      const int32_t code = static_cast<const uint16_t*>(table.center_of)[item];
      *center = code == 65535 ? -1 : code;
    } else {
      *center = static_cast<const int32_t*>(table.center_of)[item];
    }
    return *center >= 0 ? 1 : 0;
  }
  const int32_t* list = table.neighbors + item * table.neighbors_stride;
  int count = 0;
  while (count < table.n_neighbors && list[count] >= 0) ++count;
  return count;
}

// weights = softmax over the list; the whole warp calls this, `weights` is its own shared memory.
__device__ __forceinline__ void Softmax(const TableRows& table, int64_t item, const int32_t* list, int count,
                                        float* weights) {
  const char* query = CentralRow(table, item);
  for (int k = 0; k < count; ++k) {
    const char* key = CentralRow(table, list[k]);
    const float score = WarpDot(
        table.dim, [&](int64_t column) { return Element(query, table.central_dtype, column); },
        [&](int64_t column) { return Element(key, table.central_dtype, column); });
    if (LaneOfWarp() == 0) weights[k] = score;
  }
  __syncwarp();
  float largest = weights[0];
  for (int k = 1; k < count; ++k) largest = weights[k] > largest ? weights[k] : largest;
  __syncwarp();
  for (int k = LaneOfWarp(); k < count; k += kLanes) weights[k] = expf(weights[k] - largest);
  __syncwarp();
  float sum = 0.0f;
  for (int k = 0; k < count; ++k) sum += weights[k];
  __syncwarp();
  for (int k = LaneOfWarp(); k < count; k += kLanes) weights[k] = weights[k] / sum;
  __syncwarp();
}

// e of one item: central rows in slot order, then its residual row.
struct Embedding {
  const TableRows& table;
  int64_t item, center, residual;  // rows; -1 = none
  int count;
  const int32_t* list;
  const float* weights;  // attention

  __device__ __forceinline__ float operator()(int64_t column) const {
    float e = 0.0f;
    for (int k = 0; k < count; ++k) {
      const int64_t central = center >= 0 ? center : list[k];
      float w = 1.0f;
      if (table.form == RESEMBED_CENTRAL_UNIFORM) w = 1.0f / static_cast<float>(count);
      if (table.form == RESEMBED_CENTRAL_STORED) w = table.stored[item * table.stored_stride + k];
      if (table.form == RESEMBED_CENTRAL_ATTENTION) w = weights[k];
      const float term = w * Element(CentralRow(table, central), table.central_dtype, column);
      e = k == 0 ? term : e + term;
    }
    if (residual < 0) return e;
    const float own = Element(table.residual + residual * table.residual_pitch, table.residual_dtype, column);
    return count > 0 ? e + own : own;
  }
};

// The whole warp calls this; `weights` is its own shared memory, in use until the embedding is.
__device__ __forceinline__ Embedding EmbeddingOf(const TableRows& table, int64_t item, float* weights) {
  int64_t center, residual = item;
  const int count = CountCentral(table, item, &center);
  const int32_t* list = table.neighbors == nullptr ? nullptr : table.neighbors + item * table.neighbors_stride;
  if (table.form == RESEMBED_CENTRAL_ATTENTION && count > 0) Softmax(table, item, list, count, weights);
  if (table.residual_row_of != nullptr) residual = table.residual_row_of[item];
  if (table.residual == nullptr) residual = -1;
  return {table, item, center, residual, count, list, weights};
}

}  // namespace resembed::kernels
