// SPDX-License-Identifier: Apache-2.0
// The build has no checkout of cuEmbed (CMake option RESEMBED_CUEMBED).
#include "bench/gpu/forward_problem.h"

namespace resembed::bench::gpu {

bool CuEmbedAvailable(const Workload&) { return false; }
void CuEmbedForward(const Workload&, const void*, const int32_t*, void*, cudaStream_t) {}

}  // namespace resembed::bench::gpu
