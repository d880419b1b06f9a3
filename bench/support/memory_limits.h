// SPDX-License-Identifier: Apache-2.0
// What this machine's memory gives for whole rows at random: the yardstick of the benchmarks.
#pragma once

#include <cstdint>

#include "bench/support/huge_array.h"

namespace resembed::bench {

struct MemoryLimits {
  double read_gbps = 0;     // rows read, lines asked for from the first-level cache
  double read_l2_gbps = 0;  // the same, asked for from the second level, which keeps more requests open
  double update_gbps = 0;   // rows read and written back, both ways counted
  int read_ahead = 0, update_ahead = 0;
};

// Rows are a multiple of 64 bytes.
struct MemoryTable {
  int64_t row_bytes, bytes;
};

// The table whose limit is that of n_rows rows of so many elements; short rows count as one cache line.
inline MemoryTable MemoryTableOf(int64_t n_rows, int64_t row_bytes) {
  const int64_t whole = row_bytes < 64 ? 64 : row_bytes / 64 * 64;
  return {whole, n_rows * whole};
}

// Uniform rows, known in advance, on NumThreads() threads; the best of several prefetch distances.
MemoryLimits MeasureLimits(const MemoryTable& table, Pages pages);

// The limits of this process on huge pages, measured once for a table: a larger one meets more misses of the
// address translation. Refresh() runs a few more rounds with the distances found and keeps the better figure:
// on a shared machine the first sweep may have met a neighbor.
const MemoryLimits& Limits(const MemoryTable& table);
void RefreshLimits(const MemoryTable& table);

}  // namespace resembed::bench
