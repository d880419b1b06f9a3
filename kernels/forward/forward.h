// SPDX-License-Identifier: Apache-2.0
// Forward on the GPU, as host code sees it: parameters, shapes of work, launchers.
//
//   e_i = ((w_0 C[n_0] + w_1 C[n_1]) + ...) + R[i]      fp32, slot order
//   p   = ((0 + a_0 e_0) + a_1 e_1) + ...               256 items of the bag, counted from its start
//   y_b = (p_0 + p_1) + ...                             mean: divided by the items that contributed
//
// These are the sums of the CPU backend in its order, so that both give the same bits. A group of lanes owns
// `lanes * columns` columns of one bag (one tile); nothing of the launch shows in the bits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::kernels {

// Partial sums are cut every so many items (RESEMBED_SUM_BLOCK).
constexpr int64_t kSumBlock = 256;
// Longer bags are taken block by block, and their partial sums meet in a second launch.
constexpr int64_t kLongBag = 512;
// Slot of the first block of a long bag that starts at id `start`: 3/2 slots for 256 ids keep the ceil(length
// / 256) slots of every bag of more than 512 ids clear of the next one's.
__host__ __device__ constexpr int64_t FirstSlot(int64_t start) {
  return start / 1024 * 6 + start % 1024 * 3 / 512;
}
__host__ __device__ constexpr int64_t SlotsFor(int64_t n_ids) { return FirstSlot(n_ids) + 1; }
__host__ __device__ constexpr int64_t BlocksOf(int64_t length) {
  return (length + kSumBlock - 1) / kSumBlock;
}

// One feature over its table: everything is resolved and checked, pointers are device memory.
struct ForwardFeature {
  const void* ids;        // [n_ids] or null: position p is item first_item + p
  const void* offsets;    // [n_bags + 1] or null: bags of bag_length ids
  const float* weights;   // [n_ids] or null
  void* output;           // [n_bags, dim], pooling none [n_ids, dim]
  int32_t* saved_argmax;  // [n_bags, dim] or null

  const void* central;             // C [central_rows, dim]
  const void* residual;            // R [residual_rows, dim] or null
  const void* center_of;           // [n_items], assignment
  const int32_t* neighbors;        // [n_items, n_neighbors], other forms
  const float* neighbor_weights;   // [n_items, n_neighbors], stored
  const int32_t* residual_row_of;  // [n_items] or null

  int64_t n_ids, n_bags, bag_length, n_items, first_item, padding_id;
  int64_t dim;
  int64_t output_stride;                     // elements
  int64_t central_pitch, residual_pitch;     // bytes
  int64_t neighbors_stride, weights_stride;  // elements

  // Long bags (null when the shapes rule them out): [SlotsFor(n_ids)] each.
  int64_t* slot_bag;        // bag whose block a slot holds, -1 = none
  float* partials;          // [slots, dim]
  int32_t* partial_counts;  // [slots] items that contributed
  int32_t* partial_argmax;  // [slots, dim], max

  int64_t first_block;  // of this feature in the launch
  int64_t n_groups;     // units of work of this feature in the launch
  int64_t n_tiles;      // of columns

  int32_t index;      // number of the feature in the call
  int32_t lane_bits;  // lanes = 1 << lane_bits work on one tile of one bag
  int32_t n_neighbors;
  int8_t form, pooling, output_dtype;
  bool wide_ids, wide_offsets, narrow_centers;  // int64 ids, int64 offsets, uint16 center codes
  bool has_padding;
  bool wide_output;  // output rows take stores of 16 bytes
};

// Kept below the 4 KB of parameters that every driver takes.
constexpr int kMaxForwardFeatures = 12;

struct ForwardParams {
  ForwardFeature features[kMaxForwardFeatures];
  int32_t n_features;
  bool trust;        // ids are not compared with n_items
  bool long_blocks;  // pooling: work is blocks of long bags instead of bags
  int64_t n_blocks;  // of all features; the grid may be smaller and walks over them
  // Record of bad ids, or null. *first_bad is feature << 48 | position of the lowest one.
  resembed_bad_ids* bad_ids;
  unsigned long long* first_bad;
};
static_assert(sizeof(ForwardParams) <= 4096, "parameters of one launch");

enum class ForwardKind : int8_t { kGather, kSum, kMax };

// What decides the kernel, besides the types of C and R.
struct ForwardVariant {
  ForwardKind kind;
  bool list;  // neighbor lists rather than center codes or no central part
  bool wide;  // rows are read 16 bytes at a time
};

struct LaunchShape {
  int threads;     // of a block: a multiple of 32, at most kForwardThreads
  int64_t blocks;  // most blocks of a grid
};
constexpr int kForwardThreads = 256;
constexpr LaunchShape kForwardShape = {kForwardThreads, 1 << 30};

// Columns one lane of a wide kernel owns: 16 bytes of the narrower type.
constexpr int WideColumns(resembed_dtype central, resembed_dtype residual) {
  return central == RESEMBED_F32 && residual == RESEMBED_F32 ? 4 : 8;
}
// Positions one group of GatherKernel takes, or as many as it has lanes.
constexpr int kGatherItems = 8;
// Fewest lanes of a group, as a power of two: those that hand out the items in flight.
constexpr int kLeastLaneBits = 2;

using ForwardLaunch = cudaError_t (*)(const ForwardVariant& variant, const ForwardParams& params,
                                      const LaunchShape& shape, cudaStream_t stream);
// Instantiated for each pair of types in inst_<C>_<R>.cu.
template <typename CentralT, typename ResidualT>
cudaError_t LaunchForward(const ForwardVariant& variant, const ForwardParams& params,
                          const LaunchShape& shape, cudaStream_t stream);

// Long bags: partial sums meet in block order (service.cu).
cudaError_t LaunchForwardMeet(const ForwardParams& params, const LaunchShape& shape, cudaStream_t stream);
// Before the first launch of a call: an empty record.
cudaError_t LaunchBadIdsBegin(resembed_bad_ids* record, unsigned long long* first_bad, cudaStream_t stream);
// After the last one: where the first bad id is, when it belongs to a feature of `params`.
cudaError_t LaunchBadIdsEnd(const ForwardParams& params, cudaStream_t stream);

}  // namespace resembed::kernels
