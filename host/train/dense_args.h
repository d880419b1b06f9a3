// SPDX-License-Identifier: Apache-2.0
// Arguments of the heads' compound functions, and what host code and kernels compute by the same lines.
// Matrices are row-major and dense.
#pragma once

#include <cmath>
#include <cstdint>

#include "host/train/model_random.h"
#include "host/train/repeat_features.h"
#include "kernels/common/host_device.h"

namespace resembed::train {

// The last layer of a ranking head and its logistic loss: score_i = c_i . w3 + b3, and a row's loss is
// log(1 + exp(-score)) of a positive, log(1 + exp(score)) of a negative; c_i = relu(. + b2). Everything below
// `b3` is written.
struct LogisticLoss {
  int64_t n_positive, n, cols;  // rows [0, n_positive) are the positives, those after them the negatives
  float inv;                    // gradients are those of inv * (sum of the losses)
  const float *c, *w3, *b3;     // [n, cols], [cols], [1]
  float* d_c;                   // [n, cols] before the relu
  float *g_w3, *g_b3, *g_b2;    // [cols], [1], [cols]
  double* loss;                 // [1] sum over the rows
};

// A column of the shared negatives whose item lies in a row's history.
struct SeenNegative {
  int32_t column;
  float features[kRepeatFeatures];
};

// The retrieval head's softmax over a row's target and the negatives that all rows share:
//   target logit    q_i . t_i + w . r_i + target_shift_i
//   logit of m      q_i . n_m + w . r_im + negative_shift_m; none where m is the target's item
//   loss_i          log(sum of exp(logits)) - target logit
struct SoftmaxLoss {
  int64_t n, m, dim;
  float inv;                                   // gradients are those of inv * (sum of the losses)
  const float *query, *target;                 // [n, dim]
  const float *target_shift, *negative_shift;  // [n], [m]
  const int32_t *target_ids, *negative_ids;    // [n], [m]
  const float *repeat_weight, *target_repeat;  // w [kRepeatFeatures], r_i [n, kRepeatFeatures]
  const SeenNegative* seen;   // row i's: [seen_begin[i], seen_begin[i + 1]), each column once
  const int32_t* seen_begin;  // [n + 1]
  float* probability;         // [n, m] q_i . n_m; replaced by the gradient of the logits
  float *d_target_shift, *d_target, *d_query;  // [n], [n, dim], [n, dim] (of q_i . t_i alone); written
  float* g_repeat;                             // [kRepeatFeatures] of w; written
  double* loss;                                // [1] sum over the rows; written
};

// Biases of items, each an Adagrad of its own. A group is an item of the step and where its gradients lie.
struct BiasStep {
  int64_t n_groups;
  const int32_t *items, *begin, *places;  // [n_groups], [n_groups + 1], [begin[n_groups]]
  const float* grad;
  float lr;
  float *bias, *state;  // [n_items]
};

RESEMBED_HOST_DEVICE inline void StepBias(const BiasStep& step, int64_t group) {
  float grad = 0.0f;
  for (int32_t at = step.begin[group]; at < step.begin[group + 1]; ++at) grad += step.grad[step.places[at]];
  const int32_t item = step.items[group];
  const float state = step.state[item] + grad * grad;
  step.state[item] = state;
  if (grad != 0.0f) step.bias[item] -= step.lr * grad / (std::sqrt(state) + 1e-8f);
}

// Inverted dropout: x[i] becomes 0 with probability `rate`, else x[i] / (1 - rate). A function of (key, i)
// alone; four elements share a draw.
struct Dropout {
  uint64_t key;  // KeyOf(...)
  uint32_t threshold;
  float keep;
  explicit Dropout(uint64_t of, float rate)
      : key(of), threshold(static_cast<uint32_t>(rate * 65536.0f)), keep(1.0f / (1.0f - rate)) {}

  // Elements [4 quad, 4 quad + 4) of n.
  RESEMBED_HOST_DEVICE void Apply(int64_t quad, int64_t n, float* x) const {
    const uint64_t bits = DrawOf(key, static_cast<uint64_t>(4 * quad));
    for (int64_t i = 4 * quad; i < n && i < 4 * quad + 4; ++i) {
      x[i] = ((bits >> (16 * (i - 4 * quad))) & 0xFFFFu) < threshold ? 0.0f : x[i] * keep;
    }
  }
};

}  // namespace resembed::train
