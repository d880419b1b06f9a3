// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/attention.h"

#include "host/cpu/row_ops.h"
#include "host/cuda/device.h"
#include "kernels/attention/attention.h"

namespace resembed::detail::cuda {
namespace {

kernels::AttentionParams ParamsOf(const resembed_table& table, const resembed_feature& feature) {
  kernels::AttentionParams params = {};
  params.table = RowsOf(table);
  params.n_items = table.n_items;
  params.ids = feature.ids;
  params.offsets = feature.offsets;
  params.n_ids = feature.n_ids;
  params.n_bags = feature.n_bags;
  params.bag_length = feature.bag_length;
  params.padding_id = feature.padding_id;
  params.wide_ids = feature.id_dtype == RESEMBED_I64;
  params.wide_offsets = feature.offset_dtype == RESEMBED_I64;
  params.has_padding = feature.has_padding != 0;
  params.softmax = feature.attention_activation == RESEMBED_ATTENTION_SOFTMAX;
  params.scale = feature.attention_scale;
  return params;
}

resembed_status Launched(const char* op, const char* kernel, cudaError_t error) {
  const kernels::Grid grid = {};
  return error == cudaSuccess ? RESEMBED_OK : LaunchFailure(op, kernel, grid.blocks, grid.threads, error);
}

}  // namespace

kernels::TableRows RowsOf(const resembed_table& table) {
  kernels::TableRows rows = {};
  rows.form = table.form;
  rows.dim = table.dim;
  rows.residual = static_cast<const char*>(table.residual);
  rows.residual_pitch = table.residual_stride * ElementBytes(table.residual_dtype);
  rows.residual_dtype = table.residual_dtype;
  rows.residual_row_of = table.residual_row_of;
  rows.central = static_cast<const char*>(table.central);
  rows.central_pitch = table.central_stride * ElementBytes(table.central_dtype);
  rows.central_dtype = table.central_dtype;
  rows.center_of = table.center_of;
  rows.narrow_centers = table.center_of_dtype == RESEMBED_U16;
  rows.neighbors = table.neighbors;
  rows.neighbors_stride = table.neighbors_stride;
  rows.n_neighbors = table.n_neighbors;
  rows.stored = table.neighbor_weights;
  rows.stored_stride = table.neighbor_weights_stride;
  return rows;
}

resembed_status AttentionWeights(const char* op, const resembed_table& table, const resembed_feature& feature,
                                 bool trust, float* p, cudaStream_t stream) {
  kernels::AttentionParams params = ParamsOf(table, feature);
  params.trust = trust;
  params.rows = reinterpret_cast<const char*>(feature.query);
  params.pitch = feature.query_stride * static_cast<int64_t>(sizeof(float));
  params.dtype = RESEMBED_F32;
  params.scores = p;
  RESEMBED_RETURN_IF_ERROR(Launched(op, "ScoresKernel", kernels::LaunchScores(params, {}, stream)));
  return Launched(op, "AttentionWeightsKernel", kernels::LaunchAttentionWeights(params, {}, stream));
}

resembed_status ScoreGradients(const char* op, const resembed_table& table, const resembed_feature& feature,
                               const resembed_feature_grad& grad, const float* p, float* dz,
                               cudaStream_t stream) {
  kernels::AttentionParams params = ParamsOf(table, feature);
  params.rows = static_cast<const char*>(grad.grad_output);
  params.pitch = (grad.grad_output_stride == 0 ? table.dim : grad.grad_output_stride) *
                 ElementBytes(grad.grad_output_dtype);
  params.dtype = grad.grad_output_dtype;
  params.p = p;
  params.scores = dz;
  RESEMBED_RETURN_IF_ERROR(Launched(op, "ScoresKernel", kernels::LaunchScores(params, {}, stream)));
  return Launched(op, "ScoreGradientsKernel", kernels::LaunchScoreGradients(params, {}, stream));
}

resembed_status AttentionGradients(const char* op, const BackwardCall& call, const BackwardWork& work,
                                   const BackwardRegions& regions) {
  const cudaStream_t stream = StreamOf(call.place);
  Workspace workspace(regions.attention);
  return ForAttention(call, work, &workspace, [&](int32_t, const Attention& one) -> resembed_status {
    if (one.recompute_p) {
      RESEMBED_RETURN_IF_ERROR(AttentionWeights(op, one.table, one.feature, false, one.p, stream));
    }
    if (!one.ready) {
      RESEMBED_RETURN_IF_ERROR(ScoreGradients(op, one.table, one.feature, one.grad, one.p, one.dz, stream));
    }
    if (one.grad.grad_query == nullptr) return RESEMBED_OK;
    resembed_feature sum;
    const resembed_feature* list;
    return Forward(op, one.Sum(&sum, &list), call.tables, one.sum_memory, call.place);
  });
}

}  // namespace resembed::detail::cuda
