// SPDX-License-Identifier: Apache-2.0
// Compose and pool in one pass; equations and order of sums in forward.h.
//
// Work      a group of 2^lane_bits lanes takes a tile of columns of one bag (PoolKernel), of one block of a
//           long bag, or of up to kGatherItems positions (GatherKernel). Lane l owns columns [l * kCols, (l +
//           1) * kCols) of the tile.
// Ids       lane l of a group reads the id, the maps and the weight of item l of a batch and hands the
//           addresses of its rows to the others. Ids run two batches ahead of their rows, maps one: no row
//           waits for them.
// In flight kItemsInFlight items, residual and central row each.
// Traffic   1 + (central rows) rows in per item, 1 row out per bag.
#pragma once

#include "kernels/forward/item.cuh"

namespace resembed::kernels {

// Items in flight: 128 bytes of rows a lane.
template <typename CentralT, typename ResidualT, int kCols>
constexpr int kItemsInFlight = kCols* static_cast<int>(sizeof(CentralT) + sizeof(ResidualT)) > 32 ? 2 : 4;

// Feature and group of this thread in block `block`; false when the group has no work.
struct Place {
  const ForwardFeature* feature;
  int64_t unit;  // bag, slot or batch of positions
  Lane lane;
};

template <int kCols>
__device__ __forceinline__ bool FindWork(const ForwardParams& params, int64_t block, Place* place) {
  int index = 0;
  while (index + 1 < params.n_features && block >= params.features[index + 1].first_block) ++index;
  const ForwardFeature& feature = params.features[index];
  const int bits = feature.lane_bits;
  const int64_t group = (block - feature.first_block) * (static_cast<int>(blockDim.x) >> bits) +
                        (static_cast<int>(threadIdx.x) >> bits);
  if (group >= feature.n_groups) return false;
  int64_t tile = 0;
  place->feature = &feature;
  place->unit = group;
  if (feature.n_tiles > 1) {
    place->unit = group / feature.n_tiles;
    tile = group - place->unit * feature.n_tiles;
  }
  Lane& lane = place->lane;
  const int in_warp = static_cast<int>(threadIdx.x) % kWarp;
  lane.lanes = 1 << bits;
  lane.index = in_warp & (lane.lanes - 1);
  lane.shift = in_warp - lane.index;
  lane.mask = (0xffffffffu >> (kWarp - lane.lanes)) << lane.shift;
  lane.column = ((tile << bits) + lane.index) * kCols;
  lane.in_row = lane.column < feature.dim;
  lane.reports = tile == 0;
  return true;
}

// Sum, or maximum, of the items of one block or short bag; this lane's columns.
template <int kCols, bool kMax>
struct Pooled {
  float total[kCols];             // sum of the blocks before this one; maximum so far
  float block[kMax ? 1 : kCols];  // sum of this block: (0 + a_0 e_0) + ... is never -0
  int32_t argmax[kMax ? kCols : 1];
  int32_t count;  // items that contributed

  __device__ __forceinline__ void Begin() {
    count = 0;
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
      total[col] = 0.0f;
      if constexpr (kMax) {
        argmax[col] = -1;
      } else {
        block[col] = 0.0f;
      }
    }
  }

  __device__ __forceinline__ void Add(float a, const float (&e)[kCols]) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) block[col] += a * e[col];
  }

  // The first maximum wins, NaN wins over numbers.
  __device__ __forceinline__ void Take(const float (&e)[kCols], int32_t position) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
      const float old = total[col];
      const bool wins = count == 0 || e[col] > old || (e[col] != e[col] && old == old);
      total[col] = wins ? e[col] : old;
      argmax[col] = wins ? position : argmax[col];
    }
    ++count;
  }

  // After the last item of a block; `first`: the bag's first one.
  __device__ __forceinline__ void EndBlock(bool first) {
    if constexpr (!kMax) {
#pragma unroll
      for (int col = 0; col < kCols; ++col) {
        total[col] = first ? block[col] : total[col] + block[col];
        block[col] = 0.0f;
      }
    }
  }
};

// e = central + residual row; 0 of an item that has neither, where a sum would not hide the sign.
template <typename CentralT, typename ResidualT, int kCols>
__device__ __forceinline__ void AddRows(const Pack<CentralT, kCols>& central,
                                        const Pack<ResidualT, kCols>& residual, float (&e)[kCols]) {
  float values[kCols];
  Unpack(e, central);
  Unpack(values, residual);
#pragma unroll
  for (int col = 0; col < kCols; ++col) e[col] += values[col];
}

