// SPDX-License-Identifier: Apache-2.0
// Envelope statistics on a GPU: sorted by interest, then the sums of the CPU backend.
#pragma once

#include "host/validate.h"
#include "kernels/envelope/envelope.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

// The workspace, which depends on what the sort asks for on this device. Interests outside 0 .. n_interests - 1 are
// left out: they cannot be refused without waiting for the device.
resembed_status EnvelopeWorkspaceBytes(const char* op, const resembed_envelope_args& args,
                                       const resembed_table& table, const resembed_place& place,
                                       size_t* bytes);

// Everything else is checked. Enqueues on place.stream; args.quantiles is read before it returns.
resembed_status Envelope(const char* op, const resembed_envelope_args& args, const resembed_table& table,
                         void* workspace, const resembed_place& place,
                         int64_t most_blocks = kernels::kEnvelopeBlocks);

}  // namespace resembed::detail::cuda
