// SPDX-License-Identifier: Apache-2.0
// Reading the items of dense_items.h with the registers of one instruction set; for files that define what
// row_ops.inl.h says.
#include "host/cpu/dense_items.h"
#include "host/cpu/row_vectors.inl.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {
namespace {

using cpu::DenseItems;
using cpu::MapKind;
using F = Vec<kLanes>::F;
constexpr int kNeighbors = DenseItems::kNeighbors;

template <int kValue>
struct Columns {
  static constexpr int kDim = kValue;
};

// with(Columns<dim>()), a pointer; null for a number of columns that such loops are not made for.
template <typename WithT>
auto ForDim(int64_t dim, const WithT& with) -> decltype(with(Columns<16>())) {
  switch (dim) {
    case 16:
      return with(Columns<16>());
    case 32:
      return with(Columns<32>());
    case 64:
      return with(Columns<64>());
    case 128:
      return with(Columns<128>());
    case 256:
      return with(Columns<256>());
    default:
      return nullptr;
  }
}

// The item at a position, or -1.
template <typename IdT>
RESEMBED_INLINE int64_t ItemAt(const DenseItems& items, int64_t position) {
  const auto id = static_cast<int64_t>(static_cast<const IdT*>(items.ids)[position]);
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(items.n_items) && id != items.padding_id ? id : -1;
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

// Row of C, or -1.
RESEMBED_INLINE int64_t CenterOf(const DenseItems& items, int64_t item) {
  if (!items.has_short_codes) return static_cast<const int32_t*>(items.center_of)[item];
  const uint16_t code = static_cast<const uint16_t*>(items.center_of)[item];
  return code == 65535 ? -1 : code;
}

// What ComposeTile takes.
template <MapKind kMap>
RESEMBED_INLINE void FindCentral(const DenseItems& items, int64_t item, int* n_central, int64_t* center) {
  if constexpr (kMap == MapKind::kCode) {
    *center = CenterOf(items, item);
    *n_central = *center >= 0;
  } else if constexpr (kMap == MapKind::kList) {
    *n_central = LengthOf(items.neighbors + item * kNeighbors);
  }
}

template <MapKind kMap>
RESEMBED_INLINE void SendMaps(const DenseItems& items, int64_t item) {
  if constexpr (kMap == MapKind::kCode) {
    __builtin_prefetch(static_cast<const char*>(items.center_of) + item * (items.has_short_codes ? 2 : 4), 0,
                       2);
  } else if constexpr (kMap == MapKind::kList) {
    __builtin_prefetch(items.neighbors + item * kNeighbors, 0, 2);
    if (items.weights != nullptr) __builtin_prefetch(items.weights + item * kNeighbors, 0, 2);
  }
}

// A request for a row that is none (-1 in a map) does no harm.
template <int kDim>
RESEMBED_INLINE void SendRow(const float* rows, int64_t row) {
  const char* const first = reinterpret_cast<const char*>(rows) + row * (kDim * 4);
#pragma GCC unroll 16
  for (int line = 0; line < kDim * 4; line += 64) __builtin_prefetch(first + line, 0, 2);
}

template <int kDim, MapKind kMap>
RESEMBED_INLINE void SendRows(const DenseItems& items, int64_t item) {
  if constexpr (kMap == MapKind::kCode) SendRow<kDim>(items.central, CenterOf(items, item));
  if constexpr (kMap == MapKind::kList) {
    const int32_t* const list = items.neighbors + item * kNeighbors;
#pragma GCC unroll 8
    for (int slot = 0; slot < kNeighbors; ++slot) SendRow<kDim>(items.central, list[slot]);
  }
  SendRow<kDim>(items.residual, item);
}

// e = columns [col, col + kParts * kLanes) of the embedding of `item`; n_central: entries of its list, or whether it
// has a center, `center`.
template <int kDim, MapKind kMap, int kParts>
RESEMBED_INLINE void ComposeTile(F (&e)[kParts], const DenseItems& items, int64_t item, int n_central,
                                 int64_t center, int col) {
  const auto add = [&](int slot, int64_t central_row, float weight) __attribute__((always_inline)) {
    const F factor = Broadcast<kLanes>(weight);
    const float* const row = items.central + central_row * int64_t{kDim};
#pragma GCC unroll 8
    for (int part = 0; part < kParts; ++part) {
      F in;
      Load<kLanes, RESEMBED_F32>(in, row, col + part * kLanes);
      e[part] = slot == 0 ? factor * in : e[part] + factor * in;
    }
  };
  if constexpr (kMap == MapKind::kCode) {
    if (n_central > 0) add(0, center, 1.0f);
  } else if constexpr (kMap == MapKind::kList) {
    const int32_t* const list = items.neighbors + item * kNeighbors;
    if (n_central == kNeighbors && items.weights != nullptr) {
      const float* const weights = items.weights + item * kNeighbors;
#pragma GCC unroll 8
      for (int slot = 0; slot < kNeighbors; ++slot) add(slot, list[slot], weights[slot]);
    } else {
      const float uniform = 1.0f / static_cast<float>(n_central);
      for (int slot = 0; slot < n_central; ++slot) {
        add(slot, list[slot], items.weights != nullptr ? items.weights[item * kNeighbors + slot] : uniform);
      }
    }
  }
  const float* const row = items.residual + item * kDim;
#pragma GCC unroll 8
  for (int part = 0; part < kParts; ++part) {
    F in;
    Load<kLanes, RESEMBED_F32>(in, row, col + part * kLanes);
    e[part] = kMap != MapKind::kNone && n_central > 0 ? e[part] + in : in;
  }
}

}  // namespace
}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
