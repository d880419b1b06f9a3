// SPDX-License-Identifier: Apache-2.0
// Fills one table's regions of a plan.
#pragma once

#include "host/cpu/sort.h"
#include "host/executor.h"
#include "host/plan.h"
#include "host/workspace.h"

namespace resembed::detail {

// Scratch of a plan, reused table by table.
struct PlanScratch {
  SortEntry* entries;    // [n]
  SortEntry* spare;      // [n]
  uint32_t* counters;    // [SortCounters(n)]
  uint32_t* row_of_use;  // [n_uses of the largest table]
  int64_t* task_count;   // [kMaxTasks]

  static PlanScratch Take(Workspace* workspace, int64_t n_entries, int64_t n_uses);
};

struct PlanInputs {
  int32_t index;  // of the table, in messages
  resembed_table table;
  const resembed_feature* const* features;
  int32_t n_features;  // of the call
  const PlanFeature* places;
};

// Unique items, runs of uses and, unless the record has none, central rows. out_of_range when the batch exceeds a
// promise of the record.
resembed_status BuildPlanTable(const PlanInputs& inputs, char* memory, PlanRecord* record,
                               const PlanScratch& scratch, const Executor& executor);

}  // namespace resembed::detail
