// SPDX-License-Identifier: Apache-2.0
#include "host/graph/pair_runs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "host/io/bytes.h"

namespace resembed::detail {
namespace {

class RunReader final : public PairSource {
 public:
  explicit RunReader(const PairRun* run) : run_(run) {}
  PairBlock Next() override { return run_->Chunk(chunk_++); }

 private:
  const PairRun* run_;
  int64_t chunk_ = 0;
};

class RunConsumer final : public PairSource {
 public:
  explicit RunConsumer(PairRun run) : run_(std::move(run)) {}
  PairBlock Next() override {
    if (chunk_ > 0 && (chunk_ - 1) * PairRun::kChunkEntries < run_.size()) run_.FreeChunk(chunk_ - 1);
    return run_.Chunk(chunk_++);
  }

 private:
  PairRun run_;
  int64_t chunk_ = 0;
};

class EntryReader final : public PairSource {
 public:
  EntryReader(int fd, int64_t offset, int64_t n)
      : fd_(fd), offset_(offset), left_(n), block_(new PairCount[DiskRun::kBlockEntries]) {}
  PairBlock Next() override {
    const int64_t n = std::min(left_, DiskRun::kBlockEntries);
    if (n <= 0 || error_ != 0) return {};
    const auto bytes = n * static_cast<int64_t>(sizeof(PairCount));
    error_ = ReadAt(fd_, offset_, block_.get(), bytes);
    if (error_ != 0) return {};
    offset_ += bytes;
    left_ -= n;
    return {block_.get(), block_.get() + n};
  }
  int error() const override { return error_; }

 private:
  int fd_;
  int64_t offset_, left_;
  int error_ = 0;
  std::unique_ptr<PairCount[]> block_;
};

}  // namespace

void PairRun::AddChunk() {
  chunks_.reserve(chunks_.size() + 1 + chunks_.size() / 2);
  chunks_.emplace_back(new PairCount[kChunkEntries]);
}

PairBlock PairRun::Chunk(int64_t chunk) const {
  const int64_t first = chunk * kChunkEntries, n = std::min(size_ - first, kChunkEntries);
  if (n <= 0) return {};
  const PairCount* at = chunks_[static_cast<size_t>(chunk)].get();
  return {at, at + n};
}

std::unique_ptr<PairSource> ReadRun(const PairRun* run) { return std::make_unique<RunReader>(run); }
std::unique_ptr<PairSource> ConsumeRun(PairRun run) { return std::make_unique<RunConsumer>(std::move(run)); }
std::unique_ptr<PairSource> ReadEntries(int fd, int64_t offset, int64_t n) {
  return std::make_unique<EntryReader>(fd, offset, n);
}

DiskRun::~DiskRun() {
  if (fd_ >= 0) close(fd_);
}

DiskRun::DiskRun(DiskRun&& other) noexcept { *this = std::move(other); }

DiskRun& DiskRun::operator=(DiskRun&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(used_, other.used_);
  std::swap(block_, other.block_);
  return *this;
}

int DiskRun::Create(const std::string& folder) {
  std::string name = folder + "/resembed-pairs-XXXXXX";
  block_.reset(new PairCount[kBlockEntries]);
  fd_ = mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) return errno;
  unlink(name.c_str());
  return 0;
}

int DiskRun::Flush() {
  const int error = WriteAll(fd_, block_.get(), used_ * static_cast<int64_t>(sizeof(PairCount)));
  used_ = 0;
  return error;
}

int DiskRun::Finish() {
  const int error = Flush();
  block_.reset();
  return error;
}

}  // namespace resembed::detail
