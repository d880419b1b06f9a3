// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/forward.h"

#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/forward.h"
#endif
#include "host/descriptor.h"
#include "host/nvtx.h"
#include "host/validate.h"
#include "host/workspace.h"

namespace resembed::detail {
namespace {

constexpr const char* kOp = "forward";
using ll = long long;

Matrix OutputOf(const resembed_feature& feature, int64_t dim) {
  return {feature.output, feature.n_bags, dim, feature.output_stride, feature.output_dtype};
}

resembed_status CheckOutput(int32_t index, const resembed_feature& feature, int64_t dim) {
  const Matrix output = OutputOf(feature, dim);
  if (output.data == nullptr && output.rows > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].output is null; needs [%lld, %lld] rows", kOp,
                index, static_cast<ll>(output.rows), static_cast<ll>(dim));
  }
  if (!IsFloatType(output.dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].output_dtype is %s; needs f32, f16 or bf16", kOp,
                index, DtypeName(output.dtype));
  }
  if (output.stride < dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: features[%d].output_stride is %lld; needs at least dim (%lld)", kOp, index,
                static_cast<ll>(output.stride), static_cast<ll>(dim));
  }
  if (!FitsInMemory(output.rows, output.stride, output.dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: features[%d].output is %lld rows of stride %lld; needs below 2^62 bytes", kOp, index,
                static_cast<ll>(output.rows), static_cast<ll>(output.stride));
  }
  if (!IsAligned(output.data, output.dtype) || !IsAligned(feature.saved_argmax, RESEMBED_I32)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: features[%d].output is misaligned; needs the alignment of its type", kOp, index);
  }
  return RESEMBED_OK;
}

// Against every table, list and query of the call, and the outputs before it.
resembed_status CheckOutputMemory(int32_t index, const resembed_feature* const* features, int32_t n_features,
                                  const Tables& tables) {
  const resembed_feature feature =
      ReadFeature(features[index], tables[ReadDescriptor(features[index]).table].dim);
  const Matrix output = OutputOf(feature, tables[feature.table].dim);
  const auto bad = [index](const char* what, int32_t other) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: features[%d].output is overlapping %s[%d]; needs memory of its own", kOp, index, what,
                other);
  };
  for (int32_t number = 0; number < tables.size(); ++number) {
    const resembed_table table = tables[number];
    const Matrix residual = {table.residual, table.residual_rows, table.dim, table.residual_stride,
                             table.residual_dtype};
    const Matrix central = {table.central, table.central_rows, table.dim, table.central_stride,
                            table.central_dtype};
    if (Overlaps(output, residual) || Overlaps(output, central)) return bad("tables", number);
  }
  const int64_t output_bytes = SpanBytes(output);
  if (Overlaps(output.data, output_bytes, feature.ids, feature.n_ids * ElementBytes(feature.id_dtype)) ||
      Overlaps(output.data, output_bytes, feature.weights, feature.n_ids * 4) ||
      Overlaps(output.data, output_bytes, feature.offsets,
               (feature.n_bags + 1) * ElementBytes(feature.offset_dtype))) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: features[%d].output is overlapping its ids, offsets or weights; needs memory of its own",
                kOp, index);
  }
  for (int32_t other = 0; other < n_features; ++other) {
    const resembed_feature asks =
        ReadFeature(features[other], tables[ReadDescriptor(features[other]).table].dim);
    if (asks.pooling != RESEMBED_POOLING_ATTENTION) continue;
    const Matrix query = {asks.query, asks.n_bags, tables[asks.table].dim, asks.query_stride, RESEMBED_F32};
    if (Overlaps(output, query)) return bad("the query of features", other);
    if (Overlaps(output.data, output_bytes, asks.saved_attention, asks.n_ids * 4)) {
      return bad("saved_attention of features", other);
    }
  }
  for (int32_t other = 0; other < index; ++other) {
    const resembed_feature before =
        ReadFeature(features[other], tables[ReadDescriptor(features[other]).table].dim);
    if (Overlaps(output, OutputOf(before, tables[before.table].dim)))
      return bad("the output of features", other);
  }
  return RESEMBED_OK;
}

