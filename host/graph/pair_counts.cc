// SPDX-License-Identifier: Apache-2.0
#include "host/graph/pair_counts.h"

#include <algorithm>
#include <utility>

namespace resembed::detail {
namespace {

constexpr int64_t kMaxSortThreads = 8;
constexpr int64_t kMinKeysPerThread = int64_t{1} << 15;
// Open at once: 18 MiB of blocks. One more and all become one run.
constexpr size_t kMaxDiskRuns = 64;

int BitsFor(uint64_t n_values) {
  int bits = 0;
  while (bits < 63 && (uint64_t{1} << bits) < n_values) ++bits;
  return bits;
}

uint64_t LowMask(int bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

}  // namespace

uint64_t* RadixSort(uint64_t* keys, uint64_t* scratch, int64_t n, int bits) {
  constexpr int kMaxDigitBits = 11;
  const uint64_t low = LowMask(bits);
  if (n < 512) {
    std::sort(keys, keys + n, [low](uint64_t a, uint64_t b) { return (a & low) < (b & low); });
    return keys;
  }
  const int n_passes = std::max(1, (bits + kMaxDigitBits - 1) / kMaxDigitBits);
  const int digit_bits = (bits + n_passes - 1) / n_passes;
  const uint64_t digit_mask = LowMask(digit_bits);
  for (int pass = 0; pass < n_passes; ++pass) {
    const int shift = pass * digit_bits;
    const uint64_t mask = std::min(digit_mask, low >> shift);
    int64_t start[(1 << kMaxDigitBits) + 1] = {};
    for (int64_t i = 0; i < n; ++i) ++start[(keys[i] >> shift & mask) + 1];
    for (uint64_t digit = 0; digit < mask; ++digit) start[digit + 1] += start[digit];
    for (int64_t i = 0; i < n; ++i) scratch[start[keys[i] >> shift & mask]++] = keys[i];
    std::swap(keys, scratch);
  }
  return keys;
}

// A sorted piece of the buffer, reduced as it is read.
class PairCounts::PartSource final : public PairSource {
 public:
  PartSource(const uint64_t* begin, const uint64_t* end, const uint32_t* weights, int item_bits)
      : at_(begin), end_(end), weights_(weights), item_bits_(item_bits) {}

  PairBlock Next() override {
    const int key_bits = 2 * item_bits_;
    const uint64_t mask = LowMask(key_bits), item_mask = LowMask(item_bits_);
    size_t n = 0;
    for (; n < kBlock && at_ != end_; ++n) {
      const uint64_t packed = *at_ & mask;
      int64_t count = 0;
      for (; at_ != end_ && (*at_ & mask) == packed; ++at_) {
        count = SaturatingAdd(count, weights_[*at_ >> key_bits]);
      }
      block_[n] = {(packed >> item_bits_) << 32 | (packed & item_mask), count};
    }
    return {block_, block_ + n};
  }

 private:
  static constexpr size_t kBlock = 512;
  const uint64_t* at_;
  const uint64_t* end_;
  const uint32_t* weights_;
  int item_bits_;
  PairCount block_[kBlock];
};

PairCounts::PairCounts(int64_t n_items, const std::vector<uint32_t>& distance_weights, size_t buffer_bytes,
                       const Executor& executor, SpillRules spill)
    : executor_(executor),
      spill_(std::move(spill)),
      item_bits_(std::max(1, BitsFor(static_cast<uint64_t>(n_items)))) {
  std::vector<uint32_t> distinct = distance_weights;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const int key_bits = 2 * item_bits_;
  const size_t per_region = size_t{1} << std::min(32, 64 - key_bits);
  slots_.resize(distance_weights.size());
  for (size_t d = 0; d < distance_weights.size(); ++d) {
    const auto number = static_cast<size_t>(
        std::lower_bound(distinct.begin(), distinct.end(), distance_weights[d]) - distinct.begin());
    // key_bits <= 62, and a zero weight number shifts to zero.
    slots_[d] = {number / per_region, uint64_t{number % per_region} << key_bits};
  }
  regions_.resize((distinct.size() + per_region - 1) / per_region);
  for (size_t r = 0; r < regions_.size(); ++r) {
    const size_t first = r * per_region, last = std::min(distinct.size(), first + per_region);
    regions_[r].weights.assign(distinct.begin() + static_cast<std::ptrdiff_t>(first),
                               distinct.begin() + static_cast<std::ptrdiff_t>(last));
  }
  // Half of the buffer is the sort's scratch.
  const int64_t n_keys = std::max(kMinBufferBytes, static_cast<int64_t>(buffer_bytes)) / 16;
  region_capacity_ = std::max<int64_t>(1, n_keys / static_cast<int64_t>(regions_.size()));
  for (size_t r = 0; r < regions_.size(); ++r) {
    regions_[r].begin = static_cast<int64_t>(r) * region_capacity_;
    regions_[r].size = 0;
  }
}

void PairCounts::MakeRoom() {
  if (keys_ != nullptr) return Flush(false);
  const auto total = static_cast<size_t>(region_capacity_) * regions_.size();
  keys_.reset(new uint64_t[total]);  // not initialized: pages are touched as they fill
  scratch_.reset(new uint64_t[total]);
  region_limit_ = region_capacity_;
}

void PairCounts::Flush(bool everything) {
  struct Task {
    int64_t begin, size;
    size_t region;
    const uint64_t* sorted;
  };
  const int64_t n_threads = std::min<int64_t>(executor_.width(), kMaxSortThreads);
  std::vector<Task> tasks;
  for (size_t r = 0; r < regions_.size(); ++r) {
    const Region& region = regions_[r];
    const int64_t n_parts = std::clamp<int64_t>(region.size / kMinKeysPerThread, 1, n_threads);
    for (int64_t part = 0; part < n_parts; ++part) {
      const int64_t first = region.size * part / n_parts, last = region.size * (part + 1) / n_parts;
      if (first < last) tasks.push_back({region.begin + first, last - first, r, nullptr});
    }
  }
  std::vector<int64_t> n_distinct(tasks.size());
  const int key_bits = 2 * item_bits_;
  executor_.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
    Task& task = tasks[static_cast<size_t>(index)];
    const uint64_t* sorted =
        RadixSort(keys_.get() + task.begin, scratch_.get() + task.begin, task.size, key_bits);
    task.sorted = sorted;
    int64_t distinct = 1;
    for (int64_t i = 1; i < task.size; ++i) {
      distinct += ((sorted[i] ^ sorted[i - 1]) & LowMask(key_bits)) != 0;
    }
    n_distinct[static_cast<size_t>(index)] = distinct;
  });

