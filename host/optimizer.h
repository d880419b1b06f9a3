// SPDX-License-Identifier: Apache-2.0
// Optimizer descriptors: checked, and resolved to what the backend applies to each row.
#pragma once

#include "host/cpu/step.h"
#include "host/validate.h"

namespace resembed::detail {

// Updates of one table. `residual` and `central` are set where the step names an optimizer; `skip` where its
// found_inf says that the step is not taken.
struct TableUpdate {
  MatrixUpdate residual, central;
  bool has_residual, has_central;
};

// Steps of one call: [n_tables] entries, null = no step. Checks descriptors, and that no matrix that is updated
// shares memory with another matrix of the call. On the CPU reads step_device.
resembed_status CheckSteps(const char* op, const resembed_table_step* const* steps, const Tables& tables,
                           const resembed_place& place);

// What step `index` does to its table. To be called after CheckSteps; reads lr, step, loss scale and found_inf.
TableUpdate ResolveStep(const resembed_table_step* step, const resembed_table& table,
                        const resembed_place& place);

}  // namespace resembed::detail
