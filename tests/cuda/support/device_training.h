// SPDX-License-Identifier: Apache-2.0
// A training problem in device memory, and its steps through the public calls.
#pragma once

#include "tests/cuda/support/device_gradients.h"
#include "tests/support/training.h"

namespace resembed::testing {

class DeviceTraining {
 public:
  explicit DeviceTraining(Training* training)
      : training_(*training),
        device(training->problem),
        saved_(&training->problem, &device),
        grads_(training->problem, AskedBy(*training)) {
    for (size_t index = 0; index < training->steps.size(); ++index) {
      for (OptimizerState* state : {training->residual[index].get(), training->central[index].get()}) {
        optimizers.push_back(state->descriptor);
        resembed_optimizer& optimizer = optimizers.back();
        optimizer.state1 = Upload(state->state1.data(), state->state1.size());
        optimizer.state2 = Upload(state->state2.data(), state->state2.size());
        optimizer.n_skipped_rows = static_cast<int64_t*>(Upload(&state->n_skipped, 8));
        if (optimizer.lr_device != nullptr) optimizer.lr_device = UploadOne(optimizer.lr_device);
        if (optimizer.step_device != nullptr) optimizer.step_device = UploadOne(optimizer.step_device);
        if (optimizer.inv_scale_device != nullptr)
          optimizer.inv_scale_device = UploadOne(optimizer.inv_scale_device);
        if (optimizer.found_inf_device != nullptr)
          optimizer.found_inf_device = UploadOne(optimizer.found_inf_device);
      }
    }
    for (size_t index = 0; index < training->steps.size(); ++index) {
      steps.push_back(training->steps[index]);
      if (steps.back().residual != nullptr) steps.back().residual = &optimizers[2 * index];
      if (steps.back().central != nullptr) steps.back().central = &optimizers[2 * index + 1];
    }
    for (const resembed_table_step& step : steps) step_list_.push_back(&step);
  }
  DeviceTraining(const DeviceTraining&) = delete;

  resembed_backward_step_args FusedArgs(const DevicePlan& plan) const {
    resembed_backward_step_args args = {};
    args.struct_size = sizeof(args);
    args.plan = &plan.header;
    args.tables = device.Args().tables;
    args.features = device.Args().features;
    args.n_features = device.Args().n_features;
    args.feature_grads = grads_.list.data();
    args.steps = step_list_.data();
    return args;
  }

  void Fused(const PlanOptions& options = {}) {
    DevicePlan plan(device, stream, options);
    ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
    const resembed_backward_step_args args = FusedArgs(plan);
    const resembed_place place = CudaPlace(stream.get());
    size_t bytes = 0;
    ASSERT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK)
        << resembed_last_error_message();
    DeviceBuffer workspace(bytes);
    {
      const InOperation scope("backward_step");
      ASSERT_EQ(resembed_backward_step(&args, workspace.data(), bytes, &place), RESEMBED_OK)
          << resembed_last_error_message();
    }
    EXPECT_TRUE(workspace.Download(stream)) << "the workspace was written past its end";
    plan.Download(stream);
  }