// Ids [begin, end), the first of which is at `offset` in its bag.
template <typename CentralT, typename ResidualT, int kCols, bool kMax>
__device__ __forceinline__ void PoolCodes(const ForwardParams& params, const ForwardFeature& feature,
                                          const Lane& lane, int64_t begin, int64_t end, int64_t offset,
                                          Pooled<kCols, kMax>* pooled) {
  constexpr int kItems = kItemsInFlight<CentralT, ResidualT, kCols>;
  Use use = LoadUse(feature, LoadItem(params, feature, lane, begin + lane.index, end), begin + lane.index);
  int64_t item = LoadItem(params, feature, lane, begin + lane.lanes + lane.index, end);
  for (int64_t base = begin; base < end; base += lane.lanes) {
    const int64_t next_base = base + lane.lanes;
    const Use next = LoadUse(feature, item, next_base + lane.index);
    item = LoadItem(params, feature, lane, next_base + lane.lanes + lane.index, end);
    const unsigned int here = __ballot_sync(lane.mask, use.here) >> lane.shift;
    const int n = next_base < end ? lane.lanes : static_cast<int>(end - base);
    for (int from = 0; from < n; from += kItems) {
      Pack<CentralT, kCols> central[kItems];
      Pack<ResidualT, kCols> residual[kItems];
      unsigned int rows = 0;  // items that have any
#pragma unroll
      for (int u = 0; u < kItems; ++u) {
        const char* residual_row = FromLane(lane, use.residual, from + u);
        const char* central_row = FromLane(lane, use.central, from + u);
        LoadColumns<false>(residual[u], residual_row, lane);
        LoadColumns<true>(central[u], central_row, lane);
        if (kMax && (residual_row != nullptr || central_row != nullptr)) rows |= 1u << u;
      }
#pragma unroll
      for (int u = 0; u < kItems; ++u) {
        const float weight = FromLane(lane, use.weight, from + u);
        float e[kCols];
        AddRows(central[u], residual[u], e);
        if constexpr (kMax) {
          if ((here >> (from + u) & 1u) == 0) continue;
#pragma unroll
          for (int col = 0; col < kCols; ++col) e[col] = (rows >> u & 1u) != 0 ? e[col] : 0.0f;
          pooled->Take(e, static_cast<int32_t>(offset + (base - begin)) + from + u);
        } else {
          pooled->Add(weight, e);
        }
      }
    }
    if constexpr (!kMax) pooled->count += __popc(here);
    const int64_t done = next_base - begin;
    if (done % kSumBlock == 0 || next_base >= end) pooled->EndBlock(done <= kSumBlock);
    use = next;
  }
}

template <typename CentralT, typename ResidualT, int kCols, bool kMax>
__device__ __forceinline__ void PoolLists(const ForwardParams& params, const ForwardFeature& feature,
                                          const Lane& lane, int64_t begin, int64_t end, int64_t offset,
                                          float* scores, Pooled<kCols, kMax>* pooled) {
  int64_t item = LoadItem(params, feature, lane, begin + lane.index, end);
  int32_t first[kNeighborsInFlight], next_first[kNeighborsInFlight];
  LoadNeighbors(feature, FromLane(lane, item, 0), 0, first);
  for (int64_t base = begin; base < end; base += lane.lanes) {
    const int64_t next_base = base + lane.lanes;
    const int64_t next_item = LoadItem(params, feature, lane, next_base + lane.index, end);
    const float weight = item >= 0 && feature.weights != nullptr ? feature.weights[base + lane.index] : 1.0f;
    const int n = next_base < end ? lane.lanes : static_cast<int>(end - base);
    for (int from = 0; from < n; ++from) {
      const int64_t here = FromLane(lane, item, from);
      const int64_t after = from + 1 < n ? FromLane(lane, item, from + 1) : FromLane(lane, next_item, 0);
      LoadNeighbors(feature, after, 0, next_first);
      const float a = FromLane(lane, weight, from);
      if (here >= 0) {
        float e[kCols];
        ComposeFromList<CentralT, ResidualT>(feature, lane, here, first, scores, e);
        if constexpr (kMax) {
          pooled->Take(e, static_cast<int32_t>(offset + (base - begin)) + from);
        } else {
          pooled->Add(a, e);
          ++pooled->count;
        }
      }
#pragma unroll
      for (int k = 0; k < kNeighborsInFlight; ++k) first[k] = next_first[k];
    }
    const int64_t done = next_base - begin;
    if (done % kSumBlock == 0 || next_base >= end) pooled->EndBlock(done <= kSumBlock);
    item = next_item;
  }
}

