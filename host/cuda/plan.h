// SPDX-License-Identifier: Apache-2.0
// The plan on a GPU: the tables of a batch share every launch.
#pragma once

#include "host/plan.h"
#include "kernels/plan/plan.h"

namespace resembed::detail::cuda {

// Everything resolved; `records` and `places` lie in ordinary memory, `memory` and `workspace` on the device.
struct PlanBuild {
  resembed_place place;
  const resembed_plan_args* args;
  const Tables* tables;
  const PlanRecord* records;  // [n_tables]
  const PlanFeature* places;  // [n_features]
  char* memory;
  void* workspace;
};

// How much one batch of tables sorts; a single table may be more. Scratch is 20 bytes an entry, and a sort of so many
// takes far longer than its launches.
struct PlanLimits {
  int64_t entries = int64_t{1} << 24;    // uses, or pairs
  uint64_t keys = uint64_t{0xffffffff};  // rows and sentinels
};

// Consecutive tables that share every launch of a plan, as long as both sorts keep within the limits.
struct PlanBatch {
  int64_t n_tables, n_uses;
  // Pairs that are sorted come first, then those of tables whose items are center-major.
  int64_t n_sorted_pairs, n_pairs;
  uint64_t item_keys, sorted_keys, central_keys;
};

// The scratch of a call's largest batch.
struct PlanScratchSize {
  int64_t n_tables, n_entries, n_uses, n_features;
};

// The tables of a call, cut into batches in order.
struct PlanBatches {
  PlanLimits limits;
  PlanBatch batch;       // the last one so far
  PlanScratchSize size;  // of all so far, without features
  // True where the table begins another batch than the one before.
  bool Add(const PlanRecord& record, const resembed_table& table);
};

// Asks the device of `place`, since the sort does.
resembed_status PlanWorkspaceBytes(const resembed_place& place, const PlanScratchSize& size, size_t* bytes);
// Enqueues on place.stream.
resembed_status BuildPlan(const PlanBuild& build, const kernels::Grid& grid = {},
                          const PlanLimits& limits = {});

// Checked arguments; enqueues on place.stream.
resembed_status Translate(const resembed_translate_args& args, const resembed_place& place,
                          const kernels::Grid& grid = {});

}  // namespace resembed::detail::cuda
