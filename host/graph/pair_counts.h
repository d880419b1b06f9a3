// SPDX-License-Identifier: Apache-2.0
// Counts of unordered item pairs in bounded memory: pairs are collected in a buffer, sorted, reduced and
// merged into levels of sorted runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/executor.h"
#include "host/graph/pair_runs.h"

namespace resembed::detail {

// Counts in memory beyond `entries` go to files in `folder`; an empty folder: never.
struct SpillRules {
  std::string folder;
  int64_t entries = 0;
};

// Collects weighted pairs. Not thread-safe; sorts on the executor's threads. The counts are sums, so they
// depend neither on the order of Add nor on buffer size nor on thread count; they saturate at INT64_MAX.
// Any member may throw std::bad_alloc, after which the contents are incomplete; so are they after error().
class PairCounts {
 public:
  static constexpr int64_t kMinBufferBytes = 4096;

  // distance_weights [window]: what Add(.., distance) adds; all of them > 0 or never used.
  // Memory: buffer_bytes + 16 bytes for each entry of the runs. A run is at least four times as long as
  // the next one, so the runs together hold at most 4/3 of the distinct pairs, also during a merge. With
  // spill rules: never more than spill.entries in runs; a merge of files takes 256 KiB for each.
  PairCounts(int64_t n_items, const std::vector<uint32_t>& distance_weights, size_t buffer_bytes,
             const Executor& executor, SpillRules spill = {});

  // distance in [1, window]; lower < higher < n_items; the weight of this distance is not 0.
  void Add(uint32_t lower, uint32_t higher, int32_t distance) {
    const Slot& slot = slots_[static_cast<size_t>(distance - 1)];
    Region& region = regions_[slot.region];
    if (region.size == region_limit_) MakeRoom();
    keys_[region.begin + region.size++] = slot.high_bits | uint64_t{lower} << item_bits_ | uint64_t{higher};
  }

  // Counts from elsewhere, at most n_entries of them; keys of items below n_items.
  void AddSource(std::unique_ptr<PairSource> source, int64_t n_entries);

  // Everything in one run; the buffer is given back until the next Add.
  void Compact();
  // After Compact: distinct pairs, and all of them by (lower, higher).
  int64_t size() const;
  std::unique_ptr<PairSource> Read() const;

  // Memory ran out inside a merge, or a file failed: pairs are lost.
  bool broken() const { return merging_; }
  int error() const { return error_; }  // errno of the file
  const std::string& folder() const { return spill_.folder; }

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
  class PartSource;
  using Sources = std::vector<std::unique_ptr<PairSource>>;

  void MakeRoom();
  void Flush(bool everything);
  void MergeIn(Sources sources, int64_t n_entries, bool everything);
  void WriteDiskRun(PairMerge* merge);
  void MergeDiskRuns();
  void FreeBuffer();
  int64_t MemoryEntries() const;

  Executor executor_;
  SpillRules spill_;
  int item_bits_;
  std::vector<Slot> slots_;  // [window]
  std::vector<Region> regions_;
  int64_t region_capacity_;
  int64_t region_limit_ = 0;                    // region_capacity_ while there is a buffer
  std::unique_ptr<uint64_t[]> keys_, scratch_;  // [regions * region_capacity_] or null
  std::vector<PairRun> runs_;                   // longest first
  std::vector<DiskRun> disk_runs_;
  int error_ = 0;
  bool merging_ = false;
};

// Sorts keys by their low `bits` bits, radix 2^11, least significant digit first. The result is in keys or
// in scratch, whichever is returned; no allocation.
uint64_t* RadixSort(uint64_t* keys, uint64_t* scratch, int64_t n, int bits);

}  // namespace resembed::detail
