// SPDX-License-Identifier: Apache-2.0
// Backward on the GPU, as host code sees it.
//
//   dE[i] = sum over uses of coefficient * dy, uses in plan order    coefficient = a / divisor, rounded
//           attention pooling: p * dy + dz * q
//   dC[j] = sum over (unique item, slot) pairs in plan order of w * dE[i]
//   attention: dC[n_k] += a_k dE[i] + ds_k C[i];    dC[i] += sum_k ds_k C[n_k]
//
// The sums of the CPU backend in its order (host/cpu/backward.h): a sum starts with its first term, partial sums are
// cut every 256 terms counted from the run's own start and met in order. A run longer than that is summed chunk by
// chunk in a launch of its own, into partials; so no group of lanes walks over more than 256 terms, and the bits
// depend on no tuning. No atomics, no zero-fill.
// An item used once is read from dy itself, by the update and by the second level: its row is never written unless
// the caller asked for it, or there are two rows to add (attention pooling).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/plan/plan.h"

namespace resembed::kernels {

// The output gradient of one feature. Uses and rows are numbered over all features of the table.
struct BackwardSource {
  int64_t first_use, first_row;
  const char* rows;       // null = no gradient
  int64_t pitch;          // bytes
  const float* weights;   // by position in the feature, or null
  const float* divisor;   // by row of the feature, or null
  const int32_t* argmax;  // max: [rows, dim] position in the bag
  const void* offsets;    // max: [bags + 1] or null: bags of bag_length
  int64_t bag_length;
  float* grad_weights;       // [n_ids] or null
  const float* query;        // attention pooling: [rows, query_stride], added to dy with score_grads
  const float* score_grads;  // [n_ids] dz; weights are p
  int64_t query_stride;
  int64_t n_ids;
  resembed_dtype dtype;
  bool wide_offsets;
};

// Gradient of one unique item: a * row; row null = zero.
struct ItemGrad {
  const void* row;
  float a;
  resembed_dtype dtype;
};

enum class PairWeight : int32_t { kOne, kUniform, kStored, kByNumber };

// One table. Arrays by unique item have room for max_unique of them.
struct BackwardParams {
  const PlanCounts* counts;
  int64_t dim;
  float* partials;  // [chunk slots, dim]

  // First level: runs of uses.
  int64_t max_unique;
  const int32_t* unique;      // item ids
  const uint32_t* use_begin;  // [max_unique + 1]
  const uint32_t* use;        // [uses]
  const uint32_t* use_row;    // [uses]
  const PlanChunk* use_chunks;
  int64_t n_use_slots;
  const BackwardSource* sources;  // [n_sources] by first_use
  int32_t n_sources;
  ItemGrad* items;   // [max_unique] or null: nobody reads them
  float* item_rows;  // [max_unique, item_stride]; null: sums are written to `dense` only
  int64_t item_stride;
  bool keeps_rows;  // item_rows are the caller's: written for items used once, too
  float* dense;     // dR [residual rows, dense_stride] or null
  int64_t dense_stride;
  const int32_t* residual_row_of;  // or null

  // Second level: runs of pairs.
  int64_t max_central;
  const int32_t* central;      // rows of C
  const uint32_t* pair_begin;  // [max_central + 1]
  const uint32_t* pair;        // unique item << slot_bits | slot
  const PlanChunk* pair_chunks;
  int64_t n_pair_slots;
  int32_t slot_bits;
  int32_t n_neighbors;
  PairWeight weight;
  const float* pair_weight;  // kUniform: by unique item; kByNumber: by pair number
  const float* stored;       // kStored: [items, stored_stride] of the table
  int64_t stored_stride;
  const float* slope;   // attention: ds by pair number, or null
  const float* own;     // attention: [max_unique, dim] C[i]
  const float* query;   // attention: [max_unique, dim]
  float* central_rows;  // dC: by run, or with central_dense by row of C
  int64_t central_stride;
  bool central_dense;
  int64_t first_block[4];  // by BackwardPass
};

// Which kernel: 4 columns a lane, rows and strides aligned for it; every output gradient fp32, no maximum and no
// attention pooling; rows of one tile of 32 columns. Tables of one variant share a launch.
struct BackwardVariant {
  bool wide, plain, one_tile;
  int Number() const { return (plain * 2 + wide) * 2 + one_tile; }
};
constexpr int kBackwardVariants = 8;
// Tiles that a group takes of a longer row.
constexpr int kTilesOfGroup = 4;

enum class BackwardPass : int32_t { kUseChunks, kItems, kPairChunks, kCentral };
using BackwardLaunch = cudaError_t (*)(BackwardPass pass, const Batch<BackwardParams>& batch, bool one_tile,
                                       const Grid& grid, cudaStream_t stream);
// Instantiated for plain and any gradients, 1 and 4 columns a lane, in inst_*.cu.
template <bool kPlain, int kCols>
cudaError_t LaunchBackward(BackwardPass pass, const Batch<BackwardParams>& batch, bool one_tile,
                           const Grid& grid, cudaStream_t stream);
// Blocks of one table in such a launch, for n runs or chunks.
int64_t BackwardBlocks(const BackwardVariant& variant, int64_t n, int64_t dim, const Grid& grid);

// Ids and count of a compressed gradient. With a broken promise *n_rows is -1, which no step takes.
struct GradIds {
  const PlanCounts* counts;
  const int32_t* rows;
  int64_t max_rows;
  bool central;
  int64_t* row_ids;
  int64_t* n_rows;
  int64_t first_block[1];
};
cudaError_t LaunchGradIds(const Batch<GradIds>& batch, const Grid& grid, cudaStream_t stream);

// A dense gradient before its rows come: zeros; with a broken promise NaN, which every step leaves out.
struct DenseFill {
  const PlanCounts* counts;
  float* rows;
  int64_t n_rows, dim, stride;
  int64_t first_block[1];
};
cudaError_t LaunchDenseFill(const Batch<DenseFill>& batch, const Grid& grid, cudaStream_t stream);

// weight[u] = 1 / (length of item u's list), 0 without a neighbor.
struct UniformWeights {
  const PlanCounts* counts;
  const int32_t* unique;
  int64_t max_unique;
  const int32_t* neighbors;
  int64_t neighbors_stride;
  int32_t n_neighbors;
  float* weight;
  int64_t first_block[1];
};
cudaError_t LaunchUniformWeights(const Batch<UniformWeights>& batch, const Grid& grid, cudaStream_t stream);

}  // namespace resembed::kernels
