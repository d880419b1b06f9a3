// SPDX-License-Identifier: Apache-2.0
// cuEmbed's transpose and backward from a checkout that RESEMBED_CUEMBED points to; none of it is in this tree.
#include <cuembed/include/embedding_lookup.cuh>
#include <cuembed/include/index_transforms.cuh>

#include <algorithm>

#include "bench/gpu/step_problem.h"

namespace resembed::bench::gpu {
namespace {

template <typename T>
void Backward(const Workload& w, const void* grad, int64_t n, int64_t n_runs, const int32_t* sorted_ids,
              const int32_t* rows, const int32_t* runs, void* gradient, int32_t* items, cudaStream_t stream) {
  cuembed::EmbeddingBackward<T, int32_t>(static_cast<const T*>(grad), static_cast<int>(w.dim),
                                         static_cast<int>(n_runs), static_cast<int>(n), sorted_ids, rows, runs,
                                         nullptr, true, static_cast<T*>(gradient), items, stream);
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

void CuEmbedTranspose(void* work, size_t* bytes, const int32_t* ids, int64_t n, int64_t row_length, int32_t* rows,
                      int32_t* sorted_ids, int32_t* sorted_rows, int32_t* runs, cudaStream_t stream) {
  const int nnz = static_cast<int>(n);
  const float* const no_weights = nullptr;
  float* const no_sorted_weights = nullptr;
  auto* scratch = static_cast<char*>(work);
  if (work == nullptr) {
    size_t sort = 0, scan = 0;
    cuembed::Transpose(rows, ids, no_weights, nnz, sorted_ids, sorted_rows, no_sorted_weights, scratch, &sort, stream);
    cuembed::ComputeCompressedGradIndices(sorted_ids, nnz, runs, scratch, &scan, stream);
    *bytes = std::max(sort, scan);
    return;
  }
  cuembed::ExtractRowIdsFromFixed(static_cast<int>(n / row_length), static_cast<int>(row_length), rows, stream);
  cuembed::Transpose(static_cast<const int32_t*>(rows), ids, no_weights, nnz, sorted_ids, sorted_rows,
                     no_sorted_weights, scratch, bytes, stream);
  cuembed::ComputeCompressedGradIndices(static_cast<const int32_t*>(sorted_ids), nnz, runs, scratch, bytes, stream);
}

}  // namespace resembed::bench::gpu
