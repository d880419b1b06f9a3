// SPDX-License-Identifier: Apache-2.0
// What backward computes from table values, only where asked: gradients of per-sample and of stored weights, and
// attention's weights and slopes.
//
//   dL/da[use]      = dy . e_i (mean: / divisor)
//   dL/dw[u, k]     = dE[u] . C[n_uk]
//   attention       a = softmax_k(C[i] . C[n_k]), t_k = dE[i] . C[n_k], ds_k = a_k (t_k - sum_k a_k t_k)
// One warp a use, or a unique item (kZeroUnused: a thread a use); dot products as 32 partial sums, one a lane, and the fixed tree.
#pragma once

#include "kernels/backward/backward.h"
#include "kernels/common/table_rows.h"

namespace resembed::kernels {

struct OptionalParams {
  TableRows table;
  const PlanCounts* counts;
  int64_t max_unique;
  const int32_t* unique;
  const uint32_t* use_begin;
  const uint32_t* use;
  const uint32_t* use_row;
  const int32_t* inverse;  // [n_uses]
  int64_t n_uses;
  const BackwardSource* sources;
  int32_t n_sources;
  const ItemGrad* items;
  int32_t slot_bits;
  float* grad_stored;      // dL/dw [max_unique, n_neighbors]
  float* weight;           // attention: by pair number
  float* slope;            // attention: by pair number
  float* query;            // attention: [max_unique, dim] sum_k ds_k C[n_k]
  float* own;              // attention: [max_unique, dim] C[i]
  int64_t first_block[4];  // by OptionalPass
};

enum OptionalPass : int32_t { kZeroUnused, kSampleWeights, kStoredWeights, kPrepareAttention };
cudaError_t LaunchOptional(const Batch<OptionalParams>& batch, const Grid& grid, cudaStream_t stream);

}  // namespace resembed::kernels
