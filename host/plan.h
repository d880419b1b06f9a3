// SPDX-License-Identifier: Apache-2.0
// What one batch's ids say (design.md 9.3), as the other operations of the CPU backend read it.
//
// Plan memory: PlanHead, PlanRecord [n_tables], PlanFeature [n_features], then the regions the records point to by
// offset. On a GPU these three lie in the caller's layout, the memory begins with kernels::PlanCounts [n_tables], and
// where a record says what the batch has the host knows only the capacity. A use is one id of one feature; the uses of a table are numbered feature by feature, position by
// position, and so are its rows of output (one per bag, or per id when nothing is pooled).
#pragma once

#include <cstdint>

#include "host/status.h"
#include "host/validate.h"
#include "kernels/plan/layout.h"
#include "resembed/resembed.h"

namespace resembed::detail {

constexpr int64_t kSumBlock = RESEMBED_SUM_BLOCK;

using kernels::MaxLongChunks;
using kernels::PlanChunk;

// Runs of equal rows in one ordering.
struct PlanRuns {
  int64_t n_runs;
  const int32_t* rows;    // [n_runs] increasing: item ids, or central rows
  const uint32_t* begin;  // [n_runs + 1]; run r is [begin[r], begin[r + 1]) of the ordering
  int64_t n_long_chunks;
  const PlanChunk* long_chunks;  // [n_long_chunks] of all runs longer than kSumBlock, in order
};

struct PlanTable {
  int64_t max_unique;
  int64_t max_unique_central;
  int64_t n_uses;  // of all features over this table, padding and bad ids included
  int64_t n_rows;  // rows of output of these features

  PlanRuns items;
  const uint32_t* use;      // [items.begin[n_runs]] use number, by (item, use number)
  const uint32_t* use_row;  // the same order: row of output
  const int32_t* inverse;   // [n_uses] use number -> index into items.rows; -1 = padding or bad id
  const float* divisor;     // [n_rows] items that contributed (1 where nothing is averaged); null = all 1

  // Second ordering: pairs (unique item, slot) by central row, then unique item, then slot. The slot of a
  // neighbor is its place in the list, 0 for the center of an assignment; attention adds the item's own row (the
  // query) as slot K when the item has a neighbor. Empty when the plan skips the central part.
  PlanRuns central;
  const uint32_t* pair;  // unique item << slot_bits | slot
  int32_t slot_bits;
  bool has_central;
};

struct PlanFeature {
  int32_t table;
  int64_t first_use;  // of this feature, among the uses of its table
  int64_t first_row;
};

// One table's shapes and promises, and where its regions lie.
struct PlanRecord {
  int64_t max_unique, max_unique_central, n_uses, n_rows, max_pairs;
  int64_t max_long_items, max_long_pairs;
  int64_t n_unique, n_unique_central, n_long_items, n_long_pairs;
  int32_t slot_bits, has_central, has_divisor, status;
  size_t rows, begin, use, use_row, inverse, divisor, long_items;
  size_t central_rows, central_begin, pair, long_pairs;
};

struct PlanHead {
  uint64_t fingerprint;  // 0 while the plan is being made
  int64_t n_tables, n_features;
};

class Plan {
 public:
  explicit Plan(const void* memory = nullptr) : Plan(memory, memory) {}
  Plan(const void* layout, const void* memory)
      : layout_(static_cast<const char*>(layout)), memory_(static_cast<const char*>(memory)) {}

  const PlanHead& head() const { return *reinterpret_cast<const PlanHead*>(layout_); }
  const PlanRecord& record(int32_t table) const {
    return reinterpret_cast<const PlanRecord*>(layout_ + sizeof(PlanHead))[table];
  }
  const PlanFeature& feature(int32_t index) const {
    return reinterpret_cast<const PlanFeature*>(
        layout_ + sizeof(PlanHead) + static_cast<size_t>(head().n_tables) * sizeof(PlanRecord))[index];
  }
  PlanTable table(int32_t index) const;
  // On a GPU: device memory.
  const kernels::PlanCounts* counts(int32_t table) const {
    return reinterpret_cast<const kernels::PlanCounts*>(memory_) + table;
  }

 private:
  const char* layout_;
  const char* memory_;
};

// Refuses a plan that was made for other shapes, features or map versions, or whose memory holds another one now.
resembed_status OpenPlan(const char* op, const resembed_plan_header* header, const Tables& tables,
                         const resembed_feature* const* features, int32_t n_features,
                         const resembed_place& place, Plan* plan);

}  // namespace resembed::detail
