// SPDX-License-Identifier: Apache-2.0
// Gradients. Forward and backward are operations of the dispatcher, so that compilers see both.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <string>
#include <vector>

#include "host/torch/dispatch.h"
#include "host/torch/ops.h"

namespace resembed::adapter {
namespace {

using at::IValue;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalSymInts = at::OptionalSymIntArrayRef;

template <typename Signature>
c10::TypedOperatorHandle<Signature> Find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

bool WantsGrad(const Tensor& tensor) {
  return tensor.defined() && (tensor.requires_grad() || torch::autograd::isFwGradDefined(tensor));
}
bool WantsGrad(const OptionalTensor& tensor) { return tensor.has_value() && WantsGrad(*tensor); }
bool WantsGrad(at::TensorList tensors) {
  return std::any_of(tensors.begin(), tensors.end(), [](const Tensor& tensor) { return WantsGrad(tensor); });
}
Tensor OrUndefined(const OptionalTensor& tensor) { return tensor.has_value() ? *tensor : Tensor(); }
OptionalTensor OrNone(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

// During backward nothing records, unless a second derivative is asked for: those say that there is none.
class BelowAutograd {
 public:
  explicit BelowAutograd(bool below) {
    if (below) guard_.emplace();
  }

 private:
  std::optional<at::AutoDispatchBelowADInplaceOrView> guard_;
};

// The rows backward touched, as a coalesced COO tensor. Reads the number of rows: the one call that waits for the
// device. Its indices lie two apart, because torch takes over a gradient with contiguous ones as it is and then forgets
// that it is coalesced (an optimizer would sort it again); this one it copies, without what lies past the count.
Tensor SparseGrad(const Tensor& row_ids, const Tensor& rows, const Tensor& count, const Tensor& matrix) {
  const int64_t n_rows = count.item<int64_t>();
  const Tensor indices = at::empty({n_rows, 2}, row_ids.options()).select(1, 0);
  indices.copy_(row_ids.narrow(0, 0, n_rows));
  return at::_sparse_coo_tensor_unsafe(indices.unsqueeze(0),
                                       rows.narrow(0, 0, n_rows).to(matrix.scalar_type()), matrix.sizes(),
                                       matrix.options().layout(at::kSparse), /*is_coalesced=*/true);
}

// Arguments of embedding_bag that have no gradient.
struct BagCall {
  const Tensor& indices;
  const OptionalTensor& offsets;
  const OptionalTensor& central_map;
  std::string_view fusion, mode;
  OptionalInt padding_idx;
  bool include_last_offset, sparse;
  std::string_view bounds;
  OptionalType output_dtype;
};

Tensor CallEmbeddingBag(const Tensor& weight, const OptionalTensor& per_sample_weights,
                        const OptionalTensor& central_weight, const OptionalTensor& neighbor_weights,
                        const BagCall& call) {
  static const auto op = Find<decltype(EmbeddingBag)>("resembed::embedding_bag");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(weight, call.indices, call.offsets, per_sample_weights, central_weight, call.central_map,
                 neighbor_weights, call.fusion, call.mode, call.padding_idx, call.include_last_offset,
                 call.sparse, call.bounds, call.output_dtype);
}

class EmbeddingBagFunction : public torch::autograd::Function<EmbeddingBagFunction> {
 public:
  static constexpr bool is_traceable = true;

  static Tensor forward(AutogradContext* context, const Tensor& weight,
                        const OptionalTensor& per_sample_weights, const OptionalTensor& central_weight,
                        const OptionalTensor& neighbor_weights, const BagCall& call) {
    Tensor output = CallEmbeddingBag(weight, per_sample_weights, central_weight, neighbor_weights, call);
    // Most gradients do not depend on the tables' values, and then a step between forward and backward is fine;
    // the others must see the tables of forward, which save_for_backward watches.
    const bool reads_tables = call.mode == "max" || call.fusion == "att" || WantsGrad(per_sample_weights) ||
                              WantsGrad(neighbor_weights);
    const Tensor central = OrUndefined(central_weight);
    auto& saved = context->saved_data;
    saved["tables"] = reads_tables ? IValue() : IValue(std::vector<Tensor>{weight, central});
    context->save_for_backward({call.indices, OrUndefined(call.offsets), OrUndefined(per_sample_weights),
                                OrUndefined(call.central_map), OrUndefined(neighbor_weights),
                                reads_tables ? weight : Tensor(), reads_tables ? central : Tensor()});
    saved["fusion"] = std::string(call.fusion);
    saved["mode"] = std::string(call.mode);
    saved["bounds"] = std::string(call.bounds);
    saved["padding"] =
        call.padding_idx.has_value() ? std::vector<int64_t>{*call.padding_idx} : std::vector<int64_t>();
    saved["flags"] = std::vector<int64_t>{call.include_last_offset, call.sparse};
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    static const auto dense = Find<decltype(EmbeddingBagBackward)>("resembed::embedding_bag_backward");
    static const auto compressed =
        Find<decltype(EmbeddingBagCompressedBackward)>("resembed::embedding_bag_compressed_backward");
    if (!grad_outputs[0].defined()) return variable_list(5);
    const variable_list kept = context->get_saved_variables();
    auto& saved = context->saved_data;
    const std::vector<Tensor> tables =
        saved["tables"].isNone() ? std::vector<Tensor>{kept[5], kept[6]} : saved["tables"].toTensorVector();
    const Tensor& weight = tables[0];
    const OptionalTensor offsets = OrNone(kept[1]), per_sample_weights = OrNone(kept[2]),
                         central_map = OrNone(kept[3]), neighbor_weights = OrNone(kept[4]),
                         central_weight = OrNone(tables[1]);
    const std::string fusion = saved["fusion"].toStringRef(), mode = saved["mode"].toStringRef(),
                      bounds = saved["bounds"].toStringRef();
    const std::vector<int64_t> padding = saved["padding"].toIntVector(), flags = saved["flags"].toIntVector();
    const OptionalInt padding_idx = padding.empty() ? std::nullopt : OptionalInt(padding[0]);
    const bool include_last_offset = flags[0] != 0, sparse = flags[1] != 0;

    // Edges exist only for tensors that were given.
    size_t edge = 0;
    const auto needs = [&](bool given) { return given && context->needs_input_grad(edge++); };
    const bool need_weight = needs(true), need_samples = needs(per_sample_weights.has_value()),
               need_central = needs(central_weight.has_value()),
               need_neighbors = needs(neighbor_weights.has_value());

    const BelowAutograd guard(!at::GradMode::is_enabled());
    variable_list grads(5);
    if (sparse && (need_weight || need_central)) {
      const auto [row_ids, rows, count, central_row_ids, central_rows, central_count] =
          compressed.call(weight, grad_outputs[0], kept[0], offsets, per_sample_weights, central_weight,
                          central_map, neighbor_weights, fusion, mode, padding_idx, include_last_offset,
                          bounds, need_weight, need_central);
      if (need_weight) grads[0] = SparseGrad(row_ids, rows, count, weight);
      if (need_central) grads[2] = SparseGrad(central_row_ids, central_rows, central_count, *central_weight);
      if (!need_samples && !need_neighbors) return grads;
    }
    const auto [weight_grad, central_grad, sample_grad, neighbor_grad] =
        dense.call(weight, grad_outputs[0], kept[0], offsets, per_sample_weights, central_weight, central_map,
                   neighbor_weights, fusion, mode, padding_idx, include_last_offset, bounds,
                   need_weight && !sparse, need_central && !sparse, need_samples, need_neighbors);
    if (need_weight && !sparse) grads[0] = weight_grad;
    if (need_samples) grads[1] = sample_grad.to(per_sample_weights->scalar_type());
    if (need_central && !sparse) grads[2] = central_grad;
    if (need_neighbors) grads[3] = neighbor_grad;
    return grads;
  }
};

Tensor EmbeddingBagAutograd(const Tensor& weight, const Tensor& indices, const OptionalTensor& offsets,
                            const OptionalTensor& per_sample_weights, const OptionalTensor& central_weight,
                            const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
                            std::string_view fusion, std::string_view mode, OptionalInt padding_idx,
                            bool include_last_offset, bool sparse, std::string_view bounds,
                            OptionalType output_dtype) {
  const BagCall call = {indices, offsets, central_map, fusion, mode, padding_idx, include_last_offset,
                        sparse,  bounds,  output_dtype};
  if (!at::GradMode::is_enabled() || !(WantsGrad(weight) || WantsGrad(per_sample_weights) ||
                                       WantsGrad(central_weight) || WantsGrad(neighbor_weights))) {
    return CallEmbeddingBag(weight, per_sample_weights, central_weight, neighbor_weights, call);
  }
  TORCH_CHECK(
      !sparse || !weight.unsafeGetTensorImpl()->key_set().has(c10::DispatchKey::Python),
      "embedding_bag: sparse is True under torch.compile or torch.export; needs False there (the number of "
      "rows depends on data): use dense gradients, or a table-batched collection and its step");
  return EmbeddingBagFunction::apply(weight, per_sample_weights, central_weight, neighbor_weights, call);
}

// Arguments of table_batched that have no gradient.
struct BatchCall {
  const Tensor& indices;
  const Tensor& offsets;
  at::TensorList central_maps, neighbor_weights;
  Strings fusions;
  at::IntArrayRef feature_table;
  std::string_view mode, bounds;
  OptionalSymInts feature_lengths;
  OptionalType output_dtype;
};

// As TableBatched and TableBatchedBackward, with symbolic lengths.
using TableBatchedSignature = Tensor(at::TensorList, const Tensor&, const Tensor&, const OptionalTensor&,
                                     at::TensorList, at::TensorList, at::TensorList, Strings, at::IntArrayRef,
                                     std::string_view, std::string_view, OptionalSymInts, OptionalType);
using TableBatchedBackwardSignature = Lists(at::TensorList, const Tensor&, const Tensor&, const Tensor&,
                                            const OptionalTensor&, at::TensorList, at::TensorList,
                                            at::TensorList, Strings, at::IntArrayRef, std::string_view,
                                            std::string_view, OptionalSymInts, bool, bool, bool);

Tensor CallTableBatched(at::TensorList weights, at::TensorList central_weights,
                        const OptionalTensor& per_sample_weights, const BatchCall& call) {
  static const auto op = Find<TableBatchedSignature>("resembed::table_batched");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(weights, call.indices, call.offsets, per_sample_weights, central_weights, call.central_maps,
                 call.neighbor_weights, call.fusions, call.feature_table, call.mode, call.bounds,
                 call.feature_lengths, call.output_dtype);
}

class TableBatchedFunction : public torch::autograd::Function<TableBatchedFunction> {
 public:
  static constexpr bool is_traceable = true;

  static Tensor forward(AutogradContext* context, at::TensorList weights, at::TensorList central_weights,
                        const OptionalTensor& per_sample_weights, const BatchCall& call) {
    Tensor output = CallTableBatched(weights, central_weights, per_sample_weights, call);
    const bool reads_tables =
        call.mode == "max" || WantsGrad(per_sample_weights) ||
        std::find(call.fusions.begin(), call.fusions.end(), "att") != call.fusions.end();
    auto& saved = context->saved_data;
    variable_list kept = {call.indices, call.offsets, OrUndefined(per_sample_weights)};
    kept.insert(kept.end(), call.central_maps.begin(), call.central_maps.end());
    kept.insert(kept.end(), call.neighbor_weights.begin(), call.neighbor_weights.end());
    std::vector<Tensor> tables(weights.begin(), weights.end());
    tables.insert(tables.end(), central_weights.begin(), central_weights.end());
    if (reads_tables) kept.insert(kept.end(), tables.begin(), tables.end());
    saved["tables"] = reads_tables ? IValue() : IValue(tables);
    context->save_for_backward(std::move(kept));
    const auto size = [](const auto& list) { return static_cast<int64_t>(list.size()); };
    saved["sizes"] = std::vector<int64_t>{size(weights), size(central_weights), size(call.central_maps),
                                          size(call.neighbor_weights)};
    saved["fusions"] = call.fusions.vec();
    saved["features"] = call.feature_table.vec();
    saved["mode"] = std::string(call.mode);
    saved["bounds"] = std::string(call.bounds);
    saved["lengths"] = call.feature_lengths.has_value() ? IValue(call.feature_lengths->vec()) : IValue();
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    static const auto op = Find<TableBatchedBackwardSignature>("resembed::table_batched_backward");
    auto& saved = context->saved_data;
    const std::vector<int64_t> sizes = saved["sizes"].toIntVector();
    const auto n_tables = static_cast<size_t>(sizes[0]), n_central = static_cast<size_t>(sizes[1]);
    const size_t n_inputs = n_tables + n_central;
    variable_list grads(n_inputs + 2);
    if (!grad_outputs[0].defined()) return grads;
    const variable_list kept = context->get_saved_variables();
    const at::TensorList all(kept);
    const auto n_maps = static_cast<size_t>(sizes[2]), n_stored = static_cast<size_t>(sizes[3]);
    const at::TensorList maps = all.slice(3, n_maps), stored = all.slice(3 + n_maps, n_stored);
    const std::vector<Tensor> tables =
        saved["tables"].isNone() ? all.slice(3 + n_maps + n_stored).vec() : saved["tables"].toTensorVector();
    const at::TensorList weights(tables.data(), n_tables),
        central_weights(tables.data() + n_tables, n_central);
    const OptionalTensor per_sample_weights = OrNone(kept[2]);
    const std::string mode = saved["mode"].toStringRef(), bounds = saved["bounds"].toStringRef();
    std::vector<std::string> fusions;
    for (const IValue& fusion : saved["fusions"].toListRef()) fusions.push_back(fusion.toStringRef());
    const std::vector<int64_t> features = saved["features"].toIntVector();
    std::vector<c10::SymInt> lengths;
    if (!saved["lengths"].isNone()) lengths = saved["lengths"].toSymIntVector();

    bool need_weights = false, need_central = false;
    for (size_t edge = 0; edge < n_inputs; ++edge) {
      (edge < n_tables ? need_weights : need_central) |= context->needs_input_grad(edge);
    }
    const bool need_samples = per_sample_weights.has_value() && context->needs_input_grad(n_inputs);
    const BelowAutograd guard(!at::GradMode::is_enabled());
    const auto [weight_grads, central_grads, sample_grad] =
        op.call(weights, grad_outputs[0], kept[0], kept[1], per_sample_weights, central_weights, maps, stored,
                fusions, features, mode, bounds,
                saved["lengths"].isNone() ? OptionalSymInts() : OptionalSymInts(c10::SymIntArrayRef(lengths)),
                need_weights, need_central, need_samples);
    for (size_t index = 0; index < weight_grads.size(); ++index) grads[index] = weight_grads[index];
    for (size_t index = 0; index < central_grads.size(); ++index) {
      // A table without a central part has a placeholder there.
      if (central_weights[index].dim() == 2) grads[n_tables + index] = central_grads[index];
    }
    if (need_samples) grads[n_inputs] = sample_grad.to(per_sample_weights->scalar_type());
    return grads;
  }
};

Tensor TableBatchedAutograd(at::TensorList weights, const Tensor& indices, const Tensor& offsets,
                            const OptionalTensor& per_sample_weights, at::TensorList central_weights,
                            at::TensorList central_maps, at::TensorList neighbor_weights, Strings fusions,
                            at::IntArrayRef feature_table, std::string_view mode, std::string_view bounds,
                            OptionalSymInts feature_lengths, OptionalType output_dtype) {
  const BatchCall call = {indices,       offsets, central_maps, neighbor_weights, fusions,
                          feature_table, mode,    bounds,       feature_lengths,  output_dtype};
  TORCH_CHECK(
      !at::GradMode::is_enabled() || !WantsGrad(neighbor_weights),
      "table_batched: neighbor_weights require gradients; needs weights that do not (embedding_bag has their "
      "gradient)");
  if (!at::GradMode::is_enabled() ||
      !(WantsGrad(weights) || WantsGrad(central_weights) || WantsGrad(per_sample_weights))) {
    return CallTableBatched(weights, central_weights, per_sample_weights, call);
  }
  return TableBatchedFunction::apply(weights, central_weights, per_sample_weights, call);
}

// Where a gradient is asked for, the whole table is a lookup of every item: the same bits.
Tensor MaterializeAutograd(const Tensor& weight, const OptionalTensor& central_weight,
                           const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
                           std::string_view fusion, c10::SymInt first_item,
                           std::optional<c10::SymInt> n_items, OptionalType output_dtype) {
  static const auto op = Find<decltype(MaterializeAutograd)>("resembed::materialize");
  if (at::GradMode::is_enabled() &&
      (WantsGrad(weight) || WantsGrad(central_weight) || WantsGrad(neighbor_weights))) {
    const c10::SymInt end = n_items.has_value() ? first_item + *n_items : weight.sym_size(0);
    const Tensor items = at::arange(first_item, end, weight.options().dtype(at::kLong));
    return EmbeddingBagAutograd(weight, items, std::nullopt, std::nullopt, central_weight, central_map,
                                neighbor_weights, fusion, "none", std::nullopt, false, false, "check",
                                output_dtype);
  }
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(weight, central_weight, central_map, neighbor_weights, fusion, first_item, n_items,
                 output_dtype);
}

// The tensors a call writes, by its schema.
template <typename Visit>
void ForEachWritten(const c10::FunctionSchema& schema, const torch::jit::Stack& stack, const Visit& visit) {
  const auto& arguments = schema.arguments();
  const size_t first = stack.size() - arguments.size();
  for (size_t index = 0; index < arguments.size(); ++index) {
    if (arguments[index].alias_info() == nullptr || !arguments[index].alias_info()->isWrite()) continue;
    const IValue& value = stack[first + index];
    if (value.isTensor()) visit(value.toTensor(), arguments[index].name());
    if (!value.isTensorList()) continue;
    for (const Tensor& tensor : value.toTensorVector()) visit(tensor, arguments[index].name());
  }
}

// As torch does for its own in-place operations: no writing to what autograd records, ...
void StepAutograd(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (at::GradMode::is_enabled()) {
    ForEachWritten(op.schema(), *stack, [&op](const Tensor& tensor, const std::string& name) {
      TORCH_CHECK(!tensor.requires_grad(), op.schema().name().substr(10), ": ", name,
                  " requires a gradient; needs torch.no_grad() around the step");
    });
  }
  op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
}

// ... and whoever saved a table for backward finds out that it has changed.
void StepInPlace(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  std::vector<Tensor> written;
  ForEachWritten(op.schema(), *stack,
                 [&](const Tensor& tensor, const std::string&) { written.push_back(tensor); });
  {
    const at::AutoDispatchBelowADInplaceOrView guard;
    op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
  }
  for (const Tensor& tensor : written) {
    if (tensor.defined() && !tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace

void DefineAutograd(torch::Library* library) {
  library->impl("embedding_bag", &EmbeddingBagAutograd);
  library->impl("table_batched", &TableBatchedAutograd);
  library->impl("materialize", &MaterializeAutograd);
  for (const char* op : {"step", "table_batched_step"}) {
    library->impl(op, torch::CppFunction::makeFromBoxedFunction<&StepAutograd>());
  }
  for (const char* op : {"embedding_bag_backward", "embedding_bag_compressed_backward",
                         "table_batched_backward", "combine", "envelope"}) {
    library->impl(op, torch::autograd::autogradNotImplementedFallback());
  }
}

void DefineInPlace(torch::Library* library) {
  for (const char* op : {"step", "table_batched_step"}) {
    library->impl(op, torch::CppFunction::makeFromBoxedFunction<&StepInPlace>());
  }
}

}  // namespace resembed::adapter