template <int kCols, bool kMax>
__device__ __forceinline__ void StoreBag(const ForwardFeature& feature, const Lane& lane, int64_t bag,
                                         Pooled<kCols, kMax>* pooled) {
  if (feature.pooling == RESEMBED_POOLING_MEAN && pooled->count > 0) {
    const float divisor = static_cast<float>(pooled->count);
#pragma unroll
    for (int col = 0; col < kCols; ++col) pooled->total[col] /= divisor;
  }
  StoreOutput(feature, bag, lane, pooled->total);
  if constexpr (kMax) {
    if (feature.saved_argmax == nullptr || !lane.in_row) return;
    int32_t* saved = feature.saved_argmax + bag * feature.dim + lane.column;
#pragma unroll
    for (int col = 0; col < kCols; ++col) saved[col] = pooled->argmax[col];
  }
}

template <int kCols, bool kMax>
__device__ __forceinline__ void StorePartial(const ForwardFeature& feature, const Lane& lane, int64_t slot,
                                             const Pooled<kCols, kMax>& pooled) {
  if (lane.reports && lane.index == 0) feature.partial_counts[slot] = pooled.count;
  if (!lane.in_row) return;
  const int64_t at = slot * feature.dim + lane.column;
  StoreValues<float>(feature.partials + at, pooled.total, feature.dim % 4 == 0);
  if constexpr (kMax) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) feature.partial_argmax[at + col] = pooled.argmax[col];
  }
}

// Two blocks of a multiprocessor are 16 warps; with 128 bytes of rows on their way to each lane that is 64
// KiB, twice what latency times bandwidth of an H200 asks for by the data sheet (not measured).
template <typename CentralT, typename ResidualT, int kCols, bool kList, bool kMax>
__global__ void __launch_bounds__(kForwardThreads, 2)
    PoolKernel(const __grid_constant__ ForwardParams params) {
  RESEMBED_SHARED(float, all_scores, [kForwardThreads / kWarp][RESEMBED_MAX_NEIGHBORS]);
  float* scores = all_scores[threadIdx.x / kWarp];
  for (int64_t block = blockIdx.x; block < params.n_blocks; block += gridDim.x) {
    Place place;
    if (!FindWork<kCols>(params, block, &place)) continue;
    const ForwardFeature& feature = *place.feature;
    int64_t bag = place.unit, offset = 0;
    if (params.long_blocks) {
      bag = feature.slot_bag[place.unit];
      if (bag < 0) continue;
    }
    const int64_t start = BagStart(feature, bag);
    int64_t begin = start, end = BagStart(feature, bag + 1);
    if (params.long_blocks) {
      offset = (place.unit - FirstSlot(start)) * kSumBlock;
      begin = start + offset;
      end = end - begin < kSumBlock ? end : begin + kSumBlock;
    } else if (feature.slot_bag != nullptr && end - start > kLongBag) {
      const int64_t slot = FirstSlot(start), n_slots = BlocksOf(end - start);
      for (int64_t at = place.lane.index; place.lane.reports && at < n_slots; at += place.lane.lanes) {
        feature.slot_bag[slot + at] = bag;
      }
      continue;
    }
    Pooled<kCols, kMax> pooled;
    pooled.Begin();
    if constexpr (kList) {
      PoolLists<CentralT, ResidualT>(params, feature, place.lane, begin, end, offset, scores, &pooled);
    } else {
      PoolCodes<CentralT, ResidualT>(params, feature, place.lane, begin, end, offset, &pooled);
    }
    if (params.long_blocks) {
      StorePartial(feature, place.lane, place.unit, pooled);
    } else {
      StoreBag(feature, place.lane, bag, &pooled);
    }
  }
}

