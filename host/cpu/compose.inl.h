// SPDX-License-Identifier: Apache-2.0
// Composing and pooling items, the part of RowOps that is most to compile, for one instruction set. Included by compose_*.cc,
// which define what row_ops.inl.h says; the rules stated there hold here.
#include "host/cpu/row_ops.h"
#include "host/cpu/row_vectors.inl.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {

void Compose(float* e, const ItemRows& rows, int64_t dim);
ComposeFunction ComposeAheadOf(resembed_dtype central, resembed_dtype residual);
PoolFunction PoolOf(resembed_dtype central, resembed_dtype residual);

namespace {

// Columns [col, col + kCount * kN) of one item embedding in registers.
template <int kN, int kCount, resembed_dtype kCentral, resembed_dtype kResidual, bool kAhead>
RESEMBED_INLINE void ComposeTile(typename Vec<kN>::F (&e)[kCount], const ItemRows& rows,
                                 const ItemRows& ahead, int64_t col) {
  using F = typename Vec<kN>::F;
  const int n_central = rows.n_central;
  const void* const* central = rows.central;
  const float* weights = rows.weights;
  if (n_central > 0) {
    const F first_weight = Broadcast<kN>(weights[0]);
    if constexpr (kAhead) Send<kN * kCount, kCentral>(ahead.central[0], col);
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      F row;
      Load<kN, kCentral>(row, central[0], col + part * kN);
      e[part] = first_weight * row;
    }
    for (int slot = 1; slot < n_central; ++slot) {
      const F weight = Broadcast<kN>(weights[slot]);
      if constexpr (kAhead) Send<kN * kCount, kCentral>(ahead.central[slot], col);
#pragma GCC unroll 8
      for (int part = 0; part < kCount; ++part) {
        F row;
        Load<kN, kCentral>(row, central[slot], col + part * kN);
        e[part] += weight * row;
      }
    }
  }
  if constexpr (kAhead) {
    for (int slot = n_central; slot < ahead.n_central; ++slot) {
      Send<kN * kCount, kCentral>(ahead.central[slot], col);
    }
    if (ahead.residual != nullptr) Send<kN * kCount, kResidual>(ahead.residual, col);
  }
  if (rows.residual != nullptr) {
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      F row;
      Load<kN, kResidual>(row, rows.residual, col + part * kN);
      e[part] = n_central > 0 ? e[part] + row : row;
    }
  }
}

// One item embedding, tile by tile: y = e.
template <resembed_dtype kCentral, resembed_dtype kResidual, bool kAhead>
struct ComposeBody {
  float* y;
  const ItemRows& rows;
  const ItemRows& ahead;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    typename Vec<kN>::F e[kCount] = {};
    ComposeTile<kN, kCount, kCentral, kResidual, kAhead>(e, rows, ahead, col);
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) Store<kN, RESEMBED_F32>(y, col + part * kN, e[part]);
  }
};

template <resembed_dtype kCentral, resembed_dtype kResidual, bool kAhead>
void ComposeTyped(float* y, const ItemRows& rows, const ItemRows& ahead, int64_t dim) {
  ForColumns(dim, ComposeBody<kCentral, kResidual, kAhead>{y, rows, ahead});
}

// The sum of a tile stays in registers over all items.
template <resembed_dtype kCentral, resembed_dtype kResidual, bool kWeighted>
struct PoolBody {
  float* y;
  const ItemBatch& batch;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    const int n_items = batch.n_items, n_ahead = batch.n_ahead, n_maps = col == 0 ? batch.n_maps : 0;
    F sum[kCount];
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) Load<kN, RESEMBED_F32>(sum[part], y, col + part * kN);
    int map = 0;
    for (int item = 0; item < n_items; ++item) {
      for (const int end = map + 3; map < end && map < n_maps; ++map) SendMap(batch.maps[map]);
      if (item < n_ahead) SendItem<kN * kCount>(*batch.ahead[item], col);
      F e[kCount] = {};
      ComposeTile<kN, kCount, kCentral, kResidual, false>(e, *batch.items[item], *batch.items[item], col);
      if (float* keep = batch.keep[item]; keep != nullptr) {
#pragma GCC unroll 8
        for (int part = 0; part < kCount; ++part) Store<kN, RESEMBED_F32>(keep, col + part * kN, e[part]);
      }
#pragma GCC unroll 8
      for (int part = 0; part < kCount; ++part) {
        if constexpr (kWeighted) e[part] = Broadcast<kN>(batch.weights[item]) * e[part];
        sum[part] += e[part];
      }
    }
    for (; map < n_maps; ++map) SendMap(batch.maps[map]);
    for (int item = n_items; item < n_ahead; ++item) SendItem<kN * kCount>(*batch.ahead[item], col);
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) Store<kN, RESEMBED_F32>(y, col + part * kN, sum[part]);
  }

  template <int kColumns>
  RESEMBED_INLINE static void SendItem(const ItemRows& rows, int64_t col) {
    for (int slot = 0; slot < rows.n_central; ++slot) Send<kColumns, kCentral>(rows.central[slot], col);
    if (rows.residual != nullptr) Send<kColumns, kResidual>(rows.residual, col);
  }
  RESEMBED_INLINE static void SendMap(const ItemBatch::Span& map) {
    const char* line = map.first - (reinterpret_cast<uintptr_t>(map.first) & 63);
    for (; line < map.first + map.bytes; line += 64) __builtin_prefetch(line);
  }
};

