// SPDX-License-Identifier: Apache-2.0
// The plan on a GPU: launches for one table after the other.
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

// Scratch for the largest table: n_entries ids or pairs, n_uses ids. Asks the device of `place`, since the sort does.
resembed_status PlanWorkspaceBytes(const resembed_place& place, int64_t n_entries, int64_t n_uses,
                                   size_t* bytes);
// Enqueues on place.stream.
resembed_status BuildPlan(const PlanBuild& build, const kernels::Grid& grid = {});

// Checked arguments; enqueues on place.stream.
resembed_status Translate(const resembed_translate_args& args, const resembed_place& place,
                          const kernels::Grid& grid = {});

}  // namespace resembed::detail::cuda
