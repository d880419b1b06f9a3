// SPDX-License-Identifier: Apache-2.0
// How walks over the bags of a feature are cut into tasks: by ids plus bags, not by bags. Task t takes the merged
// positions [x_t, x_{t+1}), where bag b begins at offsets[b] + b. A bag of more than kLongBag items is taken block by
// block; its partial sums meet in a second pass. Nothing of this shows in the bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "host/cpu/item_stream.h"
#include "host/validate.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

constexpr int64_t kBlock = RESEMBED_SUM_BLOCK;
constexpr int64_t kLongBag = 4 * kBlock;

inline int64_t BlocksOf(int64_t length) { return (length + kBlock - 1) / kBlock; }

inline bool MayHaveLongBags(const resembed_feature& feature) {
  if (feature.pooling == RESEMBED_POOLING_NONE) return false;
  return (feature.offsets != nullptr ? feature.n_ids : feature.bag_length) > kLongBag;
}

// Room for the partial sums of long bags: slot 2 * (p / 256) + (block == 0) of a block that starts at id p. At most one
// first and one later block start within 256 ids.
inline int64_t BlockSlots(const resembed_feature& feature) { return 2 * (feature.n_ids / kBlock + 1); }
inline int64_t BlockSlot(int64_t start, int64_t block) { return 2 * (start / kBlock) + (block == 0 ? 1 : 0); }

// Tasks of one feature.
inline int64_t BagTasks(const resembed_table& table, const resembed_feature& feature) {
  // A task reads about so many bytes of rows: long beside the cost of starting it, short beside a batch.
  constexpr int64_t kTaskBytes = 512 * 1024;
  constexpr int64_t kMaxBagTasks = 512;
  const int64_t rows = (table.form == RESEMBED_CENTRAL_ASSIGNMENT ? 1 : table.n_neighbors) + 1;
  const int64_t item_bytes = std::max<int64_t>(1, rows * table.dim * 4);
  const int64_t items = std::clamp<int64_t>(kTaskBytes / item_bytes, 64, 8192);
  return std::clamp<int64_t>((feature.n_ids + feature.n_bags) / items, 1, kMaxBagTasks);
}

// Where bags begin: offsets[b], or b * bag_length.
struct BagStarts {
  explicit BagStarts(const resembed_feature& feature)
      : offsets(feature.offsets),
        dtype(feature.offset_dtype),
        length(feature.bag_length),
        n_bags(feature.n_bags) {}
  int64_t operator()(int64_t bag) const {
    return offsets == nullptr ? bag * length : ReadIndex(offsets, dtype, bag);
  }
  // First bag whose merged start (*this)(b) + b is at least x; n_bags when there is none.
  int64_t FirstFrom(int64_t x) const {
    int64_t low = 0, high = n_bags;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if ((*this)(middle) + middle < x) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
  const void* offsets;
  resembed_dtype dtype;
  int64_t length, n_bags;
};

// One task of one feature.
struct BagCut {
  BagCut(const resembed_feature& feature, int64_t n_tasks, int64_t task) : starts(feature) {
    const int64_t total = feature.n_ids + feature.n_bags;
    const auto cut = [total, n_tasks](int64_t at) {
      return total / n_tasks * at + std::min(at, total % n_tasks);
    };
    low = cut(task);
    // The end of the ids belongs to the last task: trailing empty bags begin there.
    high = task + 1 == n_tasks ? total + 1 : cut(task + 1);
    first_bag = starts.FirstFrom(low);
    last_bag = starts.FirstFrom(high);
  }

  // segment(bag, block, first id, ids) for all that begins in the cut; block -1 = the whole bag.
  template <typename SegmentT>
  void ForSegments(const SegmentT& segment) const {
    const int64_t from = std::max<int64_t>(first_bag - 1, 0);  // a long bag may reach into the cut
    if (from >= last_bag) return;
    int64_t start = starts(from);
    for (int64_t bag = from; bag < last_bag; ++bag) {
      const int64_t next = starts(bag + 1), length = next - start;
      if (length <= kLongBag) {
        if (bag >= first_bag) segment(bag, -1, start, length);
      } else {
        const int64_t merged = start + bag;
        const int64_t end_block = std::min(BlocksOf(length), BlocksOf(high - merged));
        for (int64_t block = bag >= first_bag ? 0 : BlocksOf(low - merged); block < end_block; ++block) {
          const int64_t offset = block * kBlock;
          segment(bag, block, start + offset, std::min(kBlock, length - offset));
        }
      }
      start = next;
    }
  }

  // The stretch of ids of all segments, which is one.
  void Stretch(int64_t* begin, int64_t* end) const {
    *begin = *end = -1;
    ForSegments([&](int64_t, int64_t, int64_t start, int64_t length) {
      if (*begin < 0) *begin = start;
      *end = start + length;
    });
    if (*begin < 0) *begin = *end = 0;
  }

  BagStarts starts;
  int64_t low, high;            // merged positions
  int64_t first_bag, last_bag;  // bags that begin in the cut
};

}  // namespace resembed::detail::cpu
