// SPDX-License-Identifier: Apache-2.0
// Counts of unordered item pairs in bounded memory: pairs are collected in a buffer, sorted, reduced and
// merged into levels of sorted runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "host/executor.h"

namespace resembed::detail {

// a, b >= 0
inline int64_t SaturatingAdd(int64_t a, int64_t b) {
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  return a > kLargest - b ? kLargest : a + b;
}

// key = lower item << 32 | higher item, so that runs are ordered by (lower, higher).
struct PairCount {
  uint64_t key;
  int64_t count;
};

// Entries by increasing key, in chunks that are given back while a merge consumes them: old and new runs
// never lie side by side.
class PairRun {
 public:
  static constexpr int64_t kChunkEntries = 4096;  // 64 KiB

  int64_t size() const { return size_; }
  void Append(PairCount entry) {
    if (size_ % kChunkEntries == 0) AddChunk();
    chunks_.back()[size_ % kChunkEntries] = entry;
    ++size_;
  }
  PairCount operator[](int64_t index) const {
    return chunks_[static_cast<size_t>(index / kChunkEntries)][index % kChunkEntries];
  }
  void FreeChunk(int64_t chunk) { chunks_[static_cast<size_t>(chunk)].reset(); }

 private:
  void AddChunk();

  std::vector<std::unique_ptr<PairCount[]>> chunks_;
  int64_t size_ = 0;
};

// Collects weighted pairs. Not thread-safe; sorts on the executor's threads. The counts are sums, so they
// depend neither on the order of Add nor on buffer size nor on thread count; they saturate at INT64_MAX.
// Any member may throw std::bad_alloc, after which the contents are incomplete.
class PairCounts {
 public:
  static constexpr int64_t kMinBufferBytes = 4096;

  // distance_weights [window]: what Add(.., distance) adds; all of them > 0 or never used.
  // Memory: buffer_bytes + 16 bytes for each entry of the runs. A run is at least four times as long as
  // the next one, so the runs together hold at most 4/3 of the distinct pairs, also during a merge.
  PairCounts(int64_t n_items, const std::vector<uint32_t>& distance_weights, size_t buffer_bytes,
             const Executor& executor);

  // distance in [1, window]; lower < higher < n_items; the weight of this distance is not 0.
  void Add(uint32_t lower, uint32_t higher, int32_t distance) {
    const Slot& slot = slots_[static_cast<size_t>(distance - 1)];
    Region& region = regions_[slot.region];
    if (region.size == region_limit_) MakeRoom();
    keys_[region.begin + region.size++] = slot.high_bits | uint64_t{lower} << item_bits_ | uint64_t{higher};
  }

  // Everything in one run, sorted by (lower, higher); the buffer is given back until the next Add.
  const PairRun& Compact();

  // Memory ran out inside a merge: pairs are lost.
  bool broken() const { return merging_; }

 private:
  // A buffered key is [weight number | lower | higher], item_bits_ for each item. Weights that do not fit
  // into the bits left over share the buffer by regions.
  struct Slot {
    size_t region;
    uint64_t high_bits;
  };
  struct Region {
    int64_t begin, size;
    std::vector<uint32_t> weights;  // by weight number
  };
  struct SortedPart;
  class Merge;

  void MakeRoom();
  void Flush(bool everything);

  Executor executor_;
  int item_bits_;
  std::vector<Slot> slots_;  // [window]
  std::vector<Region> regions_;
  int64_t region_capacity_;
  int64_t region_limit_ = 0;                    // region_capacity_ while there is a buffer
  std::unique_ptr<uint64_t[]> keys_, scratch_;  // [regions * region_capacity_] or null
  std::vector<PairRun> runs_;                   // longest first
  bool merging_ = false;
};

// Sorts keys by their low `bits` bits, radix 2^11, least significant digit first. The result is in keys or
// in scratch, whichever is returned; no allocation.
uint64_t* RadixSort(uint64_t* keys, uint64_t* scratch, int64_t n, int bits);

}  // namespace resembed::detail
