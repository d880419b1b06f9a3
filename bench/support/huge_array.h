// SPDX-License-Identifier: Apache-2.0
// Large arrays on the page size asked for.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace resembed::bench {

enum class Pages { kSmall, kHuge };

// Zeroed, 2 MiB aligned where the system gives huge pages (madvise), so that a row does not cost a page walk.
template <typename T>
class HugeArray {
 public:
  HugeArray() = default;
  explicit HugeArray(int64_t size, Pages pages = Pages::kHuge) : size_(size) {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t bytes = static_cast<size_t>(size) * sizeof(T);
    mapped_bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage;
    mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(mapped_);
    data_ = reinterpret_cast<T*>((address + kHugePage - 1) / kHugePage * kHugePage);
    // Refusal (no such pages in this kernel) leaves ordinary pages: the figures then say so by themselves.
    madvise(mapped_, mapped_bytes_, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  ~HugeArray() {
    if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
  }
  HugeArray(HugeArray&& other) noexcept { *this = std::move(other); }
  HugeArray& operator=(HugeArray&& other) noexcept {
    std::swap(mapped_, other.mapped_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t index) const { return data_[index]; }

 private:
  void* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace resembed::bench
