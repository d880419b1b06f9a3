// SPDX-License-Identifier: Apache-2.0
// The plan on the GPU, as host code sees it. One table at a time:
//   EnterUses   (item or sentinel, use) for every id of every feature; rows of output, divisors, bad ids
//   sort, mark and scan the heads of runs, WriteRuns, WriteChunks
//   EnterPairs  (central row or sentinel, unique item and slot); sorted and cut into runs the same way. Items numbered
//               center by center enter their pairs in order: nothing is sorted then
// Everything is launched for the capacities that the host knows; counts stay on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/plan/layout.h"

namespace resembed::kernels {

// Threads of a block, and most blocks of a grid; kernels walk over what is left.
struct Grid {
  int threads = 256;
  int64_t blocks = int64_t{1} << 20;
};

// One feature; uses and rows are numbered over all features of its table.
struct PlanFeatureParams {
  const void* ids;      // [n_ids]
  const void* offsets;  // [n_bags + 1] or null: bags of bag_length ids
  int64_t n_ids, n_bags, bag_length;
  int64_t n_items;  // also the sentinel
  int64_t padding_id;
  int64_t first_use, first_row;
  int64_t n_rows;  // of output
  int32_t index;   // of the feature in the call
  bool wide_ids, wide_offsets, has_padding;
  bool averaged;  // divides by the items that contributed

  uint32_t* keys;        // [uses of the table]
  uint32_t* uses;        // [uses]
  uint32_t* row_of_use;  // [uses]
  float* divisor;        // [rows of the table] or null
  // Record of bad ids, or null; *first_bad is feature << 48 | position of the lowest one.
  resembed_bad_ids* bad_ids;
  unsigned long long* first_bad;
};
cudaError_t LaunchEnterUses(const PlanFeatureParams& params, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchDivisors(const PlanFeatureParams& params, const Grid& grid, cudaStream_t stream);
// After all features: value and place of the first bad id when it is this feature's.
cudaError_t LaunchPlanBadIds(const PlanFeatureParams& params, cudaStream_t stream);
// Before them: an empty record, and counts of 0.
cudaError_t LaunchPlanBegin(PlanCounts* counts, int64_t n_tables, resembed_bad_ids* bad_ids,
                            unsigned long long* first_bad, cudaStream_t stream);

// Runs of equal keys. `sorted` keys from the sentinel on are no run's.
struct RunsParams {
  const uint32_t* sorted;   // [n]
  const uint32_t* payload;  // [n] use numbers, or pairs
  uint32_t* heads;          // [n] 1 where a run begins
  const uint32_t* numbers;  // [n] running sum of heads
  int64_t n;
  uint32_t sentinel;
  int64_t max_runs;  // the caller's promise

  int32_t* rows;      // [max_runs]
  uint32_t* begin;    // [max_runs + 1]
  PlanChunk* chunks;  // [MaxLongChunks(n)] all bytes 0xff before
  PlanCounts* counts;
  bool central;
  bool promised;  // `sorted` was entered in that order, as the caller promised: checked in passing

  uint32_t* order;             // [n] payload of the runs' terms: use numbers, or pairs
  uint32_t* order_row;         // items: [n] row of output
  const uint32_t* row_of_use;  // items: [n]
  int32_t* inverse;            // items: [n] use number -> run, -1 = none
};
cudaError_t LaunchMarkHeads(const RunsParams& params, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchWriteRuns(const RunsParams& params, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchWriteChunks(const RunsParams& params, const Grid& grid, cudaStream_t stream);

struct PairsParams {
  const PlanCounts* counts;
  const int32_t* items;  // [max_unique] unique items
  int64_t max_unique;
  int32_t n_slots, slot_bits;
  int32_t form;
  const void* center_of;
  bool narrow_centers;
  const int32_t* neighbors;
  int64_t neighbors_stride;
  int32_t n_neighbors;
  uint32_t sentinel;  // central_rows
  uint32_t* keys;     // [max_unique * n_slots]
  uint32_t* pairs;    // [max_unique * n_slots] unique item << slot_bits | slot
};
// output[t] = map[ids[t]] where that is an item, else ids[t].
struct TranslateParams {
  const void* ids;
  void* output;
  int64_t n_ids;
  const int32_t* map;
  int64_t n_map;
  bool wide_ids;
};
cudaError_t LaunchTranslate(const TranslateParams& params, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchEnterPairs(const PairsParams& params, const Grid& grid, cudaStream_t stream);

}  // namespace resembed::kernels
