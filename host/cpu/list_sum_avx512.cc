// SPDX-License-Identifier: Apache-2.0
// ListSumFunctions for AVX-512. No function of the standard library is called (row_ops.inl.h).
#define RESEMBED_ISA_NAMESPACE isa_avx512
#define RESEMBED_ISA_LANES 16
#define RESEMBED_ISA_F16C 1
#include "host/cpu/list_sum.h"
#include "host/cpu/row_vectors.inl.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {

const cpu::ListSumFunctions* ListSumOf(int64_t dim, resembed_dtype id_dtype, bool has_cache);

namespace {

using cpu::ListSum;
using F = Vec<kLanes>::F;
constexpr int kNeighbors = ListSum::kNeighbors;

template <typename IdT>
RESEMBED_INLINE int64_t ItemAt(const ListSum& sum, int64_t position) {
  const auto id = static_cast<int64_t>(static_cast<const IdT*>(sum.ids)[position]);
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(sum.n_items) && id != sum.padding_id ? id : -1;
}

// Entries before the first one below 0.
RESEMBED_INLINE int LengthOf(const int32_t* list) {
  uint64_t pairs[kNeighbors / 2];
  __builtin_memcpy(pairs, list, sizeof(pairs));
  if ((((pairs[0] | pairs[1]) | (pairs[2] | pairs[3])) & 0x8000000080000000u) == 0) return kNeighbors;
  int length = 0;
  while (list[length] >= 0) ++length;
  return length;
}

RESEMBED_INLINE void SendLists(const ListSum& sum, int64_t item) {
  __builtin_prefetch(sum.neighbors + item * kNeighbors, 0, 2);
  if (sum.weights != nullptr) __builtin_prefetch(sum.weights + item * kNeighbors, 0, 2);
}

// A request for a row that is none (-1 in a list) does no harm.
template <int kDim>
RESEMBED_INLINE void SendRow(const float* rows, int64_t row) {
  const char* const first = reinterpret_cast<const char*>(rows) + row * (kDim * 4);
#pragma GCC unroll 16
  for (int line = 0; line < kDim * 4; line += 64) __builtin_prefetch(first + line, 0, 2);
}

template <typename IdT, int kDim, bool kCache>
RESEMBED_INLINE void SendRows(ListSum* sum, int64_t position) {
  const int64_t item = ItemAt<IdT>(*sum, position);
  if (item < 0) return;
  if constexpr (kCache) {
    ListSum::Slot& slot = sum->slots[position % ListSum::kSlots];
    slot.is_kept = sum->cache->Find(item, &slot.row);
    if (slot.is_kept) {
      SendRow<kDim>(slot.row, 0);
      return;
    }
  }
  const int32_t* const list = sum->neighbors + item * kNeighbors;
#pragma GCC unroll 8
  for (int slot = 0; slot < kNeighbors; ++slot) SendRow<kDim>(sum->central, list[slot]);
  SendRow<kDim>(sum->residual, item);
}

// e = columns [col, col + kParts * kLanes) of the embedding of `item`, whose list has `length` entries.
template <int kDim, int kParts>
RESEMBED_INLINE void ComposeTile(F (&e)[kParts], const ListSum& sum, int64_t item, int length, int col) {
  const int32_t* const list = sum.neighbors + item * kNeighbors;
  const auto add = [&](int slot, float weight) __attribute__((always_inline)) {
    const F factor = Broadcast<kLanes>(weight);
    const float* const row = sum.central + list[slot] * int64_t{kDim};
#pragma GCC unroll 8
    for (int part = 0; part < kParts; ++part) {
      F in;
      Load<kLanes, RESEMBED_F32>(in, row, col + part * kLanes);
      e[part] = slot == 0 ? factor * in : e[part] + factor * in;
    }
  };
  if (length == kNeighbors && sum.weights != nullptr) {
    const float* const weights = sum.weights + item * kNeighbors;
#pragma GCC unroll 8
    for (int slot = 0; slot < kNeighbors; ++slot) add(slot, weights[slot]);
  } else {
    const float uniform = 1.0f / static_cast<float>(length);
    for (int slot = 0; slot < length; ++slot) {
      add(slot, sum.weights != nullptr ? sum.weights[item * kNeighbors + slot] : uniform);
    }
  }
  const float* const row = sum.residual + item * kDim;
#pragma GCC unroll 8
  for (int part = 0; part < kParts; ++part) {
    F in;
    Load<kLanes, RESEMBED_F32>(in, row, col + part * kLanes);
    e[part] = length > 0 ? e[part] + in : in;
  }
}

template <typename IdT, int kDim, bool kCache>
void Begin(ListSum* sum, int64_t first) {
  for (int64_t p = first; p < sum->last && p < first + ListSum::kListsAhead; ++p) {
    const int64_t item = ItemAt<IdT>(*sum, p);
    if (item >= 0) SendLists(*sum, item);
  }
  for (int64_t p = first; p < sum->last && p < first + ListSum::RowsAhead(kCache); ++p) {
    SendRows<IdT, kDim, kCache>(sum, p);
  }
}

template <typename IdT, int kDim, bool kCache>
int64_t Add(ListSum* given, int64_t first, int64_t n, const float* a, float* y) {
  constexpr int kAll = kDim / kLanes, kParts = kAll < 8 ? kAll : 8;
  const ListSum& sum = *given;
  int64_t count = 0;
  F total[kAll];
#pragma GCC unroll 16
  for (int part = 0; part < kAll; ++part) Load<kLanes, RESEMBED_F32>(total[part], y, part * kLanes);
  for (int64_t p = first; p < first + n; ++p) {
    if (p + ListSum::kListsAhead < sum.last) {
      const int64_t item = ItemAt<IdT>(sum, p + ListSum::kListsAhead);
      if (item >= 0) SendLists(sum, item);
    }
    constexpr int kRowsAhead = ListSum::RowsAhead(kCache);
    if (p + kRowsAhead < sum.last) SendRows<IdT, kDim, kCache>(given, p + kRowsAhead);
    const int64_t item = ItemAt<IdT>(sum, p);
    if (item < 0) continue;
    ++count;
    const ListSum::Slot slot = kCache ? sum.slots[p % ListSum::kSlots] : ListSum::Slot{};
    const int length = slot.is_kept ? 0 : LengthOf(sum.neighbors + item * kNeighbors);
#pragma GCC unroll 2
    for (int tile = 0; tile < kAll; tile += kParts) {
      F e[kParts];
      if (slot.is_kept) {
#pragma GCC unroll 8
        for (int part = 0; part < kParts; ++part)
          Load<kLanes, RESEMBED_F32>(e[part], slot.row, (tile + part) * kLanes);
      } else {
        ComposeTile<kDim>(e, sum, item, length, tile * kLanes);
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
