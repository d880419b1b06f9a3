// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/step.h"

#include <type_traits>

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

UpdateBatch::UpdateBatch(Workspace* workspace, int32_t n_tables)
    : rules_(workspace->Take<kernels::RuleParams>(2 * n_tables)), n_rules_(0) {
  // Two matrices of a table, each with the rows it lists and, for decay of the whole table, the others.
  for (auto& kind : updates_) {
    for (EntryList<UpdateParams>& updates : kind) updates = {workspace, 4 * n_tables};
  }
}

void UpdateBatch::Clear() {
  n_rules_ = 0;
  for (auto& kind : updates_) {
    for (EntryList<UpdateParams>& updates : kind) updates.Clear();
  }
}

void UpdateBatch::AddRule(const kernels::RuleParams& rule, DescriptorStore* store) {
  store->Put(rules_ + n_rules_++, rule);
}

void UpdateBatch::AddUpdate(resembed_optimizer_kind kind, bool wide, const UpdateParams& params,
                            const kernels::Grid& grid, DescriptorStore* store) {
  const int64_t n = params.mode == UpdateMode::kListed ? params.capacity : params.n_ids;
  updates_[kind][wide].Add(params, {kernels::UpdateBlocks(wide, n, grid)}, store);
}

resembed_status UpdateBatch::Resolve(const char* op, cudaStream_t stream) const {
  const cudaError_t error = kernels::LaunchResolveRules(rules_, n_rules_, stream);
  return error == cudaSuccess ? RESEMBED_OK : LaunchFailure(op, "ResolveRulesKernel", 1, 1, error);
}

resembed_status UpdateBatch::Update(const char* op, const kernels::Grid& grid, cudaStream_t stream) const {
  static_assert(std::extent_v<UpdateLaunches> == kKinds, "a list for each kind");
  for (int kind = 0; kind < kKinds; ++kind) {
    for (const bool wide : {false, true}) {
      const kernels::Batch<UpdateParams> batch = updates_[kind][wide].Of();
      if (batch.n == 0) continue;
      const cudaError_t error = kUpdateLaunches[kind](batch, wide, grid, stream);
      if (error != cudaSuccess) return LaunchFailure(op, "UpdateKernel", grid.blocks, grid.threads, error);
    }
  }
  return RESEMBED_OK;
}

TableStep::TableStep(const resembed_table_step* given, const resembed_table& table,
                     kernels::ResolvedRule* rules)
    : dim_(table.dim), parts_{} {
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

void TableStep::AddRules(UpdateBatch* batch, DescriptorStore* store) const {
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
    batch->AddRule(rule, store);
  }
}

void TableStep::Add(const OnePart& part, UpdateParams params, bool wide, const kernels::Grid& grid,
                    UpdateBatch* batch, DescriptorStore* store) {
  batch->AddUpdate(part.optimizer.kind, wide && part.wide, params, grid, store);
  const bool whole_table = part.optimizer.decay == RESEMBED_DECAY_L2_WHOLE_TABLE;
  if (!whole_table || params.mode != UpdateMode::kListed) return;
  params.mode = UpdateMode::kOthers;
  batch->AddUpdate(part.optimizer.kind, part.wide, params, grid, store);
}

void TableStep::AddFrom(Part number, const resembed_grad* given, const kernels::Grid& grid,
                        UpdateBatch* batch, DescriptorStore* store) const {
  const OnePart& part = parts_[static_cast<int>(number)];
  if (!part.given) return;
  const resembed_grad grad = ReadDescriptor(given);
  UpdateParams params = part.params;
  params.mode = grad.layout == RESEMBED_GRAD_DENSE ? UpdateMode::kDense : UpdateMode::kListed;
  params.n_rows = grad.n_rows;
  params.capacity = grad.capacity;
  params.ids = grad.row_ids;
  params.grad = grad.rows;
  params.grad_stride = grad.stride == 0 ? dim_ : grad.stride;
  Add(part, params, IsWideRow(params.grad, params.grad_stride * 4, RESEMBED_F32), grid, batch, store);
}

void TableStep::AddFused(Part number, const BackwardRegions& regions, const kernels::Grid& grid,
                         UpdateBatch* batch, DescriptorStore* store) const {
  const OnePart& part = parts_[static_cast<int>(number)];
  if (!part.given) return;
  const kernels::BackwardParams& from = regions.params;
  UpdateParams params = part.params;
  params.mode = UpdateMode::kListed;
  params.counts = from.counts;
  params.central = number == Part::kCentral;
  if (number == Part::kResidual) {
    params.plan_ids = from.unique;
    params.capacity = from.max_unique;
    params.items = from.items;
    Add(part, params, regions.items.wide, grid, batch, store);
    return;
  }
  params.plan_ids = from.central;
  params.capacity = from.max_central;
  params.grad = from.central_rows;
  params.grad_stride = from.central_stride;
  Add(part, params, regions.central.wide, grid, batch, store);
}

size_t StepBytes(int32_t n_tables) {
  Workspace count(nullptr);
  const UpdateBatch batch(&count, n_tables);
  for (int32_t index = 0; index < n_tables; ++index) TakeRules(&count);
  return count.used();
}

resembed_status RunStep(const StepTask& task, void* workspace, const kernels::Grid& grid) {
  const cudaStream_t stream = StreamOf(task.place);
  const int32_t n_tables = task.tables->size();
  Workspace carve(workspace);
  UpdateBatch batch(&carve, n_tables);
  DescriptorStore store(stream);
  for (int32_t index = 0; index < n_tables; ++index) {
    if (task.steps[index] == nullptr) continue;
    const TableStep step(task.steps[index], (*task.tables)[index], TakeRules(&carve));
    const resembed_table_grad grad = ReadDescriptor(task.table_grads[index]);
    step.AddRules(&batch, &store);
    step.AddFrom(Part::kResidual, grad.residual, grid, &batch, &store);
    step.AddFrom(Part::kCentral, grad.central, grid, &batch, &store);
  }
  const cudaError_t error = store.Finish();
  if (error != cudaSuccess) return LaunchFailure(task.op, "StoreKernel", 1, grid.threads, error);
  RESEMBED_RETURN_IF_ERROR(batch.Resolve(task.op, stream));
  RESEMBED_RETURN_IF_ERROR(batch.Update(task.op, grid, stream));
  return FinishLaunches(task.op, stream);
}

}  // namespace resembed::detail::cuda
