// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <stdexcept>
#include <utility>

#include "bench/gpu/step_problem.h"

namespace resembed::bench::gpu {
namespace {

void Check(resembed_status status) {
  if (status != RESEMBED_OK) throw std::runtime_error(resembed_last_error_message());
}

resembed_place Place(cudaStream_t stream) {
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CUDA;
  place.stream = stream;
  return place;
}

void Need(DeviceArray* array, size_t bytes) {
  if (array->bytes() < bytes || array->data() == nullptr) *array = DeviceArray(bytes);
}

}  // namespace

Trainer::Trainer(std::vector<Part> parts, cudaStream_t stream) : parts_(std::move(parts)), stream_(stream) {
  const size_t n = parts_.size();
  for (size_t index = 0; index < n; ++index) {
    Part& part = parts_[index];
    part.feature.table = static_cast<int32_t>(index);
    resembed_feature_grad grad = {};
    grad.struct_size = sizeof(grad);
    grad.grad_output = part.grad;
    grad.grad_output_dtype = part.feature.output_dtype;
    feature_grads_.push_back(grad);
    resembed_table_step step = {};
    step.struct_size = sizeof(step);
    step.residual = &part.residual;
    if (part.table.form != RESEMBED_CENTRAL_NONE) step.central = &part.central;
    step.table_number = static_cast<int32_t>(index);
    steps_.push_back(step);
    promises_.push_back(part.n_unique);
    central_promises_.push_back(part.n_unique_central);
  }
  for (size_t index = 0; index < n; ++index) {
    table_list_.push_back(&parts_[index].table);
    feature_list_.push_back(&parts_[index].feature);
    feature_grad_list_.push_back(&feature_grads_[index]);
    step_list_.push_back(&steps_[index]);
  }
  tables_.struct_size = sizeof(tables_);
  tables_.tables = table_list_.data();
  tables_.n_tables = static_cast<int32_t>(n);
  layout_.resize(RESEMBED_PLAN_LAYOUT_BYTES(n, n) / sizeof(int64_t));
  plan_args_.struct_size = sizeof(plan_args_);
  plan_args_.tables = &tables_;
  plan_args_.features = feature_list_.data();
  plan_args_.n_features = static_cast<int32_t>(n);
  plan_args_.bounds = RESEMBED_BOUNDS_TRUST;
  plan_args_.max_unique = promises_.data();
  plan_args_.max_unique_central = central_promises_.data();
  plan_args_.layout = layout_.data();
  plan_args_.layout_bytes = layout_.size() * sizeof(int64_t);
  plan_.struct_size = sizeof(plan_);
  const resembed_place place = Place(stream_);
  size_t bytes = 0, workspace_bytes = 0;
  Check(resembed_plan_size(&plan_args_, &place, &bytes, &workspace_bytes));
  plan_memory_ = DeviceArray(bytes);
  plan_workspace_ = DeviceArray(workspace_bytes);
}

void Trainer::Plan() {
  const resembed_place place = Place(stream_);
  Check(resembed_plan(&plan_args_, plan_memory_.data(), plan_memory_.bytes(), &plan_, plan_workspace_.data(),
                      plan_workspace_.bytes(), &place));
}

void Trainer::Backward() {
  if (table_grads_.empty()) {
    const auto make = [this](int64_t rows, int64_t dim) {
      gradient_memory_.emplace_back(static_cast<size_t>(rows * dim * 4));
      resembed_grad grad = {};
      grad.struct_size = sizeof(grad);
      grad.rows = gradient_memory_.back().as<float>();
      gradient_memory_.emplace_back(static_cast<size_t>(rows * 8));
      grad.row_ids = gradient_memory_.back().as<int64_t>();
      gradient_memory_.emplace_back(size_t{8});
      grad.n_rows = gradient_memory_.back().as<int64_t>();
      grad.capacity = rows;
      grads_.push_back(grad);
      return &grads_.back();
    };
    for (const Part& part : parts_) {
      resembed_table_grad grad = {};
      grad.struct_size = sizeof(grad);
      grad.residual = make(part.n_unique, part.table.dim);
      if (part.table.form != RESEMBED_CENTRAL_NONE)
        grad.central = make(part.n_unique_central, part.table.dim);
      table_grads_.push_back(grad);
    }
    for (const resembed_table_grad& grad : table_grads_) table_grad_list_.push_back(&grad);
  }
  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan_;
  args.tables = &tables_;
  args.features = feature_list_.data();
  args.n_features = static_cast<int32_t>(feature_list_.size());
  args.feature_grads = feature_grad_list_.data();
  args.table_grads = table_grad_list_.data();
  const resembed_place place = Place(stream_);
  size_t bytes = 0;
  Check(resembed_backward_workspace_size(&args, &place, &bytes));
  Need(&workspace_, bytes);
  Check(resembed_backward(&args, workspace_.data(), bytes, &place));
}

void Trainer::Step() {
  resembed_backward_step_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan_;
  args.tables = &tables_;
  args.features = feature_list_.data();
  args.n_features = static_cast<int32_t>(feature_list_.size());
  args.feature_grads = feature_grad_list_.data();
  args.steps = step_list_.data();
  const resembed_place place = Place(stream_);
  size_t bytes = 0;
  Check(resembed_backward_step_workspace_size(&args, &place, &bytes));
  Need(&workspace_, bytes);
  Check(resembed_backward_step(&args, workspace_.data(), bytes, &place));
}

void Trainer::ReadGradient(int64_t table, int64_t n_rows, std::vector<int64_t>* items,
                           std::vector<float>* rows) {
  const resembed_grad& grad = *table_grads_[static_cast<size_t>(table)].residual;
  const Part& part = parts_[static_cast<size_t>(table)];
  CheckCuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  int64_t n = 0;
  CheckCuda(cudaMemcpy(&n, grad.n_rows, 8, cudaMemcpyDeviceToHost), "cudaMemcpy");
  if (n != part.n_unique) throw std::runtime_error("the gradient does not have the batch's rows");
  n = std::min(n, n_rows);
  items->resize(static_cast<size_t>(n));
  rows->resize(static_cast<size_t>(n * part.table.dim));
  if (n == 0) return;
  CheckCuda(cudaMemcpy(items->data(), grad.row_ids, items->size() * 8, cudaMemcpyDeviceToHost), "cudaMemcpy");
  CheckCuda(cudaMemcpy(rows->data(), grad.rows, rows->size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

}  // namespace resembed::bench::gpu
