// SPDX-License-Identifier: Apache-2.0
// Attention pooling on a GPU: scores, and what backward adds for them.
#pragma once

#include <cuda_runtime_api.h>

#include "host/cpu/bags.h"
#include "host/cuda/backward.h"
#include "host/cuda/forward.h"
#include "host/descriptor.h"
#include "host/status.h"
#include "kernels/common/table_rows.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

kernels::TableRows RowsOf(const resembed_table& table);

// p [n_ids] of a feature. The device is current; `table` and `feature` are resolved.
resembed_status AttentionWeights(const char* op, const resembed_table& table, const resembed_feature& feature,
                                 bool trust, float* p, cudaStream_t stream);
// dz [n_ids] from p and the output gradient.
resembed_status ScoreGradients(const char* op, const resembed_table& table, const resembed_feature& feature,
                               const resembed_feature_grad& grad, const float* p, float* dz,
                               cudaStream_t stream);

// Scores of one feature with attention pooling.
struct Attention {
  resembed_table table;
  resembed_feature feature;
  resembed_feature_grad grad;
  float* p;
  float* dz;
  bool recompute_p, ready;
  void* sum_memory;  // of the pooled sum that dq is

  // dq = sum dz e: forward with other weights. The features of the args are `list`.
  resembed_forward_args Sum(resembed_feature* sum, const resembed_feature** list) const {
    *sum = feature;
    sum->pooling = RESEMBED_POOLING_SUM;
    sum->weights = dz;
    sum->output = grad.grad_query;
    sum->output_stride = grad.grad_query_stride;
    sum->output_dtype = RESEMBED_F32;
    *list = sum;
    resembed_forward_args args = {};
    args.struct_size = sizeof(args);
    args.features = list;
    args.n_features = 1;
    args.bounds = RESEMBED_BOUNDS_SKIP;
    return args;
  }
};

// Calls each(feature index, scores) for the features whose scores this call needs, and takes their regions.
template <typename Each>
resembed_status ForAttention(const BackwardCall& call, const BackwardWork& work, Workspace* workspace,
                             const Each& each) {
  for (int32_t index = 0; index < call.args.n_features; ++index) {
    if (call.plan.feature(index).table != work.index || call.args.feature_grads[index] == nullptr) continue;
    Attention one = {};
    one.table = call.tables[work.index];
    one.feature = ReadFeature(call.args.features[index], one.table.dim);
    if (one.feature.pooling != RESEMBED_POOLING_ATTENTION) continue;
    one.grad = ReadDescriptor(call.args.feature_grads[index]);
    one.ready = one.grad.grad_scores_ready != 0;
    const bool asked = one.grad.grad_query != nullptr || (one.grad.grad_scores != nullptr && !one.ready);
    if (!asked && !work.request.items()) continue;
    one.p = one.feature.saved_attention;
    one.recompute_p = one.p == nullptr;
    if (one.recompute_p) one.p = workspace->Take<float>(one.feature.n_ids);
    one.dz = one.grad.grad_scores;
    if (one.dz == nullptr) one.dz = workspace->Take<float>(one.feature.n_ids);
    if (one.grad.grad_query != nullptr) {
      resembed_feature sum;
      const resembed_feature* list;
      Workspace count(nullptr);
      CarveForward(one.Sum(&sum, &list), call.tables, &count);
      one.sum_memory = workspace->Take<char>(static_cast<int64_t>(count.used()));
    }
    RESEMBED_RETURN_IF_ERROR(each(index, one));
  }
  return RESEMBED_OK;
}

// Scores, their gradients and those of the queries. Reads tables and writes none; before any of them is written.
resembed_status AttentionGradients(const char* op, const BackwardCall& call, const BackwardWork& work,
                                   const BackwardRegions& regions);

}  // namespace resembed::detail::cuda
