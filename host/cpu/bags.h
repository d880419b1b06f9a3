// SPDX-License-Identifier: Apache-2.0
// Ids and bags of a feature whose descriptor has been checked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/validate.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// Table of a feature as the caller gave it, without copying the descriptor.
inline int32_t TableOf(const resembed_feature* feature) {
  constexpr size_t kEnd = offsetof(resembed_feature, table) + sizeof(feature->table);
  return feature->struct_size >= kEnd ? feature->table : 0;
}

inline int64_t IdAt(const resembed_feature& feature, int64_t position) {
  return ReadIndex(feature.ids, feature.id_dtype, position);
}

// Position of a bag's first id; bag may be n_bags.
inline int64_t BagBegin(const resembed_feature& feature, int64_t bag) {
  if (feature.offsets == nullptr) return bag * feature.bag_length;
  return ReadIndex(feature.offsets, feature.offset_dtype, bag);
}

// The bag a position lies in (the last one that begins at or before it, so empty bags are passed over).
inline int64_t BagOf(const resembed_feature& feature, int64_t position) {
  if (feature.offsets == nullptr) return feature.bag_length > 0 ? position / feature.bag_length : 0;
  int64_t low = 0, high = feature.n_bags;  // BagBegin(low) <= position < BagBegin(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (BagBegin(feature, middle) <= position ? low : high) = middle;
  }
  return low;
}

inline bool IsPooled(const resembed_feature& feature) { return feature.pooling != RESEMBED_POOLING_NONE; }
inline int64_t OutputRows(const resembed_feature& feature) {
  return IsPooled(feature) ? feature.n_bags : feature.n_ids;
}

// An item that takes part: neither padding nor outside the table.
inline bool TakesPart(const resembed_feature& feature, int64_t id, int64_t n_items) {
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(n_items) &&
         (feature.has_padding == 0 || id != feature.padding_id);
}

}  // namespace resembed::detail
