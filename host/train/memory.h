// SPDX-License-Identifier: Apache-2.0
// What a run may take of the machine's memory, and what a row of it will.
#pragma once

#include <cstdint>
#include <string>

#include "host/train/config.h"
#include "host/train/graph.h"
#include "host/train/variant.h"

namespace resembed::train {

// Bytes a process may still take: of the machine (MemAvailable) or of the control group, whichever is less.
// 0 = unknown.
int64_t AvailableBytes();
int64_t ResidentBytes();      // of this process now; 0 = unknown
int64_t PeakResidentBytes();  // of this process so far

// Host memory of a row: in training, and what its evaluation takes besides.
struct RowMemory {
  int64_t tables = 0;      // R and C
  int64_t optimizer = 0;   // their state
  int64_t best = 0;        // copy of the best epoch's tables
  int64_t evaluation = 0;  // item embeddings, scores and what the head keeps of an item
  int64_t total() const { return tables + optimizer + best + evaluation; }
};
RowMemory MemoryOf(const Variant& variant, int64_t n_items, int64_t n_centers, const Hyper& hyper);

// Throws Error when `row` does not fit into `limit` bytes beside `taken`.
void CheckMemory(const RowMemory& memory, int64_t taken, int64_t limit, const std::string& row);

}  // namespace resembed::train
