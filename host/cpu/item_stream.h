// SPDX-License-Identifier: Apache-2.0
// The rows of a list of items, brought into cache ahead of their use. Shared by every operation that reads
// item embeddings in some order.
//
// Two stages run ahead of the item in hand, so that neither the map nor a row is waited for:
//   lists_ahead   the item's neighbor list, weights, center code and residual row number
//   rows_ahead    that list has arrived: every cache line of the rows it names
#pragma once

#include <cmath>
#include <cstdint>

#include "host/cpu/dense_items.h"
#include "host/cpu/item_cache.h"
#include "host/cpu/row_ops.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// Bytes of rows kept on their way to the cache, and the bound on items that follows from it; lists are sent
// for kListsBefore items earlier. Rows go to the second-level cache (locality 2): the first level holds too few
// open misses. A loop of this shape, K = 8, f32, dim 64, 4 million items, one thread, takes 1.8 times as long
// with requests to the first level, 1.07 to 1.2 times with 3 items ahead instead of 7.
constexpr int64_t kBytesAhead = 16 * 1024;
constexpr int64_t kListsBefore = 16;
constexpr int kMaxItemsAhead = 24;

using cpu::MapKind;
using cpu::MapKindOf;

// ids[position] as an item, or -1 when it contributes nothing (padding, out of range).
template <typename IdT>
struct IdList {
  const IdT* ids;
  int64_t n_items;
  bool has_padding;
  int64_t padding_id;

  int64_t operator()(int64_t position) const {
    const auto id = static_cast<int64_t>(ids[position]);
    if (static_cast<uint64_t>(id) >= static_cast<uint64_t>(n_items)) return -1;
    return has_padding && id == padding_id ? -1 : id;
  }
};

template <typename IdT>
IdList<IdT> IdListOf(const resembed_table& table, const resembed_feature& feature) {
  return {static_cast<const IdT*>(feature.ids), table.n_items, feature.has_padding != 0, feature.padding_id};
}

// Position p is item `first_item + p`.
struct IdRange {
  int64_t first_item;
  int64_t operator()(int64_t position) const { return first_item + position; }
};

// Always inlined, as is all that only prefetches: GCC takes such a function for one without effect and deletes
// its calls.
__attribute__((always_inline)) inline void PrefetchBytes(const char* first, int64_t bytes) {
  const char* line = first - (reinterpret_cast<uintptr_t>(first) & 63);
  for (; line < first + bytes; line += 64) __builtin_prefetch(line, 0, 2);
}

// Positions [first, last) of a list, in order. `table` is resolved and checked, its maps are trusted; it and
// `ops` must outlive the stream.
template <typename IdsT, MapKind kKind = MapKind::kAny>
class ItemStream {
 public:
  ItemStream(const resembed_table& table, const RowOps& ops, const IdsT& ids, int64_t first, int64_t last,
             cpu::ItemCache* cache = nullptr)
      : table_(table),
        ops_(ops),
        ids_(ids),
        cache_(cache),
        position_(first),
        last_(last),
        central_(static_cast<const char*>(table.central)),
        residual_(static_cast<const char*>(table.residual)),
        central_pitch_(table.central_stride * ElementBytes(table.central_dtype)),
        central_bytes_(table.dim * ElementBytes(table.central_dtype)),
        residual_pitch_(table.residual_stride * ElementBytes(table.residual_dtype)),
        residual_bytes_(table.dim * ElementBytes(table.residual_dtype)),
        kind_(kKind == MapKind::kAny ? MapKindOf(table) : kKind),
        width_(kind_ == MapKind::kList   ? table.n_neighbors
               : kind_ == MapKind::kCode ? 1
                                         : 0) {
    const int64_t item_bytes = width_ * central_bytes_ + (residual_ != nullptr ? residual_bytes_ : 0) + 1;
    int64_t ahead = kBytesAhead / item_bytes;
    ahead = ahead < 1 ? 1 : ahead > kMaxItemsAhead ? kMaxItemsAhead : ahead;
    while (ahead > 1 && RingSlots(ahead) * width_ > kRingRows) --ahead;
    rows_ahead_ = ahead;
    // No map, nothing to send for: last_ - first positions ahead there is no item.
    has_maps_ = width_ > 0 || table.residual_row_of != nullptr;
    lists_ahead_ = has_maps_ ? ahead + kListsBefore : last - first;
    mask_ = RingSlots(ahead) - 1;
    for (int64_t slot = 0; slot <= mask_; ++slot) {
      slots_[slot].rows = {row_pointers_ + slot * width_, weights_ + slot * width_, 0, nullptr,
                           table.central_dtype,           table.residual_dtype};
      slots_[slot].keep = nullptr;
    }
    whole_lines_ = IsWholeLines(central_, central_bytes_, central_pitch_) &&
                   IsWholeLines(residual_, residual_bytes_, residual_pitch_);
    for (int64_t p = first; has_maps_ && p < last && p < first + lists_ahead_; ++p) PrefetchLists(ids_(p));
    for (int64_t p = first; p < last && p < first + rows_ahead_; ++p) {
      if (Fill(p)) SendFor(&slots_[p & mask_].rows);
    }
  }
  ItemStream(const ItemStream&) = delete;
  ItemStream& operator=(const ItemStream&) = delete;