  void Separate(const PlanOptions& options = {}, resembed_grad_layout layout = RESEMBED_GRAD_COMPRESSED) {
    DevicePlan plan(device, stream, options);
    ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
    std::deque<DeviceGrad> gradients;
    std::vector<resembed_table_grad> table_grads;
    for (size_t index = 0; index < steps.size(); ++index) {
      resembed_plan_table view = {};
      view.struct_size = sizeof(view);
      ASSERT_EQ(resembed_plan_view(&plan.header, static_cast<int32_t>(index), &view), RESEMBED_OK);
      const resembed_table& table = device.tables[index];
      const bool dense = layout == RESEMBED_GRAD_DENSE;
      const int64_t residual_rows = table.residual_row_of != nullptr ? table.residual_rows : table.n_items;
      resembed_table_grad grad = {};
      grad.struct_size = sizeof(grad);
      gradients.emplace_back(layout, dense ? residual_rows : view.max_unique, table.dim);
      if (steps[index].residual != nullptr) grad.residual = &gradients.back().grad;
      gradients.emplace_back(layout, dense ? table.central_rows : view.max_unique_central, table.dim);
      if (steps[index].central != nullptr) grad.central = &gradients.back().grad;
      table_grads.push_back(grad);
    }
    std::vector<const resembed_table_grad*> table_grad_list;
    for (const resembed_table_grad& grad : table_grads) table_grad_list.push_back(&grad);
    resembed_backward_args args = {};
    args.struct_size = sizeof(args);
    args.plan = &plan.header;
    args.tables = device.Args().tables;
    args.features = device.Args().features;
    args.n_features = device.Args().n_features;
    args.feature_grads = grads_.list.data();
    args.table_grads = table_grad_list.data();
    const resembed_place place = CudaPlace(stream.get());
    size_t bytes = 0;
    ASSERT_EQ(resembed_backward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
        << resembed_last_error_message();
    DeviceBuffer workspace(bytes);
    {
      const InOperation scope("backward");
      ASSERT_EQ(resembed_backward(&args, workspace.data(), bytes, &place), RESEMBED_OK)
          << resembed_last_error_message();
    }
    resembed_step_args step_args = {};
    step_args.struct_size = sizeof(step_args);
    step_args.tables = args.tables;
    step_args.table_grads = args.table_grads;
    step_args.steps = step_list_.data();
    ASSERT_EQ(resembed_step_workspace_size(&step_args, &place, &bytes), RESEMBED_OK)
        << resembed_last_error_message();
    DeviceBuffer step_workspace(bytes);
    {
      const InOperation scope("step");
      ASSERT_EQ(resembed_step(&step_args, step_workspace.data(), bytes, &place), RESEMBED_OK)
          << resembed_last_error_message();
    }
    EXPECT_TRUE(workspace.Download(stream) && step_workspace.Download(stream));
    plan.Download(stream);
  }

  // As Training::Written, byte for byte.
  std::vector<unsigned char> Written() {
    stream.Wait();
    std::vector<unsigned char> bytes;
    for (size_t index = 0; index < steps.size(); ++index) {
      const TableData& table = *training_.problem.tables[index];
      Append(&bytes, device.tables[index].residual, table.descriptor.residual, table.residual);
      Append(&bytes, device.tables[index].central, table.descriptor.central, table.central);
      size_t optimizer = 2 * index;
      for (const OptimizerState* state : {training_.residual[index].get(), training_.central[index].get()}) {
        const resembed_optimizer& on_device = optimizers[optimizer++];
        Append(&bytes, on_device.state1, state->state1.data(), state->state1);
        Append(&bytes, on_device.state2, state->state2.data(), state->state2);
        const std::vector<unsigned char> count(8);
        Append(&bytes, on_device.n_skipped_rows, count.data(), count);
      }
    }
    for (size_t index = 0; index < training_.sample_weights.size(); ++index) {
      EXPECT_TRUE(grads_.weights[index].Download(stream));
      const bool asked = grads_.list[index] != nullptr && grads_.grads[index].grad_weights != nullptr;
      const size_t size = training_.sample_weights[index].size() * 4;
      // Not asked for: zeros, as the vectors of Training begin.
      if (asked) bytes.insert(bytes.end(), grads_.weights[index].host(), grads_.weights[index].host() + size);
      if (!asked) bytes.resize(bytes.size() + size);
    }
    return bytes;
  }

 private:
  static Asked AskedBy(const Training& training) {
    Asked asked;
    asked.sample_weights = training.wants_sample_weights;
    return asked;
  }
  void* Upload(const void* data, size_t bytes) {
    if (bytes == 0) return nullptr;
    buffers_.emplace_back(data, bytes);
    return buffers_.back().data();
  }
  template <typename T>
  const T* UploadOne(const T* value) {
    return static_cast<const T*>(Upload(value, sizeof(T)));
  }
  // The device's copy of `owner`, in which `pointer` points where `on_device` does.
  static void Append(std::vector<unsigned char>* out, const void* on_device, const void* pointer,
                     const std::vector<unsigned char>& owner) {
    if (owner.empty()) return;
    const auto offset = static_cast<const unsigned char*>(pointer) - owner.data();
    const size_t at = out->size();
    out->resize(at + owner.size());
    EXPECT_EQ(cudaMemcpy(out->data() + at, static_cast<const unsigned char*>(on_device) - offset,
                         owner.size(), cudaMemcpyDeviceToHost),
              cudaSuccess);
  }

  Training& training_;

 public:
  Stream stream;
  DeviceProblem device;
  std::deque<resembed_optimizer> optimizers;  // [tables, 2]
  std::deque<resembed_table_step> steps;

 private:
  SavedArgmax saved_;
  DeviceOutputGrads grads_;
  std::deque<DeviceBuffer> buffers_;
  std::vector<const resembed_table_step*> step_list_;
};

}  // namespace resembed::testing
