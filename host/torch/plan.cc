// SPDX-License-Identifier: Apache-2.0
#include "host/torch/plan.h"

namespace resembed::adapter {

Plan::Plan(Lookup* lookup, bool with_central) {
  const resembed_place* const place = lookup->place().get();
  resembed_plan_args args = {};
  args.struct_size = sizeof(args);
  args.tables = lookup->tables();
  args.features = lookup->features();
  args.n_features = lookup->n_features();
  args.bounds = lookup->bounds();
  args.skip_central = with_central ? 0 : 1;
  if (lookup->place().on_gpu()) {
    args.layout_bytes = RESEMBED_PLAN_LAYOUT_BYTES(lookup->n_tables(), static_cast<size_t>(args.n_features));
    layout_.resize(args.layout_bytes / sizeof(uint64_t) + 1);
    args.layout = layout_.data();
  }
  size_t plan_bytes = 0, bytes = 0;
  Check(resembed_plan_size(&args, place, &plan_bytes, &bytes));
  memory_.emplace(lookup->place(), plan_bytes, ScratchKind::kPlan);
  const Scratch workspace(lookup->place(), bytes, ScratchKind::kWorkspace);
  header_.struct_size = sizeof(header_);
  Check(resembed_plan(&args, memory_->data(), plan_bytes, &header_, workspace.data(), bytes, place));
}

FeatureGrads::FeatureGrads(const char* op, const Lookup& lookup, const Tensor& grad_output,
                           const Tensor& grad_per_sample_weights) {
  CheckDevice(op, "grad_output", grad_output, lookup.place().device());
  TORCH_CHECK(grad_output.sizes() == lookup.output_shape(), op, ": grad_output.shape is ",
              grad_output.sizes(), "; needs that of the output, ", lookup.output_shape());
  const resembed_dtype dtype = FloatTypeOf(op, "grad_output", grad_output.scalar_type());
  grad_output_ = grad_output.contiguous();
  const auto* data = static_cast<const char*>(grad_output_.data_ptr());
  float* samples =
      grad_per_sample_weights.defined() ? static_cast<float*>(grad_per_sample_weights.data_ptr()) : nullptr;
  for (int32_t index = 0; index < lookup.n_features(); ++index) {
    const auto feature = static_cast<size_t>(index);
    resembed_feature_grad grad = {};
    grad.struct_size = sizeof(grad);
    grad.grad_output = data + lookup.columns()[feature] * static_cast<int64_t>(grad_output_.element_size());
    grad.grad_output_stride = lookup.columns().back();
    grad.grad_output_dtype = dtype;
    if (samples != nullptr) {
      grad.grad_weights = samples;
      samples += lookup.feature(feature).n_ids;
    }
    grads_.push_back(grad);
  }
  for (const auto& grad : grads_) list_.push_back(&grad);
}

}  // namespace resembed::adapter
