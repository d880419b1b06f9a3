// SPDX-License-Identifier: Apache-2.0
// One optimizer update of the rows of one matrix (R or C) on the GPU, as host code sees it. Formulas and their order
// are those of host/cpu/step_ops.h, with the same bits.
//
// What may live in device memory (lr, step count, loss scale, found_inf) is read by one thread for each matrix, which
// resolves the rule that the rows then read: a captured graph replays with new numbers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/backward/backward.h"

namespace resembed::kernels {

struct ResolvedRule {
  float scale;
  float l2;    // 0 = none
  float keep;  // 1 = none
  float lr;    // Adam: lr / (1 - beta1^t)
  float eps;
  float beta1, rest1, beta2, rest2;
  float correct2;  // 1 - beta2^t
  float max_norm;  // 0 = none
  uint32_t step;
  int32_t skip;  // the whole step is left out
  int32_t unused[3];
};

struct RuleParams {
  resembed_optimizer_kind kind;
  float lr, beta1, beta2, eps, weight_decay, max_row_norm;
  float grad_scale;  // not 0
  bool decoupled, counts_steps;
  int64_t step;
  const float* lr_device;
  const int64_t* step_device;
  const float* inv_scale_device;
  const float* found_inf_device;
  ResolvedRule* rule;
};
// rules: [n] device memory.
cudaError_t LaunchResolveRules(const RuleParams* rules, int32_t n, cudaStream_t stream);

// Which rows of the matrix take part, and where their gradients are.
enum class UpdateMode : int32_t {
  kListed,  // those of ids, gradients by index in the list
  kDense,   // all, gradients by row of the matrix
  kOthers   // those that are not listed, with gradient 0
};

struct UpdateParams {
  const ResolvedRule* rule;
  UpdateMode mode;

  int64_t dim;
  int64_t n_ids;          // ids are [0, n_ids): items for R, rows for C
  const int32_t* row_of;  // [n_ids] id -> row, -1 = none; null = identity
  char* rows;
  int64_t row_pitch;  // bytes
  resembed_dtype dtype, state_dtype;
  char* state1;  // [rows, dim] or [rows] of state_dtype
  char* state2;
  int64_t state1_pitch, state2_pitch;  // bytes
  bool stochastic;                     // 16-bit rows
  uint64_t seed;
  int32_t table_number, part;
  int64_t* n_skipped;  // or null

  // Ids: of a plan (int32, counts) or of a compressed gradient (int64, n_rows).
  const PlanCounts* counts;
  bool central;
  const int32_t* plan_ids;
  const int64_t* n_rows;
  int64_t capacity;  // most ids
  const int64_t* ids;

  // Gradients: rows of floats, or items of a plan.
  const float* grad;
  int64_t grad_stride;
  const ItemGrad* items;
  int64_t first_block[1];
};

using UpdateLaunch = cudaError_t (*)(const Batch<UpdateParams>& batch, bool wide, const Grid& grid,
                                     cudaStream_t stream);
// Instantiated for each kind of optimizer in inst_*.cu. Matrices of one kind and width share a launch.
template <resembed_optimizer_kind kKind>
cudaError_t LaunchUpdate(const Batch<UpdateParams>& batch, bool wide, const Grid& grid, cudaStream_t stream);
// Blocks of one matrix in such a launch, for n rows.
int64_t UpdateBlocks(bool wide, int64_t n, const Grid& grid);

}  // namespace resembed::kernels
