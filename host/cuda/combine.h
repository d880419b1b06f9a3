// SPDX-License-Identifier: Apache-2.0
// Combine on a GPU.
#pragma once

#include "host/status.h"
#include "kernels/plan/plan.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

// `args` is checked. unsupported: more rows or places than 32 bits number.
resembed_status CombineBytes(const resembed_combine_args& args, const resembed_place& place, size_t* bytes);
// Enqueues on place.stream. Where a count of an input is none, or the output too small, *output.n_rows becomes -1.
resembed_status Combine(const resembed_combine_args& args, void* workspace, const resembed_place& place,
                        const kernels::Grid& grid = {});

}  // namespace resembed::detail::cuda
