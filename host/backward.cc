// SPDX-License-Identifier: Apache-2.0
#include "host/backward_args.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/device.h"
#include "host/cuda/gradients.h"
#endif
#include "host/descriptor.h"
#include "host/nvtx.h"

namespace resembed::detail {
namespace {

using ll = long long;

struct GradPlace {  // where a message points
  int32_t table;
  const char* part;
};

// One gradient the caller receives; rows_needed: unique rows of the plan, table_rows: of the matrix.
resembed_status CheckGrad(const GradPlace& place, const resembed_grad* given, int64_t dim,
                          int64_t rows_needed, int64_t table_rows) {
  const auto bad = [&place](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "backward: table_grads[%d].%s.%s is %s; needs %s", place.table,
                place.part, field, seen, rule);
  };
  if (given->struct_size == 0) return bad("struct_size", "0", "sizeof(resembed_grad)");
  const resembed_grad grad = ReadDescriptor(given);
  const bool dense = grad.layout == RESEMBED_GRAD_DENSE;
  if (grad.layout != RESEMBED_GRAD_COMPRESSED && !dense) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "backward: table_grads[%d].%s.layout is %d; needs compressed or dense", place.table,
                place.part, grad.layout);
  }
  const int64_t stride = grad.stride == 0 ? dim : grad.stride;
  if (stride < dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "backward: table_grads[%d].%s.stride is %lld; needs at least dim (%lld)", place.table,
                place.part, static_cast<ll>(stride), static_cast<ll>(dim));
  }
  if (!FitsInMemory(dense ? table_rows : grad.capacity, stride, RESEMBED_F32)) {
    return bad("stride", "too long", "rows below 2^62 bytes");
  }
  if (!IsAligned(grad.rows, RESEMBED_F32)) return bad("rows", "misaligned", "the alignment of f32");
  if (dense) {
    if (grad.rows == nullptr && table_rows > 0) return bad("rows", "null", "[table rows, dim] floats");
    return RESEMBED_OK;
  }
  if (grad.n_rows == nullptr) return bad("n_rows", "null", "an int64_t");
  if (grad.capacity < 0) return bad("capacity", "negative", "0 or more");
  if (grad.capacity > 0 && grad.rows == nullptr) return bad("rows", "null", "[capacity, dim] floats");
  if (grad.capacity > 0 && grad.row_ids == nullptr) return bad("row_ids", "null", "[capacity] ids");
  if (!IsAligned(grad.row_ids, RESEMBED_I64)) return bad("row_ids", "misaligned", "the alignment of i64");
  if (grad.capacity < rows_needed) {
    return Fail(RESEMBED_OUT_OF_RANGE,
                "backward: table_grads[%d].%s.capacity is %lld; needs the %lld rows of the batch",
                place.table, place.part, static_cast<ll>(grad.capacity), static_cast<ll>(rows_needed));
  }
  return RESEMBED_OK;
}

resembed_status CheckTableGrad(const BackwardCall& call, int32_t index, const resembed_table_grad* given) {
  if (given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "backward: table_grads[%d] is of struct_size 0; needs a resembed_table_grad", index);
  }
  const resembed_table_grad grad = ReadDescriptor(given);
  const resembed_table table = call.tables[index];
  const PlanTable plan = call.plan.table(index);
  if (grad.residual != nullptr) {
    if (table.residual == nullptr && table.n_items > 0) {
      return Fail(RESEMBED_INVALID_ARGUMENT,
                  "backward: table_grads[%d].residual is given; needs null for a table without residual",
                  index);
    }
    RESEMBED_RETURN_IF_ERROR(
        CheckGrad({index, "residual"}, grad.residual, table.dim, plan.items.n_runs, table.residual_rows));
  }
  if (grad.central != nullptr) {
    if (table.form == RESEMBED_CENTRAL_NONE) {
      return Fail(RESEMBED_INVALID_ARGUMENT,
                  "backward: table_grads[%d].central is given; needs null for form none", index);
    }
    RESEMBED_RETURN_IF_ERROR(CheckPlanHasCentral("backward", call, index, "table_grads"));
    RESEMBED_RETURN_IF_ERROR(
        CheckGrad({index, "central"}, grad.central, table.dim, plan.central.n_runs, table.central_rows));
  }
  if (grad.neighbor_weights != nullptr && table.form != RESEMBED_CENTRAL_STORED) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "backward: table_grads[%d].neighbor_weights is given; needs null for form %s", index,
                FormName(table.form));
  }
  if (!IsAligned(grad.neighbor_weights, RESEMBED_F32)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "backward: table_grads[%d].neighbor_weights is misaligned; needs the alignment of f32",
                index);
  }
  return RESEMBED_OK;
}

struct Call {
  BackwardCall backward;
  resembed_backward_args args;
};

resembed_status ReadArgs(const resembed_backward_args* given, const resembed_place* place, Call* out) {
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "backward: args is %s; needs a resembed_backward_args",
                given == nullptr ? "null" : "of struct_size 0");
  }
  out->args = ReadDescriptor(given);
  const resembed_backward_args& args = out->args;
  RESEMBED_RETURN_IF_ERROR(ReadBackwardCall("backward", args.plan, args.tables, args.features,
                                            args.n_features, args.feature_grads, place, &out->backward));
  const int32_t n_tables = out->backward.tables.size();
  if (args.table_grads == nullptr && n_tables > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "backward: table_grads is null; needs %d entries", n_tables);
  }
  for (int32_t index = 0; index < n_tables; ++index) {
    if (args.table_grads[index] == nullptr) continue;
    RESEMBED_RETURN_IF_ERROR(CheckTableGrad(out->backward, index, args.table_grads[index]));
  }
  return RESEMBED_OK;
}

