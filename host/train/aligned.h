// SPDX-License-Identifier: Apache-2.0
// Vectors whose data start on a cache line. Dense sums are reproducible only when every run sees the same
// alignment, because vector code peels unaligned heads. Large ones (tables and optimizer states) lie on huge
// pages where the system has them: a row at random then costs no page walk.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <new>
#include <vector>

namespace resembed::train {

template <typename T>
struct CacheLineAllocator {
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  using value_type = T;
  CacheLineAllocator() = default;
  template <typename U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    void* const data = ::operator new(bytes, AlignmentOf(bytes));
#ifdef __linux__
    // Whole pages only: what follows the last one may belong to others. Refusal leaves ordinary pages.
    if (bytes >= 2 * kHugePage) madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(data);
  }
  void deallocate(T* p, std::size_t n) { ::operator delete(p, AlignmentOf(n * sizeof(T))); }
  template <typename U>
  bool operator==(const CacheLineAllocator<U>&) const {
    return true;
  }
  template <typename U>
  bool operator!=(const CacheLineAllocator<U>&) const {
    return false;
  }

 private:
  static std::align_val_t AlignmentOf(std::size_t bytes) {
    return std::align_val_t{bytes >= 2 * kHugePage ? kHugePage : 64};
  }
};

template <typename T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace resembed::train
