// SPDX-License-Identifier: Apache-2.0
// Sorted runs of pair counts, in memory and on disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/graph/pair_source.h"

namespace resembed::detail {

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
  PairBlock Chunk(int64_t chunk) const;
  void FreeChunk(int64_t chunk) { chunks_[static_cast<size_t>(chunk)].reset(); }

 private:
  void AddChunk();

  std::vector<std::unique_ptr<PairCount[]>> chunks_;
  int64_t size_ = 0;
};

std::unique_ptr<PairSource> ReadRun(const PairRun* run);  // the run stays as it is
std::unique_ptr<PairSource> ConsumeRun(PairRun run);      // chunks are freed behind the reader

// A file of 16-byte entries {key, count} without a name: the system removes it when it is closed.
class DiskRun {
 public:
  static constexpr int64_t kBlockEntries = 16384;  // 256 KiB

  DiskRun() = default;
  ~DiskRun();
  DiskRun(DiskRun&& other) noexcept;
  DiskRun& operator=(DiskRun&& other) noexcept;

  // Zero or an errno.
  int Create(const std::string& folder);
  int Append(PairCount entry) {
    block_[used_++] = entry;
    ++size_;
    return used_ == kBlockEntries ? Flush() : 0;
  }
  int Finish();  // writes what is left and frees the block

  int64_t size() const { return size_; }
  int fd() const { return fd_; }

 private:
  int Flush();

  int fd_ = -1;
  int64_t size_ = 0, used_ = 0;
  std::unique_ptr<PairCount[]> block_;
};

// Entries [0, n) at byte `offset` of an open file. The run or file outlives the source.
std::unique_ptr<PairSource> ReadEntries(int fd, int64_t offset, int64_t n);

}  // namespace resembed::detail
