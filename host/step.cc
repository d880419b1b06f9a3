// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "host/backward_args.h"
#include "host/cpu/tasks.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/device.h"
#include "host/cuda/gradients.h"
#include "host/cuda/launch_tables.h"
#include "host/cuda/step.h"
#endif
#include "host/descriptor.h"
#include "host/nvtx.h"
#include "host/optimizer.h"

namespace resembed::detail {
namespace {

using ll = long long;

// ---- step: gradients in the caller's memory

struct StepCall {
  resembed_place place;
  resembed_step_args args;
  Tables tables;
};

// A gradient the step reads. n_ids: ids of a compressed gradient lie below it; rows: of a dense one.
resembed_status CheckInput(int32_t table, const char* part, const resembed_grad* given, int64_t dim,
                           int64_t n_ids, int64_t table_rows, bool on_gpu) {
  const auto bad = [table, part](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "step: table_grads[%d].%s%s%s is %s; needs %s", table, part,
                field[0] == '\0' ? "" : ".", field, seen, rule);
  };
  if (given == nullptr) return bad("", "null", "a gradient where steps names an optimizer");
  if (given->struct_size == 0) return bad("struct_size", "0", "sizeof(resembed_grad)");
  const resembed_grad grad = ReadDescriptor(given);
  if (grad.layout != RESEMBED_GRAD_COMPRESSED && grad.layout != RESEMBED_GRAD_DENSE) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "step: table_grads[%d].%s.layout is %d; needs compressed or dense",
                table, part, grad.layout);
  }
  const int64_t stride = grad.stride == 0 ? dim : grad.stride;
  if (stride < dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "step: table_grads[%d].%s.stride is %lld; needs at least dim (%lld)", table, part,
                static_cast<ll>(stride), static_cast<ll>(dim));
  }
  if (!IsAligned(grad.rows, RESEMBED_F32)) return bad("rows", "misaligned", "the alignment of f32");
  if (grad.layout == RESEMBED_GRAD_DENSE) {
    if (grad.rows == nullptr && table_rows > 0) return bad("rows", "null", "[table rows, dim] floats");
    return RESEMBED_OK;
  }
  if (grad.n_rows == nullptr) return bad("n_rows", "null", "an int64_t");
  // The device passes over ids that are not rows, and updates nothing where the count is not one.
  const int64_t n_rows = on_gpu ? std::max<int64_t>(grad.capacity, 0) : *grad.n_rows;
  if (n_rows < 0 || n_rows > grad.capacity) {
    return Fail(RESEMBED_OUT_OF_RANGE,
                "step: table_grads[%d].%s.n_rows[0] is %lld; needs 0 .. capacity (%lld)", table, part,
                static_cast<ll>(n_rows), static_cast<ll>(grad.capacity));
  }
  if (n_rows > 0 && grad.rows == nullptr) return bad("rows", "null", "[capacity, dim] floats");
  if (n_rows > 0 && grad.row_ids == nullptr) return bad("row_ids", "null", "[capacity] ids");
  // Equal ids would be two threads in one row.
  for (int64_t index = 0; !on_gpu && index < n_rows; ++index) {
    const int64_t id = grad.row_ids[index];
    if (id < 0 || id >= n_ids || (index > 0 && id <= grad.row_ids[index - 1])) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "step: table_grads[%d].%s.row_ids[%lld] is %lld; needs increasing ids of 0 .. %lld", table,
                  part, static_cast<ll>(index), static_cast<ll>(id), static_cast<ll>(n_ids - 1));
    }
  }
  return RESEMBED_OK;
}

resembed_status ReadStep(const resembed_step_args* given, const resembed_place* place, StepCall* out) {
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "step: args is %s; needs a resembed_step_args",
                given == nullptr ? "null" : "of struct_size 0");
  }
  RESEMBED_RETURN_IF_ERROR(CheckPlace("step", place, &out->place, Backends::kCpuAndCuda));
  out->args = ReadDescriptor(given);
  RESEMBED_RETURN_IF_ERROR(CheckTables("step", out->args.tables, out->place, &out->tables));
  if (out->args.table_grads == nullptr && out->tables.size() > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "step: table_grads is null; needs %d entries", out->tables.size());
  }
  return CheckSteps("step", out->args.steps, out->tables, out->place);
}

