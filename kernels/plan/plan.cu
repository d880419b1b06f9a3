// SPDX-License-Identifier: Apache-2.0
#include "kernels/plan/plan.h"

#include "kernels/common/batch.cuh"
#include "kernels/common/walk.cuh"

namespace resembed::kernels {
namespace {

__device__ __forceinline__ int64_t IdAt(const PlanFeatureParams& feature, int64_t position) {
  return feature.wide_ids ? static_cast<const int64_t*>(feature.ids)[position]
                          : static_cast<const int32_t*>(feature.ids)[position];
}

// Offsets are not checked on the device; a wrong one must not read outside the ids.
__device__ __forceinline__ int64_t BagStart(const PlanFeatureParams& feature, int64_t bag) {
  if (feature.offsets == nullptr) return bag * feature.bag_length;
  const int64_t start = feature.wide_offsets ? static_cast<const int64_t*>(feature.offsets)[bag]
                                             : static_cast<const int32_t*>(feature.offsets)[bag];
  return start < 0 ? 0 : start < feature.n_ids ? start : feature.n_ids;
}

// The last bag that begins at or before a position.
__device__ __forceinline__ int64_t BagOf(const PlanFeatureParams& feature, int64_t position) {
  if (feature.offsets == nullptr) return feature.bag_length > 0 ? position / feature.bag_length : 0;
  int64_t low = 0, high = feature.n_bags;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (BagStart(feature, middle) <= position) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__global__ void __launch_bounds__(256) PlanBeginKernel(PlanCounts* counts, int64_t n_tables,
                                                       resembed_bad_ids* bad_ids, unsigned long long* first_bad) {
  const int64_t thread = FirstThread();
  for (int64_t table = thread; table < n_tables; table += ThreadStride()) counts[table] = {};
  if (thread != 0) return;
  *first_bad = ~0ull;
  if (bad_ids != nullptr) *bad_ids = {0, -1, -1, 0};
}

using Features = Batch<PlanFeatureParams>;

__global__ void __launch_bounds__(256) EnterUsesKernel(const __grid_constant__ Features batch) {
  ForEntries(batch, [](const PlanFeatureParams& feature, int64_t block) {
    const int64_t position = ThreadOf(block);
    if (position >= feature.n_ids) return;
    const int64_t id = IdAt(feature, position);
    const bool is_padding = feature.has_padding && id == feature.padding_id;
    const bool is_item = static_cast<uint64_t>(id) < static_cast<uint64_t>(feature.n_items);
    const int64_t row = BagOf(feature, position);
    if (!is_item && !is_padding && feature.bad_ids != nullptr) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&feature.bad_ids->count), 1ull);
      atomicMin(feature.first_bad, static_cast<unsigned long long>(feature.index) << 48 |
                                       static_cast<unsigned long long>(position));
    }
    const bool takes_part = is_item && !is_padding && row < feature.n_rows;
    const int64_t use = feature.first_use + position;
    feature.keys[use] = feature.base + static_cast<uint32_t>(takes_part ? id : feature.n_items);
    feature.uses[use] = static_cast<uint32_t>(use);
    feature.row_of_use[use] = static_cast<uint32_t>(feature.first_row + row);
    if (use < feature.n_slots) feature.chunks[use] = {kNoRun, 0};
  });
}

// One warp a row of output.
__global__ void __launch_bounds__(256) DivisorsKernel(const __grid_constant__ Features batch) {
  ForEntries(batch, [](const PlanFeatureParams& feature, int64_t block) {
    const int lane = LaneOfWarp();
    const int64_t row = WarpOf(block);
    if (row >= feature.n_rows) return;
    int count = feature.averaged ? 0 : 1;
    if (feature.averaged) {
      const uint32_t* keys = feature.keys + feature.first_use;
      const uint32_t sentinel = feature.base + static_cast<uint32_t>(feature.n_items);
      const int64_t end = BagStart(feature, row + 1);
      for (int64_t at = BagStart(feature, row) + lane; at < end; at += kLanes) count += keys[at] != sentinel;
      for (int half = kLanes / 2; half > 0; half /= 2) count += __shfl_xor_sync(0xffffffffu, count, half);
    }
    if (lane == 0) feature.divisor[feature.first_row + row] = static_cast<float>(count);
  });
}

