// SPDX-License-Identifier: Apache-2.0
// Shapes and types of every operation, for torch.compile, torch.export and FakeTensor. Sizes stay symbolic:
// sym_size(), never size(), which would tie compiled code to the first batch.
#include <ATen/ops/empty.h>
#include <c10/core/SymIntArrayRef.h>

#include "host/torch/dispatch.h"
#include "host/torch/ops.h"

namespace resembed::adapter {
namespace {

using c10::SymInt;
using Shape = c10::SmallVector<SymInt, 4>;
using OptionalSymInts = at::OptionalSymIntArrayRef;
using OptionalSymInt = std::optional<SymInt>;

Tensor Make(c10::SymIntArrayRef shape, const Tensor& like, at::ScalarType type) {
  return at::empty_symint(shape, like.options().dtype(type));
}
Tensor Like(const Tensor& matrix, bool needed, const Tensor& table, at::ScalarType otherwise) {
  return needed ? Make(matrix.sym_sizes(), matrix, matrix.scalar_type()) : Make({0}, table, otherwise);
}

Shape OutputShape(const char* op, const Tensor& weight, const Tensor& indices, const OptionalTensor& offsets,
                  std::string_view mode, bool include_last_offset) {
  TORCH_CHECK(weight.dim() == 2, op, ": weight has ", weight.dim(), " dimensions; needs 2");
  Shape shape;
  if (PoolingOf(op, mode) == RESEMBED_POOLING_NONE) {
    shape.append(indices.sym_sizes().begin(), indices.sym_sizes().end());
  } else if (indices.dim() == 2) {
    shape.push_back(indices.sym_size(0));
  } else {
    TORCH_CHECK(indices.dim() == 1, op, ": indices has ", indices.dim(),
                " dimensions; needs 1 with offsets, or 2");
    TORCH_CHECK(IsGiven(offsets), op,
                ": offsets is None; needs the start of each bag for indices of shape [n_ids]");
    shape.push_back(offsets->sym_size(0) - (include_last_offset ? 1 : 0));
  }
  shape.push_back(weight.sym_size(1));
  return shape;
}

Tensor EmbeddingBagMeta(const Tensor& weight, const Tensor& indices, const OptionalTensor& offsets,
                        const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                        const OptionalTensor&, std::string_view fusion, std::string_view mode, OptionalInt,
                        bool include_last_offset, bool sparse, std::string_view, OptionalType output_dtype) {
  constexpr const char* kOp = "embedding_bag";
  FormOf(kOp, fusion);
  CheckSparse(kOp, sparse, mode);
  const at::ScalarType type = output_dtype.value_or(weight.scalar_type());
  FloatTypeOf(kOp, "output", type);
  return Make(OutputShape(kOp, weight, indices, offsets, mode, include_last_offset), weight, type);
}

Four EmbeddingBagBackwardMeta(const Tensor& weight, const Tensor&, const Tensor& indices,
                              const OptionalTensor&, const OptionalTensor&,
                              const OptionalTensor& central_weight, const OptionalTensor&,
                              const OptionalTensor& neighbor_weights, std::string_view, std::string_view,
                              OptionalInt, bool, std::string_view, bool need_weight, bool need_central,
                              bool need_per_sample_weights, bool need_neighbor_weights) {
  const bool central = need_central && IsGiven(central_weight);
  const bool neighbors = need_neighbor_weights && IsGiven(neighbor_weights);
  return {
      Like(weight, need_weight, weight, weight.scalar_type()),
      Like(central ? *central_weight : weight, central, weight, weight.scalar_type()),
      need_per_sample_weights ? Make(indices.sym_sizes(), weight, at::kFloat) : Make({0}, weight, at::kFloat),
      Like(neighbors ? *neighbor_weights : weight, neighbors, weight, at::kFloat)};
}

Six EmbeddingBagCompressedBackwardMeta(const Tensor& weight, const Tensor&, const Tensor& indices,
                                       const OptionalTensor&, const OptionalTensor&,
                                       const OptionalTensor& central_weight,
                                       const OptionalTensor& central_map, const OptionalTensor&,
                                       std::string_view fusion, std::string_view, OptionalInt, bool,
                                       std::string_view, bool need_weight, bool need_central) {
  const auto part = [&weight](bool needed, const SymInt& capacity, const Tensor& matrix) {
    return needed
               ? Three{Make({capacity}, weight, at::kLong),
                       Make({capacity, matrix.sym_size(1)}, weight, at::kFloat), Make({1}, weight, at::kLong)}
               : Three{Make({0}, weight, at::kLong), Make({0}, weight, at::kFloat),
                       Make({0}, weight, at::kLong)};
  };
  const SymInt capacity = weight.sym_size(0).min(indices.sym_numel());
  SymInt central_capacity = 0;
  const bool central = need_central && IsGiven(central_weight);
  if (central) {
    TORCH_CHECK(IsGiven(central_map),
                "embedding_bag_compressed_backward: central_map is None; needs a tensor");
    // As SlotsOf (plan.h): an item touches its center, or its neighbors, and for attention its own row.
    SymInt slots = 1;
    if (fusion != "assign") slots = central_map->sym_size(1) + (fusion == "att" ? 1 : 0);
    central_capacity = central_weight->sym_size(0).min(capacity * slots);
  }
  const Three first = part(need_weight, capacity, weight);
  const Three second = part(central, central_capacity, central ? *central_weight : weight);
  return std::tuple_cat(first, second);
}

Tensor TableBatchedMeta(at::TensorList weights, const Tensor& indices, const Tensor& offsets,
                        const OptionalTensor&, at::TensorList, at::TensorList, at::TensorList, Strings,
                        at::IntArrayRef feature_table, std::string_view, std::string_view, OptionalSymInts,
                        OptionalType output_dtype) {
  constexpr const char* kOp = "table_batched";
  TORCH_CHECK(!weights.empty() && !feature_table.empty(), kOp,
              ": weights or feature_table has 0 entries; needs 1 or more");
  TORCH_CHECK(indices.dim() == 1 && offsets.dim() == 1, kOp, ": indices and offsets have ", indices.dim(),
              " and ", offsets.dim(), " dimensions; need 1 each");
  SymInt dims = 0;
  for (const int64_t table : feature_table) {
    TORCH_CHECK(table >= 0 && table < static_cast<int64_t>(weights.size()), kOp,
                ": feature_table names table ", table, "; needs 0 .. ", weights.size() - 1);
    dims += weights[static_cast<size_t>(table)].sym_size(1);
  }
  const SymInt n_bags = (offsets.sym_size(0) - 1) / SymInt(static_cast<int64_t>(feature_table.size()));
  const at::ScalarType type = output_dtype.value_or(at::kFloat);
  FloatTypeOf(kOp, "output", type);
  return Make({n_bags, dims}, weights[0], type);
}

Lists TableBatchedBackwardMeta(at::TensorList weights, const Tensor&, const Tensor& indices, const Tensor&,
                               const OptionalTensor&, at::TensorList central_weights, at::TensorList,
                               at::TensorList, Strings fusions, at::IntArrayRef, std::string_view,
                               std::string_view, OptionalSymInts, bool need_weights,
                               bool need_central_weights, bool need_per_sample_weights) {
  Lists out;
  for (size_t index = 0; need_weights && index < weights.size(); ++index) {
    std::get<0>(out).push_back(Like(weights[index], true, weights[index], at::kFloat));
  }
  for (size_t index = 0; need_central_weights && index < central_weights.size(); ++index) {
    const bool given = index < fusions.size() && fusions[index] != "none";
    std::get<1>(out).push_back(
        Like(central_weights[index], given, central_weights[index], central_weights[index].scalar_type()));
  }
  std::get<2>(out) = need_per_sample_weights ? Make(indices.sym_sizes(), weights[0], at::kFloat)
                                             : Make({0}, weights[0], at::kFloat);
  return out;
}

void TableBatchedStepMeta(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                          at::TensorList, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                          const Tensor&, const Tensor&, const Tensor&, at::TensorList, at::TensorList,
                          Strings, at::IntArrayRef, std::string_view, std::string_view, OptionalSymInts,
                          std::string_view, double, double, double, std::string_view, double, double, bool,
                          int64_t, int64_t) {}
void StepMeta(const Tensor&, const OptionalTensor&, const OptionalTensor&, const Tensor&, const Tensor&,
              const Tensor&, const Tensor&, const Tensor&, std::string_view, double, double, double,
              std::string_view, double, bool, int64_t, int64_t) {}

Three CombineMeta(at::TensorList, at::TensorList rows, at::TensorList, SymInt table_rows) {
  TORCH_CHECK(!rows.empty(), "combine: rows has 0 entries; needs 1 or more");
  SymInt capacity = 0;
  for (const Tensor& part : rows) capacity += part.sym_size(0);
  capacity = capacity.min(table_rows);
  return {Make({capacity}, rows[0], at::kLong), Make({capacity, rows[0].sym_size(1)}, rows[0], at::kFloat),
          Make({1}, rows[0], at::kLong)};
}

Tensor MaterializeMeta(const Tensor& weight, const OptionalTensor&, const OptionalTensor&,
                       const OptionalTensor&, std::string_view, SymInt first_item, OptionalSymInt n_items,
                       OptionalType output_dtype) {
  const SymInt rows = n_items.has_value() ? *n_items : weight.sym_size(0) - first_item;
  return Make({rows, weight.sym_size(1)}, weight, output_dtype.value_or(weight.scalar_type()));
}

Eight EnvelopeMeta(const Tensor& weight, const Tensor&, SymInt n_interests, at::ArrayRef<double> quantiles,
                   const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, std::string_view) {
  const SymInt levels = static_cast<int64_t>(quantiles.size());
  const auto vector = [&] { return Make({n_interests}, weight, at::kFloat); };
  const auto matrix = [&] { return Make({n_interests, levels}, weight, at::kFloat); };
  return {Make({n_interests}, weight, at::kLong), vector(), matrix(), vector(), matrix(), vector(), vector(),
          Make({4}, weight, at::kFloat)};
}

void CheckMapsMeta(const Tensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                   std::string_view) {}

Tensor BadIdsMeta(at::TensorList, const Tensor& indices, const OptionalTensor&, at::IntArrayRef,
                  OptionalInt) {
  return Make({4}, indices, at::kLong);
}

Two InterestGraphMeta(const Tensor& values, const Tensor&, SymInt n_items, int64_t, int64_t top_k) {
  return {Make({n_items, top_k}, values, at::kInt), Make({n_items, top_k}, values, at::kLong)};
}

Tensor GraphWeightsMeta(const Tensor& neighbors, const OptionalTensor&, std::string_view) {
  return Make(neighbors.sym_sizes(), neighbors, at::kFloat);
}

Two GraphAssignMeta(const Tensor& neighbors, const Tensor&, int64_t, int64_t, double, bool) {
  return {Make({neighbors.sym_size(0)}, neighbors, at::kInt), Make({1}, neighbors, at::kLong)};
}

}  // namespace

void DefineMeta(torch::Library* library) {
  library->impl("embedding_bag", &EmbeddingBagMeta);
  library->impl("embedding_bag_backward", &EmbeddingBagBackwardMeta);
  library->impl("embedding_bag_compressed_backward", &EmbeddingBagCompressedBackwardMeta);
  library->impl("table_batched", &TableBatchedMeta);
  library->impl("table_batched_backward", &TableBatchedBackwardMeta);
  library->impl("table_batched_step", &TableBatchedStepMeta);
  library->impl("step", &StepMeta);
  library->impl("combine", &CombineMeta);
  library->impl("materialize", &MaterializeMeta);
  library->impl("envelope", &EnvelopeMeta);
  library->impl("check_maps", &CheckMapsMeta);
  library->impl("bad_ids", &BadIdsMeta);
  library->impl("interest_graph", &InterestGraphMeta);
  library->impl("graph_weights", &GraphWeightsMeta);
  library->impl("graph_assign", &GraphAssignMeta);
}

}  // namespace resembed::adapter
