// SPDX-License-Identifier: Apache-2.0
// Sums of gradient rows over runs; equations and order in backward.h.
//
// Work      a group of lanes takes up to kTiles tiles of 32 columns of one run, or of one chunk of a long run.
// Metadata  every lane of a group reads the same use, source and item: one address, one transaction.
// In flight kTermsInFlight terms of kTiles loads each; terms are added in order.
#pragma once

#include "kernels/backward/backward.h"
#include "kernels/common/rows.cuh"

namespace resembed::kernels {

// One term: w * (a * row[c]), plus second_w * second[c] (attention, and a query of attention pooling), or +0 where
// argmax[c] is not `position` (max).
struct Term {
  const void* row;  // null = no term
  float a, w;
  resembed_dtype dtype;
  const int32_t* argmax;
  int64_t position;
  const float* second;
  float second_w;
};

__device__ __forceinline__ int SourceOf(const BackwardParams& params, int64_t use) {
  int low = 0, high = params.n_sources - 1;
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    if (params.sources[middle].first_use <= use) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

__device__ __forceinline__ int64_t BagStart(const BackwardSource& source, int64_t bag) {
  if (source.offsets == nullptr) return bag * source.bag_length;
  return source.wide_offsets ? static_cast<const int64_t*>(source.offsets)[bag]
                             : static_cast<const int32_t*>(source.offsets)[bag];
}

template <bool kPlain>
__device__ __forceinline__ Term UseTerm(const BackwardParams& params, int64_t at) {
  const int64_t use = params.use[at];
  const BackwardSource& source = params.sources[params.n_sources == 1 ? 0 : SourceOf(params, use)];
  Term term = {};
  if (source.rows == nullptr) return term;
  const int64_t position = use - source.first_use;
  const int64_t row = params.use_row[at] - source.first_row;
  term.row = source.rows + row * source.pitch;
  term.a = source.weights != nullptr ? source.weights[position] : 1.0f;
  if (source.divisor != nullptr) term.a = term.a / source.divisor[row];
  term.w = 1.0f;
  term.dtype = kPlain ? RESEMBED_F32 : source.dtype;
  if constexpr (!kPlain) {
    if (source.argmax != nullptr) {
      term.argmax = source.argmax + row * params.dim;
      term.position = position - BagStart(source, row);
    }
    if (source.query != nullptr) {
      term.second = source.query + row * source.query_stride;
      term.second_w = source.score_grads[position];
    }
  }
  return term;
}

template <bool kPlain>
__device__ __forceinline__ Term PairTerm(const BackwardParams& params, int64_t at) {
  const uint32_t number = params.pair[at];
  const int64_t unique = number >> params.slot_bits;
  const auto slot = static_cast<int32_t>(number & ((1u << params.slot_bits) - 1));
  Term term = {};
  term.a = term.w = 1.0f;
  term.dtype = RESEMBED_F32;
  if constexpr (!kPlain) {
    if (params.query != nullptr && slot == params.n_neighbors) {
      term.row = params.query + unique * params.dim;
      return term;
    }
  }
  const ItemGrad item = params.items[unique];
  term.row = item.row;
  if (item.row == nullptr) return term;
  term.a = item.a;
  if constexpr (!kPlain) term.dtype = item.dtype;
  if (params.weight == PairWeight::kUniform) term.w = params.pair_weight[unique];
  if (params.weight == PairWeight::kByNumber) term.w = params.pair_weight[number];
  if (params.weight == PairWeight::kStored) {
    term.w = params.stored[params.unique[unique] * params.stored_stride + slot];
  }
  if constexpr (!kPlain) {
    if (params.slope != nullptr) {
      term.second = params.own + unique * params.dim;
      term.second_w = params.slope[number];
    }
  }
  return term;
}

// This lane's columns of a run's sum.
template <int kCols, int kTiles>
struct Sum {
  float values[kTiles][kCols];
  bool any;  // some term was added; otherwise zeros
};

template <bool kPlain, int kCols>
__device__ __forceinline__ void LoadTerm(float (&values)[kCols], const Term& term, int64_t column) {
  LoadColumns(values, term.row, kPlain ? RESEMBED_F32 : term.dtype, column);
#pragma unroll
  for (int col = 0; col < kCols; ++col) {
    if constexpr (!kPlain) {
      if (term.argmax != nullptr) {
        if (term.argmax[column + col] != term.position) values[col] = 0.0f;
        continue;
      }
    }
    values[col] = term.w * (term.a * values[col]);
    if constexpr (!kPlain) {
      if (term.second != nullptr) values[col] = values[col] + term.second_w * term.second[column + col];
    }
  }
}

template <bool kPairs, bool kPlain, int kCols, int kTiles>
__device__ __forceinline__ void SumTerms(const BackwardParams& params, int64_t first, int64_t last, int64_t first_tile,
                                         Sum<kCols, kTiles>* sum) {
  constexpr int kTermsInFlight = kTiles == 1 ? 4 : 2;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int col = 0; col < kCols; ++col) sum->values[tile][col] = 0.0f;
  }
  sum->any = false;
  for (int64_t at = first; at < last; at += kTermsInFlight) {
    Term terms[kTermsInFlight];
#pragma unroll
    for (int u = 0; u < kTermsInFlight; ++u) {
      terms[u].row = nullptr;
      if (at + u < last) terms[u] = kPairs ? PairTerm<kPlain>(params, at + u) : UseTerm<kPlain>(params, at + u);
    }
    float values[kTermsInFlight][kTiles][kCols];
#pragma unroll
    for (int u = 0; u < kTermsInFlight; ++u) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const int64_t column = Group<kCols>::Column(first_tile + tile);
        if (terms[u].row != nullptr && column < params.dim) LoadTerm<kPlain>(values[u][tile], terms[u], column);
      }
    }
