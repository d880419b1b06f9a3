// SPDX-License-Identifier: Apache-2.0
// Gradients of one table from the output gradients of its features, over a plan.
//
//   dE[i] = sum over uses of coefficient * dy, uses in plan order    coefficient = a / divisor, rounded
//           attention pooling: p * dy + dz * q (backward_attention.cc)
//   dR[i] = dE[i]
//   dC[j] = sum over (unique item, slot) pairs in plan order of w * dE[i]
//   attention (a = softmax_k(C[i] . C[n_k]), t_k = dE[i] . C[n_k], ds_k = a_k (t_k - sum_k a_k t_k)):
//           dC[n_k] += a_k dE[i] + ds_k C[i];    dC[i] += sum_k ds_k C[n_k]
// A sum starts with its first term; partial sums are cut every 256 uses (pairs) counted from the run's own start and
// met in order: ((p0 + p1) + p2) ... A use of a feature without a gradient, and a use of a max bag in columns
// where another item won, add nothing and +0. An item used once is read from dy itself: the same bits as if its
// row had been written first.
#pragma once

#include <cstdint>

#include "host/cpu/row_ops.h"
#include "host/cpu/step.h"
#include "host/executor.h"
#include "host/plan.h"
#include "host/workspace.h"

namespace resembed::detail {

// The output gradient of one feature.
struct GradSource {
  resembed_feature feature;  // defaults resolved
  int64_t first_use, first_row;
  const char* rows;  // null = no gradient
  int64_t pitch;     // bytes
  resembed_dtype dtype;
  const float* divisor;   // plan's, from first_row on; null unless averaged
  const int32_t* argmax;  // [n_bags, dim], max only
  float* grad_weights;    // dL/da [n_ids], or null
  const float* weights;   // [n_ids] a, or p of attention pooling; null = all 1
  const float* query;     // [n_bags, query_stride], attention pooling only
  int64_t query_stride;
  const float* score_grads;  // [n_ids] dz, attention pooling only
};

// What is asked of one table.
struct BackwardRequest {
  bool residual;  // gradient rows or an update of R
  bool central;
  bool neighbor_weights;
  bool sample_weights;
  bool scores;           // gradients of queries or scores of attention pooling
  bool keeps_item_rows;  // the caller's memory holds dE row by row (compressed gradient of R)

  bool items() const { return residual || central || neighbor_weights; }
  bool any() const { return items() || sample_weights || scores; }
};

// One gradient the caller receives.
struct GradOut {
  resembed_grad_layout layout;
  float* rows;
  int64_t stride;
  int64_t* row_ids;
  int64_t* n_rows;
};

struct TableBackward {
  resembed_table table;  // defaults resolved
  PlanTable plan;
  BackwardRequest request;
  const RowOps* row_ops;
  const StepOps* step_ops;

  GradSource* sources;  // [n_sources], by first_use
  int32_t n_sources;
  bool any_max;

  ItemGrad* items;     // [max_unique]
  ScaledRow* queries;  // [max_unique] of attention pooling, or null
  float*
      item_rows;  // [max_unique, item_stride] dE of items used more than once (of all when the caller keeps them)
  int64_t item_stride;
  float* pair_weight;  // w of a pair by its number; uniform: one of each unique item; null = 1
  float* pair_slope;   // attention: ds of a pair by its number
  float* query;        // attention: [max_unique, dim] sum_k ds_k C[n_k]
  float* own;          // attention: [max_unique, dim] C[i]
  float* partials;     // [long chunks, dim]
  float* scratch;      // [kMaxTasks, kScratchRows, padded dim]

  static constexpr int64_t kScratchRows = kUpdateScratchRows + 3;
  float* TaskScratch(int64_t task) const;
  const GradSource& SourceOfUse(int64_t use) const;
};

// Regions of one table in the workspace, and the sources of its features. Counting (null base) and carving walk alike.
struct BackwardArgs {
  const Tables* tables;
  const resembed_feature* const* features;
  int32_t n_features;
  const resembed_feature_grad* const* feature_grads;
  const Plan* plan;
};
TableBackward TakeBackward(const BackwardArgs& args, int32_t table, const BackwardRequest& request,
                           const resembed_place& place, Workspace* workspace);

// In this order. The first three read R and C and write neither; so does PreparePairs. The first two take their
// regions even while counting.
void RecomputeArgmax(const BackwardArgs& args, int32_t table, TableBackward* work,
                     const resembed_place& place, Workspace* workspace);
void ScoreGradients(const BackwardArgs& args, int32_t table, TableBackward* work, const resembed_place& place,
                    Workspace* workspace);
void SampleWeightGradients(const TableBackward& work, const Executor& executor);
// dE of every unique item; then R's gradient into *out or R's update, each where given.
void ItemGradients(const TableBackward& work, const GradOut* out, const MatrixUpdate* update,
                   const Executor& executor);
void NeighborWeightGradients(const TableBackward& work, float* out,
                             const Executor& executor);  // [n_unique, K]
void PreparePairs(const TableBackward& work, const Executor& executor);
void CentralGradients(const TableBackward& work, const GradOut* out, const MatrixUpdate* update,
                      const Executor& executor);

}  // namespace resembed::detail