  // The rows of the next position, or null when it contributes nothing; valid until the next call. Called at
  // most last - first times.
  const ItemRows* Next() {
    const ItemRows* ahead;
    const ItemRows* rows = Next(&ahead);
    SendFor(ahead);
    return rows;
  }

  // The same for users of RowOps::compose_ahead: *ahead is the item whose rows are due, or null when there is
  // none or when its rows have been sent for (those that are not whole cache lines).
  const ItemRows* Next(const ItemRows** ahead) {
    const int64_t position = position_++;
    if (position + lists_ahead_ < last_) PrefetchLists(ids_(position + lists_ahead_));
    const ItemRows* due = nullptr;
    if (position + rows_ahead_ < last_ && Fill(position + rows_ahead_)) {
      due = &slots_[(position + rows_ahead_) & mask_].rows;
      if (!whole_lines_) {
        SendFor(due);
        due = nullptr;
      }
    }
    *ahead = due;
    Slot& slot = slots_[position & mask_];
    if (slot.item < 0) return nullptr;
    if (Kind() == MapKind::kList && table_.form == RESEMBED_CENTRAL_ATTENTION) Attend(slot);
    return &slot.rows;
  }

  // The next `n` <= kItemBatch positions. weights: their per-sample weights, or null.
  void Next(int n, const float* weights, ItemBatch* batch) {
    const int64_t position = position_;
    position_ += n;
    batch->n_items = batch->n_ahead = batch->n_maps = 0;
    batch->has_weights = weights != nullptr;
    for (int64_t p = position + lists_ahead_; p < position_ + lists_ahead_ && p < last_; ++p) {
      const int64_t item = ids_(p);
      if (item >= 0)
        ForMaps(item, [batch](const void* first, int64_t bytes) {
          batch->maps[batch->n_maps++] = {static_cast<const char*>(first), bytes};
        });
    }
    for (int64_t p = position + rows_ahead_; p < position_ + rows_ahead_ && p < last_; ++p) {
      if (!Fill(p)) continue;
      const ItemRows* due = &slots_[p & mask_].rows;
      if (whole_lines_) {
        batch->ahead[batch->n_ahead++] = due;
      } else {
        SendFor(due);
      }
    }
    for (int index = 0; index < n; ++index) {
      Slot& slot = slots_[(position + index) & mask_];
      if (slot.item < 0) continue;
      if (Kind() == MapKind::kList && table_.form == RESEMBED_CENTRAL_ATTENTION) Attend(slot);
      batch->items[batch->n_items] = &slot.rows;
      batch->keep[batch->n_items] = slot.keep;
      if (weights != nullptr) batch->weights[batch->n_items] = weights[index];
      ++batch->n_items;
    }
  }

  // Sends for every row of `rows`, as given by Next; null is fine.
  __attribute__((always_inline)) void SendFor(const ItemRows* rows) const {
    if (rows == nullptr) return;
    for (int k = 0; k < rows->n_central; ++k) {
      PrefetchBytes(static_cast<const char*>(rows->central[k]), central_bytes_);
    }
    if (rows->residual != nullptr) PrefetchBytes(static_cast<const char*>(rows->residual), residual_bytes_);
  }

 private:
  struct Slot {
    ItemRows rows;
    int64_t item;
    float* keep;
  };
  static constexpr int kRingSlots = 32;
  static constexpr int kRingRows = 1024;  // 16 slots of the longest lists

  static int64_t RingSlots(int64_t ahead) {
    int64_t slots = 1;
    while (slots < ahead + kItemBatch) slots *= 2;
    return slots;
  }
  static bool IsWholeLines(const void* rows, int64_t bytes, int64_t pitch) {
    return reinterpret_cast<uintptr_t>(rows) % 64 == 0 && bytes % 64 == 0 && pitch % 64 == 0;
  }

  MapKind Kind() const { return kKind == MapKind::kAny ? kind_ : kKind; }

