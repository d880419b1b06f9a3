// SPDX-License-Identifier: Apache-2.0
// Compose and pool in one pass; equations and order of sums in forward.h.
//
// Work      a group of 2^lane_bits lanes takes a tile of columns of one bag (PoolKernel), of one block of a long
//           bag, or of kGatherItems positions (GatherKernel). Lane l owns columns [l * kCols, (l + 1) * kCols).
// Ids       every lane of a group reads the same ids and maps: one address, one transaction. Ids run two batches
//           ahead of their rows, maps one, so that a row never waits for them.
// In flight items of a batch, residual and central row each.
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
  const int lane = static_cast<int>(threadIdx.x) & ((1 << bits) - 1);
  place->lane.column = ((tile << bits) + lane) * kCols;
  place->lane.in_row = place->lane.column < feature.dim;
  place->lane.is_reporter = tile == 0 && lane == 0;
  return true;
}

// Sum, or maximum, of the items of one block or short bag; this lane's columns.
template <int kCols, bool kMax>
struct Pooled {
  float total[kCols];  // sum of the blocks before this one; maximum so far
  float block[kCols];  // sum of this block
  int32_t argmax[kMax ? kCols : 1];
  int32_t count;  // items that contributed

  __device__ __forceinline__ void Begin() {
    count = 0;
#pragma unroll
    for (int col = 0; col < kCols; ++col) total[col] = block[col] = 0.0f;
    if constexpr (kMax) {
#pragma unroll
      for (int col = 0; col < kCols; ++col) argmax[col] = -1;
    }
  }

  __device__ __forceinline__ void Add(float a, const float (&e)[kCols], int32_t position) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
      if constexpr (kMax) {
        const float old = total[col];
        const bool wins = count == 0 || e[col] > old || (e[col] != e[col] && old == old);
        total[col] = wins ? e[col] : old;
        argmax[col] = wins ? position : argmax[col];
      } else {
        block[col] += a * e[col];
      }
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

// Ids [begin, end), the first of which is at `offset` in its bag.
template <typename CentralT, typename ResidualT, int kCols, bool kMax>
__device__ __forceinline__ void PoolCodes(const ForwardParams& params, const ForwardFeature& feature,
                                          const Lane& lane, int64_t begin, int64_t end, int64_t offset,
                                          Pooled<kCols, kMax>* pooled) {
  constexpr int kItems = kItemsInFlight<CentralT, ResidualT, kCols>;
  int64_t items[kItems], rows[kItems];
  int32_t centers[kItems];
  unsigned int here = 0;  // items of the batch that contribute
  LoadItems(params, feature, lane, begin, end, items);
  LoadMaps(feature, items, rows, centers);
#pragma unroll
  for (int u = 0; u < kItems; ++u) here |= items[u] >= 0 ? 1u << u : 0u;
  LoadItems(params, feature, lane, begin + kItems, end, items);
  for (int64_t position = begin; position < end; position += kItems) {
    Pack<CentralT, kCols> central[kItems];
    Pack<ResidualT, kCols> residual[kItems];
    float weights[kItems];
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      if (rows[u] >= 0) LoadResidual(residual[u], feature, rows[u], lane.column);
      if (centers[u] >= 0) LoadCentral(central[u], feature, centers[u], lane.column);
    }
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      weights[u] = feature.weights != nullptr && position + u < end ? feature.weights[position + u] : 1.0f;
    }
    int64_t next_rows[kItems];
    int32_t next_centers[kItems];
    unsigned int next_here = 0;
    LoadMaps(feature, items, next_rows, next_centers);
#pragma unroll
    for (int u = 0; u < kItems; ++u) next_here |= items[u] >= 0 ? 1u << u : 0u;
    LoadItems(params, feature, lane, position + 2 * kItems, end, items);
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      if ((here >> u & 1u) == 0) continue;
      float e[kCols];
      ComposeFromRows(centers[u], central[u], rows[u], residual[u], e);
      pooled->Add(weights[u], e, static_cast<int32_t>(offset + (position - begin) + u));
    }
    const int64_t done = position + kItems - begin;
    if (done % kSumBlock == 0 || done >= end - begin) pooled->EndBlock(done <= kSumBlock);
    here = next_here;
