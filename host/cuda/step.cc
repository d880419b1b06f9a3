// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/step.h"

#include "host/cuda/device.h"
#include "host/cuda/launch_tables.h"
#include "host/descriptor.h"

namespace resembed::detail::cuda {
namespace {

using kernels::UpdateMode;
using kernels::UpdateParams;

bool CountsSteps(const resembed_optimizer& optimizer) {
  return optimizer.kind == RESEMBED_ADAM || optimizer.kind == RESEMBED_PARTIAL_ROWWISE_ADAM ||
         optimizer.stochastic_rounding != 0;
}

// A state of one number a row has no columns to load together.
int64_t StatePitch(int64_t stride, int64_t columns, resembed_dtype dtype) {
  return (stride == 0 ? columns : stride) * ElementBytes(dtype);
}

}  // namespace

TableStep::TableStep(const resembed_table_step* given, const resembed_table& table,
                     const resembed_place& place, kernels::ResolvedRule* rules)
    : dim_(table.dim), stream_(StreamOf(place)), parts_{} {
  const resembed_table_step step = ReadDescriptor(given);
  for (int number = 0; number < 2; ++number) {
    OnePart& part = parts_[number];
    const resembed_optimizer* optimizer = number == 0 ? step.residual : step.central;
    if (optimizer == nullptr) continue;
    part.given = true;
    part.optimizer = ReadDescriptor(optimizer);
    const resembed_optimizer& from = part.optimizer;
    UpdateParams& params = part.params;
    params.rule = rules + number;
    params.dim = table.dim;
    params.state_dtype = from.state_dtype;
    params.seed = from.seed;
    params.table_number = step.table_number;
    params.part = number;
    params.n_skipped = from.n_skipped_rows;
    if (number == 0) {
      params.n_ids = table.n_items;
      params.row_of = table.residual_row_of;
      params.rows = static_cast<char*>(table.residual);
      params.dtype = table.residual_dtype;
      params.row_pitch = table.residual_stride * ElementBytes(params.dtype);
    } else {
      params.n_ids = table.central_rows;
      params.rows = static_cast<char*>(table.central);
      params.dtype = table.central_dtype;
      params.row_pitch = table.central_stride * ElementBytes(params.dtype);
    }
    params.stochastic = from.stochastic_rounding != 0 && params.dtype != RESEMBED_F32;
    part.wide = table.dim % 4 == 0 && IsWideRow(params.rows, params.row_pitch, params.dtype);
    if (from.kind != RESEMBED_SGD) {
      const bool one = from.kind == RESEMBED_ROWWISE_ADAGRAD;
      params.state1 = static_cast<char*>(from.state1);
      params.state1_pitch = StatePitch(from.state1_stride, one ? 1 : table.dim, from.state_dtype);
      part.wide = part.wide && (one || IsWideRow(params.state1, params.state1_pitch, from.state_dtype));
    }
    if (from.kind == RESEMBED_ADAM || from.kind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
      const bool one = from.kind == RESEMBED_PARTIAL_ROWWISE_ADAM;
      params.state2 = static_cast<char*>(from.state2);
      params.state2_pitch = StatePitch(from.state2_stride, one ? 1 : table.dim, from.state_dtype);
      part.wide = part.wide && (one || IsWideRow(params.state2, params.state2_pitch, from.state_dtype));
    }
  }
}

resembed_status TableStep::Resolve(const char* op) const {
  for (const OnePart& part : parts_) {
    if (!part.given) continue;
    const resembed_optimizer& from = part.optimizer;
    kernels::RuleParams rule = {};
    rule.kind = from.kind;
    rule.lr = from.lr;
    rule.beta1 = from.beta1;
    rule.beta2 = from.beta2;
    rule.eps = from.eps;
    rule.weight_decay = from.weight_decay;
    rule.max_row_norm = from.max_row_norm;
    rule.grad_scale = from.grad_scale == 0.0f ? 1.0f : from.grad_scale;
    rule.decoupled = from.decay == RESEMBED_DECAY_DECOUPLED;
    rule.counts_steps = CountsSteps(from);
    rule.step = from.step;
    rule.lr_device = from.lr_device;
    rule.step_device = from.step_device;
    rule.inv_scale_device = from.inv_scale_device;
    rule.found_inf_device = from.found_inf_device;
    rule.rule = const_cast<kernels::ResolvedRule*>(part.params.rule);
    const cudaError_t error = kernels::LaunchResolveRule(rule, stream_);
    if (error != cudaSuccess) return LaunchFailure(op, "ResolveRuleKernel", 1, 1, error);
  }
  return RESEMBED_OK;
}

resembed_status TableStep::Launch(const char* op, const OnePart& part, UpdateParams params, bool wide,
                                  const kernels::Grid& grid) const {
  const kernels::UpdateLaunch launch = kUpdateLaunches[part.optimizer.kind];
  cudaError_t error = launch(params, wide && part.wide, grid, stream_);
  const bool whole_table = part.optimizer.decay == RESEMBED_DECAY_L2_WHOLE_TABLE;
  if (error == cudaSuccess && whole_table && params.mode == UpdateMode::kListed) {
    params.mode = UpdateMode::kOthers;
    error = launch(params, part.wide, grid, stream_);
  }
  return error == cudaSuccess ? RESEMBED_OK
                              : LaunchFailure(op, "UpdateKernel", grid.blocks, grid.threads, error);
}

resembed_status TableStep::UpdateFrom(const char* op, Part number, const resembed_grad* given,
                                      const kernels::Grid& grid) const {
  const OnePart& part = parts_[static_cast<int>(number)];
  if (!part.given) return RESEMBED_OK;
  const resembed_grad grad = ReadDescriptor(given);
  UpdateParams params = part.params;
  params.mode = grad.layout == RESEMBED_GRAD_DENSE ? UpdateMode::kDense : UpdateMode::kListed;
  params.n_rows = grad.n_rows;
  params.capacity = grad.capacity;
  params.ids = grad.row_ids;
  params.grad = grad.rows;
  params.grad_stride = grad.stride == 0 ? dim_ : grad.stride;
  return Launch(op, part, params, IsWideRow(params.grad, params.grad_stride * 4, RESEMBED_F32), grid);
}

resembed_status TableStep::UpdateFused(const char* op, Part number, const BackwardRegions& regions,
                                       const kernels::Grid& grid) const {
  const OnePart& part = parts_[static_cast<int>(number)];
  if (!part.given) return RESEMBED_OK;
  const kernels::BackwardParams& from = regions.params;
  UpdateParams params = part.params;
  params.mode = UpdateMode::kListed;
  params.counts = from.counts;
  params.central = number == Part::kCentral;
  if (number == Part::kResidual) {
    params.plan_ids = from.unique;
    params.capacity = from.max_unique;
    params.items = from.items;
    return Launch(op, part, params, regions.items.wide, grid);
  }
  params.plan_ids = from.central;
  params.capacity = from.max_central;
  params.grad = from.central_rows;
  params.grad_stride = from.central_stride;
  return Launch(op, part, params, regions.central.wide, grid);
}

}  // namespace resembed::detail::cuda
