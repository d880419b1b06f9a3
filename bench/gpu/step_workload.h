// SPDX-License-Identifier: Apache-2.0
// The workloads of plan, backward and step on a GPU.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "bench/gpu/step_bytes.h"
#include "bench/gpu/workload.h"

namespace resembed::bench {

struct StepWorkload {
  Workload batch;    // of one table; dtype also of the output gradient
  int n_tables = 1;  // alike, each with a feature of its own
  resembed_optimizer_kind optimizer = RESEMBED_SGD;
  resembed_dtype state_dtype = RESEMBED_F32;

  auto Key() const { return std::tuple_cat(batch.Key(), std::tie(n_tables, optimizer, state_dtype)); }
};

std::string StepWorkloadName(const StepWorkload& workload);
// Groups w1 .. w4 and r1 .. r4 at alpha 0, 1.05 and 1.15.
std::vector<StepWorkload> StepWorkloads();

// Numbers that an optimizer keeps: per row, per element.
void StatesOf(resembed_optimizer_kind kind, int64_t* row_states, int64_t* element_states);
// Device bytes of tables, states, gradients, compressed gradients, plan and workspaces, and of a dense gradient.
int64_t StepDeviceBytes(const StepWorkload& workload);
// Halves rows, then bags, until the workload fits into `bytes`.
StepWorkload ShrinkTo(StepWorkload workload, int64_t bytes);
StepWorkload Tiny(StepWorkload workload);

}  // namespace resembed::bench
