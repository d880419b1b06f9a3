// SPDX-License-Identifier: Apache-2.0
// Dense arithmetic of the heads on the host: matrix products and vector functions by Eigen, built for several
// instruction sets and chosen at run time.
//
// All matrices are row-major float with a leading dimension. Every function runs on the calling thread.
#pragma once

#include <cstdint>

namespace resembed::train {

struct DenseOps {
  // C[m, n] (+)= A[m, k] B[k, n]
  void (*gemm_nn)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool accumulate);
  // C[m, n] (+)= A[k, m]^T B[k, n]
  void (*gemm_tn)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool accumulate);
  // C[m, n] (+)= A[m, k] B[n, k]^T
  void (*gemm_nt)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool accumulate);
  // x[i] = exp(x[i] - max(x)) * (1 / sum); returns max + log(sum).
  float (*softmax)(float* x, int64_t n);
  // y[i] = max(0, x[i] + shift[i])
  void (*add_relu)(const float* x, const float* shift, float* y, int64_t n);
  // Adam (Kingma and Ba 2015); c1, c2 are the bias corrections 1 - b^t.
  void (*adam)(float* value, float* m, float* v, const float* grad, int64_t n, float lr, float beta1,
               float beta2, float eps, float c1, float c2);
};

// For the widest instruction set of this machine.
const DenseOps& Dense();

}  // namespace resembed::train
