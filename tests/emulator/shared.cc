// SPDX-License-Identifier: Apache-2.0
//
// Shared memory of a block: 0xFF until written, so that a float nobody wrote is NaN and an index is -1. Under
// AddressSanitizer each array is a heap block of its exact size. Under ThreadSanitizer no two blocks get the same
// address, or they would race; nor two launches, because the runtime keeps only the last few accesses of a word.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/emulator/machine.h"

namespace resembed::emulator {
namespace {

constexpr std::size_t kAlignment = 128;
#ifndef RESEMBED_EMULATOR_ASAN
constexpr std::size_t kArenaBytes = std::size_t{256} << 20;  // reserved, not taken

std::size_t RoundUp(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
#endif

// Not memset: sanitizers intercept it.
void Fill(void* at, std::size_t bytes) {
  auto* words = static_cast<volatile std::uint64_t*>(at);
  for (std::size_t i = 0; i < bytes / 8; ++i) words[i] = ~std::uint64_t{0};
  auto* rest = static_cast<volatile unsigned char*>(at);
  for (std::size_t i = bytes / 8 * 8; i < bytes; ++i) rest[i] = 0xFF;
}

}  // namespace

void* Machine::TakeShared(std::size_t bytes) {
#ifdef RESEMBED_EMULATOR_ASAN
  void* at = nullptr;
  if (posix_memalign(&at, kAlignment, bytes) != 0) std::abort();
#else
  if (arena_used_ + RoundUp(bytes) > kArenaBytes)
    arena_used_ = 0;  // blocks this far apart may share an address
  void* at = arena_ + arena_used_;
  arena_used_ += RoundUp(bytes);
#endif
  Fill(at, bytes);
  return at;
}

// Before the first CUDA thread takes its identity: the memory is nobody's work.
void Machine::MapShared() {
#ifndef RESEMBED_EMULATOR_ASAN
  if (arena_ != nullptr && arena_used_ < kArenaBytes / 2) return;
  if (arena_ != nullptr) munmap(arena_, kArenaBytes);
  void* memory =
      mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulator: shared memory");
    std::abort();
  }
  arena_ = static_cast<char*>(memory);
  arena_used_ = 0;
#endif
}

void Machine::BeginShared() {
  n_shared_ = 0;
  static_bytes_ = 0;
  dynamic_ = grid_->shared_bytes > 0 ? TakeShared(grid_->shared_bytes) : nullptr;
}

void Machine::EndShared() {
#ifdef RESEMBED_EMULATOR_ASAN
  std::free(dynamic_);
  for (int i = 0; i < n_shared_; ++i) std::free(shared_[i].at);
#elif !defined(RESEMBED_EMULATOR_TSAN)
  arena_used_ = 0;
#endif
}

void* Machine::StaticShared(const void* key, std::size_t bytes, std::size_t alignment) {
  for (int i = 0; i < n_shared_; ++i) {
    if (shared_[i].key == key) return shared_[i].at;
  }
  if (alignment > kAlignment)
    Fail("shared memory aligned to %zu bytes; at most %zu here", alignment, kAlignment);
  if (n_shared_ == kMaxSharedArrays) Fail("more than %d shared arrays in one block", kMaxSharedArrays);
  const Device device = GetDevice();
  static_bytes_ += bytes;
  if (static_bytes_ > device.shared_per_block) {
    Fail("static shared memory is %zu bytes; needs at most %zu", static_bytes_, device.shared_per_block);
  }
  if (static_bytes_ + grid_->shared_bytes > device.shared_per_block_optin) {
    Fail("shared memory is %zu static and %zu dynamic bytes; needs at most %zu", static_bytes_,
         grid_->shared_bytes, device.shared_per_block_optin);
  }
  shared_[n_shared_] = {key, TakeShared(bytes), bytes};
  return shared_[n_shared_++].at;
}

// A launch without dynamic shared memory may name it, but neither read nor write.
void* Machine::DynamicShared() {
  static void* const no_access = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return dynamic_ != nullptr ? dynamic_ : no_access;
}

void* SharedStatic(const void* key, std::size_t bytes, std::size_t alignment) {
  return TheMachine().StaticShared(key, bytes, alignment);
}
void* SharedDynamic() { return TheMachine().DynamicShared(); }

}  // namespace resembed::emulator
