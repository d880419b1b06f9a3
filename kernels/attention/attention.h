// SPDX-License-Identifier: Apache-2.0
// Scores of attention pooling on the GPU, as host code sees it; the sums y = sum p_t e_t and dq = sum dz_t e_t are
// those of forward with these as per-sample weights.
//
//   z_t = q . e_t                        one warp an id; the same with dy for dp_t
//   p   = softmax or sigmoid of scale z  one warp a bag
//   dz  = scale p (dp - D), D = sum p dp, or scale p (1 - p) dp
// A sum over a bag is 32 partial sums, lane l those of positions l, l + 32, ..., and the fixed tree.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/common/table_rows.h"
#include "kernels/plan/plan.h"

namespace resembed::kernels {

// One feature over its table; pointers are device memory.
struct AttentionParams {
  TableRows table;
  int64_t n_items;
  const void* ids;      // [n_ids]
  const void* offsets;  // [n_bags + 1] or null: bags of bag_length
  int64_t n_ids, n_bags, bag_length, padding_id;
  bool wide_ids, wide_offsets;  // int64
  bool has_padding;
  bool trust;  // ids are not compared with n_items
  bool softmax;
  float scale;
  const char* rows;  // [n_bags, dim] what items are multiplied with: q, or dy
  int64_t pitch;     // bytes
  resembed_dtype dtype;
  const float* p;  // [n_ids], for the gradient
  float* scores;   // [n_ids] z, and then p; or dp, and then dz. 0 for padding and bad ids
};

cudaError_t LaunchScores(const AttentionParams& params, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchAttentionWeights(const AttentionParams& params, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchScoreGradients(const AttentionParams& params, const Grid& grid, cudaStream_t stream);

}  // namespace resembed::kernels
