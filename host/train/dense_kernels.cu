// SPDX-License-Identifier: Apache-2.0
#include "host/train/dense_kernels.h"
#include "kernels/gpu.cuh"

namespace resembed::train {

namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kColumnsOfBlock = 128;
constexpr int kRowThreads = 128;  // of a row of the softmax
constexpr int kF = kRepeatFeatures;

__device__ __forceinline__ float WarpSum(float x) {
  for (int half = kWarp / 2; half > 0; half /= 2) x += __shfl_xor_sync(0xffffffffu, x, half);
  return x;
}
__device__ __forceinline__ float WarpMax(float x) {
  for (int half = kWarp / 2; half > 0; half /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, half));
  return x;
}

// body(i) for each i in [0, n).
template <typename Body>
__global__ void __launch_bounds__(kThreads) EachKernel(int64_t n, const __grid_constant__ Body body) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x) body(i);
}

struct AddBody {
  const float *a, *b;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = a[i] + b[i]; }
};
struct AddRowBody {
  int64_t cols;
  const float* row;
  float* x;
  __device__ void operator()(int64_t i) const { x[i] += row[i % cols]; }
};
struct AddReluBody {
  int64_t n_shifts;  // elements
  const float* shift;
  float* x;
  __device__ void operator()(int64_t i) const { x[i] = fmaxf(x[i] + shift[i % n_shifts], 0.0f); }
};
struct ReluBackwardBody {
  const float* x;
  float* d;
  __device__ void operator()(int64_t i) const {
    if (!(x[i] > 0)) d[i] = 0.0f;
  }
};
struct ScaleColumnsBody {
  int64_t cols;
  const float *w, *x;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = w[i % cols] * x[i]; }
};
struct AdamBody {
  float *value, *m, *v;
  const float* grad;
  float rate, beta1, beta2, eps, c2;
  __device__ void operator()(int64_t i) const {
    const float g = grad[i];
    m[i] = beta1 * m[i] + (1.0f - beta1) * g;
    v[i] = beta2 * v[i] + (1.0f - beta2) * (g * g);
    value[i] -= rate * m[i] / (sqrtf(v[i] / c2) + eps);
  }
};
struct DropBody {
  Dropout dropout;
  int64_t n;
  float* x;
  __device__ void operator()(int64_t quad) const { dropout.Apply(quad, n, x); }
};
struct BiasShiftsBody {
  const int32_t* ids;
  const float *bias, *less;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = bias[ids[i]] - less[ids[i]]; }
};
struct StepBiasBody {
  BiasStep step;
  __device__ void operator()(int64_t group) const { StepBias(step, group); }
};
struct SumPiecesBody {
  int64_t n_pieces, cols;
  const float* pieces;
  float* y;
  __device__ void operator()(int64_t col) const {
    float sum = 0.0f;
    for (int64_t piece = 0; piece < n_pieces; ++piece) sum += pieces[piece * cols + col];
    y[col] = sum;
  }
};

// out[p, c] = sum over the rows of piece p. A thread owns a column of a piece.
template <bool kDots>
__global__ void __launch_bounds__(kColumnsOfBlock)
    ColumnPiecesKernel(int64_t rows, int64_t cols, const float* a, const float* b, int64_t lda, float* out) {
  const int64_t tiles = (cols + kColumnsOfBlock - 1) / kColumnsOfBlock, n_units = PiecesOf(rows) * tiles;
  for (int64_t unit = blockIdx.x; unit < n_units; unit += gridDim.x) {
    const int64_t piece = unit / tiles, col = unit % tiles * kColumnsOfBlock + threadIdx.x;
    if (col >= cols) continue;
    const int64_t end = min(rows, (piece + 1) * kPieceRows);
    float sum = 0.0f;
    for (int64_t row = piece * kPieceRows; row < end; ++row) {
      sum += kDots ? a[row * lda + col] * b[row * lda + col] : a[row * lda + col];
    }
    out[piece * cols + col] = sum;
  }
}

