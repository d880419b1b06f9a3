// SPDX-License-Identifier: Apache-2.0
// Arithmetic on table rows, one table of functions per instruction set.
//
// The same source (row_ops.inl.h) is compiled for portable, AVX2 and AVX-512; multiply and add are
// rounded separately (-ffp-contract=off), column sums run in a fixed order and reductions over columns
// as 32 interleaved partial sums and a fixed tree, so every set gives the same bits (design.md 9.2).
#pragma once

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail {

namespace cpu {
struct DenseSumFunctions;  // dense_sum.h
struct DenseItems;         // dense_items.h
struct AttentionTile;      // attention_tile.h
enum class MapKind;        // dense_items.h
using FillTileFunction = int64_t (*)(DenseItems* items, int64_t first, int64_t end, const float* x,
                                     float* scratch, AttentionTile* tile);
}  // namespace cpu

// The rows one item embedding is made of: e = ((w[0] C[0] + w[1] C[1]) + ...) + R, in slot order.
struct ItemRows {
  const void* const* central;  // [n_central] rows of C
  const float* weights;        // [n_central]
  int n_central;
  const void* residual;  // row of R, or null
  resembed_dtype central_dtype;
  resembed_dtype residual_dtype;
};

constexpr int kItemBatch = 8;

// Items that are pooled at once, and what to send for meanwhile.
struct ItemBatch {
  struct Span {
    const char* first;
    int64_t bytes;
  };
  int n_items;
  const ItemRows* items[kItemBatch];
  bool has_weights;
  float weights[kItemBatch];  // a of each item
  float* keep
      [kItemBatch];  // where its embedding is written, too, or null; a later item may read it as its residual
  int n_ahead;
  const ItemRows* ahead[kItemBatch];  // rows begin at cache lines and are whole lines long
  int n_maps;
  Span maps[3 * kItemBatch];
};

// y[c] += a_0 e_0[c], then a_1 e_1[c], ...: each embedding formed first, in registers.
using PoolFunction = void (*)(float* y, const ItemBatch& batch, int64_t dim);
using ComposeFunction = void (*)(float* y, const ItemRows& rows, const ItemRows& ahead, int64_t dim);

// Element types are F32, F16, BF16; dim >= 1; any alignment of the element type.
struct RowOps {
  // e[c] = the item embedding in fp32 (zeros when it has no row at all).
  void (*compose)(float* e, const ItemRows& rows, int64_t dim);
  // y[c] += a * x[c]
  void (*add_scaled)(float* y, float a, const void* x, resembed_dtype x_dtype, int64_t dim);
  // y[c] = a * x[c]
  void (*set_scaled)(float* y, float a, const void* x, resembed_dtype x_dtype, int64_t dim);
  // y[c] = round to nearest even of x[c]
  void (*store)(void* y, resembed_dtype y_dtype, const float* x, int64_t dim);
  // sum_c x[c] z[c]: partial sum j takes columns j, j+32, ...; then 16+16, 8+8, 4+4, 2+2, 1+1.
  float (*dot)(const void* x, resembed_dtype x_dtype, const void* z, resembed_dtype z_dtype, int64_t dim);
  // The same for n fp32 rows: out[i] = dot(x, rows[i]).
  void (*dot_rows)(float* out, const float* x, const float* const* rows, int64_t n, int64_t dim);
  // y[c] = ((y[c] + a[0] rows[0][c]) + a[1] rows[1][c]) + ...
  void (*add_rows)(float* y, const float* a, const float* const* rows, int64_t n, int64_t dim);
  // Columns where e[c] beats best[c] (first maximum; NaN wins over numbers, the first NaN stays):
  // best[c] = e[c], argmax[c] = position. argmax may be null.
  void (*max_update)(float* best, int32_t* argmax, const float* e, int32_t position, int64_t dim);
  // As compose, for one pair of types. Between the arithmetic
  // on a slot's row they send for the same columns of the same slot of `ahead`, so that requests to memory
  // and arithmetic overlap. Rows of `ahead` begin at cache lines and are whole lines long; where it has fewer
  // slots its pointers are valid up to rows.n_central.
  ComposeFunction (*compose_ahead)(resembed_dtype central, resembed_dtype residual);
  PoolFunction (*pool)(resembed_dtype central, resembed_dtype residual);
  // dense_sum.h; null where the instruction set has none.
  const cpu::DenseSumFunctions* (*dense_sum)(cpu::MapKind kind, int64_t dim, resembed_dtype id_dtype,
                                             bool has_cache);
  // attention_tile.h; null where the instruction set has none, and so may its result be.
  cpu::FillTileFunction (*fill_tile)(cpu::MapKind kind, int64_t dim, resembed_dtype id_dtype);
};

// `isa` as in resembed_place; BEST resolves to the widest this machine has.
const RowOps& GetRowOps(resembed_cpu_isa isa);
resembed_cpu_isa ResolveIsa(resembed_cpu_isa isa);
bool IsaAvailable(resembed_cpu_isa isa);

inline int64_t ElementBytes(resembed_dtype dtype) {
  switch (dtype) {
    case RESEMBED_F16:
    case RESEMBED_BF16:
    case RESEMBED_U16:
      return 2;
    case RESEMBED_I64:
    case RESEMBED_F64:
      return 8;
    case RESEMBED_U8:
      return 1;
    default:
      return 4;
  }
}

}  // namespace resembed::detail
