// SPDX-License-Identifier: Apache-2.0
// Sums of gradient rows and optimizer updates of one row, one table of functions per instruction set; the same
// source (step_ops.inl.h) for each, and the same bits (design.md 9.2).
#pragma once

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail {

// A scaled fp32 row: w * row[c]; row null = none.
struct ScaledRow {
  const float* row;
  float w;
};

// One term of a row's gradient: w * (a * row[c] + query[c]) + second[c], scaled rows only where they are given. Each
// product and each sum is rounded.
struct GradTerm {
  const void* row;
  float a;
  float w;
  ScaledRow query;  // attention pooling
  ScaledRow second;
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

// Gradient of one unique item: a * row[c]; row null = zero. Attention pooling adds a scaled query.
struct ItemGrad {
  const void* row;
  float a;
  resembed_dtype dtype;
};

// Rows of one fp32 matrix and the terms of their gradients, for the walk that sums and updates in registers.
// Run r updates row rows[r] (through row_of, when given) with the terms [begin[r], begin[r + 1]) of `pair`: the item
// number >> slot_bits, times weights[number >> weight_shift] (null: 1); with pair null, with item r alone. Items are
// fp32 and not null.
struct RunUpdates {
  const int32_t* rows;
  const uint32_t* begin;
  const uint32_t* pair;
  int32_t slot_bits, weight_shift;
  const ItemGrad* items;
  const ScaledRow* queries;  // by item, or null
  const float* weights;
  const UpdateRule* rule;
  int64_t dim;
  const int32_t* row_of;
  char* table;
  char* state1;
  char* state2;
  int64_t pitch, state1_pitch, state2_pitch;  // bytes
  int64_t state1_bytes, state2_bytes;         // of one row
  // Gradient of a run longer than max_terms, into g.
  int64_t max_terms;
  void (*long_run)(const void* context, int64_t run, float* g);
  const void* context;
  float* g;  // [dim] scratch
};

struct StepOps {
  // g = (term 0 + term 1) + ...; n_terms >= 1.
  void (*sum_terms)(float* g, const GradTerm* terms, int64_t n_terms, int64_t dim);
  // Updates row, state1 and state2 (the shapes of the kind: [dim] or [1]) in place. False: the gradient is not
  // finite and nothing was changed.
  bool (*update)(const UpdateRule& rule, const float* gradient, float* row, float* state1, float* state2,
                 int64_t dim);
  // The same for the runs [first, last), dim a multiple of 16 up to 64. Returns how many gradients were not finite.
  int64_t (*update_runs)(const RunUpdates& runs, int64_t first, int64_t last);
};

inline bool HasUpdateRuns(int64_t dim) { return dim % 16 == 0 && dim <= 64; }

const StepOps& GetStepOps(resembed_cpu_isa isa);

}  // namespace resembed::detail
