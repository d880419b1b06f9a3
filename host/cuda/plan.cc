// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/plan.h"

#include <algorithm>
#include <utility>

#include "host/cpu/bags.h"
#include "host/cpu/sort.h"
#include "host/cuda/device.h"
#include "host/workspace.h"
#include "kernels/sort/sort.h"

namespace resembed::detail::cuda {
namespace {

constexpr const char* kOp = "plan";

struct Scratch {
  unsigned long long* first_bad;
  uint32_t* keys;            // [n] later the heads of runs
  uint32_t* payload;         // [n] later their numbers
  uint32_t* sorted;          // [n]
  uint32_t* sorted_payload;  // [n]
  uint32_t* row_of_use;
  char* temp;
  size_t temp_bytes;
};

Scratch TakeScratch(Workspace* workspace, int64_t n_entries, int64_t n_uses, size_t temp_bytes) {
  Scratch scratch;
  scratch.first_bad = workspace->Take<unsigned long long>(1);
  scratch.keys = workspace->Take<uint32_t>(n_entries);
  scratch.payload = workspace->Take<uint32_t>(n_entries);
  scratch.sorted = workspace->Take<uint32_t>(n_entries);
  scratch.sorted_payload = workspace->Take<uint32_t>(n_entries);
  scratch.row_of_use = workspace->Take<uint32_t>(n_uses);
  scratch.temp = workspace->Take<char>(static_cast<int64_t>(temp_bytes));
  scratch.temp_bytes = temp_bytes;
  return scratch;
}

// Of the sort of n 32-bit keys and of the scan. The sort takes most for keys of all bits.
resembed_status TempBytes(int64_t n, size_t* bytes) {
  size_t sort = 0, scan = 0;
  cudaError_t error = kernels::SortPairs(nullptr, &sort, nullptr, nullptr, nullptr, nullptr, n, 32, nullptr);
  if (error == cudaSuccess) error = kernels::InclusiveSum(nullptr, &scan, nullptr, nullptr, n, nullptr);
  if (error != cudaSuccess) return CudaFailure(kOp, "the size of the sort's memory", error);
  *bytes = std::max<size_t>({sort, scan, 1});
  return RESEMBED_OK;
}

void Extent(const PlanBuild& build, int64_t* n_entries, int64_t* n_uses) {
  *n_entries = *n_uses = 0;
  for (int32_t index = 0; index < build.tables->size(); ++index) {
    const PlanRecord& record = build.records[index];
    *n_entries = std::max({*n_entries, record.n_uses, record.max_pairs});
    *n_uses = std::max(*n_uses, record.n_uses);
  }
}

class Builder {
 public:
  Builder(const PlanBuild& build, const Scratch& scratch, const kernels::Grid& grid)
      : build_(build), scratch_(scratch), grid_(grid), stream_(StreamOf(build.place)) {}

  resembed_status Begin() {
    return Check("PlanBeginKernel",
                 kernels::LaunchPlanBegin(Counts(0), build_.tables->size(), build_.args->bad_ids,
                                          scratch_.first_bad, stream_));
  }

  resembed_status Table(int32_t index) {
    const PlanRecord& record = build_.records[index];
    for (int32_t number = 0; number < build_.args->n_features; ++number) {
      if (build_.places[number].table == index) RESEMBED_RETURN_IF_ERROR(Feature(index, number));
    }
    kernels::RunsParams runs = {};
    runs.n = record.n_uses;
    runs.sentinel = static_cast<uint32_t>((*build_.tables)[index].n_items);
    runs.max_runs = record.max_unique;
    runs.rows = At<int32_t>(record.rows);
    runs.begin = At<uint32_t>(record.begin);
    runs.chunks = At<kernels::PlanChunk>(record.long_items);
    runs.order = At<uint32_t>(record.use);
    runs.order_row = At<uint32_t>(record.use_row);
    runs.row_of_use = scratch_.row_of_use;
    runs.inverse = At<int32_t>(record.inverse);
    RESEMBED_RETURN_IF_ERROR(Runs(index, &runs));
    return record.has_central != 0 ? Central(index) : RESEMBED_OK;
  }

