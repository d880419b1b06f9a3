// SPDX-License-Identifier: Apache-2.0
#include "bench/support/composed.h"

#include <algorithm>
#include <cmath>

#include "bench/support/parallel.h"

namespace resembed::bench {
namespace {

// As many sums as fill the widest registers: the compiler may not reorder one.
constexpr int64_t kSums = 32;

float Dot(const float* a, const float* b, int64_t dim) {
  float sums[kSums] = {};
  int64_t col = 0;
  for (; col + kSums <= dim; col += kSums) {
    for (int64_t at = 0; at < kSums; ++at) sums[at] += a[col + at] * b[col + at];
  }
  for (int64_t at = 0; col + at < dim; ++at) sums[at] += a[col + at] * b[col + at];
  for (int64_t half = kSums / 2; half > 0; half /= 2) {
    for (int64_t at = 0; at < half; ++at) sums[at] += sums[at + half];
  }
  return sums[0];
}

}  // namespace

ComposedAttention::ComposedAttention(const Scenario& scenario, const BatchShape& shape)
    : scenario_(scenario),
      n_bags_(shape.n_bags),
      length_(shape.n_ids / shape.n_bags),
      dim_(shape.dim),
      items_(shape.n_ids * shape.dim),
      item_grads_(shape.n_ids * shape.dim),
      p_(static_cast<size_t>(shape.n_ids)),
      workspace_(1 << 20) {}

resembed_feature ComposedAttention::Sequence(const Batch& batch) const {
  resembed_feature sequence = batch.feature;
  sequence.pooling = RESEMBED_POOLING_NONE;
  sequence.output = items_.data();
  return sequence;
}

void ComposedAttention::Forward(const Batch& batch, const float* query, float* y) {
  const resembed_feature sequence = Sequence(batch);
  const resembed_feature* feature = &sequence;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &scenario_.tables();
  args.features = &feature;
  args.n_features = 1;
  const resembed_place place = CpuPlace();
  size_t bytes = 0;
  Check(resembed_forward_workspace_size(&args, &place, &bytes));
  if (bytes > static_cast<size_t>(workspace_.size()))
    workspace_ = HugeArray<char>(static_cast<int64_t>(bytes));
  Check(resembed_forward(&args, workspace_.data(), bytes, &place));
  ParallelRanges(n_bags_, [&](int, int64_t first, int64_t last) {
    for (int64_t bag = first; bag < last; ++bag) {
      const float *items = items_.data() + bag * length_ * dim_, *q = query + bag * dim_;
      float *p = p_.data() + bag * length_, *out = y + bag * dim_;
      for (int64_t at = 0; at < length_; ++at) p[at] = Dot(q, items + at * dim_, dim_);
      const float largest = *std::max_element(p, p + length_);
      float sum = 0;
      for (int64_t at = 0; at < length_; ++at) sum += p[at] = std::exp(p[at] - largest);
      std::fill_n(out, dim_, 0.0f);
      for (int64_t at = 0; at < length_; ++at) {
        p[at] /= sum;
        for (int64_t col = 0; col < dim_; ++col) out[col] += p[at] * items[at * dim_ + col];
      }
    }
  });
}

void ComposedAttention::Backward(const float* query, const float* dy, float* dq) {
  ParallelRanges(n_bags_, [&](int, int64_t first, int64_t last) {
    std::vector<float> slopes(static_cast<size_t>(length_));
    for (int64_t bag = first; bag < last; ++bag) {
      const float *items = items_.data() + bag * length_ * dim_, *q = query + bag * dim_;
      const float *p = p_.data() + bag * length_, *g = dy + bag * dim_;
      float *out = dq + bag * dim_, *grads = item_grads_.data() + bag * length_ * dim_;
      float mean = 0;
      for (int64_t at = 0; at < length_; ++at) {
        slopes[static_cast<size_t>(at)] = Dot(g, items + at * dim_, dim_);
        mean += p[at] * slopes[static_cast<size_t>(at)];
      }
      std::fill_n(out, dim_, 0.0f);
      for (int64_t at = 0; at < length_; ++at) {
        const float slope = p[at] * (slopes[static_cast<size_t>(at)] - mean);
        for (int64_t col = 0; col < dim_; ++col) {
          out[col] += slope * items[at * dim_ + col];
          grads[at * dim_ + col] = p[at] * g[col] + slope * q[col];
        }
      }
    }
  });
}

}  // namespace resembed::bench