#pragma unroll
    for (int u = 0; u < kItems; ++u) {
      rows[u] = next_rows[u];
      centers[u] = next_centers[u];
    }
  }
}

template <typename CentralT, typename ResidualT, int kCols, bool kMax>
__device__ __forceinline__ void PoolLists(const ForwardParams& params, const ForwardFeature& feature,
                                          const Lane& lane, int64_t begin, int64_t end, int64_t offset,
                                          float* scores, Pooled<kCols, kMax>* pooled) {
  int64_t item[1], next[1];
  LoadItems(params, feature, lane, begin, end, item);
  for (int64_t position = begin; position < end; ++position) {
    LoadItems(params, feature, lane, position + 1, end, next);
    if (item[0] >= 0) {
      float e[kCols];
      ComposeFromList<CentralT, ResidualT>(feature, lane, item[0], scores, e);
      const float a = feature.weights != nullptr ? feature.weights[position] : 1.0f;
      pooled->Add(a, e, static_cast<int32_t>(offset + (position - begin)));
    }
    const int64_t done = position + 1 - begin;
    if (done % kSumBlock == 0 || done == end - begin) pooled->EndBlock(done <= kSumBlock);
    item[0] = next[0];
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
    if (feature.saved_argmax == nullptr) return;
    int32_t* saved = feature.saved_argmax + bag * feature.dim + lane.column;
#pragma unroll
    for (int col = 0; col < kCols; ++col) saved[col] = pooled->argmax[col];
  }
}

template <int kCols, bool kMax>
__device__ __forceinline__ void StorePartial(const ForwardFeature& feature, const Lane& lane, int64_t slot,
                                             const Pooled<kCols, kMax>& pooled) {
  const int64_t at = slot * feature.dim + lane.column;
  StoreValues<float>(feature.partials + at, pooled.total, feature.dim % 4 == 0);
  if constexpr (kMax) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) feature.partial_argmax[at + col] = pooled.argmax[col];
  }
  if (lane.is_reporter) feature.partial_counts[slot] = pooled.count;
}

