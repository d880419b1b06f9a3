// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/plan.h"

#include <algorithm>

#include "host/cpu/bags.h"
#include "host/cpu/sort.h"
#include "host/cuda/device.h"
#include "host/cuda/store.h"
#include "host/workspace.h"
#include "kernels/sort/sort.h"

namespace resembed::detail::cuda {
namespace {

constexpr const char* kOp = "plan";

struct Scratch {
  unsigned long long* first_bad;
  EntryList<kernels::PlanFeatureParams> features;
  EntryList<kernels::RunsParams> items, central;
  EntryList<kernels::PairsParams> pairs;
  uint32_t* keys;            // [n] later the heads of runs
  uint32_t* payload;         // [n] later their numbers
  uint32_t* sorted;          // [n]
  uint32_t* sorted_payload;  // [n]
  uint32_t* row_of_use;
  char* temp;
  size_t temp_bytes;
};

Scratch TakeScratch(Workspace* workspace, const PlanScratchSize& size, size_t temp_bytes) {
  Scratch scratch;
  scratch.first_bad = workspace->Take<unsigned long long>(1);
  scratch.features = {workspace, size.n_features};
  scratch.items = {workspace, size.n_tables};
  scratch.central = {workspace, size.n_tables};
  scratch.pairs = {workspace, size.n_tables};
  scratch.keys = workspace->Take<uint32_t>(size.n_entries);
  scratch.payload = workspace->Take<uint32_t>(size.n_entries);
  scratch.sorted = workspace->Take<uint32_t>(size.n_entries);
  scratch.sorted_payload = workspace->Take<uint32_t>(size.n_entries);
  scratch.row_of_use = workspace->Take<uint32_t>(size.n_uses);
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

bool IsPromised(const resembed_table& table) {
  return table.form == RESEMBED_CENTRAL_ASSIGNMENT && table.center_major != 0;
}

// Where the next table's parts of a batch's arrays and key spaces begin.
struct Cursor {
  int64_t use, sorted_pair, promised_pair;
  uint64_t item_key, sorted_key, promised_key;
};

class Builder {
 public:
  Builder(const PlanBuild& build, const Scratch& scratch, const kernels::Grid& grid)
      : build_(build), scratch_(scratch), grid_(grid), stream_(StreamOf(build.place)), cursor_{} {}

  resembed_status Begin() {
    return Check("PlanBeginKernel",
                 kernels::LaunchPlanBegin(Counts(0), build_.tables->size(), build_.args->bad_ids,
                                          scratch_.first_bad, stream_));
  }

  // Tables [first, first + batch.n_tables).
  resembed_status Run(int32_t first, const PlanBatch& batch) {
    RESEMBED_RETURN_IF_ERROR(Check("StoreKernel", Describe(first, batch)));
    const auto uses = scratch_.features.Of(kernels::kEnterUses);
    RESEMBED_RETURN_IF_ERROR(Check("EnterUsesKernel", kernels::LaunchEnterUses(uses, grid_, stream_)));
    RESEMBED_RETURN_IF_ERROR(Check(
        "DivisorsKernel", kernels::LaunchDivisors(scratch_.features.Of(kernels::kDivisors), grid_, stream_)));
    if (build_.args->bad_ids != nullptr && build_.args->bounds != RESEMBED_BOUNDS_TRUST) {
      RESEMBED_RETURN_IF_ERROR(Check("PlanBadIdsKernel", kernels::LaunchPlanBadIds(uses, stream_)));
    }
    RESEMBED_RETURN_IF_ERROR(Runs(scratch_.items, batch.n_uses, batch.n_uses, batch.item_keys));
    RESEMBED_RETURN_IF_ERROR(
        Check("EnterPairsKernel", kernels::LaunchEnterPairs(scratch_.pairs.Of(), grid_, stream_)));
    return Runs(scratch_.central, batch.n_sorted_pairs, batch.n_pairs, batch.sorted_keys);
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

  // Stores what the kernels read of every table of a batch.
  cudaError_t Describe(int32_t first, const PlanBatch& batch) {
    DescriptorStore store(stream_);
    cursor_ = {};
    cursor_.promised_pair = batch.n_sorted_pairs;
    cursor_.promised_key = batch.sorted_keys;
    scratch_.features.Clear();
    scratch_.items.Clear();
    scratch_.pairs.Clear();
    scratch_.central.Clear();
    for (int32_t index = first; index < first + static_cast<int32_t>(batch.n_tables); ++index) {
      const PlanRecord& record = build_.records[index];
      const resembed_table table = (*build_.tables)[index];
      for (int32_t number = 0; number < build_.args->n_features; ++number) {
        if (build_.places[number].table != index) continue;
        const kernels::PlanFeatureParams feature = Feature(record, table, number);
        const int64_t n_rows = feature.divisor != nullptr ? feature.n_rows : 0;
        scratch_.features.Add(feature, {Blocks(feature.n_ids), Blocks(n_rows * kernels::kLanes)}, &store);
      }
      AddRuns(ItemRuns(index, record, table), &scratch_.items, &store);
      cursor_.use += record.n_uses;
      cursor_.item_key += static_cast<uint64_t>(table.n_items) + 1;
      if (record.has_central == 0) continue;
      const bool promised = IsPromised(table);
      int64_t* const pair = promised ? &cursor_.promised_pair : &cursor_.sorted_pair;
      uint64_t* const key = promised ? &cursor_.promised_key : &cursor_.sorted_key;
      scratch_.pairs.Add(Pairs(index, record, table, *pair, *key), {Blocks(record.max_unique)}, &store);
      AddRuns(CentralRuns(index, record, table, *pair, *key), &scratch_.central, &store);
      *pair += record.max_pairs;
      *key += static_cast<uint64_t>(table.central_rows) + 1;
    }
    return store.Finish();
  }

  int64_t Blocks(int64_t n_threads) const { return kernels::BlocksFor(n_threads, grid_); }
  void AddRuns(const kernels::RunsParams& runs, EntryList<kernels::RunsParams>* to,
               DescriptorStore* store) const {
    const int64_t n_runs = kernels::MaxLongChunks(runs.n) > 0 ? runs.max_runs : 0;
    to->Add(runs, {Blocks(runs.n), Blocks(n_runs)}, store);
  }

  kernels::PlanFeatureParams Feature(const PlanRecord& record, const resembed_table& table,
                                     int32_t number) const {
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
    params.base = static_cast<uint32_t>(cursor_.item_key);
    params.keys = scratch_.keys + cursor_.use;
    params.uses = scratch_.payload + cursor_.use;
    params.row_of_use = scratch_.row_of_use + cursor_.use;
    params.divisor = record.has_divisor != 0 ? At<float>(record.divisor) : nullptr;
    params.chunks = At<kernels::PlanChunk>(record.long_items);
    params.n_slots = record.max_long_items;
    if (build_.args->bounds != RESEMBED_BOUNDS_TRUST) params.bad_ids = build_.args->bad_ids;
    params.first_bad = scratch_.first_bad;
    return params;
  }

  // Runs of a part of the batch's entries; keys begin at `base`.
  kernels::RunsParams RunsOf(int32_t index, int64_t first, int64_t n, uint64_t base, int64_t n_rows) const {
    kernels::RunsParams runs = {};
    runs.sorted = scratch_.sorted + first;
    runs.payload = scratch_.sorted_payload + first;
    runs.heads = scratch_.keys + first;
    runs.numbers = scratch_.payload + first;
    runs.numbered = first == 0 ? nullptr : runs.numbers - 1;
    runs.n = n;
    runs.base = static_cast<uint32_t>(base);
    runs.sentinel = static_cast<uint32_t>(base + static_cast<uint64_t>(n_rows));
    runs.counts = Counts(index);
    return runs;
  }

  kernels::RunsParams ItemRuns(int32_t index, const PlanRecord& record, const resembed_table& table) const {
    kernels::RunsParams runs = RunsOf(index, cursor_.use, record.n_uses, cursor_.item_key, table.n_items);
    runs.max_runs = record.max_unique;
    runs.rows = At<int32_t>(record.rows);
    runs.begin = At<uint32_t>(record.begin);
    runs.chunks = At<kernels::PlanChunk>(record.long_items);
    runs.order = At<uint32_t>(record.use);
    runs.order_row = At<uint32_t>(record.use_row);
    runs.row_of_use = scratch_.row_of_use + cursor_.use;
    runs.inverse = At<int32_t>(record.inverse);
    return runs;
  }

  kernels::RunsParams CentralRuns(int32_t index, const PlanRecord& record, const resembed_table& table,
                                  int64_t first, uint64_t base) const {
    kernels::RunsParams runs = RunsOf(index, first, record.max_pairs, base, table.central_rows);
    runs.max_runs = record.max_unique_central;
    runs.rows = At<int32_t>(record.central_rows);
    runs.begin = At<uint32_t>(record.central_begin);
    runs.chunks = At<kernels::PlanChunk>(record.long_pairs);
    runs.order = At<uint32_t>(record.pair);
    runs.central = true;
    runs.promised = IsPromised(table);
    return runs;
  }

  kernels::PairsParams Pairs(int32_t index, const PlanRecord& record, const resembed_table& table,
                             int64_t first, uint64_t base) const {
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
    pairs.base = static_cast<uint32_t>(base);
    pairs.sentinel = static_cast<uint32_t>(base + static_cast<uint64_t>(table.central_rows));
    // What is not sorted is entered where the sort would have put it.
    const bool promised = IsPromised(table);
    pairs.keys = (promised ? scratch_.sorted : scratch_.keys) + first;
    pairs.pairs = (promised ? scratch_.sorted_payload : scratch_.payload) + first;
    pairs.chunks = At<kernels::PlanChunk>(record.long_pairs);
    pairs.n_chunk_slots = record.max_long_pairs;
    return pairs;
  }

  // Sorts the first n_sorted entries by n_keys keys, and cuts all n into runs.
  resembed_status Runs(const EntryList<kernels::RunsParams>& runs, int64_t n_sorted, int64_t n,
                       uint64_t n_keys) const {
    if (n == 0) return RESEMBED_OK;
    size_t bytes = scratch_.temp_bytes;
    if (n_sorted > 0) {
      RESEMBED_RETURN_IF_ERROR(
          Check("the radix sort",
                kernels::SortPairs(scratch_.temp, &bytes, scratch_.keys, scratch_.sorted, scratch_.payload,
                                   scratch_.sorted_payload, n_sorted, BitsFor(n_keys - 1), stream_)));
    }
    const auto entries = runs.Of(kernels::kEntries);
    RESEMBED_RETURN_IF_ERROR(Check("MarkHeadsKernel", kernels::LaunchMarkHeads(entries, grid_, stream_)));
    bytes = scratch_.temp_bytes;
    RESEMBED_RETURN_IF_ERROR(Check("the scan", kernels::InclusiveSum(scratch_.temp, &bytes, scratch_.keys,
                                                                     scratch_.payload, n, stream_)));
    RESEMBED_RETURN_IF_ERROR(Check("WriteRunsKernel", kernels::LaunchWriteRuns(entries, grid_, stream_)));
    return Check("WriteChunksKernel", kernels::LaunchWriteChunks(runs.Of(kernels::kChunks), grid_, stream_));
  }

  const PlanBuild& build_;
  Scratch scratch_;
  const kernels::Grid& grid_;
  const cudaStream_t stream_;
  Cursor cursor_;
};

}  // namespace

bool PlanBatches::Add(const PlanRecord& record, const resembed_table& table) {
  PlanBatch with = batch;
  ++with.n_tables;
  with.n_uses += record.n_uses;
  with.item_keys += static_cast<uint64_t>(table.n_items) + 1;
  if (record.has_central != 0) {
    const auto keys = static_cast<uint64_t>(table.central_rows) + 1;
    with.n_pairs += record.max_pairs;
    with.central_keys += keys;
    if (!IsPromised(table)) {
      with.n_sorted_pairs += record.max_pairs;
      with.sorted_keys += keys;
    }
  }
  const bool fits = std::max(with.n_uses, with.n_pairs) <= limits.entries &&
                    std::max(with.item_keys, with.central_keys) <= limits.keys;
  if (!fits && batch.n_tables > 0) {
    batch = {};
    Add(record, table);
    return true;
  }
  batch = with;
  size.n_tables = std::max(size.n_tables, batch.n_tables);
  size.n_entries = std::max({size.n_entries, batch.n_uses, batch.n_pairs});
  size.n_uses = std::max(size.n_uses, batch.n_uses);
  return false;
}

resembed_status PlanWorkspaceBytes(const resembed_place& place, const PlanScratchSize& size, size_t* bytes) {
  const DeviceScope scope(kOp, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  size_t temp_bytes = 0;
  RESEMBED_RETURN_IF_ERROR(TempBytes(size.n_entries, &temp_bytes));
  Workspace count(nullptr);
  TakeScratch(&count, size, temp_bytes);
  *bytes = count.used();
  return RESEMBED_OK;
}

resembed_status BuildPlan(const PlanBuild& build, const kernels::Grid& grid, const PlanLimits& limits) {
  const DeviceScope scope(kOp, build.place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  const int32_t n_tables = build.tables->size();
  PlanBatches all = {limits, {}, {}};
  for (int32_t index = 0; index < n_tables; ++index) all.Add(build.records[index], (*build.tables)[index]);
  all.size.n_features = build.args->n_features;
  size_t temp_bytes = 0;
  RESEMBED_RETURN_IF_ERROR(TempBytes(all.size.n_entries, &temp_bytes));
  Workspace carve(build.workspace);
  const Scratch scratch = TakeScratch(&carve, all.size, temp_bytes);
  Builder builder(build, scratch, grid);
  RESEMBED_RETURN_IF_ERROR(builder.Begin());
  PlanBatches batches = {limits, {}, {}};
  int32_t first = 0;
  for (int32_t index = 0; index < n_tables; ++index) {
    const PlanBatch before = batches.batch;
    if (!batches.Add(build.records[index], (*build.tables)[index])) continue;
    RESEMBED_RETURN_IF_ERROR(builder.Run(first, before));
    first = index;
  }
  RESEMBED_RETURN_IF_ERROR(builder.Run(first, batches.batch));
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
