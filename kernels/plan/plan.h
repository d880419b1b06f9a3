// SPDX-License-Identifier: Apache-2.0
// The plan on the GPU, as host code sees it. The tables of a batch share every launch, one sort for each level:
//   EnterUses   (key of an item or of the sentinel, use) for every id of every feature; rows of output, divisors, bad ids
//   sort, mark and scan the heads of runs, WriteRuns, WriteChunks
//   EnterPairs  (key of a central row or of the sentinel, unique item and slot); sorted and cut into runs the same way.
//               Items numbered center by center enter their pairs in order: those are not sorted
// A key is the row, counted over the tables of the batch, each with one row more for its sentinel. So a table's entries
// stay together, in the part of the arrays where they were entered, and the host knows where that is.
// Everything is launched for the capacities that the host knows; counts stay on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/common/batch.h"
#include "kernels/plan/layout.h"

namespace resembed::kernels {

// One feature; uses and rows are numbered over all features of its table.
enum PlanFeaturePass : int32_t { kEnterUses, kDivisors, kFeaturePasses };
struct PlanFeatureParams {
  const void* ids;      // [n_ids]
  const void* offsets;  // [n_bags + 1] or null: bags of bag_length ids
  int64_t n_ids, n_bags, bag_length;
  int64_t n_items;
  int64_t padding_id;
  int64_t first_use, first_row;
  int64_t n_rows;  // of output
  int32_t index;   // of the feature in the call
  bool wide_ids, wide_offsets, has_padding;
  bool averaged;  // divides by the items that contributed

  uint32_t base;         // key of the table's item 0
  uint32_t* keys;        // [uses of the table]
  uint32_t* uses;        // [uses]
  uint32_t* row_of_use;  // [uses]
  float* divisor;        // [rows of the table] or null
  PlanChunk* chunks;     // [n_slots] of the table: emptied by its first n_slots uses
  int64_t n_slots;
  // Record of bad ids, or null; *first_bad is feature << 48 | position of the lowest one.
  resembed_bad_ids* bad_ids;
  unsigned long long* first_bad;
  int64_t first_block[kFeaturePasses];
};
cudaError_t LaunchEnterUses(const Batch<PlanFeatureParams>& batch, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchDivisors(const Batch<PlanFeatureParams>& batch, const Grid& grid, cudaStream_t stream);
// After all of them: value and place of the first bad id when it is one of these features'.
cudaError_t LaunchPlanBadIds(const Batch<PlanFeatureParams>& batch, cudaStream_t stream);
// Before them: an empty record, and counts of 0.
cudaError_t LaunchPlanBegin(PlanCounts* counts, int64_t n_tables, resembed_bad_ids* bad_ids,
                            unsigned long long* first_bad, cudaStream_t stream);

// Runs of equal keys of one table. `sorted` keys from the sentinel on are no run's.
enum RunsPass : int32_t { kEntries, kChunks, kRunsPasses };
struct RunsParams {
  const uint32_t* sorted;    // [n]
  const uint32_t* payload;   // [n] use numbers, or pairs
  uint32_t* heads;           // [n] 1 where a run begins
  const uint32_t* numbers;   // [n] running sum of heads
  const uint32_t* numbered;  // the number before the first, or null: 0
  int64_t n;
  uint32_t base, sentinel;  // keys of row 0 and past the last row
  int64_t max_runs;         // the caller's promise

  int32_t* rows;      // [max_runs]
  uint32_t* begin;    // [max_runs + 1]
  PlanChunk* chunks;  // [MaxLongChunks(n)] empty before
  PlanCounts* counts;
  bool central;
  bool promised;  // `sorted` was entered in that order, as the caller promised: checked in passing

  uint32_t* order;             // [n] payload of the runs' terms: use numbers, or pairs
  uint32_t* order_row;         // items: [n] row of output
  const uint32_t* row_of_use;  // items: [n]
  int32_t* inverse;            // items: [n] use number -> run, -1 = none
  int64_t first_block[kRunsPasses];
};
cudaError_t LaunchMarkHeads(const Batch<RunsParams>& batch, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchWriteRuns(const Batch<RunsParams>& batch, const Grid& grid, cudaStream_t stream);
cudaError_t LaunchWriteChunks(const Batch<RunsParams>& batch, const Grid& grid, cudaStream_t stream);

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
  uint32_t base, sentinel;  // keys of row 0 and past the last row of C
  uint32_t* keys;           // [max_unique * n_slots]
  uint32_t* pairs;          // [max_unique * n_slots] unique item << slot_bits | slot
  PlanChunk* chunks;        // [n_chunk_slots] emptied
  int64_t n_chunk_slots;
  int64_t first_block[1];
};
cudaError_t LaunchEnterPairs(const Batch<PairsParams>& batch, const Grid& grid, cudaStream_t stream);

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

}  // namespace resembed::kernels