 private:
  template <typename T>
  T* At(size_t offset) const {
    return reinterpret_cast<T*>(build_.memory + offset);
  }
  kernels::PlanCounts* Counts(int32_t index) const {
    return reinterpret_cast<kernels::PlanCounts*>(build_.memory) + index;
  }
  resembed_status Check(const char* kernel, cudaError_t error) const {
    if (error == cudaSuccess) return RESEMBED_OK;
    return LaunchFailure(kOp, kernel, grid_.blocks, grid_.threads, error);
  }

  resembed_status Feature(int32_t index, int32_t number) {
    const PlanRecord& record = build_.records[index];
    const resembed_table table = (*build_.tables)[index];
    const resembed_feature feature = ReadFeature(build_.args->features[number], table.dim);
    kernels::PlanFeatureParams params = {};
    params.ids = feature.ids;
    params.offsets = feature.offsets;
    params.n_ids = feature.n_ids;
    params.n_bags = feature.n_bags;
    params.bag_length = feature.bag_length;
    params.n_items = table.n_items;
    params.padding_id = feature.padding_id;
    params.first_use = build_.places[number].first_use;
    params.first_row = build_.places[number].first_row;
    params.n_rows = OutputRows(feature);
    params.index = number;
    params.wide_ids = feature.id_dtype == RESEMBED_I64;
    params.wide_offsets = feature.offset_dtype == RESEMBED_I64;
    params.has_padding = feature.has_padding != 0;
    params.averaged = feature.pooling == RESEMBED_POOLING_MEAN;
    params.keys = scratch_.keys;
    params.uses = scratch_.payload;
    params.row_of_use = scratch_.row_of_use;
    params.divisor = record.has_divisor != 0 ? At<float>(record.divisor) : nullptr;
    if (build_.args->bounds != RESEMBED_BOUNDS_TRUST) params.bad_ids = build_.args->bad_ids;
    params.first_bad = scratch_.first_bad;
    RESEMBED_RETURN_IF_ERROR(Check("EnterUsesKernel", kernels::LaunchEnterUses(params, grid_, stream_)));
    if (params.divisor != nullptr) {
      RESEMBED_RETURN_IF_ERROR(Check("DivisorsKernel", kernels::LaunchDivisors(params, grid_, stream_)));
    }
    if (params.bad_ids == nullptr || params.n_ids == 0) return RESEMBED_OK;
    return Check("PlanBadIdsKernel", kernels::LaunchPlanBadIds(params, stream_));
  }

  // Sorts scratch.keys and scratch.payload unless they are, and cuts them into runs.
  resembed_status Runs(int32_t index, kernels::RunsParams* runs) {
    if (runs->n == 0) return RESEMBED_OK;
    size_t bytes = scratch_.temp_bytes;
    uint32_t *keys = scratch_.keys, *payload = scratch_.payload;
    uint32_t *free = scratch_.sorted, *more_free = scratch_.sorted_payload;
    if (!runs->promised) {
      RESEMBED_RETURN_IF_ERROR(
          Check("the radix sort", kernels::SortPairs(scratch_.temp, &bytes, keys, free, payload, more_free,
                                                     runs->n, BitsFor(runs->sentinel), stream_)));
      std::swap(keys, free);
      std::swap(payload, more_free);
    }
    runs->sorted = keys;
    runs->payload = payload;
    runs->heads = free;
    runs->numbers = more_free;
    runs->counts = Counts(index);
    RESEMBED_RETURN_IF_ERROR(Check("MarkHeadsKernel", kernels::LaunchMarkHeads(*runs, grid_, stream_)));
    bytes = scratch_.temp_bytes;
    RESEMBED_RETURN_IF_ERROR(
        Check("the scan", kernels::InclusiveSum(scratch_.temp, &bytes, free, more_free, runs->n, stream_)));
    RESEMBED_RETURN_IF_ERROR(Check("WriteRunsKernel", kernels::LaunchWriteRuns(*runs, grid_, stream_)));
    const int64_t n_slots = kernels::MaxLongChunks(runs->n);
    if (n_slots == 0) return RESEMBED_OK;
    const cudaError_t error = cudaMemsetAsync(
        runs->chunks, 0xff, static_cast<size_t>(n_slots) * sizeof(kernels::PlanChunk), stream_);
    if (error != cudaSuccess) return CudaFailure(kOp, "clearing the chunks of long runs", error);
    return Check("WriteChunksKernel", kernels::LaunchWriteChunks(*runs, grid_, stream_));
  }

