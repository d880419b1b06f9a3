// SPDX-License-Identifier: Apache-2.0
// Envelope statistics on the GPU, as host code sees them. Items are sorted by interest (stable); means and
// sums run in double over pieces of 4096 members that meet in order; distances and norms are dot products of
// 32 partial sums. The sums of the CPU backend, in its order: the same bits wherever no exp is involved.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/forward/forward.h"

namespace resembed::kernels {

constexpr int64_t kEnvelopePiece = 4096;

// Slot of the first piece of interest k whose members begin at `start`: the pieces of two interests never
// share one.
__host__ __device__ constexpr int64_t FirstPiece(int64_t start, int64_t k) {
  return start / kEnvelopePiece + k;
}
constexpr int64_t PiecesFor(int64_t n_items, int64_t n_interests) {
  return n_items / kEnvelopePiece + n_interests + 1;
}

struct EnvelopeParams {
  ForwardFeature table;  // the table's fields only; attention: stored weights once they are computed
  int32_t central_dtype, residual_dtype;
  const int32_t* interest_of;  // [n_items]; outside [0, n_interests) = left out
  int64_t n_interests;

  uint32_t* keys;         // [n_items] interest, n_interests = left out
  uint32_t* items;        // [n_items]
  uint32_t* sorted_keys;  // [n_items]
  uint32_t* members;      // [n_items] items by interest, in item order
  int64_t* starts;        // [n_interests + 1] of each interest's members
  float* attention;       // [n_items, n_neighbors] or null
  // By place in `members`:
  float* distance;       // to the interest's mean
  float* residual_norm;  // |R|
  float* central_norm;   // |central part|
  float* ratio;          // |R| / |central part|, NaN without a central part
  float* squares;        // squared distance to the global mean
  // By slot of a piece, of an interest or (global) of all members:
  double* column_sums;         // [slots, dim]
  double* piece_sums;          // [slots, 3] squares, residual norms, central norms
  double* global_column_sums;  // [n_items / 4096 + 1, dim]
  double* global_piece_sums;   // [n_items / 4096 + 1, 3]
  double* mean;                // [n_interests, dim]
  double* global_mean;         // [dim]
  double* interest_squares;    // [n_interests]

  // Outputs, each may be null.
  int64_t* count;
  float* mean_residual_norm;
  float* mean_central_norm;
  float* global;  // [4]
};

// Most blocks of a grid; kernels walk over the rest of the work.
constexpr int64_t kEnvelopeBlocks = 1 << 20;

// Every number the statistics need but quantiles; `sort` runs between keys and the rest.
cudaError_t LaunchEnvelopeKeys(const EnvelopeParams& params, int64_t most_blocks, cudaStream_t stream);
cudaError_t LaunchEnvelopeSums(const EnvelopeParams& params, int64_t most_blocks, cudaStream_t stream);

// out[k * out_stride] = a value of interest k's stretch of `values`, found by its bits; with whole = true of
// all members, into out[0]. quantile in [0, 1]: the nearest rank, 0 of none; negative: the median of what is
// no NaN.
cudaError_t LaunchSelect(const EnvelopeParams& params, const float* values, double quantile, bool whole,
                         float* out, int64_t out_stride, int64_t most_blocks, cudaStream_t stream);

}  // namespace resembed::kernels