  // use(first, bytes) of at most three parts of maps.
  template <typename UseT>
  __attribute__((always_inline)) void ForMaps(int64_t item, const UseT& use) const {
    if (Kind() == MapKind::kList) {
      use(table_.neighbors + item * table_.neighbors_stride, width_ * 4);
      if (table_.neighbor_weights != nullptr) {
        use(table_.neighbor_weights + item * table_.neighbor_weights_stride, width_ * 4);
      }
    } else if (Kind() == MapKind::kCode) {
      const int64_t bytes = ElementBytes(table_.center_of_dtype);
      use(static_cast<const char*>(table_.center_of) + item * bytes, bytes);
    }
    if (table_.residual_row_of != nullptr) use(table_.residual_row_of + item, 4);
  }
  __attribute__((always_inline)) void PrefetchLists(int64_t item) const {
    if (item < 0) return;
    ForMaps(
        item, [](const void* first, int64_t bytes)
                  __attribute__((always_inline)) { PrefetchBytes(static_cast<const char*>(first), bytes); });
  }

  // Reads the maps of the item at `position`; false when it has no rows to send for. Slots past the end of a list
  // point at the first row of C, so that compose_ahead may send for any of them.
  bool Fill(int64_t position) {
    const int64_t item = ids_(position), place = position & mask_;
    Slot& slot = slots_[place];
    slot.item = item;
    if (item < 0) return false;
    if (Kind() == MapKind::kList && cache_ != nullptr) {
      float* row;
      if (cache_->Find(item, &row)) {
        slot.rows.n_central = 0;
        slot.rows.residual = row;
        slot.keep = nullptr;
        return false;
      }
      slot.keep = row;
    }
    const int64_t pitch = central_pitch_, width = width_;
    const char* central = central_;
    if (Kind() == MapKind::kList) {
      const void** rows = row_pointers_ + place * width;
      const int32_t* list = table_.neighbors + item * table_.neighbors_stride;
      int32_t any = 0;  // negative when an entry is
#pragma GCC unroll 4
      for (int64_t k = 0; k < width; ++k) {
        any |= list[k];
        rows[k] = central + list[k] * pitch;
      }
      auto count = static_cast<int>(width);
      if (any < 0) {
        count = 0;
        while (list[count] >= 0) ++count;
        for (int64_t k = count; k < width; ++k) rows[k] = central;
      }
      slot.rows.n_central = count;
      if (table_.form == RESEMBED_CENTRAL_STORED) {
        slot.rows.weights = table_.neighbor_weights + item * table_.neighbor_weights_stride;
      } else if (table_.form == RESEMBED_CENTRAL_UNIFORM) {
        const float weight = 1.0f / static_cast<float>(count);
        for (int k = 0; k < count; ++k) weights_[place * width + k] = weight;
      } else if (count > 0) {
        PrefetchBytes(central + item * pitch, central_bytes_);
      }
    } else if (Kind() == MapKind::kCode) {
      int32_t center;
      if (table_.center_of_dtype == RESEMBED_U16) {
        const uint16_t code = static_cast<const uint16_t*>(table_.center_of)[item];
        center = code == 65535 ? -1 : code;
      } else {
        center = static_cast<const int32_t*>(table_.center_of)[item];
      }
      slot.rows.n_central = center >= 0;
      row_pointers_[place] = central + (center >= 0 ? center : 0) * pitch;
      weights_[place] = 1.0f;
    }
    slot.rows.residual = nullptr;
    if (residual_ != nullptr) {
      const int64_t row = table_.residual_row_of == nullptr ? item : table_.residual_row_of[item];
      if (row >= 0) slot.rows.residual = residual_ + row * residual_pitch_;
    }
    return true;
  }

  // weights = softmax_k(C[item] . C[n_k]): s_k by RowOps::dot, x_k = exp(s_k - max s), x_k / (x_0 + x_1 +
  // ...).
  void Attend(Slot& slot) {
    const int count = slot.rows.n_central;
    if (count == 0) return;
    const void* query = central_ + slot.item * central_pitch_;
    float* weights = weights_ + (&slot - slots_) * width_;
    float largest = 0.0f;
    for (int k = 0; k < count; ++k) {
      weights[k] =
          ops_.dot(query, table_.central_dtype, slot.rows.central[k], table_.central_dtype, table_.dim);
      if (k == 0 || weights[k] > largest) largest = weights[k];
    }
    float sum = 0.0f;
    for (int k = 0; k < count; ++k) {
      weights[k] = std::exp(weights[k] - largest);
      sum += weights[k];
    }
    for (int k = 0; k < count; ++k) weights[k] /= sum;
  }

  const resembed_table& table_;
  const RowOps& ops_;
  const IdsT ids_;
  cpu::ItemCache* const cache_;
  int64_t position_, last_;
  const char *central_, *residual_;
  int64_t central_pitch_, central_bytes_, residual_pitch_, residual_bytes_;
  MapKind kind_;
  int64_t width_;  // most central rows an item has
  int64_t rows_ahead_, lists_ahead_, mask_;
  bool whole_lines_, has_maps_;
  Slot slots_[kRingSlots];
  const void* row_pointers_[kRingRows];
  float weights_[kRingRows];
};

}  // namespace resembed::detail
