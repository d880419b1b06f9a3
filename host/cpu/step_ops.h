// SPDX-License-Identifier: Apache-2.0
// Sums of gradient rows and optimizer updates of one row, one table of functions per instruction set; the same
// source (step_ops.inl.h) for each, and the same bits (design.md 9.2).
#pragma once

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail {

// One term of a row's gradient: w * (a * row[c]), plus second_w * second[c] where `second` is given. Each product
// and the sum of the two are rounded.
struct GradTerm {
  const void* row;
  const float* second;
  float a;
  float w;
  float second_w;
  resembed_dtype dtype;  // of row
};

// One optimizer update with everything that is the same for all rows resolved. Per row, g = scale * gradient; a row
// with a g that is not finite is left alone. Then, in this order (every operation rounded to fp32):
//   L2         g = g + l2 * row
//   decoupled  row = keep * row                      keep = 1 - lr * weight_decay
//   SGD        row = row - lr * g
//   Adagrad    s = s + g * g;                        row = row - (lr * g) / (sqrt(s) + eps)
//   row-wise   s = s + dot(g, g) / dim;              row = row - (lr / (sqrt(s) + eps)) * g
//   Adam       m = beta1 * m + rest1 * g; v = beta2 * v + rest2 * (g * g);    rest = 1 - beta
//              row = row - (lr1 * m) / (sqrt(v / correct2) + eps)             lr1 = lr / (1 - beta1^t)
//   partial    v = beta2 * v + rest2 * (dot(g, g) / dim)                      correct2 = 1 - beta2^t
//              row = row - (lr1 / (sqrt(v / correct2) + eps)) * m
//   cap        n = sqrt(dot(row, row)); n > max_norm: row = (max_norm / n) * row
struct UpdateRule {
  resembed_optimizer_kind kind;
  float scale;
  float l2;    // 0 = none
  float keep;  // 1 = none
  float lr, eps;
  float beta1, rest1, beta2, rest2;
  float lr1, correct2;
  float max_norm;  // 0 = none
};

struct StepOps {
  // g = (term 0 + term 1) + ...; n_terms >= 1.
  void (*sum_terms)(float* g, const GradTerm* terms, int64_t n_terms, int64_t dim);
  // Updates row, state1 and state2 (the shapes of the kind: [dim] or [1]) in place. False: the gradient is not
  // finite and nothing was changed.
  bool (*update)(const UpdateRule& rule, const float* gradient, float* row, float* state1, float* state2,
                 int64_t dim);
};

const StepOps& GetStepOps(resembed_cpu_isa isa);

}  // namespace resembed::detail