// Given no number of blocks ptxas spills on sm_100 and sm_120, to fit four; given three it spills on sm_90.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
#define RESEMBED_GATHER_BOUNDS __launch_bounds__(kForwardThreads, 3)
#else
#define RESEMBED_GATHER_BOUNDS __launch_bounds__(kForwardThreads)
#endif
// Pooling none: y = a e, or e without weights; zeros where nothing contributes. Also whole ranges of items.
template <typename CentralT, typename ResidualT, int kCols, bool kList>
__global__ void RESEMBED_GATHER_BOUNDS GatherKernel(const __grid_constant__ ForwardParams params) {
  RESEMBED_SHARED(float, all_scores, [kForwardThreads / kWarp][RESEMBED_MAX_NEIGHBORS]);
  float* scores = all_scores[threadIdx.x / kWarp];
  for (int64_t block = blockIdx.x; block < params.n_blocks; block += gridDim.x) {
    Place place;
    if (!FindWork<kCols>(params, block, &place)) continue;
    const ForwardFeature& feature = *place.feature;
    const Lane& lane = place.lane;
    const int batch = lane.lanes < kGatherItems ? lane.lanes : kGatherItems;
    const int64_t begin = place.unit * batch;
    const int64_t end = begin + batch < feature.n_ids ? begin + batch : feature.n_ids;
    const int n = static_cast<int>(end - begin);
    const int64_t item = LoadItem(params, feature, lane, begin + lane.index, end);
    const Use use = LoadUse(feature, item, begin + lane.index);
    const unsigned int here = __ballot_sync(lane.mask, use.here) >> lane.shift;
    const auto store = [&](float(&e)[kCols], int at, bool has_rows) {
      const float a = FromLane(lane, use.weight, at);
#pragma unroll
      for (int col = 0; col < kCols; ++col) {
        e[col] = has_rows ? e[col] : 0.0f;
        e[col] = feature.weights != nullptr && (here >> at & 1u) != 0 ? a * e[col] : e[col];
      }
      StoreOutput(feature, begin + at, lane, e);
    };
    if constexpr (kList) {
      for (int at = 0; at < n; ++at) {
        const int64_t one = FromLane(lane, item, at);
        float e[kCols] = {};
        if (one >= 0) {
          int32_t first[kNeighborsInFlight];
          LoadNeighbors(feature, one, 0, first);
          ComposeFromList<CentralT, ResidualT>(feature, lane, one, first, scores, e);
        }
        store(e, at, one >= 0);
      }
    } else {
      constexpr int kItems = kItemsInFlight<CentralT, ResidualT, kCols>;
      for (int from = 0; from < n; from += kItems) {
        Pack<CentralT, kCols> central[kItems];
        Pack<ResidualT, kCols> residual[kItems];
        unsigned int rows = 0;
#pragma unroll
        for (int u = 0; u < kItems; ++u) {
          const char* residual_row = FromLane(lane, use.residual, from + u);
          const char* central_row = FromLane(lane, use.central, from + u);
          LoadColumns<false>(residual[u], residual_row, lane);
          LoadColumns<true>(central[u], central_row, lane);
          if (residual_row != nullptr || central_row != nullptr) rows |= 1u << u;
        }
#pragma unroll
        for (int u = 0; u < kItems; ++u) {
          float e[kCols];
          AddRows(central[u], residual[u], e);
          if (from + u < n) store(e, from + u, (rows >> u & 1u) != 0);
        }
      }
    }
  }
}

// The grid that walks params.n_blocks blocks.
inline dim3 GridOf(const ForwardParams& params, const LaunchShape& shape) {
  return dim3(static_cast<unsigned int>(params.n_blocks < shape.blocks ? params.n_blocks : shape.blocks));
}

template <typename CentralT, typename ResidualT, int kCols, bool kList>
cudaError_t LaunchKind(ForwardKind kind, const ForwardParams& params, const LaunchShape& shape,
                       cudaStream_t stream) {
  const dim3 grid = GridOf(params, shape), block(static_cast<unsigned int>(shape.threads));
  switch (kind) {
    case ForwardKind::kGather:
      return gpu::Launch(GatherKernel<CentralT, ResidualT, kCols, kList>, grid, block, 0, stream, params);
    case ForwardKind::kSum:
      return gpu::Launch(PoolKernel<CentralT, ResidualT, kCols, kList, false>, grid, block, 0, stream,
                         params);
    default:
      return gpu::Launch(PoolKernel<CentralT, ResidualT, kCols, kList, true>, grid, block, 0, stream, params);
  }
}

template <typename CentralT, typename ResidualT>
cudaError_t LaunchForward(const ForwardVariant& variant, const ForwardParams& params,
                          const LaunchShape& shape, cudaStream_t stream) {
  constexpr int kWide = sizeof(CentralT) == 4 && sizeof(ResidualT) == 4 ? 4 : 8;
  if (variant.wide) {
    return variant.list ? LaunchKind<CentralT, ResidualT, kWide, true>(variant.kind, params, shape, stream)
                        : LaunchKind<CentralT, ResidualT, kWide, false>(variant.kind, params, shape, stream);
  }
  return variant.list ? LaunchKind<CentralT, ResidualT, 1, true>(variant.kind, params, shape, stream)
                      : LaunchKind<CentralT, ResidualT, 1, false>(variant.kind, params, shape, stream);
}

}  // namespace resembed::kernels
