// SPDX-License-Identifier: Apache-2.0
// ListSumFunctions for AVX-512. No function of the standard library is called (row_ops.inl.h).
#define RESEMBED_ISA_NAMESPACE isa_avx512
#define RESEMBED_ISA_LANES 16
#define RESEMBED_ISA_F16C 1
#include "host/cpu/dense_items.inl.h"
#include "host/cpu/list_sum.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {

const cpu::ListSumFunctions* ListSumOf(int64_t dim, resembed_dtype id_dtype, bool has_cache);

namespace {

using cpu::ListSum;
template <typename IdT, int kDim, bool kCache>
RESEMBED_INLINE void Send(ListSum* sum, int64_t position) {
  const int64_t item = ItemAt<IdT>(sum->items, position);
  if (item < 0) return;
  if constexpr (kCache) {
    ListSum::Slot& slot = sum->slots[position % ListSum::kSlots];
    slot.is_kept = sum->cache->Find(item, &slot.row);
    if (slot.is_kept) {
      SendRow<kDim>(slot.row, 0);
      return;
    }
  }
  SendRows<kDim, MapKind::kList>(sum->items, item);
}

template <typename IdT, int kDim, bool kCache>
void Begin(ListSum* sum, int64_t first) {
  for (int64_t p = first; p < sum->items.last && p < first + ListSum::kListsAhead; ++p) {
    const int64_t item = ItemAt<IdT>(sum->items, p);
    if (item >= 0) SendMaps<MapKind::kList>(sum->items, item);
  }
  for (int64_t p = first; p < sum->items.last && p < first + ListSum::RowsAhead(kCache); ++p) {
    Send<IdT, kDim, kCache>(sum, p);
  }
}

template <typename IdT, int kDim, bool kCache>
int64_t Add(ListSum* given, int64_t first, int64_t n, const float* a, float* y) {
  constexpr int kAll = kDim / kLanes, kParts = kAll < 8 ? kAll : 8;
  const DenseItems& items = given->items;
  int64_t count = 0;
  F total[kAll];
#pragma GCC unroll 16
  for (int part = 0; part < kAll; ++part) Load<kLanes, RESEMBED_F32>(total[part], y, part * kLanes);
  for (int64_t p = first; p < first + n; ++p) {
    if (p + ListSum::kListsAhead < items.last) {
      const int64_t item = ItemAt<IdT>(items, p + ListSum::kListsAhead);
      if (item >= 0) SendMaps<MapKind::kList>(items, item);
    }
    constexpr int kRowsAhead = ListSum::RowsAhead(kCache);
    if (p + kRowsAhead < items.last) Send<IdT, kDim, kCache>(given, p + kRowsAhead);
    const int64_t item = ItemAt<IdT>(items, p);
    if (item < 0) continue;
    ++count;
    const ListSum::Slot slot = kCache ? given->slots[p % ListSum::kSlots] : ListSum::Slot{};
    const int length = slot.is_kept ? 0 : LengthOf(items.neighbors + item * kNeighbors);
#pragma GCC unroll 2
    for (int tile = 0; tile < kAll; tile += kParts) {
      F e[kParts];
      if (slot.is_kept) {
#pragma GCC unroll 8
        for (int part = 0; part < kParts; ++part)
          Load<kLanes, RESEMBED_F32>(e[part], slot.row, (tile + part) * kLanes);
      } else {
        ComposeTile<kDim, MapKind::kList>(e, items, item, length, 0, tile * kLanes);
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

template <typename IdT, int kDim, bool kCache>
constexpr cpu::ListSumFunctions kFunctions = {Begin<IdT, kDim, kCache>, Add<IdT, kDim, kCache>};

template <typename IdT, bool kCache>
const cpu::ListSumFunctions* OfDim(int64_t dim) {
  switch (dim) {
    case 16:
      return &kFunctions<IdT, 16, kCache>;
    case 32:
      return &kFunctions<IdT, 32, kCache>;
    case 64:
      return &kFunctions<IdT, 64, kCache>;
    case 128:
      return &kFunctions<IdT, 128, kCache>;
    case 256:
      return &kFunctions<IdT, 256, kCache>;
    default:
      return nullptr;
  }
}

}  // namespace

const cpu::ListSumFunctions* ListSumOf(int64_t dim, resembed_dtype id_dtype, bool has_cache) {
  if (id_dtype == RESEMBED_I64) return has_cache ? OfDim<int64_t, true>(dim) : OfDim<int64_t, false>(dim);
  return has_cache ? OfDim<int32_t, true>(dim) : OfDim<int32_t, false>(dim);
}

#undef RESEMBED_INLINE

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
