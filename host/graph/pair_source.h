// SPDX-License-Identifier: Apache-2.0
// Streams of pair counts in increasing order, and their merge.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

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
inline int32_t LowerItem(const PairCount& pair) { return static_cast<int32_t>(pair.key >> 32); }
inline int32_t HigherItem(const PairCount& pair) { return static_cast<int32_t>(pair.key & 0xffffffffu); }

struct PairBlock {
  const PairCount* begin = nullptr;
  const PairCount* end = nullptr;
};

// Entries by strictly increasing key, block by block.
class PairSource {
 public:
  virtual ~PairSource() = default;
  // Valid until the next call; empty at the end, and after a failure to read.
  virtual PairBlock Next() = 0;
  virtual int error() const { return 0; }  // errno of that failure
};

// The sources side by side, equal keys added up: a binary heap of their heads.
class PairMerge {
 public:
  explicit PairMerge(std::vector<std::unique_ptr<PairSource>> sources) : sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      const PairBlock block = source->Next();
      if (block.begin != block.end) heap_.push_back({block, source.get()});
    }
    for (size_t node = heap_.size(); node-- > 0;) SiftDown(node);
  }

  bool Next(PairCount* pair) {
    if (heap_.empty()) return false;
    *pair = *heap_[0].block.begin;
    Advance();
    while (!heap_.empty() && heap_[0].block.begin->key == pair->key) {
      pair->count = SaturatingAdd(pair->count, heap_[0].block.begin->count);
      Advance();
    }
    return true;
  }

  int error() const {
    for (const auto& source : sources_) {
      if (source->error() != 0) return source->error();
    }
    return 0;
  }

 private:
  struct Head {
    PairBlock block;
    PairSource* source;
  };

  void Advance() {
    Head& top = heap_[0];
    if (++top.block.begin == top.block.end) top.block = top.source->Next();
    if (top.block.begin == top.block.end) {
      top = heap_.back();
      heap_.pop_back();
    }
    SiftDown(0);
  }
  void SiftDown(size_t node) {
    const size_t n = heap_.size();
    while (true) {
      size_t least = node;
      for (size_t child = 2 * node + 1; child < n && child <= 2 * node + 2; ++child) {
        if (heap_[child].block.begin->key < heap_[least].block.begin->key) least = child;
      }
      if (least == node) return;
      std::swap(heap_[least], heap_[node]);
      node = least;
    }
  }

  std::vector<std::unique_ptr<PairSource>> sources_;
  std::vector<Head> heap_;
};

}  // namespace resembed::detail