// All but outputs: what the size query and the operation share.
resembed_status CheckShapes(const resembed_forward_args* given, const resembed_place* place,
                            resembed_forward_args* args, resembed_place* where, Tables* tables) {
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, where, Backends::kCpuAndCuda));
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: args is %s; needs a resembed_forward_args", kOp,
                given == nullptr ? "null" : "of struct_size 0");
  }
  *args = ReadDescriptor(given);
  if (args->bounds < RESEMBED_BOUNDS_CHECK || args->bounds > RESEMBED_BOUNDS_SKIP) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: bounds is %d; needs check, trust or skip", kOp, args->bounds);
  }
  if (args->numerics != RESEMBED_NUMERICS_EXACT && args->numerics != RESEMBED_NUMERICS_FAST) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: numerics is %d; needs exact or fast", kOp, args->numerics);
  }
  RESEMBED_RETURN_IF_ERROR(CheckTables(kOp, args->tables, *where, tables));
  return CheckFeatures(kOp, args->features, args->n_features, *tables);
}

// unsupported where the backend has no kernels.
resembed_status CountWorkspace(const resembed_forward_args& args, const Tables& tables,
                               [[maybe_unused]] const resembed_place& place, size_t* bytes) {
  Workspace count(nullptr);
#ifdef RESEMBED_WITH_CUDA
  if (place.backend == RESEMBED_CUDA) {
    RESEMBED_RETURN_IF_ERROR(cuda::CheckForward(kOp, args, tables));
    cuda::CarveForward(args, tables, &count);
    *bytes = count.used();
    return RESEMBED_OK;
  }
#endif
  cpu::CarveForward(args, tables, &count);
  *bytes = count.used();
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

resembed_status resembed_forward_workspace_size(const resembed_forward_args* args,
                                                const resembed_place* place, size_t* bytes) {
  using namespace resembed::detail;  // NOLINT: one function
  if (bytes == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: bytes is null; needs a size_t", kOp);
  }
  resembed_forward_args given = {};
  resembed_place where = {};
  Tables tables;
  RESEMBED_RETURN_IF_ERROR(CheckShapes(args, place, &given, &where, &tables));
  return CountWorkspace(given, tables, where, bytes);
}

resembed_status resembed_forward(const resembed_forward_args* args, void* workspace, size_t workspace_bytes,
                                 const resembed_place* place) {
  using namespace resembed::detail;  // NOLINT: one function
  resembed_forward_args given = {};
  resembed_place where = {};
  Tables tables;
  RESEMBED_RETURN_IF_ERROR(CheckShapes(args, place, &given, &where, &tables));
  for (int32_t index = 0; index < given.n_features; ++index) {
    const int64_t dim = tables[ReadDescriptor(given.features[index]).table].dim;
    const resembed_feature feature = ReadFeature(given.features[index], dim);
    RESEMBED_RETURN_IF_ERROR(CheckOutput(index, feature, dim));
    RESEMBED_RETURN_IF_ERROR(CheckQuery(kOp, index, feature, dim));
  }
  for (int32_t index = 0; index < given.n_features; ++index) {
    RESEMBED_RETURN_IF_ERROR(CheckOutputMemory(index, given.features, given.n_features, tables));
  }
  size_t needed = 0;
  RESEMBED_RETURN_IF_ERROR(CountWorkspace(given, tables, where, &needed));
  Plan plan;
  if (given.plan != nullptr) {
    RESEMBED_RETURN_IF_ERROR(
        OpenPlan(kOp, given.plan, tables, given.features, given.n_features, where, &plan));
  }
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace(kOp, workspace, workspace_bytes, needed));
  const NvtxRange range(NvtxOp::kForward,
                        [&] { return ForwardSize(given.features, given.n_features, tables); });
#ifdef RESEMBED_WITH_CUDA
  if (where.backend == RESEMBED_CUDA) return cuda::Forward(kOp, given, tables, workspace, where);
#endif
  RESEMBED_RETURN_IF_ERROR(
      CheckIds(kOp, given.features, given.n_features, tables, given.bounds, given.bad_ids, where));
  if (given.n_features == 0) return RESEMBED_OK;
  Workspace memory(workspace);
  const cpu::ForwardWork work = cpu::CarveForward(given, tables, &memory);
  cpu::Forward(work, given.plan == nullptr ? nullptr : &plan, GetRowOps(where.isa), Executor(where));
  return RESEMBED_OK;
}

}  // extern "C"
