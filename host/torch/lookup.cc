// SPDX-License-Identifier: Apache-2.0
// Forward and backward.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "host/torch/ops.h"
#include "host/torch/plan.h"

namespace resembed::adapter {
namespace {

Tensor Forward(Lookup* lookup, at::ScalarType type, const char* op) {
  const resembed_dtype dtype = FloatTypeOf(op, "output", type);
  Tensor output = at::empty(lookup->output_shape(), at::TensorOptions(type).device(lookup->place().device()));
  auto* const data = static_cast<char*>(output.data_ptr());
  const int64_t stride = lookup->columns().back();
  for (int32_t index = 0; index < lookup->n_features(); ++index) {
    resembed_feature& feature = lookup->feature(static_cast<size_t>(index));
    feature.output =
        data + lookup->columns()[static_cast<size_t>(index)] * static_cast<int64_t>(output.element_size());
    feature.output_stride = stride;
    feature.output_dtype = dtype;
  }
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = lookup->tables();
  args.features = lookup->features();
  args.n_features = lookup->n_features();
  args.bounds = lookup->bounds();
  size_t bytes = 0;
  Check(resembed_forward_workspace_size(&args, lookup->place().get(), &bytes));
  const Scratch workspace(lookup->place(), bytes, ScratchKind::kWorkspace);
  Check(resembed_forward(&args, workspace.data(), bytes, lookup->place().get()));
  return output;
}

Tensor Nothing(const Tensor& like, at::ScalarType type) { return at::empty({0}, like.options().dtype(type)); }

// A gradient of one matrix on its way out.
struct DenseGrad {
  Tensor rows;  // [table rows, dim] float32
  resembed_grad grad = {};
};
DenseGrad MakeDense(const Tensor& matrix) {
  DenseGrad out;
  out.rows = at::empty(matrix.sizes(), matrix.options().dtype(at::kFloat));
  out.grad.struct_size = sizeof(out.grad);
  out.grad.layout = RESEMBED_GRAD_DENSE;
  out.grad.rows = static_cast<float*>(out.rows.data_ptr());
  return out;
}

struct CompressedGrad {
  Tensor row_ids, rows, count;
  resembed_grad grad = {};
};
// What lies past the count is 0: on CUDA from the start, on the CPU afterwards.
CompressedGrad MakeCompressed(const Tensor& matrix, int64_t capacity) {
  const auto make =
      matrix.is_cpu()
          ? static_cast<Tensor (*)(at::IntArrayRef, at::TensorOptions)>(
                [](at::IntArrayRef shape, at::TensorOptions options) { return at::empty(shape, options); })
          : [](at::IntArrayRef shape, at::TensorOptions options) { return at::zeros(shape, options); };
  CompressedGrad out;
  const at::TensorOptions options = matrix.options();
  out.row_ids = make({capacity}, options.dtype(at::kLong));
  out.rows = make({capacity, matrix.size(1)}, options.dtype(at::kFloat));
  out.count = at::zeros({1}, options.dtype(at::kLong));
  out.grad.struct_size = sizeof(out.grad);
  out.grad.rows = static_cast<float*>(out.rows.data_ptr());
  out.grad.row_ids = static_cast<int64_t*>(out.row_ids.data_ptr());
  out.grad.n_rows = static_cast<int64_t*>(out.count.data_ptr());
  out.grad.capacity = capacity;
  return out;
}
void ClearRest(const CompressedGrad& grad) {
  if (!grad.rows.defined() || !grad.rows.is_cpu()) return;
  const int64_t n_rows = *grad.grad.n_rows, rest = grad.grad.capacity - n_rows;
  grad.row_ids.narrow(0, n_rows, rest).zero_();
  grad.rows.narrow(0, n_rows, rest).zero_();
}

// The gradient of stored weights comes as one row for each unique item of the plan, and leaves as one for each item.
class NeighborGrad {
 public:
  void Ask(const Tensor& neighbor_weights) { shape_ = neighbor_weights.sizes(); }
  void Prepare(const Plan& plan, at::Device device, resembed_table_grad* grad) {
    if (shape_.empty()) return;
    view_.struct_size = sizeof(view_);
    Check(resembed_plan_view(plan.header(), 0, &view_));
    rows_ = at::empty({view_.max_unique, shape_[1]}, at::TensorOptions(at::kFloat).device(device));
    grad->neighbor_weights = static_cast<float*>(rows_.data_ptr());
  }
  void Scatter() {
    if (shape_.empty()) return;
    const int64_t n_items = shape_[0], n_neighbors = shape_[1];
    if (rows_.is_cpu()) {
      grad_ = at::zeros(shape_, rows_.options());
      const auto* from = static_cast<const float*>(rows_.data_ptr());
      auto* const to = static_cast<float*>(grad_.data_ptr());
      for (int64_t row = 0; row < *view_.n_unique; ++row, from += n_neighbors) {
        std::memcpy(to + view_.unique_items[row] * n_neighbors, from,
                    static_cast<size_t>(n_neighbors) * sizeof(float));
      }
      return;
    }
    // The host does not know how many rows count: the others go to a row past the last.
    const auto ints = [&](const void* data, int64_t n, at::ScalarType type) {
      return at::for_blob(const_cast<void*>(data), {n})
          .options(rows_.options().dtype(type))
          .target_device(rows_.device())
          .make_tensor();
    };
    const Tensor count = ints(view_.n_unique, 1, at::kLong);
    const Tensor items = ints(view_.unique_items, view_.max_unique, at::kInt).to(at::kLong);
    const Tensor used = at::arange(view_.max_unique, count.options()).lt(count);
    const Tensor padded = at::zeros({n_items + 1, n_neighbors}, rows_.options());
    padded.index_copy_(0, at::where(used, items, n_items), rows_);
    grad_ = padded.narrow(0, 0, n_items);
  }
  const Tensor& grad() const { return grad_; }

