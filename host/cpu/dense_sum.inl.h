// SPDX-License-Identifier: Apache-2.0
// DenseSumFunctions (dense_sum.h) for one instruction set. Included by dense_sum_*.cc, which define what row_ops.inl.h says.
// No function of the standard library is called.
#include "host/cpu/dense_items.inl.h"
#include "host/cpu/dense_sum.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {

const cpu::DenseSumFunctions* DenseSumOf(MapKind kind, int64_t dim, resembed_dtype id_dtype, bool has_cache);

namespace {

using cpu::DenseSum;

// Items whose rows are on their way, into the second-level cache. Three items of lists are 27 rows, each on a page of its
// own: with 50 and more, translations of the earliest have left the first level when they are read. Of items with a cache
// many are kept and send for little.
template <MapKind kMap, bool kCache>
constexpr int kRowsAhead = kCache                   ? DenseSum::kSlots - 1
                           : kMap == MapKind::kList ? 3
                                                    : 32;
template <MapKind kMap>
constexpr int kMapsAhead = kMap == MapKind::kList ? 24 : 64;

template <typename IdT, int kDim, MapKind kMap, bool kCache>
RESEMBED_INLINE void Send(DenseSum* sum, int64_t position) {
  const int64_t item = ItemAt<IdT>(sum->items, position);
  if (item < 0) return;
  if constexpr (kCache) {
    DenseSum::Slot& slot = sum->slots[position % DenseSum::kSlots];
    slot.is_kept = sum->cache->Find(item, &slot.row);
    if (slot.is_kept) {
      SendRow<kDim>(slot.row, 0);
      return;
    }
  }
  SendRows<kDim, kMap>(sum->items, item);
}

template <typename IdT, int kDim, MapKind kMap, bool kCache>
void Begin(DenseSum* sum, int64_t first) {
  for (int64_t p = first; kMap != MapKind::kNone && p < sum->items.last && p < first + kMapsAhead<kMap>;
       ++p) {
    const int64_t item = ItemAt<IdT>(sum->items, p);
    if (item >= 0) SendMaps<kMap>(sum->items, item);
  }
  for (int64_t p = first; p < sum->items.last && p < first + kRowsAhead<kMap, kCache>; ++p) {
    Send<IdT, kDim, kMap, kCache>(sum, p);
  }
}

template <typename IdT, int kDim, MapKind kMap, bool kCache>
int64_t Add(DenseSum* given, int64_t first, int64_t n, const float* a, float* y) {
  constexpr int kAll = kDim / kLanes, kParts = kAll < 8 ? kAll : 8;
  const DenseItems& items = given->items;
  int64_t count = 0;
  F total[kAll];
#pragma GCC unroll 16
  for (int part = 0; part < kAll; ++part) Load<kLanes, RESEMBED_F32>(total[part], y, part * kLanes);
  for (int64_t p = first; p < first + n; ++p) {
    if (kMap != MapKind::kNone && p + kMapsAhead<kMap> < items.last) {
      const int64_t item = ItemAt<IdT>(items, p + kMapsAhead<kMap>);
      if (item >= 0) SendMaps<kMap>(items, item);
    }
    constexpr int kAhead = kRowsAhead<kMap, kCache>;
    if (p + kAhead < items.last) Send<IdT, kDim, kMap, kCache>(given, p + kAhead);
    const int64_t item = ItemAt<IdT>(items, p);
    if (item < 0) continue;
    ++count;
    const DenseSum::Slot slot = kCache ? given->slots[p % DenseSum::kSlots] : DenseSum::Slot{};
    int n_central = 0;
    int64_t center = 0;
    if (!slot.is_kept) FindCentral<kMap>(items, item, &n_central, &center);
#pragma GCC unroll 2
    for (int tile = 0; tile < kAll; tile += kParts) {
      F e[kParts] = {};
      if (slot.is_kept) {
#pragma GCC unroll 8
        for (int part = 0; part < kParts; ++part)
          Load<kLanes, RESEMBED_F32>(e[part], slot.row, (tile + part) * kLanes);
      } else {
        ComposeTile<kDim, kMap>(e, items, item, n_central, center, tile * kLanes);
        if constexpr (kCache) {
#pragma GCC unroll 8
          for (int part = 0; part < kParts; ++part) {
            Store<kLanes, RESEMBED_F32>(slot.row, (tile + part) * kLanes, e[part]);
          }
        }
      }
#pragma GCC unroll 8
      for (int part = 0; part < kParts; ++part) {
        if (a != nullptr) e[part] = Broadcast<kLanes>(a[p - first]) * e[part];
        total[tile + part] += e[part];
      }
    }
  }
#pragma GCC unroll 16
  for (int part = 0; part < kAll; ++part) Store<kLanes, RESEMBED_F32>(y, part * kLanes, total[part]);
  return count;
}

template <typename IdT, int kDim, MapKind kMap, bool kCache>
constexpr cpu::DenseSumFunctions kFunctions = {Begin<IdT, kDim, kMap, kCache>, Add<IdT, kDim, kMap, kCache>};

template <typename IdT, MapKind kMap, bool kCache>
const cpu::DenseSumFunctions* OfDim(int64_t dim) {
  return ForDim(dim, [](auto columns) -> const cpu::DenseSumFunctions* {
    return &kFunctions<IdT, decltype(columns)::kDim, kMap, kCache>;
  });
}

template <typename IdT>
const cpu::DenseSumFunctions* OfMap(MapKind kind, int64_t dim, bool has_cache) {
  // 16 registers are too few for sums of wide rows beside the rows: no faster there than ItemStream.
  if (kLanes < 16 && (kind == MapKind::kNone ? dim > 128 : kind == MapKind::kCode && dim > 64))
    return nullptr;
  if (kind == MapKind::kNone) return OfDim<IdT, MapKind::kNone, false>(dim);
  if (kind == MapKind::kCode) return OfDim<IdT, MapKind::kCode, false>(dim);
  return has_cache ? OfDim<IdT, MapKind::kList, true>(dim) : OfDim<IdT, MapKind::kList, false>(dim);
}

}  // namespace

const cpu::DenseSumFunctions* DenseSumOf(MapKind kind, int64_t dim, resembed_dtype id_dtype, bool has_cache) {
  return id_dtype == RESEMBED_I64 ? OfMap<int64_t>(kind, dim, has_cache)
                                  : OfMap<int32_t>(kind, dim, has_cache);
}

#undef RESEMBED_INLINE

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