resembed_status CheckInputs(const StepCall& call) {
  const bool on_gpu = call.place.backend == RESEMBED_CUDA;
  for (int32_t index = 0; index < call.tables.size(); ++index) {
    if (call.args.steps[index] == nullptr) continue;
    const resembed_table_step step = ReadDescriptor(call.args.steps[index]);
    const resembed_table table = call.tables[index];
    const resembed_table_grad grad = ReadDescriptor(call.args.table_grads[index]);
    if (step.residual != nullptr) {
      RESEMBED_RETURN_IF_ERROR(CheckInput(index, "residual", grad.residual, table.dim, table.n_items,
                                          table.residual_rows, on_gpu));
    }
    if (step.central != nullptr) {
      RESEMBED_RETURN_IF_ERROR(CheckInput(index, "central", grad.central, table.dim, table.central_rows,
                                          table.central_rows, on_gpu));
    }
  }
  return RESEMBED_OK;
}

int64_t ScratchFloats(int64_t dim) { return kMaxTasks * (kUpdateScratchRows + 1) * PaddedDim(dim); }

size_t StepBytes(const StepCall& call) {
#ifdef RESEMBED_WITH_CUDA
  if (call.place.backend == RESEMBED_CUDA) return cuda::StepBytes(call.tables.size());
#endif
  int64_t floats = 0;
  for (int32_t index = 0; index < call.tables.size(); ++index) {
    if (call.args.steps[index] != nullptr) floats = std::max(floats, ScratchFloats(call.tables[index].dim));
  }
  Workspace count(nullptr);
  count.Take<float>(floats);
  return count.used();
}

GradRows RowsOf(const resembed_grad* given, int64_t dim) {
  const resembed_grad grad = ReadDescriptor(given);
  const bool dense = grad.layout == RESEMBED_GRAD_DENSE;
  static const int64_t kNoIds = 0;  // null would say dense, and an empty gradient may come without ids
  const int64_t* const ids = grad.row_ids != nullptr ? grad.row_ids : &kNoIds;
  return {grad.rows, grad.stride == 0 ? dim : grad.stride, dense ? nullptr : ids, dense ? 0 : *grad.n_rows};
}

#ifdef RESEMBED_WITH_CUDA
resembed_status StepOnGpu(const StepCall& call, void* workspace) {
  const cuda::DeviceScope scope("step", call.place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  RESEMBED_RETURN_IF_ERROR(cuda::CheckUpdates("step", call.args.steps, call.tables.size()));
  return cuda::RunStep({"step", call.place, &call.tables, call.args.steps, call.args.table_grads}, workspace);
}
#endif

// ---- backward and step in one

struct FusedCall {
  BackwardCall backward;
  resembed_backward_step_args args;
};

resembed_status ReadFused(const resembed_backward_step_args* given, const resembed_place* place,
                          FusedCall* out) {
  constexpr const char* kOp = "backward_step";
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: args is %s; needs a resembed_backward_step_args", kOp,
                given == nullptr ? "null" : "of struct_size 0");
  }
  out->args = ReadDescriptor(given);
  const resembed_backward_step_args& args = out->args;
  RESEMBED_RETURN_IF_ERROR(ReadBackwardCall(kOp, args.plan, args.tables, args.features, args.n_features,
                                            args.feature_grads, place, &out->backward));
  RESEMBED_RETURN_IF_ERROR(CheckSteps(kOp, args.steps, out->backward.tables, out->backward.place));
  for (int32_t index = 0; index < out->backward.tables.size(); ++index) {
    if (args.steps[index] == nullptr || ReadDescriptor(args.steps[index]).central == nullptr) continue;
    RESEMBED_RETURN_IF_ERROR(CheckPlanHasCentral(kOp, out->backward, index, "steps"));
  }
  return RESEMBED_OK;
}

BackwardRequest RequestOf(const FusedCall& call, int32_t index) {
  BackwardRequest request = {};
  const resembed_table_step step = ReadDescriptor(call.args.steps[index]);  // zeros for a null entry
  request.residual = step.residual != nullptr;
  request.central = step.central != nullptr;
  request.sample_weights = WantsSampleWeights(call.backward, index);
  request.scores = WantsScoreGradients(call.backward, index);
  return request;
}

#ifdef RESEMBED_WITH_CUDA
cuda::BackwardWork WorkOf(const FusedCall& call, int32_t index) {
  cuda::BackwardWork work = {};
  work.index = index;
  work.request = RequestOf(call, index);
  work.fused = true;
  return work;
}