__global__ void __launch_bounds__(256) PlanBadIdsKernel(const __grid_constant__ Features batch) {
  const unsigned long long first = *batch.entries[0].first_bad;
  for (int64_t at = FirstThread(); at < batch.n; at += ThreadStride()) {
    const PlanFeatureParams& feature = batch.entries[at];
    if (first == ~0ull || static_cast<int64_t>(first >> 48) != feature.index) continue;
    const auto position = static_cast<int64_t>(first & ((1ull << 48) - 1));
    feature.bad_ids->feature = feature.index;
    feature.bad_ids->position = position;
    feature.bad_ids->value = IdAt(feature, position);
  }
}

template <typename Id>
__global__ void __launch_bounds__(256) TranslateKernel(const __grid_constant__ TranslateParams params) {
  const auto* ids = static_cast<const Id*>(params.ids);
  auto* output = static_cast<Id*>(params.output);
  for (int64_t at = FirstThread(); at < params.n_ids; at += ThreadStride()) {
    const int64_t id = ids[at];
    const bool is_item = static_cast<uint64_t>(id) < static_cast<uint64_t>(params.n_map);
    output[at] = static_cast<Id>(is_item ? params.map[id] : id);
  }
}

using Runs = Batch<RunsParams>;

__global__ void __launch_bounds__(256) MarkHeadsKernel(const __grid_constant__ Runs batch) {
  ForEntries(batch, [](const RunsParams& params, int64_t block) {
    const int64_t at = ThreadOf(block);
    if (at >= params.n) return;
    const uint32_t key = params.sorted[at], before = at == 0 ? 0 : params.sorted[at - 1];
    params.heads[at] = key < params.sentinel && (at == 0 || before != key) ? 1u : 0u;
    if (params.promised && key < before) atomicExch(&params.counts->unsorted, 1);
  });
}

__device__ __forceinline__ void WriteRun(const RunsParams& params, int64_t at) {
  const uint32_t key = params.sorted[at], payload = params.payload[at];
  if (key >= params.sentinel) {
    if (!params.central) params.inverse[payload] = -1;
    return;
  }
  const uint32_t number = params.numbers[at] - (params.numbered == nullptr ? 0 : *params.numbered);  // from 1
  const int64_t run = static_cast<int64_t>(number) - 1;
  if (run < params.max_runs && (at == 0 || params.sorted[at - 1] != key)) {
    params.rows[run] = static_cast<int32_t>(key - params.base);
    params.begin[run] = static_cast<uint32_t>(at);
  }
  params.order[at] = payload;
  if (!params.central) {
    params.order_row[at] = params.row_of_use[payload];
    params.inverse[payload] = static_cast<int32_t>(run);
  }
  if (at + 1 < params.n && params.sorted[at + 1] < params.sentinel) return;
  // The last term of the last run.
  if (run + 1 > params.max_runs) {
    params.counts->n_unique = params.counts->n_unique_central = 0;
    params.counts->status = RESEMBED_OUT_OF_RANGE;
  } else {
    params.begin[run + 1] = static_cast<uint32_t>(at + 1);
    if (params.central) {
      params.counts->n_unique_central = run + 1;
    } else {
      params.counts->n_unique = run + 1;
    }
  }
}

__global__ void __launch_bounds__(256) WriteRunsKernel(const __grid_constant__ Runs batch) {
  ForEntries(batch, [](const RunsParams& params, int64_t block) {
    const int64_t at = ThreadOf(block);
    if (params.promised && params.counts->unsorted != 0) {
      if (at != 0) return;
      params.counts->n_unique = params.counts->n_unique_central = 0;
      params.counts->status = RESEMBED_OUT_OF_RANGE;
      return;
    }
    if (at < params.n) WriteRun(params, at);
  });
}

__global__ void __launch_bounds__(256) WriteChunksKernel(const __grid_constant__ Runs batch) {
  ForEntries(batch, [](const RunsParams& params, int64_t block) {
    const int64_t run = ThreadOf(block);
    const int64_t n_runs = params.central ? params.counts->n_unique_central : params.counts->n_unique;
    if (run >= n_runs) return;
    const int64_t begin = params.begin[run], end = params.begin[run + 1];
    if (end - begin <= kRunBlock) return;
    PlanChunk* chunk = params.chunks + FirstChunkSlot(begin);
    for (int64_t first = begin; first < end; first += kRunBlock) {
      *chunk++ = {static_cast<uint32_t>(run), static_cast<uint32_t>(first)};
    }
  });
}

