// SPDX-License-Identifier: Apache-2.0
// The kernels that are built, by the types of C and R. Dispatch, refusals and docs/support_matrix.md read these.
#pragma once

#include "host/status.h"
#include "kernels/forward/forward.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

// [type of C][type of R], F32, F16, BF16; null = not built.
extern const kernels::ForwardLaunch kForwardLaunches[3][3];

// unsupported, with the pairs that are built, when tables[index] has another one.
resembed_status CheckForwardTypes(const char* op, int32_t index, const resembed_table& table);

}  // namespace resembed::detail::cuda