// A warp a row.
__global__ void __launch_bounds__(kThreads)
    LogisticKernel(const __grid_constant__ LogisticLoss p, double* row_loss, float* d_score) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp; row < p.n;
       row += warps) {
    const float* c = p.c + row * p.cols;
    float score = 0.0f;
    for (int64_t col = lane; col < p.cols; col += kWarp) score += c[col] * p.w3[col];
    score = WarpSum(score) + p.b3[0];
    const bool is_positive = row < p.n_positive;
    const float d = p.inv * (1.0f / (1.0f + expf(-score)) - (is_positive ? 1.0f : 0.0f));
    for (int64_t col = lane; col < p.cols; col += kWarp) {
      p.d_c[row * p.cols + col] = c[col] > 0 ? d * p.w3[col] : 0.0f;
    }
    if (lane != 0) continue;
    const float x = is_positive ? -score : score;
    row_loss[row] = static_cast<double>(fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))));
    d_score[row] = d;
  }
}

// Of all threads of a block of kRowThreads, in a fixed order; `parts` is free again afterwards.
template <bool kMax>
__device__ __forceinline__ float BlockReduce(float x, float (&parts)[kRowThreads / kWarp]) {
  x = kMax ? WarpMax(x) : WarpSum(x);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = parts[0];
  for (int part = 1; part < kRowThreads / kWarp; ++part) x = kMax ? fmaxf(x, parts[part]) : x + parts[part];
  __syncthreads();
  return x;
}

// A block a row.
__global__ void __launch_bounds__(kRowThreads)
    SoftmaxKernel(const __grid_constant__ SoftmaxLoss p, double* row_loss, float* row_repeat) {
  RESEMBED_SHARED(float, parts, [kRowThreads / kWarp]);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t row = blockIdx.x; row < p.n; row += gridDim.x) {
    const float *query = p.query + row * p.dim, *target = p.target + row * p.dim;
    const float* target_repeat = p.target_repeat + row * kF;
    float* probability = p.probability + row * p.m;
    const int32_t begin = p.seen_begin[row], end = p.seen_begin[row + 1], wanted = p.target_ids[row];
    float dot = 0.0f;
    for (int64_t col = thread; col < p.dim; col += kRowThreads) dot += query[col] * target[col];
    dot = BlockReduce<false>(dot, parts);
    for (int f = 0; f < kF; ++f) dot += p.repeat_weight[f] * target_repeat[f];
    const float target_logit = dot + p.target_shift[row];

    for (int64_t c = thread; c < p.m; c += kRowThreads) probability[c] += p.negative_shift[c];
    __syncthreads();
    for (int32_t at = begin + thread; at < end; at += kRowThreads) {
      const SeenNegative& seen = p.seen[at];
      float logit = probability[seen.column];
      for (int f = 0; f < kF; ++f) logit += p.repeat_weight[f] * seen.features[f];
      probability[seen.column] = logit;
    }
    __syncthreads();
    float largest = target_logit;
    for (int64_t c = thread; c < p.m; c += kRowThreads) {
      if (p.negative_ids[c] == wanted) probability[c] = -1e30f;
      largest = fmaxf(largest, probability[c]);
    }
    largest = BlockReduce<true>(largest, parts);
    float sum = 0.0f;
    for (int64_t c = thread; c < p.m; c += kRowThreads) {
      const float e = expf(probability[c] - largest);
      probability[c] = e;
      sum += e;
    }
    const float of_target = expf(target_logit - largest);
    sum = BlockReduce<false>(sum, parts) + of_target;
    const float share = 1.0f / sum, d_target = p.inv * (of_target * share - 1.0f);
    for (int64_t c = thread; c < p.m; c += kRowThreads) probability[c] = p.inv * (probability[c] * share);
    for (int64_t col = thread; col < p.dim; col += kRowThreads) {
      p.d_target[row * p.dim + col] = d_target * query[col];
      p.d_query[row * p.dim + col] = d_target * target[col];
    }
    if (thread == 0) {
      p.d_target_shift[row] = d_target;
      row_loss[row] = static_cast<double>(largest + logf(sum)) - static_cast<double>(target_logit);
    }
    __syncthreads();
    if (thread < kF) {
      float g = 0.0f;
      for (int32_t at = begin; at < end; ++at)
        g += probability[p.seen[at].column] * p.seen[at].features[thread];
      row_repeat[row * kF + thread] = g + d_target * target_repeat[thread];
    }
  }
}

