// SPDX-License-Identifier: Apache-2.0
// Compiled once per instruction set. RESEMBED_DENSE_ISA names the namespace; the build also renames the
// namespace Eigen, so that the linker cannot mix code of different sets. Nothing of the standard library
// that is not inlined may be used here, for the same reason.
#include <Eigen/Core>

#include "host/train/dense.h"

namespace resembed::train::RESEMBED_DENSE_ISA {

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<>;
using In = Eigen::Map<const Matrix, Eigen::Unaligned, Stride>;
using Out = Eigen::Map<Matrix, Eigen::Unaligned, Stride>;
using InArray = Eigen::Map<const Eigen::ArrayXf>;
using OutArray = Eigen::Map<Eigen::ArrayXf>;

template <typename A, typename B>
void Multiply(const A& a, const B& b, Out c, bool accumulate) {
  if (accumulate) {
    c.noalias() += a * b;
  } else {
    c.noalias() = a * b;
  }
}

void GemmNn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            float* c, int64_t ldc, bool accumulate) {
  Multiply(In(a, m, k, Stride(lda)), In(b, k, n, Stride(ldb)), Out(c, m, n, Stride(ldc)), accumulate);
}

void GemmTn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            float* c, int64_t ldc, bool accumulate) {
  Multiply(In(a, k, m, Stride(lda)).transpose(), In(b, k, n, Stride(ldb)), Out(c, m, n, Stride(ldc)),
           accumulate);
}

void GemmNt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
            float* c, int64_t ldc, bool accumulate) {
  Multiply(In(a, m, k, Stride(lda)), In(b, n, k, Stride(ldb)).transpose(), Out(c, m, n, Stride(ldc)),
           accumulate);
}

float Softmax(float* x, int64_t n) {
  OutArray row(x, n);
  const float largest = row.maxCoeff();
  row = (row - largest).exp();
  const float sum = row.sum();
  row *= 1.0f / sum;
  return largest + std::log(sum);
}

void AddRelu(const float* x, const float* shift, float* y, int64_t n) {
  OutArray(y, n) = (InArray(x, n) + InArray(shift, n)).max(0.0f);
}

void Adam(float* value, float* m, float* v, const float* grad, int64_t n, float lr, float beta1, float beta2,
          float eps, float c1, float c2) {
  InArray g(grad, n);
  OutArray first(m, n), second(v, n), w(value, n);
  first = beta1 * first + (1.0f - beta1) * g;
  second = beta2 * second + (1.0f - beta2) * g.square();
  w -= (lr / c1) * first / ((second / c2).sqrt() + eps);
}

}  // namespace

const DenseOps& Ops();
const DenseOps& Ops() {
  static constexpr DenseOps kOps = {GemmNn, GemmTn, GemmNt, Softmax, AddRelu, Adam};
  return kOps;
}

}  // namespace resembed::train::RESEMBED_DENSE_ISA
