// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>

#include "tests/emulator/runtime.h"

#ifdef RESEMBED_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace resembed::emulator {
namespace {

constexpr std::size_t kAlignment = 256;  // what cudaMalloc gives

void Forbid(const char* at, std::size_t bytes) {
#ifdef RESEMBED_EMULATOR_ASAN
  __asan_poison_memory_region(at, bytes);
#else
  static_cast<void>(at), static_cast<void>(bytes);
#endif
}

void Allow(const char* at, std::size_t bytes) {
#ifdef RESEMBED_EMULATOR_ASAN
  __asan_unpoison_memory_region(at, bytes);
#else
  static_cast<void>(at), static_cast<void>(bytes);
#endif
}

const Memory::Region* Holding(const std::map<const char*, Memory::Region>& regions, const void* at) {
  const char* const address = static_cast<const char*>(at);
  auto after = regions.upper_bound(address);
  if (after == regions.begin()) return nullptr;
  const Memory::Region& region = std::prev(after)->second;
  return address < region.at + region.bytes || (region.bytes == 0 && address == region.at) ? &region
                                                                                           : nullptr;
}

}  // namespace

cudaError_t Memory::Allocate(void** at, std::size_t bytes) {
  *at = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes_ + bytes > TheRuntime().device.memory_bytes) return cudaErrorMemoryAllocation;
  if (posix_memalign(at, kAlignment, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*at, 0xFF, bytes);
  bytes_ += bytes;
  char* const begin = static_cast<char*>(*at);
  device_[begin] = {begin, bytes};
  if (open_ == 0) Forbid(begin, bytes);
  return cudaSuccess;
}

bool Memory::Free(void* at) {
  const auto found = device_.find(static_cast<const char*>(at));
  if (found == device_.end()) return false;
  bytes_ -= found->second.bytes;
  Allow(found->second.at, found->second.bytes);
  gaps_.erase(gaps_.lower_bound(found->second.at), gaps_.lower_bound(found->second.at + found->second.bytes));
  device_.erase(found);
  std::free(at);
  return true;
}

cudaError_t Memory::AllocatePinned(void** at, std::size_t bytes) {
  *at = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (posix_memalign(at, kAlignment, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*at, 0xFF, bytes);
  char* const begin = static_cast<char*>(*at);
  pinned_[begin] = {begin, bytes};
  return cudaSuccess;
}

bool Memory::FreePinned(void* at) {
  if (pinned_.erase(static_cast<const char*>(at)) == 0) return false;
  std::free(at);
  return true;
}

const Memory::Region* Memory::Find(const void* at) const { return Holding(device_, at); }
const Memory::Region* Memory::FindPinned(const void* at) const { return Holding(pinned_, at); }

void Memory::SetGap(const void* at, std::size_t bytes) { gaps_[static_cast<const char*>(at)] = bytes; }

void Memory::Open(bool for_kernel) {
  if (open_++ > 0) return;
  for (const auto& [begin, region] : device_) Allow(begin, region.bytes);
  if (!for_kernel) return;
  for (const auto& [begin, bytes] : gaps_) Forbid(begin, bytes);
}

void Memory::Close() {
  if (--open_ > 0) return;
  for (const auto& [begin, region] : device_) Forbid(begin, region.bytes);
}

}  // namespace resembed::emulator