template <typename CentralT, typename ResidualT, int kCols, bool kList, bool kMax>
__global__ void __launch_bounds__(kForwardThreads) PoolKernel(const __grid_constant__ ForwardParams params) {
  RESEMBED_SHARED(float, all_scores, [kForwardThreads / kWarp][RESEMBED_MAX_NEIGHBORS]);
  float* scores = all_scores[threadIdx.x / kWarp];
  for (int64_t block = blockIdx.x; block < params.n_blocks; block += gridDim.x) {
    Place place;
    if (!FindWork<kCols>(params, block, &place)) continue;
    const ForwardFeature& feature = *place.feature;
    const bool cooperates = kList && feature.form == RESEMBED_CENTRAL_ATTENTION;
    if (!place.lane.in_row && !cooperates) continue;
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
      if (place.lane.is_reporter) {
        for (int64_t at = 0; at < n_slots; ++at) feature.slot_bag[slot + at] = bag;
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
    if (!place.lane.in_row) continue;
    if (params.long_blocks) {
      StorePartial(feature, place.lane, place.unit, pooled);
    } else {
      StoreBag(feature, place.lane, bag, &pooled);
    }
  }
}

// Pooling none: y = a e, or e without weights; zeros where nothing contributes. Also whole ranges of items.
template <typename CentralT, typename ResidualT, int kCols, bool kList>
__global__ void __launch_bounds__(kForwardThreads) GatherKernel(const __grid_constant__ ForwardParams params) {
  RESEMBED_SHARED(float, all_scores, [kForwardThreads / kWarp][RESEMBED_MAX_NEIGHBORS]);
  float* scores = all_scores[threadIdx.x / kWarp];
  for (int64_t block = blockIdx.x; block < params.n_blocks; block += gridDim.x) {
    Place place;
    if (!FindWork<kCols>(params, block, &place)) continue;
    const ForwardFeature& feature = *place.feature;
    const Lane& lane = place.lane;
    const bool cooperates = kList && feature.form == RESEMBED_CENTRAL_ATTENTION;
    if (!lane.in_row && !cooperates) continue;
    const int64_t begin = place.unit * kGatherItems;
    int64_t items[kGatherItems];
    LoadItems(params, feature, lane, begin, feature.n_ids, items);
    float e[kCols];
    const auto store = [&](int64_t position) {
      if (!lane.in_row) return;
      if (feature.weights != nullptr) {
        const float a = feature.weights[position];
#pragma unroll
        for (int col = 0; col < kCols; ++col) e[col] = a * e[col];
      }
      StoreOutput(feature, position, lane, e);
    };
    const auto zero = [&](int64_t position) {
#pragma unroll
      for (int col = 0; col < kCols; ++col) e[col] = 0.0f;
      if (lane.in_row) StoreOutput(feature, position, lane, e);
    };
    if constexpr (kList) {
      for (int u = 0; u < kGatherItems && begin + u < feature.n_ids; ++u) {
        int64_t item = items[0];
#pragma unroll
        for (int other = 1; other < kGatherItems; ++other) item = other == u ? items[other] : item;
        if (item < 0) {
          zero(begin + u);
          continue;
        }
        ComposeFromList<CentralT, ResidualT>(feature, lane, item, scores, e);
        store(begin + u);
      }
    } else {
      int64_t rows[kGatherItems];
      int32_t centers[kGatherItems];
      LoadMaps(feature, items, rows, centers);
      constexpr int kItems = kItemsInFlight<CentralT, ResidualT, kCols>;
#pragma unroll
      for (int from = 0; from < kGatherItems; from += kItems) {
        Pack<CentralT, kCols> central[kItems];
        Pack<ResidualT, kCols> residual[kItems];
#pragma unroll
        for (int u = 0; u < kItems; ++u) {
          if (rows[from + u] >= 0) LoadResidual(residual[u], feature, rows[from + u], lane.column);
          if (centers[from + u] >= 0) LoadCentral(central[u], feature, centers[from + u], lane.column);
        }
#pragma unroll
        for (int u = 0; u < kItems; ++u) {
          const int64_t position = begin + from + u;
          if (position >= feature.n_ids) continue;
          if (items[from + u] < 0) {
            zero(position);
            continue;
          }
          ComposeFromRows(centers[from + u], central[u], rows[from + u], residual[u], e);
          store(position);
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
      return gpu::Launch(PoolKernel<CentralT, ResidualT, kCols, kList, false>, grid, block, 0, stream, params);
    default:
      return gpu::Launch(PoolKernel<CentralT, ResidualT, kCols, kList, true>, grid, block, 0, stream, params);
  }
}

template <typename CentralT, typename ResidualT>
cudaError_t LaunchForward(const ForwardVariant& variant, const ForwardParams& params, const LaunchShape& shape,
                          cudaStream_t stream) {
  constexpr int kWide = sizeof(CentralT) == 4 && sizeof(ResidualT) == 4 ? 4 : 8;
  if (variant.wide) {
    return variant.list ? LaunchKind<CentralT, ResidualT, kWide, true>(variant.kind, params, shape, stream)
                        : LaunchKind<CentralT, ResidualT, kWide, false>(variant.kind, params, shape, stream);
  }
  return variant.list ? LaunchKind<CentralT, ResidualT, 1, true>(variant.kind, params, shape, stream)
                      : LaunchKind<CentralT, ResidualT, 1, false>(variant.kind, params, shape, stream);
}

}  // namespace resembed::kernels
