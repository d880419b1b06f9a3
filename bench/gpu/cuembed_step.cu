// SPDX-License-Identifier: Apache-2.0
// cuEmbed's backward from a checkout that RESEMBED_CUEMBED points to; none of it is in this tree. Its ids are sorted by
// the library's sort, outside of the timed part.
#include <cuembed/include/embedding_lookup.cuh>

#include "bench/gpu/step_problem.h"

namespace resembed::bench::gpu {
namespace {

template <typename T>
void Backward(const Workload& w, const void* grad, int64_t n, int64_t n_runs, const int32_t* sorted_ids,
              const int32_t* rows, const int32_t* runs, void* gradient, int32_t* items, cudaStream_t stream) {
  cuembed::EmbeddingBackward<T, int32_t>(static_cast<const T*>(grad), static_cast<int>(w.dim),
                                         static_cast<int>(n_runs), static_cast<int>(n), sorted_ids, rows, runs,
                                         nullptr, false, static_cast<T*>(gradient), items, stream);
}

}  // namespace

bool CuEmbedBackwardAvailable(const StepWorkload& workload) {
  const Workload& w = workload.batch;
  return (w.dtype == RESEMBED_F32 || w.dtype == RESEMBED_F16) && w.form == RESEMBED_CENTRAL_NONE;
}

void CuEmbedBackward(const StepWorkload& workload, const void* grad, int64_t n, int64_t n_runs,
                     const int32_t* sorted_ids, const int32_t* rows_of_uses, const int32_t* runs, void* gradient,
                     int32_t* items, cudaStream_t stream) {
  const Workload& w = workload.batch;
  if (w.dtype == RESEMBED_F32)
    return Backward<float>(w, grad, n, n_runs, sorted_ids, rows_of_uses, runs, gradient, items, stream);
  Backward<__half>(w, grad, n, n_runs, sorted_ids, rows_of_uses, runs, gradient, items, stream);
}

}  // namespace resembed::bench::gpu