// One block: each thread sums every kThreads-th element, then a tree.
__global__ void __launch_bounds__(kThreads) SumKernel(int64_t n, const double* x, double* y) {
  RESEMBED_SHARED(double, sums, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  double sum = 0;
  for (int64_t i = thread; i < n; i += kThreads) sum += x[i];
  sums[thread] = sum;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (thread == 0) y[0] = sums[0];
}

dim3 Blocks(const DenseGrid& grid, int64_t n, int64_t of_block) {
  const int64_t blocks = (n + of_block - 1) / of_block;
  return dim3(static_cast<unsigned int>(blocks < grid.most_blocks ? blocks : grid.most_blocks));
}

// Nothing is launched for no work.
template <typename Body>
cudaError_t Each(const DenseGrid& grid, int64_t n, const Body& body) {
  if (n <= 0) return cudaSuccess;
  return gpu::Launch(EachKernel<Body>, Blocks(grid, n, kThreads), dim3(kThreads), 0, grid.stream, n, body);
}

}  // namespace

cudaError_t LaunchAdd(const DenseGrid& grid, int64_t n, const float* a, const float* b, float* y) {
  return Each(grid, n, AddBody{a, b, y});
}
cudaError_t LaunchAddRow(const DenseGrid& grid, int64_t rows, int64_t cols, const float* row, float* x) {
  return Each(grid, rows * cols, AddRowBody{cols, row, x});
}
cudaError_t LaunchAddRelu(const DenseGrid& grid, int64_t rows, int64_t cols, const float* shift,
                          int64_t shift_rows, float* x) {
  return Each(grid, rows * cols, AddReluBody{shift_rows * cols, shift, x});
}
cudaError_t LaunchReluBackward(const DenseGrid& grid, int64_t n, const float* x, float* d) {
  return Each(grid, n, ReluBackwardBody{x, d});
}
cudaError_t LaunchScaleColumns(const DenseGrid& grid, int64_t rows, int64_t cols, const float* w,
                               const float* x, float* y) {
  return Each(grid, rows * cols, ScaleColumnsBody{cols, w, x, y});
}

cudaError_t LaunchColumnSums(const DenseGrid& grid, int64_t rows, int64_t cols, const float* a,
                             const float* b, int64_t lda, float* pieces, float* y) {
  const int64_t n_pieces = PiecesOf(rows);
  const int64_t units = n_pieces * ((cols + kColumnsOfBlock - 1) / kColumnsOfBlock);
  const cudaError_t error =
      gpu::Launch(b == nullptr ? ColumnPiecesKernel<false> : ColumnPiecesKernel<true>, Blocks(grid, units, 1),
                  dim3(kColumnsOfBlock), 0, grid.stream, rows, cols, a, b, lda, pieces);
  return error != cudaSuccess ? error : Each(grid, cols, SumPiecesBody{n_pieces, cols, pieces, y});
}

cudaError_t LaunchLogistic(const DenseGrid& grid, const LogisticLoss& loss, double* row_loss,
                           float* d_score) {
  return gpu::Launch(LogisticKernel, Blocks(grid, loss.n, kThreads / kWarp), dim3(kThreads), 0, grid.stream,
                     loss, row_loss, d_score);
}
cudaError_t LaunchSoftmax(const DenseGrid& grid, const SoftmaxLoss& loss, double* row_loss,
                          float* row_repeat) {
  return gpu::Launch(SoftmaxKernel, Blocks(grid, loss.n, 1), dim3(kRowThreads), 0, grid.stream, loss,
                     row_loss, row_repeat);
}
cudaError_t LaunchSum(const DenseGrid& grid, int64_t n, const double* x, double* y) {
  return gpu::Launch(SumKernel, dim3(1), dim3(kThreads), 0, grid.stream, n, x, y);
}

cudaError_t LaunchAdam(const DenseGrid& grid, float* value, float* m, float* v, const float* grad, int64_t n,
                       float lr, float beta1, float beta2, float eps, float c1, float c2) {
  return Each(grid, n, AdamBody{value, m, v, grad, lr / c1, beta1, beta2, eps, c2});
}
cudaError_t LaunchDrop(const DenseGrid& grid, const Dropout& dropout, int64_t n, float* x) {
  return Each(grid, (n + 3) / 4, DropBody{dropout, n, x});
}
cudaError_t LaunchBiasShifts(const DenseGrid& grid, int64_t n, const int32_t* ids, const float* bias,
                             const float* less, float* y) {
  return Each(grid, n, BiasShiftsBody{ids, bias, less, y});
}
cudaError_t LaunchStepBiases(const DenseGrid& grid, const BiasStep& step) {
  return Each(grid, step.n_groups, StepBiasBody{step});
}

}  // namespace resembed::train
