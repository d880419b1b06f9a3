// SPDX-License-Identifier: Apache-2.0
#include "host/train/dense_math.h"

#include <algorithm>
#include <cmath>

#include "host/train/aligned.h"
#include "host/train/dense.h"
#include "host/train/device.h"

namespace resembed::train {

namespace {

constexpr int64_t kF = kRepeatFeatures;

// log(1 + exp(x)) without overflow.
float Softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x))); }
float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Rows are summed one after the other.
class OnHost : public DenseMath {
 public:
  Device* device() const override { return nullptr; }

  void GemmNn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
              float* c, int64_t ldc, bool accumulate) override {
    Dense().gemm_nn(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }
  void GemmTn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
              float* c, int64_t ldc, bool accumulate) override {
    Dense().gemm_tn(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }
  void GemmNt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
              float* c, int64_t ldc, bool accumulate) override {
    Dense().gemm_nt(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }

  void Copy(int64_t n, const float* x, float* y) override { std::copy_n(x, n, y); }
  void Add(int64_t n, const float* a, const float* b, float* y) override {
    for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
  }
  void AddRow(int64_t rows, int64_t cols, const float* row, float* x) override {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t col = 0; col < cols; ++col) x[i * cols + col] += row[col];
    }
  }
  void AddRelu(int64_t rows, int64_t cols, const float* shift, int64_t shift_rows, float* x) override {
    for (int64_t i = 0; i < rows; ++i) {
      Dense().add_relu(x + i * cols, shift + i % shift_rows * cols, x + i * cols, cols);
    }
  }
  void ReluBackward(int64_t n, const float* x, float* d) override {
    for (int64_t i = 0; i < n; ++i) d[i] = x[i] > 0 ? d[i] : 0.0f;
  }
  void ScaleColumns(int64_t rows, int64_t cols, const float* w, const float* x, float* y) override {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t col = 0; col < cols; ++col) y[i * cols + col] = w[col] * x[i * cols + col];
    }
  }
  void ColumnSums(int64_t rows, int64_t cols, const float* x, int64_t ldx, float* y) override {
    std::fill_n(y, cols, 0.0f);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t col = 0; col < cols; ++col) y[col] += x[i * ldx + col];
    }
  }
  void ColumnDots(int64_t rows, int64_t cols, const float* a, const float* b, float* y) override {
    std::fill_n(y, cols, 0.0f);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t col = 0; col < cols; ++col) y[col] += a[i * cols + col] * b[i * cols + col];
    }
  }

  void Logistic(const LogisticLoss& p) override {
    std::fill_n(p.g_w3, p.cols, 0.0f);
    std::fill_n(p.g_b2, p.cols, 0.0f);
    *p.g_b3 = 0.0f;
    double loss = 0;
    for (int64_t row = 0; row < p.n; ++row) {
      float score = *p.b3;
      for (int64_t col = 0; col < p.cols; ++col) score += p.c[row * p.cols + col] * p.w3[col];
      const bool is_positive = row < p.n_positive;
      loss += Softplus(is_positive ? -score : score);
      const float d_score = p.inv * (Sigmoid(score) - (is_positive ? 1.0f : 0.0f));
      *p.g_b3 += d_score;
      for (int64_t col = 0; col < p.cols; ++col) {
        const float value = p.c[row * p.cols + col];
        p.g_w3[col] += d_score * value;
        const float d = value > 0 ? d_score * p.w3[col] : 0.0f;
        p.d_c[row * p.cols + col] = d;
        p.g_b2[col] += d;
      }
    }
    *p.loss = loss;
  }

  void Softmax(const SoftmaxLoss& p) override {
    AlignedVector<float> row_logits(static_cast<size_t>(p.m + 1));
    float* const logits = row_logits.data() + 1;
    std::fill_n(p.g_repeat, kF, 0.0f);
    double loss = 0;
    for (int64_t row = 0; row < p.n; ++row) {
      const float *query = p.query + row * p.dim, *target = p.target + row * p.dim;
      float* probability = p.probability + row * p.m;
      const SeenNegative *begin = p.seen + p.seen_begin[row], *end = p.seen + p.seen_begin[row + 1];
      float dot = 0;
      for (int64_t col = 0; col < p.dim; ++col) dot += query[col] * target[col];
      const float* target_repeat = p.target_repeat + row * kF;
      for (int64_t f = 0; f < kF; ++f) dot += p.repeat_weight[f] * target_repeat[f];
      row_logits[0] = dot + p.target_shift[row];
      for (int64_t c = 0; c < p.m; ++c) logits[c] = probability[c] + p.negative_shift[c];
      for (const SeenNegative* at = begin; at < end; ++at) {
        for (int64_t f = 0; f < kF; ++f) logits[at->column] += p.repeat_weight[f] * at->features[f];
      }
      for (int64_t c = 0; c < p.m; ++c) {
        if (p.negative_ids[c] == p.target_ids[row]) logits[c] = -1e30f;
      }
      const float target_logit = row_logits[0];
      loss += static_cast<double>(Dense().softmax(row_logits.data(), p.m + 1)) -
              static_cast<double>(target_logit);

      const float d_target = p.inv * (row_logits[0] - 1.0f);
      for (int64_t c = 0; c < p.m; ++c) probability[c] = p.inv * logits[c];
      for (const SeenNegative* at = begin; at < end; ++at) {
        for (int64_t f = 0; f < kF; ++f) p.g_repeat[f] += probability[at->column] * at->features[f];
      }
      for (int64_t f = 0; f < kF; ++f) p.g_repeat[f] += d_target * target_repeat[f];
      p.d_target_shift[row] = d_target;
      for (int64_t col = 0; col < p.dim; ++col) {
        p.d_target[row * p.dim + col] = d_target * query[col];
        p.d_query[row * p.dim + col] = d_target * target[col];
      }
    }
    *p.loss = loss;
  }

  void Adam(float* value, float* m, float* v, const float* grad, int64_t n, float lr, float beta1,
            float beta2, float eps, float c1, float c2) override {
    Dense().adam(value, m, v, grad, n, lr, beta1, beta2, eps, c1, c2);
  }
  void Drop(const Dropout& dropout, int64_t n, float* x) override {
    for (int64_t quad = 0; 4 * quad < n; ++quad) dropout.Apply(quad, n, x);
  }
  void BiasShifts(int64_t n, const int32_t* ids, const float* bias, const float* less, float* y) override {
    for (int64_t i = 0; i < n; ++i) y[i] = bias[ids[i]] - less[ids[i]];
  }
  void StepBiases(const BiasStep& step) override {
    for (int64_t group = 0; group < step.n_groups; ++group) StepBias(step, group);
  }
};

}  // namespace

DenseMath& HostMath() {
  static OnHost math;
  return math;
}

DenseMath& MathOf(const Device* device) {
  return device != nullptr && device->dense() != nullptr ? *device->dense() : HostMath();
}

}  // namespace resembed::train
