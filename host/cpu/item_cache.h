// SPDX-License-Identifier: Apache-2.0
// Item embeddings composed lately, for the thread that composes: skewed ids come again soon, and one row out of a
// cache then stands for the K + 1 rows of R and C. A kept embedding has the bits of one formed anew.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail::cpu {

// Lies in a call's workspace. One thread at a time has it; the table stays as it is during the call.
class ItemCache {
 public:
  static constexpr int64_t kFloats = 256 * 1024;  // 1 MiB: a second-level cache
  static constexpr int64_t kMaxRows = 4096;
  static constexpr int64_t kMinRows = 64;
  // With fewer ids a cache is not worth the room; a call of many has more than one thread will take.
  static constexpr int64_t kIdsEach = 8192;
  static constexpr int64_t kMaxCaches = 64;

  static int64_t Pitch(int64_t dim) { return (dim + 15) / 16 * 16; }
  // Pays only where an item is several rows. fp32 residuals: a kept row enters as one.
  static bool Serves(const resembed_table& table) {
    return table.form != RESEMBED_CENTRAL_NONE && table.form != RESEMBED_CENTRAL_ASSIGNMENT &&
           table.n_neighbors > 1 && (table.residual == nullptr || table.residual_dtype == RESEMBED_F32) &&
           Pitch(table.dim) * kMinRows <= kFloats;
  }

  // rows: [kFloats], whole cache lines.
  explicit ItemCache(float* rows) : rows_(rows) {}
  ItemCache(const ItemCache&) = delete;
  ItemCache& operator=(const ItemCache&) = delete;

  bool TryTake() { return !taken_.exchange(true, std::memory_order_acquire); }
  void Release() { taken_.store(false, std::memory_order_release); }

  // Before a stretch of items of `table`, number `number` in the call. False: leave it, hits are too rare; now and
  // then they are counted again.
  bool Begin(const resembed_table& table, int32_t number) {
    if (number_ != number) {
      number_ = number;
      pitch_ = Pitch(table.dim);
      int bits = 6;
      while (bits < 12 && (pitch_ << (bits + 1)) <= kFloats) ++bits;
      shift_ = 64 - bits;
      std::fill(items_, items_ + (int64_t{1} << bits), -1);
      idle_ = hits_ = uses_ = 0;
    }
    if (uses_ >= kTrial) {
      if (hits_ * kRareness < uses_) idle_ = kIdle;
      hits_ = uses_ = 0;
    }
    return idle_-- <= 0;
  }

  // Row of `item`. True: it holds the embedding, or will by the time the uses before this one are done. False: it
  // is the place to put it, and no longer what it was.
  bool Find(int64_t item, float** row) {
    const auto place = static_cast<int64_t>((static_cast<uint64_t>(item) * 0x9e3779b97f4a7c15u) >> shift_);
    *row = rows_ + place * pitch_;
    const bool hit = items_[place] == item;
    items_[place] = item;
    hits_ += hit;
    ++uses_;
    return hit;
  }

 private:
  static constexpr int64_t kTrial = 512;    // uses that are judged together
  static constexpr int64_t kRareness = 10;  // keeping a row costs about a tenth of what a hit spares
  static constexpr int64_t kIdle = 15;      // stretches without a cache after a trial that failed

  std::atomic<bool> taken_{false};
  float* rows_;
  int32_t number_ = -1;
  int shift_ = 0;
  int64_t pitch_ = 0, idle_ = 0, hits_ = 0, uses_ = 0;
  int64_t items_[kMaxRows];
};

}  // namespace resembed::detail::cpu
