// SPDX-License-Identifier: Apache-2.0
// The one sort of the CPU backend: a stable LSD radix sort of narrow keys, each with a payload.
#pragma once

#include <cstdint>

#include "host/executor.h"

namespace resembed::detail {

// key << 32 | payload: one 8-byte store an element and pass.
using SortEntry = uint64_t;

inline SortEntry MakeEntry(uint32_t key, uint32_t payload) { return uint64_t{key} << 32 | payload; }
inline uint32_t EntryKey(SortEntry entry) { return static_cast<uint32_t>(entry >> 32); }
inline uint32_t EntryPayload(SortEntry entry) { return static_cast<uint32_t>(entry); }

// Bits that hold every value of [0, largest].
inline int BitsFor(uint64_t largest) {
  int bits = 1;
  while (largest >> bits != 0) ++bits;
  return bits;
}

// Counters SortEntries needs for n entries: a function of n alone.
int64_t SortCounters(int64_t n);

// Sorts entries[0, n) by the low key_bits of their keys; equal keys keep their order, so the result does not
// depend on threads. n < 2^32. Returns where the result lies: entries or spare.
SortEntry* SortEntries(SortEntry* entries, SortEntry* spare, int64_t n, int key_bits, uint32_t* counters,
                       const Executor& executor);

}  // namespace resembed::detail