GradOut OutOf(const resembed_grad* given, int64_t dim) {
  const resembed_grad grad = ReadDescriptor(given);
  return {grad.layout, grad.rows, grad.stride == 0 ? dim : grad.stride, grad.row_ids, grad.n_rows};
}

resembed_table_grad GradOf(const Call& call, int32_t index) {
  return ReadDescriptor(call.args.table_grads[index]);  // zeros for a null entry
}

BackwardRequest RequestOf(const Call& call, int32_t index) {
  const resembed_table_grad grad = GradOf(call, index);
  BackwardRequest request = {};
  request.residual = grad.residual != nullptr;
  request.central = grad.central != nullptr;
  request.neighbor_weights = grad.neighbor_weights != nullptr;
  request.sample_weights = WantsSampleWeights(call.backward, index);
  request.scores = WantsScoreGradients(call.backward, index);
  request.keeps_item_rows =
      request.residual && ReadDescriptor(grad.residual).layout == RESEMBED_GRAD_COMPRESSED;
  return request;
}

#ifdef RESEMBED_WITH_CUDA
cuda::BackwardWork WorkOf(const Call& call, int32_t index) {
  const resembed_table_grad grad = GradOf(call, index);
  const int64_t dim = call.backward.tables[index].dim;
  cuda::BackwardWork work = {};
  work.index = index;
  work.request = RequestOf(call, index);
  if (grad.residual != nullptr) work.residual = OutOf(grad.residual, dim);
  if (grad.central != nullptr) work.central = OutOf(grad.central, dim);
  work.neighbor_weights = grad.neighbor_weights;
  return work;
}

cuda::GradientTask TaskOf(const Call& call) {
  return {"backward", &call.backward, [&call](int32_t index) { return WorkOf(call, index); }, nullptr};
}

resembed_status RunOnGpu(const Call& call, void* workspace) {
  const cuda::DeviceScope scope("backward", call.backward.place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  return cuda::RunGradients(TaskOf(call), workspace);
}
#endif

void RunTable(const Call& call, int32_t index, TableBackward work, Workspace* workspace) {
  const BackwardCall& backward = call.backward;
  const resembed_table_grad grad = GradOf(call, index);
  const Executor executor(backward.place);
  GradOut residual = {}, central = {};
  if (grad.residual != nullptr) {
    residual = OutOf(grad.residual, work.table.dim);
    if (work.request.keeps_item_rows) {
      work.item_rows = residual.rows;
      work.item_stride = residual.stride;
    }
  }
  if (grad.central != nullptr) central = OutOf(grad.central, work.table.dim);
  RecomputeArgmax(backward.args, index, &work, backward.place, workspace);
  ScoreGradients(backward.args, index, &work, backward.place, workspace);
  SampleWeightGradients(work, executor);
  ItemGradients(work, grad.residual != nullptr ? &residual : nullptr, nullptr, executor);
  if (grad.neighbor_weights != nullptr) NeighborWeightGradients(work, grad.neighbor_weights, executor);
  PreparePairs(work, executor);
  CentralGradients(work, grad.central != nullptr ? &central : nullptr, nullptr, executor);
}

// On the CPU tables run one after the other and share the workspace.
size_t WorkspaceBytes(const Call& call) {
#ifdef RESEMBED_WITH_CUDA
  if (call.backward.place.backend == RESEMBED_CUDA) return cuda::GradientBytes(TaskOf(call));
#endif
  size_t bytes = 0;
  for (int32_t index = 0; index < call.backward.tables.size(); ++index) {
    const BackwardRequest request = RequestOf(call, index);
    if (!request.any()) continue;
    Workspace count(nullptr);
    TableBackward work = TakeBackward(call.backward.args, index, request, call.backward.place, &count);
    RecomputeArgmax(call.backward.args, index, &work, call.backward.place, &count);
    ScoreGradients(call.backward.args, index, &work, call.backward.place, &count);
    bytes = std::max(bytes, count.used());
  }
  return bytes;
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

resembed_status resembed_backward_workspace_size(const resembed_backward_args* args,
                                                 const resembed_place* place, size_t* bytes) {
  using namespace resembed::detail;
  Call call;
  RESEMBED_RETURN_IF_ERROR(ReadArgs(args, place, &call));
  if (bytes == nullptr) return Fail(RESEMBED_INVALID_ARGUMENT, "backward: bytes is null; needs a size_t");
  *bytes = WorkspaceBytes(call);
  return RESEMBED_OK;
}

resembed_status resembed_backward(const resembed_backward_args* args, void* workspace, size_t workspace_bytes,
                                  const resembed_place* place) {
  using namespace resembed::detail;
  Call call;
  RESEMBED_RETURN_IF_ERROR(ReadArgs(args, place, &call));
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace("backward", workspace, workspace_bytes, WorkspaceBytes(call)));
  const BackwardArgs& batch = call.backward.args;
  const NvtxRange range(NvtxOp::kBackward, [&] {
    return BackwardSize(batch.features, batch.feature_grads, batch.n_features, call.backward.tables);
  });
#ifdef RESEMBED_WITH_CUDA
  if (call.backward.place.backend == RESEMBED_CUDA) return RunOnGpu(call, workspace);
#endif
  for (int32_t index = 0; index < call.backward.tables.size(); ++index) {
    const BackwardRequest request = RequestOf(call, index);
    if (!request.any()) continue;
    Workspace carve(workspace);
    const TableBackward work = TakeBackward(batch, index, request, call.backward.place, &carve);
    RunTable(call, index, work, &carve);
  }
  return RESEMBED_OK;
}

}  // extern "C"
