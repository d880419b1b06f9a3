// SPDX-License-Identifier: Apache-2.0
// What this machine's memory gives for whole rows at random: the yardstick of the benchmarks.
#pragma once

#include <cstdint>

#include "bench/support/huge_array.h"

namespace resembed::bench {

struct MemoryLimits {
  double read_gbps = 0;    // rows read
  double update_gbps = 0;  // rows read and written back, both ways counted
  int read_ahead = 0, update_ahead = 0;
};

// Rows of row_bytes (a multiple of 64), uniform, known in advance, on NumThreads() threads; the best of
// several prefetch distances. 1 GiB of rows.
MemoryLimits MeasureLimits(int64_t row_bytes, Pages pages);

// The limits of this process on huge pages, measured once for a row size. Refresh() runs a few more rounds
// with the distances found and keeps the better figure: on a shared machine the first sweep may have met a
// neighbor.
const MemoryLimits& Limits(int64_t row_bytes);
void RefreshLimits(int64_t row_bytes);

}  // namespace resembed::bench