cuda::GradientTask TaskOf(const FusedCall& call) {
  return {"backward_step", &call.backward, [&call](int32_t index) { return WorkOf(call, index); },
          call.args.steps};
}

resembed_status RunOnGpu(const FusedCall& call, void* workspace) {
  constexpr const char* kOp = "backward_step";
  const cuda::DeviceScope scope(kOp, call.backward.place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  RESEMBED_RETURN_IF_ERROR(cuda::CheckUpdates(kOp, call.args.steps, call.backward.tables.size()));
  return cuda::RunGradients(TaskOf(call), workspace);
}
#endif

size_t FusedBytes(const FusedCall& call) {
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

// Everything that reads R comes before ItemGradients, which writes it; everything that reads C before
// CentralGradients.
void RunFused(const FusedCall& call, int32_t index, TableBackward work, Workspace* workspace) {
  const BackwardCall& backward = call.backward;
  const Executor executor(backward.place);
  const TableUpdate update = ResolveStep(call.args.steps[index], work.table, backward.place);
  RecomputeArgmax(backward.args, index, &work, backward.place, workspace);
  ScoreGradients(backward.args, index, &work, backward.place, workspace);
  SampleWeightGradients(work, executor);
  if (!update.has_residual && !update.has_central) return;
  ItemGradients(work, nullptr, update.has_residual ? &update.residual : nullptr, executor);
  if (!update.has_central) return;
  PreparePairs(work, executor);
  CentralGradients(work, nullptr, &update.central, executor);
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

resembed_status resembed_step_workspace_size(const resembed_step_args* args, const resembed_place* place,
                                             size_t* bytes) {
  using namespace resembed::detail;
  StepCall call;
  RESEMBED_RETURN_IF_ERROR(ReadStep(args, place, &call));
  if (bytes == nullptr) return Fail(RESEMBED_INVALID_ARGUMENT, "step: bytes is null; needs a size_t");
  *bytes = StepBytes(call);
  return RESEMBED_OK;
}

resembed_status resembed_step(const resembed_step_args* args, void* workspace, size_t workspace_bytes,
                              const resembed_place* place) {
  using namespace resembed::detail;
  StepCall call;
  RESEMBED_RETURN_IF_ERROR(ReadStep(args, place, &call));
  RESEMBED_RETURN_IF_ERROR(CheckInputs(call));
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace("step", workspace, workspace_bytes, StepBytes(call)));
  const NvtxRange range(NvtxOp::kStep, [&] { return StepSize(call.args, call.tables); });
#ifdef RESEMBED_WITH_CUDA
  if (call.place.backend == RESEMBED_CUDA) return StepOnGpu(call, workspace);
#endif
  const Executor executor(call.place);
  for (int32_t index = 0; index < call.tables.size(); ++index) {
    const resembed_table table = call.tables[index];
    const TableUpdate update = ResolveStep(call.args.steps[index], table, call.place);
    const resembed_table_grad grad = ReadDescriptor(call.args.table_grads[index]);
    float* const scratch = Workspace(workspace).Take<float>(ScratchFloats(table.dim));
    if (update.has_residual)
      UpdateMatrix(update.residual, RowsOf(grad.residual, table.dim), scratch, executor);
    if (update.has_central) UpdateMatrix(update.central, RowsOf(grad.central, table.dim), scratch, executor);
  }
  return RESEMBED_OK;
}

resembed_status resembed_backward_step_workspace_size(const resembed_backward_step_args* args,
                                                      const resembed_place* place, size_t* bytes) {
  using namespace resembed::detail;
  FusedCall call;
  RESEMBED_RETURN_IF_ERROR(ReadFused(args, place, &call));
  if (bytes == nullptr)
    return Fail(RESEMBED_INVALID_ARGUMENT, "backward_step: bytes is null; needs a size_t");
  *bytes = FusedBytes(call);
  return RESEMBED_OK;
}

resembed_status resembed_backward_step(const resembed_backward_step_args* args, void* workspace,
                                       size_t workspace_bytes, const resembed_place* place) {
  using namespace resembed::detail;
  FusedCall call;
  RESEMBED_RETURN_IF_ERROR(ReadFused(args, place, &call));
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace("backward_step", workspace, workspace_bytes, FusedBytes(call)));
  const BackwardArgs& batch = call.backward.args;
  const NvtxRange range(NvtxOp::kBackwardStep, [&] {
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
    RunFused(call, index, work, &carve);
  }
  return RESEMBED_OK;
}

}  // extern "C"