  resembed_status Central(int32_t index) {
    const PlanRecord& record = build_.records[index];
    const resembed_table table = (*build_.tables)[index];
    kernels::PairsParams pairs = {};
    pairs.counts = Counts(index);
    pairs.items = At<int32_t>(record.rows);
    pairs.max_unique = record.max_unique;
    pairs.n_slots = record.max_unique > 0 ? static_cast<int32_t>(record.max_pairs / record.max_unique) : 0;
    pairs.slot_bits = record.slot_bits;
    pairs.form = table.form;
    pairs.center_of = table.center_of;
    pairs.narrow_centers = table.center_of_dtype == RESEMBED_U16;
    pairs.neighbors = table.neighbors;
    pairs.neighbors_stride = table.neighbors_stride;
    pairs.n_neighbors = table.n_neighbors;
    pairs.sentinel = static_cast<uint32_t>(table.central_rows);
    pairs.keys = scratch_.keys;
    pairs.pairs = scratch_.payload;
    RESEMBED_RETURN_IF_ERROR(Check("EnterPairsKernel", kernels::LaunchEnterPairs(pairs, grid_, stream_)));
    kernels::RunsParams runs = {};
    runs.n = record.max_pairs;
    runs.sentinel = pairs.sentinel;
    runs.max_runs = record.max_unique_central;
    runs.rows = At<int32_t>(record.central_rows);
    runs.begin = At<uint32_t>(record.central_begin);
    runs.chunks = At<kernels::PlanChunk>(record.long_pairs);
    runs.order = At<uint32_t>(record.pair);
    runs.central = true;
    runs.promised = table.form == RESEMBED_CENTRAL_ASSIGNMENT && table.center_major != 0;
    return Runs(index, &runs);
  }

  const PlanBuild& build_;
  const Scratch& scratch_;
  const kernels::Grid& grid_;
  const cudaStream_t stream_;
};

}  // namespace

resembed_status PlanWorkspaceBytes(const resembed_place& place, int64_t n_entries, int64_t n_uses,
                                   size_t* bytes) {
  const DeviceScope scope(kOp, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  size_t temp_bytes = 0;
  RESEMBED_RETURN_IF_ERROR(TempBytes(n_entries, &temp_bytes));
  Workspace count(nullptr);
  TakeScratch(&count, n_entries, n_uses, temp_bytes);
  *bytes = count.used();
  return RESEMBED_OK;
}

resembed_status BuildPlan(const PlanBuild& build, const kernels::Grid& grid) {
  const DeviceScope scope(kOp, build.place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  int64_t n_entries = 0, n_uses = 0;
  Extent(build, &n_entries, &n_uses);
  size_t temp_bytes = 0;
  RESEMBED_RETURN_IF_ERROR(TempBytes(n_entries, &temp_bytes));
  Workspace carve(build.workspace);
  const Scratch scratch = TakeScratch(&carve, n_entries, n_uses, temp_bytes);
  Builder builder(build, scratch, grid);
  RESEMBED_RETURN_IF_ERROR(builder.Begin());
  for (int32_t index = 0; index < build.tables->size(); ++index) {
    RESEMBED_RETURN_IF_ERROR(builder.Table(index));
  }
  return FinishLaunches(kOp, StreamOf(build.place));
}

resembed_status Translate(const resembed_translate_args& args, const resembed_place& place,
                          const kernels::Grid& grid) {
  const DeviceScope scope("translate", place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  const cudaError_t error = kernels::LaunchTranslate(
      {args.ids, args.output, args.n_ids, args.map, args.n_map, args.id_dtype == RESEMBED_I64}, grid,
      StreamOf(place));
  if (error != cudaSuccess) {
    return LaunchFailure("translate", "TranslateKernel", grid.blocks, grid.threads, error);
  }
  return FinishLaunches("translate", StreamOf(place));
}

}  // namespace resembed::detail::cuda