  Sources sources;
  int64_t n_entries = 0;
  for (size_t task = 0; task < tasks.size(); ++task) {
    sources.push_back(std::make_unique<PartSource>(tasks[task].sorted, tasks[task].sorted + tasks[task].size,
                                                   regions_[tasks[task].region].weights.data(), item_bits_));
    n_entries += n_distinct[task];
  }
  MergeIn(std::move(sources), n_entries, everything);
  for (Region& region : regions_) region.size = 0;
}

void PairCounts::AddSource(std::unique_ptr<PairSource> source, int64_t n_entries) {
  Sources sources;
  sources.push_back(std::move(source));
  MergeIn(std::move(sources), n_entries, false);
}

int64_t PairCounts::MemoryEntries() const {
  int64_t n = 0;
  for (const PairRun& run : runs_) n += run.size();
  return n;
}

void PairCounts::MergeIn(Sources sources, int64_t n_entries, bool everything) {
  merging_ = true;
  const bool to_disk = !spill_.folder.empty() && (MemoryEntries() + n_entries) > spill_.entries;
  while (!runs_.empty() && (everything || to_disk || runs_.back().size() < 4 * n_entries)) {
    n_entries += runs_.back().size();
    sources.push_back(ConsumeRun(std::move(runs_.back())));
    runs_.pop_back();
  }
  PairMerge merge(std::move(sources));
  PairCount pair;
  if (to_disk) {
    WriteDiskRun(&merge);
    if (error_ == 0 && disk_runs_.size() >= kMaxDiskRuns) MergeDiskRuns();
  } else {
    PairRun run;
    while (merge.Next(&pair)) run.Append(pair);
    runs_.push_back(std::move(run));
  }
  if (error_ == 0) error_ = merge.error();
  merging_ = error_ != 0;
}

void PairCounts::WriteDiskRun(PairMerge* merge) {
  DiskRun run;
  if (error_ == 0) error_ = run.Create(spill_.folder);
  PairCount pair;
  while (error_ == 0 && merge->Next(&pair)) error_ = run.Append(pair);
  if (error_ == 0) error_ = run.Finish();
  if (error_ == 0) error_ = merge->error();
  if (error_ == 0) disk_runs_.push_back(std::move(run));
}

void PairCounts::MergeDiskRuns() {
  std::vector<DiskRun> inputs = std::move(disk_runs_);
  disk_runs_.clear();
  Sources sources;
  for (const DiskRun& run : inputs) sources.push_back(ReadEntries(run.fd(), 0, run.size()));
  PairMerge merge(std::move(sources));
  WriteDiskRun(&merge);
}

void PairCounts::Compact() {
  bool buffered = false;
  for (const Region& region : regions_) buffered = buffered || region.size > 0;
  if (!disk_runs_.empty() && (buffered || !runs_.empty() || disk_runs_.size() > 1)) {
    // All that is in memory becomes the last run on disk.
    if (buffered) Flush(true);
    merging_ = true;
    if (!runs_.empty()) {
      Sources sources;
      for (PairRun& run : runs_) sources.push_back(ConsumeRun(std::move(run)));
      runs_.clear();
      PairMerge merge(std::move(sources));
      WriteDiskRun(&merge);
    }
    FreeBuffer();
    if (error_ == 0 && disk_runs_.size() > 1) MergeDiskRuns();
    merging_ = error_ != 0;
  } else if (disk_runs_.empty() && (buffered || runs_.size() != 1)) {
    Flush(true);
    if (!disk_runs_.empty()) return Compact();
  }
  FreeBuffer();
}

void PairCounts::FreeBuffer() {
  keys_.reset();
  scratch_.reset();
  region_limit_ = 0;
}

int64_t PairCounts::size() const { return disk_runs_.empty() ? MemoryEntries() : disk_runs_.front().size(); }

std::unique_ptr<PairSource> PairCounts::Read() const {
  if (!disk_runs_.empty()) return ReadEntries(disk_runs_.front().fd(), 0, disk_runs_.front().size());
  return ReadRun(&runs_.front());
}

}  // namespace resembed::detail
