// SPDX-License-Identifier: Apache-2.0
// cuEmbed's forward from a checkout that RESEMBED_CUEMBED points to; none of it is in this tree.
#include <cuembed/include/embedding_lookup.cuh>

#include "bench/gpu/forward_problem.h"

namespace resembed::bench::gpu {
namespace {

template <typename T>
void Forward(const Workload& w, const void* rows, const int32_t* ids, void* output, cudaStream_t stream) {
  cuembed::EmbeddingForward<T, T, int32_t, int32_t, false>(
      static_cast<const T*>(rows), static_cast<int>(w.dim), ids, nullptr, nullptr, static_cast<int>(w.n_bags),
      static_cast<int>(w.bag_length), cuembed::CombineMode::kSum, static_cast<T*>(output), stream);
}

}  // namespace

bool CuEmbedAvailable(const Workload& w) {
  return (w.dtype == RESEMBED_F32 || w.dtype == RESEMBED_F16) && w.form == RESEMBED_CENTRAL_NONE &&
         w.pooling == RESEMBED_POOLING_SUM && w.ids != Ids::kHistogram;
}

void CuEmbedForward(const Workload& w, const void* rows, const int32_t* ids, void* output, cudaStream_t stream) {
  if (w.dtype == RESEMBED_F32) return Forward<float>(w, rows, ids, output, stream);
  Forward<__half>(w, rows, ids, output, stream);
}

}  // namespace resembed::bench::gpu
