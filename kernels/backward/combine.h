// SPDX-License-Identifier: Apache-2.0
// Several compressed gradients of one matrix into one: ids sorted with their places as payload (a stable sort keeps
// the order of the inputs), cut into runs as a plan's, and each run summed (g0 + g1) + g2 ...
#pragma once

#include "kernels/plan/plan.h"

namespace resembed::kernels {

// One input; `first`: places of the inputs before it.
struct CombineInput {
  const float* rows;
  int64_t stride;
  const int64_t* ids;
  const int64_t* n_rows;
  int64_t capacity;
  int64_t first;
};

constexpr int kInputsPerLaunch = 64;
struct InputBatch {
  CombineInput inputs[kInputsPerLaunch];
  int32_t n;
  CombineInput* to;
};
cudaError_t LaunchStoreInputs(const InputBatch& batch, cudaStream_t stream);

// keys[place] = id, or the sentinel where there is none.
struct EnterRows {
  CombineInput input;
  int64_t table_rows;
  uint32_t* keys;
  uint32_t* places;
  PlanCounts* counts;  // a count outside 0 .. capacity sets status
};
cudaError_t LaunchEnterRows(const EnterRows& params, const Grid& grid, cudaStream_t stream);

struct CombineParams {
  const PlanCounts* counts;  // n_unique_central runs
  const int32_t* rows;
  const uint32_t* begin;
  const uint32_t* places;
  const CombineInput* inputs;
  int32_t n_inputs;
  int64_t dim;
  float* out;
  int64_t out_stride;
  int64_t* out_ids;
  int64_t* n_rows;
  int64_t capacity;
};
cudaError_t LaunchCombine(const CombineParams& params, bool wide, const Grid& grid, cudaStream_t stream);

}  // namespace resembed::kernels