#pragma unroll
    for (int u = 0; u < kTermsInFlight; ++u) {
      if (terms[u].row == nullptr) continue;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (Group<kCols>::Column(first_tile + tile) >= params.dim) continue;
#pragma unroll
        for (int col = 0; col < kCols; ++col) {
          sum->values[tile][col] = sum->any ? sum->values[tile][col] + values[u][tile][col] : values[u][tile][col];
        }
      }
      sum->any = true;
    }
  }
}

// (p0 + p1) + p2 ... over the chunks of a long run.
template <int kCols, int kTiles>
__device__ __forceinline__ void MeetChunks(const BackwardParams& params, int64_t begin, int64_t end, int64_t first_tile,
                                           Sum<kCols, kTiles>* sum) {
  const int64_t slot = FirstChunkSlot(begin), n_chunks = (end - begin + kRunBlock - 1) / kRunBlock;
  sum->any = true;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = Group<kCols>::Column(first_tile + tile);
    if (column >= params.dim) continue;
    const float* partials = params.partials + slot * params.dim;
    LoadColumns(sum->values[tile], partials, RESEMBED_F32, column);
#pragma unroll 4
    for (int64_t chunk = 1; chunk < n_chunks; ++chunk) {
      float values[kCols];
      LoadColumns(values, partials + chunk * params.dim, RESEMBED_F32, column);
#pragma unroll
      for (int col = 0; col < kCols; ++col) sum->values[tile][col] += values[col];
    }
  }
}

template <int kCols, int kTiles>
__device__ __forceinline__ void StoreSum(const BackwardParams& params, float* row, int64_t first_tile,
                                         const Sum<kCols, kTiles>& sum) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = Group<kCols>::Column(first_tile + tile);
    if (column < params.dim) StoreColumns(row, RESEMBED_F32, column, sum.values[tile]);
  }
}

// A block's part of one table: so many runs or chunks, a set of tiles of their rows.
template <int kCols, int kTiles>
struct Part {
  int64_t run, first_tile;
  __device__ __forceinline__ Part(const BackwardParams& params, int64_t block) {
    const int64_t n_parts = (TilesOf(params.dim) + kTiles - 1) / kTiles;
    run = Group<kCols>::Of(block / n_parts);
    first_tile = block % n_parts * kTiles;
  }
};

// Blocks a multiprocessor shall hold: as many as fit without a spill.
template <bool kPlain, int kCols, int kTiles>
constexpr int kLeastBlocks = !kPlain || !gpu::kTightRegisters ? 2 : kCols == 1 ? 4 : kTiles == 1 ? 3 : 2;

// The widest sum with a second row a term (attention pooling) takes more than two blocks leave it.
template <bool kPlain, int kCols, int kTiles>
constexpr int kLeastBlocksOfItems = !kPlain && kCols == 4 && kTiles == 4 ? 1 : kLeastBlocks<kPlain, kCols, kTiles>;

using Tables = Batch<BackwardParams>;

template <bool kPairs, bool kPlain, int kCols, int kTiles>
__global__ void __launch_bounds__(256, kCols == 1 ? kLeastBlocks<kPlain, kCols, kTiles> : 2) ChunksKernel(const __grid_constant__ Tables batch) {
  ForEntries(batch, [](const BackwardParams& params, int64_t block) {
    const Part<kCols, kTiles> part(params, block);
    const int64_t slot = part.run, first_tile = part.first_tile;
    const int64_t n_slots = params.counts->status != 0 ? 0 : kPairs ? params.n_pair_slots : params.n_use_slots;
    if (slot >= n_slots) return;
    const PlanChunk chunk = (kPairs ? params.pair_chunks : params.use_chunks)[slot];
    if (chunk.run == kNoRun) return;
    const int64_t first = chunk.first, end = (kPairs ? params.pair_begin : params.use_begin)[chunk.run + 1];
    Sum<kCols, kTiles> sum;
    SumTerms<kPairs, kPlain>(params, first, end - first < kRunBlock ? end : first + kRunBlock, first_tile, &sum);
    StoreSum(params, params.partials + slot * params.dim, first_tile, sum);
  });
}