__device__ __forceinline__ void EnterItem(const PairsParams& params, int64_t unique) {
  uint32_t* keys = params.keys + unique * params.n_slots;
  uint32_t* pairs = params.pairs + unique * params.n_slots;
  const auto number = static_cast<uint32_t>(unique << params.slot_bits);
  const bool here = unique < params.counts->n_unique;
  const int64_t item = here ? params.items[unique] : 0;
  if (params.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    const uint32_t n_rows = params.sentinel - params.base;
    uint32_t row = n_rows;
    if (here && params.narrow_centers) row = static_cast<const uint16_t*>(params.center_of)[item];
    if (here && !params.narrow_centers) row = static_cast<const uint32_t*>(params.center_of)[item];
    // No center, -1 or 65535, lies past the last row, unless there are 65536 rows.
    if (params.narrow_centers && row == 65535) row = n_rows;
    keys[0] = params.base + (row < n_rows ? row : n_rows);
    pairs[0] = number;
    return;
  }
  const int32_t* list = params.neighbors + item * params.neighbors_stride;
  bool in_list = here;
  for (int slot = 0; slot < params.n_slots; ++slot) {
    uint32_t key = params.sentinel;
    if (slot < params.n_neighbors) {
      const int32_t row = in_list ? list[slot] : -1;
      in_list = row >= 0;
      if (in_list) key = params.base + static_cast<uint32_t>(row);
    } else if (here && list[0] >= 0) {
      key = params.base + static_cast<uint32_t>(item);  // attention: the query
    }
    keys[slot] = key;
    pairs[slot] = number | static_cast<uint32_t>(slot);
  }
}

__global__ void __launch_bounds__(256) EnterPairsKernel(const __grid_constant__ Batch<PairsParams> batch) {
  ForEntries(batch, [](const PairsParams& params, int64_t block) {
    const int64_t unique = ThreadOf(block);
    if (unique >= params.max_unique) return;
    EnterItem(params, unique);
    const int64_t end = (unique + 1) * params.n_slots;
    for (int64_t at = unique * params.n_slots; at < end && at < params.n_chunk_slots; ++at) {
      params.chunks[at] = {kNoRun, 0};
    }
  });
}

}  // namespace

cudaError_t LaunchPlanBegin(PlanCounts* counts, int64_t n_tables, resembed_bad_ids* bad_ids,
                            unsigned long long* first_bad, cudaStream_t stream) {
  return gpu::Launch(PlanBeginKernel, dim3(1), dim3(256), 0, stream, counts, n_tables, bad_ids, first_bad);
}
cudaError_t LaunchEnterUses(const Features& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(EnterUsesKernel, batch, grid, stream);
}
cudaError_t LaunchDivisors(const Features& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(DivisorsKernel, batch, grid, stream);
}
cudaError_t LaunchPlanBadIds(const Features& batch, cudaStream_t stream) {
  if (batch.n == 0) return cudaSuccess;
  return gpu::Launch(PlanBadIdsKernel, dim3(1), dim3(256), 0, stream, batch);
}
cudaError_t LaunchMarkHeads(const Runs& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(MarkHeadsKernel, batch, grid, stream);
}
cudaError_t LaunchWriteRuns(const Runs& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(WriteRunsKernel, batch, grid, stream);
}
cudaError_t LaunchWriteChunks(const Runs& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(WriteChunksKernel, batch, grid, stream);
}
cudaError_t LaunchEnterPairs(const Batch<PairsParams>& batch, const Grid& grid, cudaStream_t stream) {
  return LaunchEntries(EnterPairsKernel, batch, grid, stream);
}
cudaError_t LaunchTranslate(const TranslateParams& params, const Grid& grid, cudaStream_t stream) {
  return LaunchThreads(params.wide_ids ? TranslateKernel<int64_t> : TranslateKernel<int32_t>, params.n_ids, grid, stream,
                       params);
}

}  // namespace resembed::kernels