 private:
  at::IntArrayRef shape_;
  resembed_plan_table view_ = {};
  Tensor rows_, grad_;
};

void Backward(const char* op, Lookup* lookup, const Tensor& grad_output,
              const Tensor& grad_per_sample_weights, c10::SmallVector<resembed_table_grad, 1>* grads,
              bool need_central, NeighborGrad* neighbor_grad) {
  const Plan plan(lookup, need_central);
  if (neighbor_grad != nullptr) neighbor_grad->Prepare(plan, lookup->place().device(), grads->data());
  const FeatureGrads feature_grads(op, *lookup, grad_output, grad_per_sample_weights);
  c10::SmallVector<const resembed_table_grad*, 1> grad_list;
  for (const auto& grad : *grads) grad_list.push_back(&grad);
  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = plan.header();
  args.tables = lookup->tables();
  args.features = lookup->features();
  args.n_features = lookup->n_features();
  args.feature_grads = feature_grads.list();
  args.table_grads = grad_list.data();
  size_t bytes = 0;
  Check(resembed_backward_workspace_size(&args, lookup->place().get(), &bytes));
  const Scratch workspace(lookup->place(), bytes, ScratchKind::kWorkspace);
  Check(resembed_backward(&args, workspace.data(), bytes, lookup->place().get()));
  if (neighbor_grad != nullptr) neighbor_grad->Scatter();
}

}  // namespace

Tensor EmbeddingBag(const Tensor& weight, const Tensor& indices, const OptionalTensor& offsets,
                    const OptionalTensor& per_sample_weights, const OptionalTensor& central_weight,
                    const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
                    std::string_view fusion, std::string_view mode, OptionalInt padding_idx,
                    bool include_last_offset, bool sparse, std::string_view bounds,
                    OptionalType output_dtype) {
  constexpr const char* kOp = "embedding_bag";
  CheckSparse(kOp, sparse, mode);
  Lookup lookup(kOp, {weight, central_weight, central_map, neighbor_weights, fusion},
                {indices, offsets, per_sample_weights, mode, padding_idx, include_last_offset, bounds});
  return Forward(&lookup, output_dtype.value_or(weight.scalar_type()), kOp);
}

Four EmbeddingBagBackward(const Tensor& weight, const Tensor& grad_output, const Tensor& indices,
                          const OptionalTensor& offsets, const OptionalTensor& per_sample_weights,
                          const OptionalTensor& central_weight, const OptionalTensor& central_map,
                          const OptionalTensor& neighbor_weights, std::string_view fusion,
                          std::string_view mode, OptionalInt padding_idx, bool include_last_offset,
                          std::string_view bounds, bool need_weight, bool need_central,
                          bool need_per_sample_weights, bool need_neighbor_weights) {
  constexpr const char* kOp = "embedding_bag_backward";
  Lookup lookup(kOp, {weight, central_weight, central_map, neighbor_weights, fusion},
                {indices, offsets, per_sample_weights, mode, padding_idx, include_last_offset, bounds});
  need_central = need_central && IsGiven(central_weight);
  DenseGrad residual, central;
  c10::SmallVector<resembed_table_grad, 1> grads(1);
  grads[0] = {};
  grads[0].struct_size = sizeof(grads[0]);
  if (need_weight) {
    residual = MakeDense(weight);
    grads[0].residual = &residual.grad;
  }
  if (need_central) {
    central = MakeDense(*central_weight);
    grads[0].central = &central.grad;
  }
  const Tensor samples = need_per_sample_weights
                             ? at::empty(indices.sizes(), weight.options().dtype(at::kFloat))
                             : Nothing(weight, at::kFloat);
  NeighborGrad neighbors;
  if (need_neighbor_weights) {
    TORCH_CHECK(lookup.table(0).form == RESEMBED_CENTRAL_STORED, kOp,
                ": need_neighbor_weights is True for fusion '", fusion, "'; needs fusion 'gcn'");
    neighbors.Ask(*neighbor_weights);
  }
  Backward(kOp, &lookup, grad_output, need_per_sample_weights ? samples : Tensor(), &grads, need_central,
           &neighbors);
  return {
      need_weight ? residual.rows.to(weight.scalar_type()) : Nothing(weight, weight.scalar_type()),
      need_central ? central.rows.to(central_weight->scalar_type()) : Nothing(weight, weight.scalar_type()),
      samples, need_neighbor_weights ? neighbors.grad() : Nothing(weight, at::kFloat)};
}

Six EmbeddingBagCompressedBackward(const Tensor& weight, const Tensor& grad_output, const Tensor& indices,
                                   const OptionalTensor& offsets, const OptionalTensor& per_sample_weights,
                                   const OptionalTensor& central_weight, const OptionalTensor& central_map,
                                   const OptionalTensor& neighbor_weights, std::string_view fusion,
                                   std::string_view mode, OptionalInt padding_idx, bool include_last_offset,
                                   std::string_view bounds, bool need_weight, bool need_central) {
  constexpr const char* kOp = "embedding_bag_compressed_backward";
  Lookup lookup(kOp, {weight, central_weight, central_map, neighbor_weights, fusion},
                {indices, offsets, per_sample_weights, mode, padding_idx, include_last_offset, bounds});
  need_central = need_central && IsGiven(central_weight);
  const resembed_table& table = lookup.table(0);
  const int64_t capacity = std::min(table.n_items, lookup.n_ids());
  CompressedGrad residual, central;
  c10::SmallVector<resembed_table_grad, 1> grads(1);
  grads[0] = {};
  grads[0].struct_size = sizeof(grads[0]);
  if (need_weight) {
    residual = MakeCompressed(weight, capacity);
    grads[0].residual = &residual.grad;
  }
  if (need_central) {
    central = MakeCompressed(*central_weight, std::min(table.central_rows, capacity * SlotsOf(table)));
    grads[0].central = &central.grad;
  }
  Backward(kOp, &lookup, grad_output, Tensor(), &grads, need_central, nullptr);
  ClearRest(residual);
  ClearRest(central);
  for (CompressedGrad* grad : {&residual, &central}) {
    if (grad->rows.defined()) continue;
    grad->row_ids = Nothing(weight, at::kLong);
    grad->rows = Nothing(weight, at::kFloat);
    grad->count = Nothing(weight, at::kLong);
  }
  return {residual.row_ids, residual.rows, residual.count, central.row_ids, central.rows, central.count};
}

Tensor TableBatched(at::TensorList weights, const Tensor& indices, const Tensor& offsets,
                    const OptionalTensor& per_sample_weights, at::TensorList central_weights,
                    at::TensorList central_maps, at::TensorList neighbor_weights, Strings fusions,
                    at::IntArrayRef feature_table, std::string_view mode, std::string_view bounds,
                    at::OptionalIntArrayRef feature_lengths, OptionalType output_dtype) {
  constexpr const char* kOp = "table_batched";
  Lookup lookup(kOp, {weights, central_weights, central_maps, neighbor_weights, fusions},
                {indices, offsets, per_sample_weights, feature_table, feature_lengths, mode, bounds});
  return Forward(&lookup, output_dtype.value_or(at::kFloat), kOp);
}

Lists TableBatchedBackward(at::TensorList weights, const Tensor& grad_output, const Tensor& indices,
                           const Tensor& offsets, const OptionalTensor& per_sample_weights,
                           at::TensorList central_weights, at::TensorList central_maps,
                           at::TensorList neighbor_weights, Strings fusions, at::IntArrayRef feature_table,
                           std::string_view mode, std::string_view bounds,
                           at::OptionalIntArrayRef feature_lengths, bool need_weights,
                           bool need_central_weights, bool need_per_sample_weights) {
  constexpr const char* kOp = "table_batched_backward";
  Lookup lookup(kOp, {weights, central_weights, central_maps, neighbor_weights, fusions},
                {indices, offsets, per_sample_weights, feature_table, feature_lengths, mode, bounds});
  const size_t n_tables = weights.size();
  c10::SmallVector<resembed_table_grad, 1> grads(n_tables);
  std::vector<DenseGrad> residual(n_tables), central(n_tables);
  for (size_t index = 0; index < n_tables; ++index) {
    grads[index] = {};
    grads[index].struct_size = sizeof(grads[index]);
    if (need_weights) {
      residual[index] = MakeDense(weights[index]);
      grads[index].residual = &residual[index].grad;
    }
    if (need_central_weights && lookup.table(index).form != RESEMBED_CENTRAL_NONE) {
      central[index] = MakeDense(central_weights[index]);
      grads[index].central = &central[index].grad;
    }
  }
  const Tensor samples = need_per_sample_weights
                             ? at::empty(indices.sizes(), weights[0].options().dtype(at::kFloat))
                             : Nothing(weights[0], at::kFloat);
  Backward(kOp, &lookup, grad_output, need_per_sample_weights ? samples : Tensor(), &grads,
           need_central_weights, nullptr);
  Lists out;
  for (size_t index = 0; need_weights && index < n_tables; ++index) {
    std::get<0>(out).push_back(residual[index].rows.to(weights[index].scalar_type()));
  }
  for (size_t index = 0; need_central_weights && index < central_weights.size(); ++index) {
    const Tensor& matrix = central_weights[index];
    std::get<1>(out).push_back(central[index].rows.defined() ? central[index].rows.to(matrix.scalar_type())
                                                             : Nothing(matrix, matrix.scalar_type()));
  }
  std::get<2>(out) = samples;
  return out;
}

}  // namespace resembed::adapter
