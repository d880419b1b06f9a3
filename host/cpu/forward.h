// SPDX-License-Identifier: Apache-2.0
// Forward on the CPU: compose and pool in one pass.
//
// Order of sums, per column, all in fp32:
//   e  = ((w_0 C_0 + w_1 C_1) + ...) + R                      in slot order
//   p  = ((0 + a_0 e_0) + a_1 e_1) + ...                      256 items of the bag, counted from its start
//   y  = (p_0 + p_1) + ...; mean: y / number of items that contributed; NONE: y = a * e, or e without weights
// Padding ids, and bad ids under SKIP, are counted as positions but add nothing.
//
// Attention pooling has its own order: attention_task.h.
//
// Work is cut by ids plus bags (bag_cuts.h); long bags meet in a second pass. Nothing of this shows in the bits.
//
// Sums over items of several rows keep embeddings composed lately (item_cache.h), one cache for each
// task that runs; it is left out where ids hardly come again. Tables of the commonest kind go by dense_sum.h.
//
// With a plan, a table whose items are used often enough has each of its unique items composed once, into
// [n_unique, dim] of the workspace; its features then pool rows of that plain table by the plan's inverse
// map.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/cpu/item_cache.h"
#include "host/cpu/row_ops.h"
#include "host/executor.h"
#include "host/plan.h"
#include "host/validate.h"
#include "host/workspace.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

// What a softmax over items needs to go on: the largest score and the sum of exp(score - largest).
struct SoftmaxSums {
  float largest, total;
};

// One feature of the call, resolved, and its share of the workspace.
struct ForwardFeature {
  resembed_table table;
  resembed_feature feature;
  int64_t n_tasks, first_task;
  // Long bags, by BlockSlot; null when the shapes rule them out.
  float* partials;               // [slots, dim]
  int32_t* partial_argmax;       // [slots, dim], MAX only
  int64_t* partial_counts;       // [slots], items that contributed
  SoftmaxSums* partial_softmax;  // [slots], ATTENTION only
  // Composed unique items of the table, shared by its features: those of the first feature over it.
  int32_t composed_owner;  // index of that feature; -1 = items are composed at each use
  float* composed;         // [composed_capacity, dim], the owner's only
  int64_t composed_capacity;
};

struct ForwardWork {
  ForwardFeature* features;  // [n_features]
  int32_t n_features;
  int64_t n_tasks;
  int64_t max_dim;
  int64_t scratch_rows;
  float* scratch;     // [n_tasks, scratch_rows, max_dim] sum, block, item; attention: tile of items
  int32_t* argmax;    // [n_tasks, 2, max_dim] best, block; null without MAX
  uint8_t* has_long;  // [n_tasks] a long bag begins in this task
  ItemCache* caches;  // [n_caches], set up by Forward; a task takes a free one
  float* cache_rows;  // [n_caches, ItemCache::kFloats]
  int64_t n_caches;

  float* TaskScratch(int64_t task) const { return scratch + task * scratch_rows * max_dim; }
};

// Lays the workspace out; with a null base it only counts.
ForwardWork CarveForward(const resembed_forward_args& args, const Tables& tables, Workspace* workspace);

// The same without a plan.
inline ForwardWork CarveForward(const resembed_feature* const* features, int32_t n_features,
                                const Tables& tables, Workspace* workspace) {
  resembed_forward_args args = {};
  args.features = features;
  args.n_features = n_features;
  return CarveForward(args, tables, workspace);
}

// Everything is checked; `work` lies in real memory. `plan` is null or the plan of these features.
void Forward(const ForwardWork& work, const Plan* plan, const RowOps& ops, const Executor& executor);
inline void Forward(const ForwardWork& work, const RowOps& ops, const Executor& executor) {
  Forward(work, nullptr, ops, executor);
}

}  // namespace resembed::detail::cpu
