// SPDX-License-Identifier: Apache-2.0
// The arithmetic that the heads are written in, once: on the host (Eigen, dense_math.cc), or on a GPU by
// cuBLAS and kernels (dense_device.cc).
//
// Arrays lie where device() says: host memory, or memory of the device, where a call is enqueued on its
// stream and throws Error when it could not be. Matrices are row-major float with a leading dimension, dense
// where none is given; outputs overlap no input unless it is said. Sums have a fixed order: the same bits on
// every run, which host and device share where no product, exp or sum over rows is involved.
#pragma once

#include <cstdint>

#include "host/train/dense_args.h"

namespace resembed::train {

class Device;

class DenseMath {
 public:
  virtual ~DenseMath() = default;
  virtual Device* device() const = 0;  // null: the host; every function may then be called by several threads

  // C[m, n] (+)= A[m, k] B[k, n]
  virtual void GemmNn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                      int64_t ldb, float* c, int64_t ldc, bool accumulate) = 0;
  // C[m, n] (+)= A[k, m]^T B[k, n]
  virtual void GemmTn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                      int64_t ldb, float* c, int64_t ldc, bool accumulate) = 0;
  // C[m, n] (+)= A[m, k] B[n, k]^T
  virtual void GemmNt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                      int64_t ldb, float* c, int64_t ldc, bool accumulate) = 0;

  // y = x
  virtual void Copy(int64_t n, const float* x, float* y) = 0;
  // y = a + b; y may be a or b
  virtual void Add(int64_t n, const float* a, const float* b, float* y) = 0;
  // x[i, :] += row
  virtual void AddRow(int64_t rows, int64_t cols, const float* row, float* x) = 0;
  // x[i, :] = max(0, x[i, :] + shift[i mod shift_rows, :])
  virtual void AddRelu(int64_t rows, int64_t cols, const float* shift, int64_t shift_rows, float* x) = 0;
  // d[i] = 0 where x[i] is not above 0
  virtual void ReluBackward(int64_t n, const float* x, float* d) = 0;
  // y[i, c] = w[c] * x[i, c]
  virtual void ScaleColumns(int64_t rows, int64_t cols, const float* w, const float* x, float* y) = 0;
  // y[c] = sum_i x[i, c]
  virtual void ColumnSums(int64_t rows, int64_t cols, const float* x, int64_t ldx, float* y) = 0;
  // y[c] = sum_i a[i, c] * b[i, c]
  virtual void ColumnDots(int64_t rows, int64_t cols, const float* a, const float* b, float* y) = 0;

  virtual void Logistic(const LogisticLoss& loss) = 0;
  virtual void Softmax(const SoftmaxLoss& loss) = 0;

  // Adam (Kingma and Ba 2015); c1, c2 are the bias corrections 1 - b^t.
  virtual void Adam(float* value, float* m, float* v, const float* grad, int64_t n, float lr, float beta1,
                    float beta2, float eps, float c1, float c2) = 0;
  virtual void Drop(const Dropout& dropout, int64_t n, float* x) = 0;
  // y[i] = bias[ids[i]] - less[ids[i]]
  virtual void BiasShifts(int64_t n, const int32_t* ids, const float* bias, const float* less, float* y) = 0;
  virtual void StepBiases(const BiasStep& step) = 0;
};

DenseMath& HostMath();
// The device's, where it has one; else, and for null, the host's.
DenseMath& MathOf(const Device* device);

}  // namespace resembed::train
