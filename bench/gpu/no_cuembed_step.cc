// SPDX-License-Identifier: Apache-2.0
// The build has no checkout of cuEmbed (CMake option RESEMBED_CUEMBED).
#include "bench/gpu/step_problem.h"

namespace resembed::bench::gpu {

bool CuEmbedBackwardAvailable(const StepWorkload&) { return false; }
void CuEmbedBackward(const StepWorkload&, const void*, int64_t, int64_t, const int32_t*, const int32_t*,
                     const int32_t*, void*, int32_t*, cudaStream_t) {}
void CuEmbedTranspose(void*, size_t*, const int32_t*, int64_t, int64_t, int32_t*, int32_t*, int32_t*,
                      int32_t*, cudaStream_t) {}

}  // namespace resembed::bench::gpu
