// SPDX-License-Identifier: Apache-2.0
#include "host/backward_args.h"

#include "host/cpu/bags.h"
#include "host/descriptor.h"

namespace resembed::detail {
namespace {

using ll = long long;

// The fields of pooling attention.
resembed_status CheckAttentionGrad(const char* op, int32_t index, const resembed_feature_grad& grad,
                                   const resembed_feature& feature, int64_t dim) {
  const auto bad = [op, index](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: feature_grads[%d].%s is %s; needs %s", op, index, field, seen,
                rule);
  };
  if (feature.pooling != RESEMBED_POOLING_ATTENTION) {
    if (grad.grad_query != nullptr) return bad("grad_query", "given", "pooling attention");
    if (grad.grad_scores != nullptr) return bad("grad_scores", "given", "pooling attention");
    return RESEMBED_OK;
  }
  RESEMBED_RETURN_IF_ERROR(CheckQuery(op, index, feature, dim));
  if (grad.grad_weights != nullptr) return bad("grad_weights", "given", "null with pooling attention");
  const int64_t stride = grad.grad_query_stride == 0 ? dim : grad.grad_query_stride;
  if (stride < dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: feature_grads[%d].grad_query_stride is %lld; needs at least dim (%lld)", op, index,
                static_cast<ll>(stride), static_cast<ll>(dim));
  }
  if (!FitsInMemory(feature.n_bags, stride, RESEMBED_F32)) {
    return bad("grad_query_stride", "too long", "rows below 2^62 bytes");
  }
  if (!IsAligned(grad.grad_query, RESEMBED_F32))
    return bad("grad_query", "misaligned", "the alignment of f32");
  if (!IsAligned(grad.grad_scores, RESEMBED_F32)) {
    return bad("grad_scores", "misaligned", "the alignment of f32");
  }
  if (grad.grad_scores_ready != 0) {
    if (grad.grad_scores == nullptr && feature.n_ids > 0) {
      return bad("grad_scores", "null", "[n_ids] floats with grad_scores_ready");
    }
    if (grad.grad_query != nullptr) return bad("grad_query", "given", "null with grad_scores_ready");
  }
  const Matrix query_grad = {grad.grad_query, feature.n_bags, dim, stride, RESEMBED_F32};
  const Matrix query = {feature.query, feature.n_bags, dim, feature.query_stride, RESEMBED_F32};
  const Matrix output_grad = {grad.grad_output, feature.n_bags, dim,
                              grad.grad_output_stride == 0 ? dim : grad.grad_output_stride,
                              grad.grad_output_dtype};
  if (Overlaps(query_grad, query) || Overlaps(query_grad, output_grad)) {
    return bad("grad_query", "overlapping query or grad_output", "memory of its own");
  }
  return RESEMBED_OK;
}

resembed_status CheckFeatureGrad(const char* op, int32_t index, const resembed_feature_grad* given,
                                 const resembed_feature& feature, int64_t dim) {
  const auto bad = [op, index](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: feature_grads[%d].%s is %s; needs %s", op, index, field, seen,
                rule);
  };
  if (given->struct_size == 0) return bad("struct_size", "0", "sizeof(resembed_feature_grad)");
  const resembed_feature_grad grad = ReadDescriptor(given);
  const int64_t rows = OutputRows(feature);
  if (grad.grad_output == nullptr && rows > 0)
    return bad("grad_output", "null", "dL/dy of the feature's output");
  if (!IsFloatType(grad.grad_output_dtype)) {
    return bad("grad_output_dtype", DtypeName(grad.grad_output_dtype), "f32, f16 or bf16");
  }
  const int64_t stride = grad.grad_output_stride == 0 ? dim : grad.grad_output_stride;
  if (stride < dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: feature_grads[%d].grad_output_stride is %lld; needs at least dim (%lld)", op, index,
                static_cast<ll>(stride), static_cast<ll>(dim));
  }
  if (!FitsInMemory(rows, stride, grad.grad_output_dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: feature_grads[%d].grad_output_stride is %lld; needs rows below 2^62 bytes", op, index,
                static_cast<ll>(stride));
  }
  if (!IsAligned(grad.grad_output, grad.grad_output_dtype)) {
    return bad("grad_output", "misaligned", "the alignment of its type");
  }
  if (grad.grad_weights != nullptr && feature.pooling == RESEMBED_POOLING_MAX) {
    return bad("grad_weights", "given", "null with pooling max");
  }
  if (!IsAligned(grad.grad_weights, RESEMBED_F32))
    return bad("grad_weights", "misaligned", "the alignment of f32");
  return CheckAttentionGrad(op, index, grad, feature, dim);
}

}  // namespace

resembed_status ReadBackwardCall(const char* op, const resembed_plan_header* plan,
                                 const resembed_tables* tables, const resembed_feature* const* features,
                                 int32_t n_features, const resembed_feature_grad* const* feature_grads,
                                 const resembed_place* place, BackwardCall* out) {
  RESEMBED_RETURN_IF_ERROR(CheckPlace(op, place, &out->place, Backends::kCpuAndCuda));
  RESEMBED_RETURN_IF_ERROR(CheckTables(op, tables, out->place, &out->tables));
  RESEMBED_RETURN_IF_ERROR(CheckFeatures(op, features, n_features, out->tables));
  RESEMBED_RETURN_IF_ERROR(OpenPlan(op, plan, out->tables, features, n_features, out->place, &out->plan));
  if (feature_grads == nullptr && n_features > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: feature_grads is null; needs %d entries", op, n_features);
  }
  for (int32_t index = 0; index < n_features; ++index) {
    if (feature_grads[index] == nullptr) continue;
    const int64_t dim = out->tables[TableOf(features[index])].dim;
    RESEMBED_RETURN_IF_ERROR(
        CheckFeatureGrad(op, index, feature_grads[index], ReadFeature(features[index], dim), dim));
  }
  out->args = {&out->tables, features, n_features, feature_grads, &out->plan};
  return RESEMBED_OK;
}

bool WantsScoreGradients(const BackwardCall& call, int32_t table) {
  for (int32_t index = 0; index < call.args.n_features; ++index) {
    if (TableOf(call.args.features[index]) != table || call.args.feature_grads[index] == nullptr) continue;
    const resembed_feature_grad grad = ReadDescriptor(call.args.feature_grads[index]);
    if (grad.grad_query != nullptr || (grad.grad_scores != nullptr && grad.grad_scores_ready == 0))
      return true;
  }
  return false;
}

bool WantsSampleWeights(const BackwardCall& call, int32_t table) {
  for (int32_t index = 0; index < call.args.n_features; ++index) {
    if (call.plan.feature(index).table != table || call.args.feature_grads[index] == nullptr) continue;
    if (ReadDescriptor(call.args.feature_grads[index]).grad_weights != nullptr) return true;
  }
  return false;
}

resembed_status CheckPlanHasCentral(const char* op, const BackwardCall& call, int32_t table,
                                    const char* argument) {
  if (call.plan.table(table).has_central) return RESEMBED_OK;
  return Fail(RESEMBED_INVALID_ARGUMENT,
              "%s: %s[%d].central is given; needs a plan made without skip_central", op, argument, table);
}

}  // namespace resembed::detail
