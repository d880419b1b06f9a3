// SPDX-License-Identifier: Apache-2.0
#include "host/graph/pair_counts.h"

#include <algorithm>
#include <limits>

namespace resembed::detail {
namespace {

constexpr int64_t kMaxSortThreads = 8;
constexpr int64_t kMinKeysPerThread = int64_t{1} << 15;
constexpr uint64_t kNoKey = std::numeric_limits<uint64_t>::max();  // above every key: items take 31 bits

int BitsFor(uint64_t n_values) {
  int bits = 0;
  while (bits < 63 && (uint64_t{1} << bits) < n_values) ++bits;
  return bits;
}

uint64_t LowMask(int bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

}  // namespace

void PairRun::AddChunk() {
  chunks_.reserve(chunks_.size() + 1 + chunks_.size() / 2);
  chunks_.emplace_back(new PairCount[kChunkEntries]);
}

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

// A sorted piece of the buffer.
struct PairCounts::SortedPart {
  const uint64_t* at;
  const uint64_t* end;
  const uint32_t* weights;
};

// Walks sorted parts of the buffer and runs side by side; equal keys are added up.
class PairCounts::Merge {
 public:
  Merge(std::vector<SortedPart> parts, std::vector<PairRun> runs, int item_bits)
      : parts_(std::move(parts)), runs_(std::move(runs)), item_bits_(item_bits) {
    heads_.resize(parts_.size() + runs_.size());
    run_at_.resize(runs_.size());
    for (size_t source = 0; source < heads_.size(); ++source) Advance(source);
  }

  PairRun Run() {
    PairRun merged;
    const size_t n_sources = heads_.size();
    while (true) {
      uint64_t key = kNoKey;
      for (size_t source = 0; source < n_sources; ++source) key = std::min(key, heads_[source].key);
      if (key == kNoKey) return merged;
      int64_t count = 0;
      for (size_t source = 0; source < n_sources; ++source) {
        if (heads_[source].key != key) continue;
        count = SaturatingAdd(count, heads_[source].count);
        Advance(source);
      }
      merged.Append({key, count});
    }
  }

 private:
  void Advance(size_t source) {
    heads_[source] = source < parts_.size() ? NextOfPart(parts_[source]) : NextOfRun(source - parts_.size());
  }

  PairCount NextOfPart(SortedPart& part) const {
    if (part.at == part.end) return {kNoKey, 0};
    const int key_bits = 2 * item_bits_;
    const uint64_t mask = LowMask(key_bits);
    const uint64_t packed = *part.at & mask;
    int64_t count = 0;
    for (; part.at != part.end && (*part.at & mask) == packed; ++part.at) {
      count = SaturatingAdd(count, part.weights[*part.at >> key_bits]);
    }
    return {(packed >> item_bits_) << 32 | (packed & LowMask(item_bits_)), count};
  }

  PairCount NextOfRun(size_t number) {
    PairRun& run = runs_[number];
    int64_t& at = run_at_[number];
    if (at > 0 && at % PairRun::kChunkEntries == 0) run.FreeChunk(at / PairRun::kChunkEntries - 1);
    if (at == run.size()) {
      run = PairRun();
      at = 0;
      return {kNoKey, 0};
    }
    return run[at++];
  }

  std::vector<SortedPart> parts_;
  std::vector<PairRun> runs_;
  std::vector<int64_t> run_at_;
  std::vector<PairCount> heads_;
  int item_bits_;
};

PairCounts::PairCounts(int64_t n_items, const std::vector<uint32_t>& distance_weights, size_t buffer_bytes,
                       const Executor& executor)
    : executor_(executor), item_bits_(std::max(1, BitsFor(static_cast<uint64_t>(n_items)))) {
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
    SortedPart sorted;
  };
  const int64_t n_threads = std::min<int64_t>(executor_.width(), kMaxSortThreads);
  std::vector<Task> tasks;
  for (size_t r = 0; r < regions_.size(); ++r) {
    const Region& region = regions_[r];
    const int64_t n_parts = std::clamp<int64_t>(region.size / kMinKeysPerThread, 1, n_threads);
    for (int64_t part = 0; part < n_parts; ++part) {
      const int64_t first = region.size * part / n_parts, last = region.size * (part + 1) / n_parts;
      if (first < last) tasks.push_back({region.begin + first, last - first, r, {}});
    }
  }
  std::vector<int64_t> n_distinct(tasks.size());
  const int key_bits = 2 * item_bits_;
  executor_.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
    Task& task = tasks[static_cast<size_t>(index)];
    const uint64_t* sorted =
        RadixSort(keys_.get() + task.begin, scratch_.get() + task.begin, task.size, key_bits);
    task.sorted = {sorted, sorted + task.size, regions_[task.region].weights.data()};
    int64_t distinct = 1;
    for (int64_t i = 1; i < task.size; ++i) {
      distinct += ((sorted[i] ^ sorted[i - 1]) & LowMask(key_bits)) != 0;
    }
    n_distinct[static_cast<size_t>(index)] = distinct;
  });

  std::vector<SortedPart> parts;
  int64_t n_entries = 0;
  for (size_t task = 0; task < tasks.size(); ++task) {
    parts.push_back(tasks[task].sorted);
    n_entries += n_distinct[task];
  }
  merging_ = true;
  std::vector<PairRun> inputs;
  while (!runs_.empty() && (everything || runs_.back().size() < 4 * n_entries)) {
    n_entries += runs_.back().size();
    inputs.push_back(std::move(runs_.back()));
    runs_.pop_back();
  }
  runs_.push_back(Merge(std::move(parts), std::move(inputs), item_bits_).Run());
  for (Region& region : regions_) region.size = 0;
  merging_ = false;
}

const PairRun& PairCounts::Compact() {
  bool buffered = false;
  for (const Region& region : regions_) buffered = buffered || region.size > 0;
  if (buffered || runs_.size() != 1) Flush(true);
  keys_.reset();
  scratch_.reset();
  region_limit_ = 0;
  return runs_.front();
}

}  // namespace resembed::detail
