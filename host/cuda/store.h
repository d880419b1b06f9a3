// SPDX-License-Identifier: Apache-2.0
// Descriptors on their way into device memory: gathered on the host, stored by launches of one kernel.
#pragma once

#include <cstring>
#include <type_traits>

#include "host/workspace.h"
#include "kernels/common/batch.h"

namespace resembed::detail::cuda {

class DescriptorStore {
 public:
  explicit DescriptorStore(cudaStream_t stream) : stream_(stream), error_(cudaSuccess), pending_{} {}

  // Copies now, stores before whatever is enqueued after Finish. `to` is device memory.
  template <typename T>
  void Put(T* to, const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 8 == 0 && alignof(T) == 8,
                  "words of 8 bytes");
    constexpr uint32_t kSize = sizeof(T) / 8;
    static_assert(kSize <= kernels::kFewWords, "one launch");
    if (pending_.n == kMost || pending_.first[pending_.n] + kSize > kernels::kManyWords) Flush();
    const uint32_t first = pending_.first[pending_.n];
    std::memcpy(pending_.words + first, &value, sizeof(T));
    pending_.to[pending_.n] = reinterpret_cast<unsigned long long*>(to);
    pending_.first[++pending_.n] = first + kSize;
  }

  // The first error of a launch.
  cudaError_t Finish() {
    Flush();
    return error_;
  }

 private:
  using Few = kernels::StoreParams<kernels::kFewWords>;
  static constexpr int kMost = kernels::StoreParams<kernels::kManyWords>::kMost;

  void Flush() {
    if (pending_.n == 0) return;
    const bool few = pending_.n <= Few::kMost && pending_.first[pending_.n] <= kernels::kFewWords;
    if (error_ == cudaSuccess) error_ = few ? StoreFew() : kernels::LaunchStore(pending_, stream_);
    pending_.n = 0;
  }
  cudaError_t StoreFew() const {
    Few few = {};
    few.n = pending_.n;
    std::memcpy(few.first, pending_.first, sizeof(uint32_t) * static_cast<size_t>(few.n + 1));
    std::memcpy(few.to, pending_.to, sizeof(few.to[0]) * static_cast<size_t>(few.n));
    std::memcpy(few.words, pending_.words, 8 * size_t{few.first[few.n]});
    return kernels::LaunchStore(few, stream_);
  }

  cudaStream_t stream_;
  cudaError_t error_;
  kernels::StoreParams<kernels::kManyWords> pending_;
};

// The entries of launches over many tables (kernels/common/batch.h), in device memory.
template <typename Entry>
class EntryList {
 public:
  static constexpr size_t kPasses = std::extent_v<decltype(Entry::first_block)>;

  EntryList() : entries_(nullptr) { Clear(); }
  EntryList(Workspace* workspace, int64_t most) : entries_(workspace->Take<Entry>(most)) { Clear(); }

  void Clear() {
    n_ = 0;
    for (int64_t& n : n_blocks_) n = 0;
  }
  // n_blocks: of the entry, by pass.
  void Add(Entry entry, const int64_t (&n_blocks)[kPasses], DescriptorStore* store) {
    for (size_t pass = 0; pass < kPasses; ++pass) {
      entry.first_block[pass] = n_blocks_[pass];
      n_blocks_[pass] += n_blocks[pass];
    }
    store->Put(entries_ + n_++, entry);
  }
  kernels::Batch<Entry> Of(int32_t pass = 0) const { return {entries_, n_, pass, n_blocks_[pass]}; }

 private:
  Entry* entries_;
  int32_t n_;
  int64_t n_blocks_[kPasses];
};

}  // namespace resembed::detail::cuda