template <bool kPlain, int kCols, int kTiles>
__global__ void __launch_bounds__(256, kLeastBlocksOfItems<kPlain, kCols, kTiles>) ItemsKernel(const __grid_constant__ Tables batch) {
  ForEntries(batch, [](const BackwardParams& params, int64_t block) {
    const Part<kCols, kTiles> part(params, block);
    const int64_t run = part.run, first_tile = part.first_tile;
    const int64_t n_runs = params.counts->status != 0 ? 0 : params.counts->n_unique;
    if (run >= n_runs) return;
    const int64_t begin = params.use_begin[run], end = params.use_begin[run + 1];
    const bool names = params.items != nullptr && first_tile == 0 && Group<kCols>::Lane() == 0;
    bool once = end - begin == 1;
    if (once) {
      const Term term = UseTerm<kPlain>(params, begin);
      once = term.row != nullptr && (kPlain || (term.argmax == nullptr && term.second == nullptr));
      if (once && names) params.items[run] = {term.row, term.a, term.dtype};
    }
    const bool stores = params.item_rows != nullptr && (params.keeps_rows || !once);
    if (once && !stores && params.dense == nullptr) return;
    Sum<kCols, kTiles> sum;
    if (end - begin > kRunBlock) {
      MeetChunks(params, begin, end, first_tile, &sum);
    } else {
      SumTerms<false, kPlain>(params, begin, end, first_tile, &sum);
    }
    float* row = params.item_rows == nullptr ? nullptr : params.item_rows + run * params.item_stride;
    if (stores) StoreSum(params, row, first_tile, sum);
    if (params.dense != nullptr) {
      int64_t dense_row = params.unique[run];
      if (params.residual_row_of != nullptr) dense_row = params.residual_row_of[dense_row];
      if (dense_row >= 0) StoreSum(params, params.dense + dense_row * params.dense_stride, first_tile, sum);
    }
    if (!once && names) params.items[run] = {sum.any ? row : nullptr, 1.0f, RESEMBED_F32};
  });
}

template <bool kPlain, int kCols, int kTiles>
__global__ void __launch_bounds__(256, kLeastBlocks<kPlain, kCols, kTiles>) CentralKernel(const __grid_constant__ Tables batch) {
  ForEntries(batch, [](const BackwardParams& params, int64_t block) {
    const Part<kCols, kTiles> part(params, block);
    const int64_t run = part.run, first_tile = part.first_tile;
    const int64_t n_runs = params.counts->status != 0 ? 0 : params.counts->n_unique_central;
    if (run >= n_runs) return;
    const int64_t begin = params.pair_begin[run], end = params.pair_begin[run + 1];
    Sum<kCols, kTiles> sum;
    if (end - begin > kRunBlock) {
      MeetChunks(params, begin, end, first_tile, &sum);
    } else {
      SumTerms<true, kPlain>(params, begin, end, first_tile, &sum);
    }
    const int64_t row = params.central_dense ? params.central[run] : run;
    StoreSum(params, params.central_rows + row * params.central_stride, first_tile, sum);
  });
}

template <bool kPlain, int kCols, int kTiles>
cudaError_t LaunchBackwardOf(BackwardPass pass, const Tables& batch, const Grid& grid, cudaStream_t stream) {
  switch (pass) {
    case BackwardPass::kUseChunks:
      return LaunchEntries(ChunksKernel<false, kPlain, kCols, kTiles>, batch, grid, stream);
    case BackwardPass::kItems:
      return LaunchEntries(ItemsKernel<kPlain, kCols, kTiles>, batch, grid, stream);
    case BackwardPass::kPairChunks:
      return LaunchEntries(ChunksKernel<true, kPlain, kCols, kTiles>, batch, grid, stream);
    default:
      return LaunchEntries(CentralKernel<kPlain, kCols, kTiles>, batch, grid, stream);
  }
}

// Instantiated in inst_*.cu.
template <bool kPlain, int kCols>
cudaError_t LaunchBackward(BackwardPass pass, const Tables& batch, bool one_tile, const Grid& grid,
                           cudaStream_t stream) {
  return one_tile ? LaunchBackwardOf<kPlain, kCols, 1>(pass, batch, grid, stream)
                  : LaunchBackwardOf<kPlain, kCols, kTilesOfGroup>(pass, batch, grid, stream);
}

}  // namespace resembed::kernels
