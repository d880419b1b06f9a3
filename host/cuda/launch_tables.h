// SPDX-License-Identifier: Apache-2.0
// The kernels that are built, as constexpr tables. Dispatch launches what stands in them, refusals print it, and
// tests/repo/support_matrix.cc writes the cuda part of docs/support_matrix.md from them. What no table has as an axis
// (types of ids, offsets, outputs, output gradients and states, weights, padding, bounds, dim) is a branch inside
// the kernels: every value is built.
#pragma once

#include "host/status.h"
#include "kernels/backward/backward.h"
#include "kernels/forward/forward.h"
#include "kernels/step/step.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

// Forward and materialize: [type of C][type of R], F32, F16, BF16; null = not built.
using ForwardLaunches = kernels::ForwardLaunch[3][3];
extern const ForwardLaunches kForwardLaunches;
// The kernel of a pair of types: by pooling, and by form (neighbor lists, or center codes and no central part).
inline constexpr kernels::ForwardKind kForwardKinds[] = {
    kernels::ForwardKind::kGather, kernels::ForwardKind::kSum, kernels::ForwardKind::kSum,
    kernels::ForwardKind::kMax, kernels::ForwardKind::kSum};
inline constexpr bool kReadsLists[] = {false, false, true, true, true};

// Backward: [every output gradient is F32 and none is of a maximum][4 columns a lane].
extern const kernels::BackwardLaunch kBackwardLaunches[2][2];

// Step and backward_step: by kind of optimizer; null = not built.
using UpdateLaunches = kernels::UpdateLaunch[5];
extern const UpdateLaunches kUpdateLaunches;

// unsupported, with the pairs that are built, when tables[index] has another one.
resembed_status CheckForwardTypes(const char* op, int32_t index, const resembed_table& table,
                                  const ForwardLaunches& built = kForwardLaunches);
// unsupported, with the optimizers that are built, when one of n_steps (null: none) is another one.
resembed_status CheckUpdates(const char* op, const resembed_table_step* const* steps, int32_t n_steps,
                             const UpdateLaunches& built = kUpdateLaunches);

}  // namespace resembed::detail::cuda
