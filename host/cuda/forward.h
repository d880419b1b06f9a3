// SPDX-License-Identifier: Apache-2.0
// Forward and materialize on a GPU: features are resolved, grouped by kernel, and launched.
#pragma once

#include "host/validate.h"
#include "host/workspace.h"
#include "kernels/forward/forward.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

// The fields of a table that kernels read; `table` is resolved.
kernels::ForwardFeature ResolveTable(const resembed_table& table);

// What this backend refuses although the call is valid.
resembed_status CheckForward(const char* op, const resembed_forward_args& args, const Tables& tables);

// Counts the workspace.
void CarveForward(const resembed_forward_args& args, const Tables& tables, Workspace* workspace);

// Everything is checked. Enqueues on place.stream. A plan changes nothing: items are composed at each use.
resembed_status Forward(const char* op, const resembed_forward_args& args, const Tables& tables,
                        void* workspace, const resembed_place& place,
                        const kernels::LaunchShape& shape = kernels::kForwardShape);

resembed_status Materialize(const char* op, const resembed_materialize_args& args,
                            const resembed_table& table, const resembed_place& place,
                            const kernels::LaunchShape& shape = kernels::kForwardShape);

}  // namespace resembed::detail::cuda
