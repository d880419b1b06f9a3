// SPDX-License-Identifier: Apache-2.0
// Kernels of the heads' arithmetic (dense_math.h says what each function is), as host code sees them. Arrays
// are device memory. Each returns its launch's own status. Sums run over pieces of kPieceRows rows, and over
// the pieces, in order: the same bits for any grid.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "host/train/dense_args.h"

namespace resembed::train {

struct DenseGrid {
  cudaStream_t stream = nullptr;
  int64_t most_blocks = 4096;  // kernels walk over the rest of the work
};

constexpr int64_t kPieceRows = 64;
RESEMBED_HOST_DEVICE constexpr int64_t PiecesOf(int64_t rows) { return (rows + kPieceRows - 1) / kPieceRows; }

cudaError_t LaunchAdd(const DenseGrid& grid, int64_t n, const float* a, const float* b, float* y);
cudaError_t LaunchAddRow(const DenseGrid& grid, int64_t rows, int64_t cols, const float* row, float* x);
cudaError_t LaunchAddRelu(const DenseGrid& grid, int64_t rows, int64_t cols, const float* shift,
                          int64_t shift_rows, float* x);
cudaError_t LaunchReluBackward(const DenseGrid& grid, int64_t n, const float* x, float* d);
cudaError_t LaunchScaleColumns(const DenseGrid& grid, int64_t rows, int64_t cols, const float* w,
                               const float* x, float* y);
// y[c] = sum_i a[i, c] (b null), or sum_i a[i, c] * b[i, c]; lda of both. pieces: [PiecesOf(rows), cols]
// scratch.
cudaError_t LaunchColumnSums(const DenseGrid& grid, int64_t rows, int64_t cols, const float* a,
                             const float* b, int64_t lda, float* pieces, float* y);
// Scores, d_c, and by row the loss and inv * dloss/dscore; the sums over rows are the caller's.
cudaError_t LaunchLogistic(const DenseGrid& grid, const LogisticLoss& loss, double* row_loss, float* d_score);
// All but g_repeat and loss, whose parts are written by row: row_repeat [n, kRepeatFeatures].
cudaError_t LaunchSoftmax(const DenseGrid& grid, const SoftmaxLoss& loss, double* row_loss,
                          float* row_repeat);
// y[0] = sum of x[n]
cudaError_t LaunchSum(const DenseGrid& grid, int64_t n, const double* x, double* y);
cudaError_t LaunchAdam(const DenseGrid& grid, float* value, float* m, float* v, const float* grad, int64_t n,
                       float lr, float beta1, float beta2, float eps, float c1, float c2);
cudaError_t LaunchDrop(const DenseGrid& grid, const Dropout& dropout, int64_t n, float* x);
cudaError_t LaunchBiasShifts(const DenseGrid& grid, int64_t n, const int32_t* ids, const float* bias,
                             const float* less, float* y);
cudaError_t LaunchStepBiases(const DenseGrid& grid, const BiasStep& step);

}  // namespace resembed::train
