// SPDX-License-Identifier: Apache-2.0
// Optimizers, and sums of gradients.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <string>
#include <vector>

#include "host/torch/ops.h"
#include "host/torch/plan.h"

namespace resembed::adapter {
namespace {

resembed_decay DecayOf(const char* op, std::string_view decay) {
  TORCH_CHECK(decay == "l2" || decay == "decoupled", op, ": decay is '", decay,
              "'; needs 'l2' or 'decoupled'");
  return decay == "l2" ? RESEMBED_DECAY_L2 : RESEMBED_DECAY_DECOUPLED;
}

const void* Scalar(const char* op, const char* name, const Tensor& tensor, at::ScalarType type,
                   const Tensor& table) {
  CheckDevice(op, name, tensor, table);
  TORCH_CHECK(tensor.scalar_type() == type && tensor.numel() == 1, op, ": ", name, " is ",
              NameOf(tensor.scalar_type()), " ", tensor.sizes(), "; needs one ", NameOf(type));
  return tensor.data_ptr();
}

// What all updates of a call share.
struct Rules {
  const char* op;
  std::string_view optimizer, decay;
  double beta1, beta2, eps;
  const Tensor& step;
  bool stochastic_rounding;
  int64_t seed;
};

// The update of one matrix. States: [rows, dim], or [rows] where the optimizer has one number a row.
resembed_optimizer UpdateOf(const Rules& rules, const Tensor& lr, double weight_decay, const Tensor& matrix,
                            const OptionalTensor& state1, const OptionalTensor& state2) {
  const char* const op = rules.op;
  resembed_optimizer out = {};
  out.struct_size = sizeof(out);
  out.kind = OptimizerOf(op, rules.optimizer);
  out.beta1 = static_cast<float>(rules.beta1);
  out.beta2 = static_cast<float>(rules.beta2);
  out.eps = static_cast<float>(rules.eps);
  out.weight_decay = static_cast<float>(weight_decay);
  out.decay = DecayOf(op, rules.decay);
  out.step = 1;
  out.lr_device = static_cast<const float*>(Scalar(op, "lr", lr, at::kFloat, matrix));
  out.step_device = static_cast<const int64_t*>(Scalar(op, "step", rules.step, at::kLong, matrix));
  out.stochastic_rounding = rules.stochastic_rounding ? 1 : 0;
  out.seed = static_cast<uint64_t>(rules.seed);

  const int64_t rows = matrix.size(0), dim = matrix.size(1);
  const auto state = [&](const char* name, const OptionalTensor& given, bool one_a_row) -> void* {
    TORCH_CHECK(IsGiven(given), op, ": ", name, " is None; needs the state of optimizer '", rules.optimizer,
                "'");
    CheckDevice(op, name, *given, matrix);
    const bool fits = one_a_row ? given->dim() == 1 && given->size(0) == rows
                                : given->dim() == 2 && given->size(0) == rows && given->size(1) == dim;
    TORCH_CHECK(fits && given->scalar_type() == at::kFloat && given->is_contiguous(), op, ": ", name, " is ",
                NameOf(given->scalar_type()), " ", given->sizes(), "; needs contiguous float32 [", rows,
                one_a_row ? "]" : ", " + std::to_string(dim) + "]");
    return given->data_ptr();
  };
  if (out.kind != RESEMBED_SGD) out.state1 = state("state1", state1, out.kind == RESEMBED_ROWWISE_ADAGRAD);
  if (out.kind == RESEMBED_ADAM || out.kind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
    out.state2 = state("state2", state2, out.kind == RESEMBED_PARTIAL_ROWWISE_ADAM);
  }
  return out;
}

OptionalTensor At(at::TensorList list, size_t index) {
  return index < list.size() ? OptionalTensor(list[index]) : std::nullopt;
}

resembed_grad CompressedOf(const char* op, const Tensor& row_ids, const Tensor& rows, const Tensor& count,
                           const Tensor& like) {
  CheckDevice(op, "row_ids", row_ids, like);
  CheckDevice(op, "rows", rows, like);
  TORCH_CHECK(rows.dim() == 2 && rows.scalar_type() == at::kFloat && rows.is_contiguous(), op, ": rows is ",
              NameOf(rows.scalar_type()), " ", rows.sizes(), "; needs contiguous float32 [capacity, dim]");
  TORCH_CHECK(row_ids.dim() == 1 && row_ids.size(0) == rows.size(0) && row_ids.scalar_type() == at::kLong &&
                  row_ids.is_contiguous(),
              op, ": row_ids is ", NameOf(row_ids.scalar_type()), " ", row_ids.sizes(),
              "; needs contiguous int64 [", rows.size(0), "]");
  resembed_grad grad = {};
  grad.struct_size = sizeof(grad);
  grad.layout = RESEMBED_GRAD_COMPRESSED;
  grad.rows = static_cast<float*>(rows.data_ptr());
  grad.row_ids = static_cast<int64_t*>(row_ids.data_ptr());
  grad.n_rows = static_cast<int64_t*>(const_cast<void*>(Scalar(op, "count", count, at::kLong, like)));
  grad.capacity = rows.size(0);
  return grad;
}

// A plain table over one matrix.
resembed_table PlainTable(const char* op, const Tensor& matrix) {
  const OptionalTensor none;
  return TableOf(op, {matrix, none, none, none, "none"});
}

}  // namespace

void TableBatchedStep(at::TensorList weights, at::TensorList central_weights, at::TensorList state1,
                      at::TensorList state2, at::TensorList central_state1, at::TensorList central_state2,
                      const Tensor& grad_output, const Tensor& indices, const Tensor& offsets,
                      const OptionalTensor& per_sample_weights, const Tensor& lr, const Tensor& central_lr,
                      const Tensor& step, at::TensorList central_maps, at::TensorList neighbor_weights,
                      Strings fusions, at::IntArrayRef feature_table, std::string_view mode,
                      std::string_view bounds, at::OptionalIntArrayRef feature_lengths,
                      std::string_view optimizer, double beta1, double beta2, double eps,
                      std::string_view decay, double weight_decay, double central_weight_decay,
                      bool stochastic_rounding, int64_t seed, int64_t first_table_number) {
  constexpr const char* kOp = "table_batched_step";
  Lookup lookup(kOp, {weights, central_weights, central_maps, neighbor_weights, fusions},
                {indices, offsets, per_sample_weights, feature_table, feature_lengths, mode, bounds});
  const Rules rules = {kOp, optimizer, decay, beta1, beta2, eps, step, stochastic_rounding, seed};
  const size_t n_tables = weights.size();
  std::vector<resembed_optimizer> residual(n_tables), central(n_tables);
  std::vector<resembed_table_step> steps(n_tables);
  std::vector<const resembed_table_step*> step_list(n_tables);
  bool any_central = false;
  for (size_t index = 0; index < n_tables; ++index) {
    residual[index] = UpdateOf(rules, lr, weight_decay, weights[index], At(state1, index), At(state2, index));
    steps[index] = {};
    steps[index].struct_size = sizeof(steps[index]);
    steps[index].residual = &residual[index];
    steps[index].table_number = static_cast<int32_t>(first_table_number) + static_cast<int32_t>(index);
    if (lookup.table(index).form != RESEMBED_CENTRAL_NONE) {
      any_central = true;
      central[index] = UpdateOf(rules, central_lr, central_weight_decay, central_weights[index],
                                At(central_state1, index), At(central_state2, index));
      steps[index].central = &central[index];
    }
    step_list[index] = &steps[index];
  }
  const Plan plan(&lookup, any_central);
  const FeatureGrads feature_grads(kOp, lookup, grad_output, Tensor());
  resembed_backward_step_args args = {};
  args.struct_size = sizeof(args);
  args.plan = plan.header();
  args.tables = lookup.tables();
  args.features = lookup.features();
  args.n_features = lookup.n_features();
  args.feature_grads = feature_grads.list();
  args.steps = step_list.data();
  size_t bytes = 0;
  Check(resembed_backward_step_workspace_size(&args, lookup.place().get(), &bytes));
  const Scratch workspace(lookup.place(), bytes, ScratchKind::kWorkspace);
  Check(resembed_backward_step(&args, workspace.data(), bytes, lookup.place().get()));
}

void Step(const Tensor& weight, const OptionalTensor& state1, const OptionalTensor& state2,
          const Tensor& row_ids, const Tensor& rows, const Tensor& count, const Tensor& lr,
          const Tensor& step, std::string_view optimizer, double beta1, double beta2, double eps,
          std::string_view decay, double weight_decay, bool stochastic_rounding, int64_t seed,
          int64_t table_number) {
  constexpr const char* kOp = "step";
  const Place place(weight);
  const resembed_table table = PlainTable(kOp, weight);
  const resembed_table* const table_list[] = {&table};
  const resembed_tables tables = {sizeof(tables), table_list, 1, nullptr};
  const Rules rules = {kOp, optimizer, decay, beta1, beta2, eps, step, stochastic_rounding, seed};
  const resembed_optimizer update = UpdateOf(rules, lr, weight_decay, weight, state1, state2);
  const resembed_grad residual = CompressedOf(kOp, row_ids, rows, count, weight);
  TORCH_CHECK(rows.size(1) == table.dim, kOp, ": rows.shape is ", rows.sizes(), "; needs rows of dim ",
              table.dim);
  resembed_table_grad grad = {};
  grad.struct_size = sizeof(grad);
  grad.residual = &residual;
  const resembed_table_grad* const grads[] = {&grad};
  resembed_table_step table_step = {};
  table_step.struct_size = sizeof(table_step);
  table_step.residual = &update;
  table_step.table_number = static_cast<int32_t>(table_number);
  const resembed_table_step* const steps[] = {&table_step};
  const resembed_step_args args = {sizeof(args), &tables, grads, steps};
  size_t bytes = 0;
  Check(resembed_step_workspace_size(&args, place.get(), &bytes));
  const Scratch workspace(place, bytes, ScratchKind::kWorkspace);
  Check(resembed_step(&args, workspace.data(), bytes, place.get()));
}

Three Combine(at::TensorList row_ids, at::TensorList rows, at::TensorList counts, int64_t table_rows) {
  constexpr const char* kOp = "combine";
  TORCH_CHECK(!rows.empty() && row_ids.size() == rows.size() && counts.size() == rows.size(), kOp,
              ": row_ids, rows and counts have ", row_ids.size(), ", ", rows.size(), " and ", counts.size(),
              " entries; need as many, 1 or more");
  const Place place(rows[0]);
  std::vector<resembed_grad> inputs;
  std::vector<const resembed_grad*> input_list;
  int64_t capacity = 0;
  for (size_t index = 0; index < rows.size(); ++index) {
    inputs.push_back(CompressedOf(kOp, row_ids[index], rows[index], counts[index], rows[0]));
    TORCH_CHECK(rows[index].size(1) == rows[0].size(1), kOp, ": rows[", index, "].shape is ",
                rows[index].sizes(), "; needs rows of dim ", rows[0].size(1));
    capacity += inputs.back().capacity;
  }
  for (const auto& input : inputs) input_list.push_back(&input);
  capacity = std::min(capacity, table_rows);
  const at::TensorOptions options = rows[0].options();
  const Tensor ids = at::zeros({capacity}, options.dtype(at::kLong));
  const Tensor sums = at::zeros({capacity, rows[0].size(1)}, options);
  const Tensor count = at::zeros({1}, options.dtype(at::kLong));
  const resembed_grad output = CompressedOf(kOp, ids, sums, count, rows[0]);
  resembed_combine_args args = {};
  args.struct_size = sizeof(args);
  args.inputs = input_list.data();
  args.n_inputs = static_cast<int32_t>(inputs.size());
  args.dim = rows[0].size(1);
  args.table_rows = table_rows;
  args.output = &output;
  size_t bytes = 0;
  Check(resembed_combine_workspace_size(&args, place.get(), &bytes));
  const Scratch workspace(place, bytes, ScratchKind::kWorkspace);
  Check(resembed_combine(&args, workspace.data(), bytes, place.get()));
  return {ids, sums, count};
}

}  // namespace resembed::adapter
