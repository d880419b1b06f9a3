// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for the functions of cuBLAS that the trainer loads, with their documented arguments: matrices are
// column-major, what does not fit is CUBLAS_STATUS_INVALID_VALUE, and a product runs when its stream gets
// there, on the emulator of the program. A handle without a workspace of the caller's would allocate one
// inside a step: it is refused.
#include <cublas_v2.h>

#include <algorithm>

#include "tests/emulator/emulator.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
  bool has_workspace = false;
};

namespace {

struct Product {
  bool transpose_a, transpose_b;
  int m, n, k;
  float alpha, beta;
  const float *a, *b;
  float* c;
  long lda, ldb, ldc;
};

// C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C; what C holds does not count where beta is 0.
void Multiply(void* data) {
  const Product& p = *static_cast<const Product*>(data);
  for (long col = 0; col < p.n; ++col) {
    for (long row = 0; row < p.m; ++row) {
      float sum = 0.0f;
      for (long i = 0; i < p.k; ++i) {
        sum += p.a[p.transpose_a ? i + row * p.lda : row + i * p.lda] *
               p.b[p.transpose_b ? col + i * p.ldb : i + col * p.ldb];
      }
      float& c = p.c[row + col * p.ldc];
      c = p.beta == 0.0f ? p.alpha * sum : p.alpha * sum + p.beta * c;
    }
  }
  delete static_cast<Product*>(data);
}

bool OnDevice(const void* at) {
  cudaPointerAttributes where = {};
  return cudaPointerGetAttributes(&where, at) == cudaSuccess && where.type == cudaMemoryTypeDevice;
}

bool IsTranspose(cublasOperation_t operation) { return operation == CUBLAS_OP_T || operation == CUBLAS_OP_C; }

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int* version) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

// Takes the workspace away, as the real one does.
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  handle->has_workspace = false;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (bytes == 0 || !OnDevice(workspace) || reinterpret_cast<size_t>(workspace) % 256 != 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  handle->has_workspace = true;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  return mode == CUBLAS_DEFAULT_MATH || mode == CUBLAS_PEDANTIC_MATH ? CUBLAS_STATUS_SUCCESS
                                                                     : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t) {
  return handle == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t of_a, cublasOperation_t of_b, int m,
                              int n, int k, const float* alpha, const float* a, int lda, const float* b,
                              int ldb, const float* beta, float* c, int ldc) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!handle->has_workspace) return CUBLAS_STATUS_ALLOC_FAILED;
  const bool transpose_a = IsTranspose(of_a), transpose_b = IsTranspose(of_b);
  if (m < 0 || n < 0 || k < 0 || alpha == nullptr || beta == nullptr ||
      lda < std::max(1, transpose_a ? k : m) || ldb < std::max(1, transpose_b ? n : k) ||
      ldc < std::max(1, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  if (!OnDevice(c) || (k > 0 && (!OnDevice(a) || !OnDevice(b)))) return CUBLAS_STATUS_INVALID_VALUE;
  Product* const product =
      new Product{transpose_a, transpose_b, m, n, k, *alpha, *beta, a, b, c, lda, ldb, ldc};
  return resembed::emulator::EnqueueNative(handle->stream, Multiply, product) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
