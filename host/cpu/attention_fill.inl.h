// SPDX-License-Identifier: Apache-2.0
// FillTileFunction (attention_tile.h) for one instruction set. Included by attention_*.cc, which define what row_ops.inl.h
// says. No function of the standard library is called.
#include "host/cpu/attention_tile.h"
#include "host/cpu/dense_items.inl.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {

cpu::FillTileFunction FillTileOf(MapKind kind, int64_t dim, resembed_dtype id_dtype);

namespace {

using cpu::AttentionTile;
using cpu::kAttentionTile;

constexpr int kMapsBefore = 16;

// Items whose rows are on their way beyond the tile in hand, 16 KiB of them. Rows of lists: as in dense_sum.inl.h.
template <int kDim, MapKind kMap>
constexpr int RowsAhead() {
  if (kMap == MapKind::kList) return 3;
  constexpr int kAhead = 16 * 1024 / (kDim * 4 * (kMap == MapKind::kNone ? 1 : 2));
  return kAhead < 24 ? kAhead : 24;
}

template <typename IdT, int kDim, MapKind kMap>
RESEMBED_INLINE void SendUpTo(DenseItems* items, int64_t end) {
  if constexpr (kMap != MapKind::kNone) {
    const int64_t maps_end = end + kMapsBefore < items->last ? end + kMapsBefore : items->last;
    for (; items->maps_sent < maps_end; ++items->maps_sent) {
      const int64_t item = ItemAt<IdT>(*items, items->maps_sent);
      if (item >= 0) SendMaps<kMap>(*items, item);
    }
  }
  if (end > items->last) end = items->last;
  for (; items->rows_sent < end; ++items->rows_sent) {
    const int64_t item = ItemAt<IdT>(*items, items->rows_sent);
    if (item >= 0) SendRows<kDim, kMap>(*items, item);
  }
}

template <typename IdT, int kDim, MapKind kMap>
int64_t FillTile(DenseItems* given, int64_t first, int64_t end, const float* x, float* scratch,
                 AttentionTile* tile) {
  constexpr int kAll = kDim / kLanes, kParts = kAll < 4 ? kAll : 4;
  constexpr int kSums = kPartials / kLanes;
  const DenseItems& items = *given;
  Vec<4>::F fours[kAttentionTile] = {};
  int64_t n = 0, p = first;
  if constexpr (kMap != MapKind::kList)
    SendUpTo<IdT, kDim, kMap>(given, first + kAttentionTile + RowsAhead<kDim, kMap>());
  for (; p < end && n < kAttentionTile; ++p) {
    if constexpr (kMap == MapKind::kList) SendUpTo<IdT, kDim, kMap>(given, p + 1 + RowsAhead<kDim, kMap>());
    const int64_t item = ItemAt<IdT>(items, p);
    if (item < 0) continue;
    int n_central = 0;
    int64_t center = 0;
    FindCentral<kMap>(items, item, &n_central, &center);
    float* const e = scratch + n * kDim;
    F partial[kSums] = {};
#pragma GCC unroll 4
    for (int at = 0; at < kAll; at += kParts) {
      F tile_e[kParts];
      ComposeTile<kDim, kMap>(tile_e, items, item, n_central, center, at * kLanes);
#pragma GCC unroll 8
      for (int part = 0; part < kParts; ++part) {
        if constexpr (kMap != MapKind::kNone)
          Store<kLanes, RESEMBED_F32>(e, (at + part) * kLanes, tile_e[part]);
        F left;
        Load<kLanes, RESEMBED_F32>(left, x, (at + part) * kLanes);
        partial[(at + part) % kSums] += left * tile_e[part];
      }
    }
    PartialsToFour(fours[n], partial);
    tile->items[n] = kMap == MapKind::kNone ? items.residual + item * kDim : e;
    tile->positions[n++] = p;
  }
#pragma GCC unroll 2
  for (int of = 0; of < kAttentionTile; of += 4) FoursToOnes(tile->dots + of, fours + of);
  tile->size = n;
  return p;
}

template <typename IdT, MapKind kMap>
cpu::FillTileFunction OfDim(int64_t dim) {
  return ForDim(dim, [](auto columns) -> cpu::FillTileFunction {
    return FillTile<IdT, decltype(columns)::kDim, kMap>;
  });
}

template <MapKind kMap>
cpu::FillTileFunction OfType(int64_t dim, resembed_dtype id_dtype) {
  return id_dtype == RESEMBED_I64 ? OfDim<int64_t, kMap>(dim) : OfDim<int32_t, kMap>(dim);
}

}  // namespace

cpu::FillTileFunction FillTileOf(MapKind kind, int64_t dim, resembed_dtype id_dtype) {
  return kind == MapKind::kNone   ? OfType<MapKind::kNone>(dim, id_dtype)
         : kind == MapKind::kCode ? OfType<MapKind::kCode>(dim, id_dtype)
                                  : OfType<MapKind::kList>(dim, id_dtype);
}

#undef RESEMBED_INLINE

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