template <resembed_dtype kCentral, resembed_dtype kResidual>
void PoolTyped(float* y, const ItemBatch& batch, int64_t dim) {
  if (batch.has_weights) {
    ForColumns(dim, PoolBody<kCentral, kResidual, true>{y, batch});
  } else {
    ForColumns(dim, PoolBody<kCentral, kResidual, false>{y, batch});
  }
}

// [central type][residual type]
constexpr ComposeFunction kCompose[3][3] = {
    {ComposeTyped<RESEMBED_F32, RESEMBED_F32, false>, ComposeTyped<RESEMBED_F32, RESEMBED_F16, false>,
     ComposeTyped<RESEMBED_F32, RESEMBED_BF16, false>},
    {ComposeTyped<RESEMBED_F16, RESEMBED_F32, false>, ComposeTyped<RESEMBED_F16, RESEMBED_F16, false>,
     ComposeTyped<RESEMBED_F16, RESEMBED_BF16, false>},
    {ComposeTyped<RESEMBED_BF16, RESEMBED_F32, false>, ComposeTyped<RESEMBED_BF16, RESEMBED_F16, false>,
     ComposeTyped<RESEMBED_BF16, RESEMBED_BF16, false>}};
constexpr ComposeFunction kComposeAhead[3][3] = {
    {ComposeTyped<RESEMBED_F32, RESEMBED_F32, true>, ComposeTyped<RESEMBED_F32, RESEMBED_F16, true>,
     ComposeTyped<RESEMBED_F32, RESEMBED_BF16, true>},
    {ComposeTyped<RESEMBED_F16, RESEMBED_F32, true>, ComposeTyped<RESEMBED_F16, RESEMBED_F16, true>,
     ComposeTyped<RESEMBED_F16, RESEMBED_BF16, true>},
    {ComposeTyped<RESEMBED_BF16, RESEMBED_F32, true>, ComposeTyped<RESEMBED_BF16, RESEMBED_F16, true>,
     ComposeTyped<RESEMBED_BF16, RESEMBED_BF16, true>}};
constexpr PoolFunction kPool[3][3] = {
    {PoolTyped<RESEMBED_F32, RESEMBED_F32>, PoolTyped<RESEMBED_F32, RESEMBED_F16>,
     PoolTyped<RESEMBED_F32, RESEMBED_BF16>},
    {PoolTyped<RESEMBED_F16, RESEMBED_F32>, PoolTyped<RESEMBED_F16, RESEMBED_F16>,
     PoolTyped<RESEMBED_F16, RESEMBED_BF16>},
    {PoolTyped<RESEMBED_BF16, RESEMBED_F32>, PoolTyped<RESEMBED_BF16, RESEMBED_F16>,
     PoolTyped<RESEMBED_BF16, RESEMBED_BF16>}};

}  // namespace

void Compose(float* e, const ItemRows& rows, int64_t dim) {
  kCompose[rows.central_dtype][rows.residual_dtype](e, rows, rows, dim);
}

ComposeFunction ComposeAheadOf(resembed_dtype central, resembed_dtype residual) {
  return kComposeAhead[central][residual];
}

PoolFunction PoolOf(resembed_dtype central, resembed_dtype residual) { return kPool[central][residual]; }

#undef RESEMBED_INLINE

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
