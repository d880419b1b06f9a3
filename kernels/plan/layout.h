// SPDX-License-Identifier: Apache-2.0
// What a plan in device memory begins with, and where the chunks of long runs lie: for kernels and host code alike.
#pragma once

#include <cstdint>

#include "kernels/common/host_device.h"
#include "resembed/resembed.h"

namespace resembed::kernels {

// Partial sums of a run are cut every so many terms, counted from the run's start.
constexpr int64_t kRunBlock = RESEMBED_SUM_BLOCK;

// One table's results, at the start of the plan's memory. With status not 0 the batch broke a promise: all counts
// are 0 and whatever reads the plan does nothing.
struct PlanCounts {
  int64_t n_unique;
  int64_t n_unique_central;
  int32_t status;
  int32_t unsorted;  // 1: a table's promise of center-major items was broken; status follows
  int32_t unused[10];
};
static_assert(sizeof(PlanCounts) == 64, "one line");

// kRunBlock terms of a run longer than that.
struct PlanChunk {
  uint32_t run;    // kNoRun: the slot is empty
  uint32_t first;  // index into the ordering, not into the run
};
constexpr uint32_t kNoRun = 0xffffffffu;

// On a GPU the chunks of long runs do not lie side by side: those of the run that begins at index `begin` of the
// ordering take slots from here on. 2 slots for 257 terms hold the ceil(m / 256) chunks of every run of m > 256
// clear of the next long run's.
RESEMBED_HOST_DEVICE constexpr int64_t FirstChunkSlot(int64_t begin) { return 2 * begin / (kRunBlock + 1); }

// Chunks, and slots, of runs longer than kRunBlock among n terms.
RESEMBED_HOST_DEVICE constexpr int64_t MaxLongChunks(int64_t n) {
  return n <= kRunBlock ? 0 : 2 * n / (kRunBlock + 1) + 1;
}

}  // namespace resembed::kernels
