// SPDX-License-Identifier: Apache-2.0
// Many tables, many features: the feature-major layout of KeyedJaggedTensor and of table-batched operations.
#include <ATen/ops/empty.h>
#include <ATen/ops/sub.h>

#include "host/torch/call.h"

namespace resembed::adapter {
namespace {

// Entry `index` of a list of parts; none where the list is empty or the entry has no elements.
OptionalTensor PartOf(at::TensorList list, size_t index) {
  if (list.empty() || !list[index].defined() || (list[index].numel() == 0 && list[index].dim() == 1)) {
    return std::nullopt;
  }
  return list[index];
}

const Tensor& FirstTable(const char* op, at::TensorList weights) {
  TORCH_CHECK(!weights.empty(), op, ": weights has 0 entries; needs 1 or more");
  return weights[0];
}

void CheckLength(const char* op, const char* name, size_t seen, size_t n_tables) {
  TORCH_CHECK(seen == 0 || seen == n_tables, op, ": ", name, " has ", seen,
              " entries; needs 0 or one for each of the ", n_tables, " tables");
}

// own[f, b] = offsets[f * B + b] - offsets[f * B]: the offsets of each feature begin at 0.
template <typename OffsetT>
void SplitOffsets(const void* given, int64_t n_features, int64_t n_bags, void* out) {
  const auto* offsets = static_cast<const OffsetT*>(given);
  auto* own = static_cast<OffsetT*>(out);
  for (int64_t feature = 0; feature < n_features; ++feature, offsets += n_bags, own += n_bags + 1) {
    for (int64_t bag = 0; bag <= n_bags; ++bag) own[bag] = static_cast<OffsetT>(offsets[bag] - offsets[0]);
  }
}

int64_t IndexAt(const void* data, resembed_dtype dtype, int64_t position) {
  return dtype == RESEMBED_I32 ? static_cast<const int32_t*>(data)[position]
                               : static_cast<const int64_t*>(data)[position];
}

Tensor OwnOffsets(const Tensor& offsets, int64_t n_features, int64_t n_bags) {
  if (!offsets.is_cpu()) {
    const Tensor rows = offsets.as_strided({n_features, n_bags + 1}, {n_bags, 1});
    return at::sub(rows, rows.narrow(1, 0, 1));
  }
  Tensor own = at::empty({n_features, n_bags + 1}, offsets.options());
  (offsets.scalar_type() == at::kInt ? SplitOffsets<int32_t> : SplitOffsets<int64_t>)(offsets.data_ptr(),
                                                                                      n_features, n_bags,
                                                                                      own.data_ptr());
  return own;
}

}  // namespace

// The first id of each feature, and the end: from feature_lengths, else from offsets where the host can read them.
std::vector<int64_t> Lookup::FirstIds(const char* op, const BatchArgs& batch, int64_t n_bags) const {
  const size_t n_features = batch.feature_table.size();
  const int64_t n_ids = batch.indices.numel();
  std::vector<int64_t> first(n_features + 1, 0);
  first[n_features] = n_ids;
  if (batch.feature_lengths.has_value()) {
    const at::IntArrayRef lengths = *batch.feature_lengths;
    TORCH_CHECK(lengths.size() == n_features, op, ": feature_lengths has ", lengths.size(),
                " entries; needs ", n_features, ", as feature_table has");
    for (size_t index = 0; index < n_features; ++index) {
      TORCH_CHECK(lengths[index] >= 0 && lengths[index] <= n_ids - first[index], op, ": feature_lengths[",
                  index, "] is ", lengths[index], "; needs 0 .. ", n_ids - first[index],
                  ", the ids that are left");
      first[index + 1] = first[index] + lengths[index];
    }
    TORCH_CHECK(first[n_features] == n_ids, op, ": feature_lengths add up to ", first[n_features], "; needs ",
                n_ids, " (n_ids)");
    return first;
  }
  if (n_features <= 1) return first;
  TORCH_CHECK(
      !place_.on_gpu(), op,
      ": feature_lengths is None; needs the number of ids of each feature on cuda, where the host does not "
      "read offsets");
  const Tensor offsets = batch.offsets.contiguous();
  const resembed_dtype dtype = IndexTypeOf(op, "offsets", offsets);
  for (size_t index = 1; index < n_features; ++index) {
    const int64_t at = IndexAt(offsets.data_ptr(), dtype, static_cast<int64_t>(index) * n_bags);
    TORCH_CHECK(at >= first[index - 1] && at <= n_ids, op, ": offsets[", static_cast<int64_t>(index) * n_bags,
                "] is ", at, "; needs ", first[index - 1], " .. ", n_ids, " (n_ids)");
    first[index] = at;
  }
  return first;
}

Lookup::Lookup(const char* op, const TableLists& tables, const BatchArgs& batch)
    : place_(FirstTable(op, tables.weights)) {
  const size_t n_tables = tables.weights.size();
  CheckLength(op, "central_weights", tables.central_weights.size(), n_tables);
  CheckLength(op, "central_maps", tables.central_maps.size(), n_tables);
  CheckLength(op, "neighbor_weights", tables.neighbor_weights.size(), n_tables);
  CheckLength(op, "fusions", tables.fusions.size(), n_tables);
  for (size_t index = 0; index < n_tables; ++index) {
    CheckDevice(op, "weights", tables.weights[index], tables.weights[0]);
    tables_.push_back(TableOf(op, {tables.weights[index], PartOf(tables.central_weights, index),
                                   PartOf(tables.central_maps, index), PartOf(tables.neighbor_weights, index),
                                   tables.fusions.empty() ? "none" : tables.fusions[index]}));
  }

  const auto n_features = static_cast<int64_t>(batch.feature_table.size());
  TORCH_CHECK(n_features > 0, op, ": feature_table has 0 entries; needs 1 or more");
  CheckDevice(op, "indices", batch.indices, tables.weights[0]);
  CheckDevice(op, "offsets", batch.offsets, tables.weights[0]);
  TORCH_CHECK(batch.indices.dim() == 1, op, ": indices.shape is ", batch.indices.sizes(), "; needs [n_ids]");
  TORCH_CHECK(
      batch.offsets.dim() == 1 && batch.offsets.size(0) > 0 && (batch.offsets.size(0) - 1) % n_features == 0,
      op, ": offsets.shape is ", batch.offsets.sizes(), "; needs [", n_features, " * B + 1]");
  const resembed_pooling pooling = PoolingOf(op, batch.mode);
  TORCH_CHECK(pooling != RESEMBED_POOLING_NONE, op, ": mode is 'none'; needs 'sum', 'mean' or 'max'");
  bounds_ = BoundsOf(op, batch.bounds);
  const int64_t n_bags = (batch.offsets.size(0) - 1) / n_features;
  const std::vector<int64_t> first = FirstIds(op, batch, n_bags);

  const Tensor indices = Keep(batch.indices.contiguous());
  const resembed_dtype id_dtype = IndexTypeOf(op, "indices", indices);
  const auto* ids = static_cast<const char*>(indices.data_ptr());
  const float* weights = SampleWeights(op, batch.per_sample_weights, batch.indices);
  const Tensor offsets = batch.offsets.contiguous();
  const resembed_dtype offset_dtype = IndexTypeOf(op, "offsets", offsets);
  const Tensor own = Keep(OwnOffsets(offsets, n_features, n_bags));
  const auto* starts = static_cast<const char*>(own.data_ptr());
  n_ids_ = indices.numel();
  columns_.push_back(0);
  for (int64_t index = 0; index < n_features; ++index) {
    const int64_t table = batch.feature_table[static_cast<size_t>(index)];
    TORCH_CHECK(table >= 0 && table < static_cast<int64_t>(n_tables), op, ": feature_table[", index, "] is ",
                table, "; needs 0 .. ", n_tables - 1, " (tables)");
    const int64_t begin = first[static_cast<size_t>(index)];
    resembed_feature feature = {};
    feature.struct_size = sizeof(feature);
    feature.table = static_cast<int32_t>(table);
    feature.pooling = pooling;
    feature.id_dtype = id_dtype;
    feature.ids = ids + begin * static_cast<int64_t>(indices.element_size());
    feature.n_ids = first[static_cast<size_t>(index) + 1] - begin;
    feature.weights = weights == nullptr ? nullptr : weights + begin;
    feature.n_bags = n_bags;
    feature.offset_dtype = offset_dtype;
    feature.offsets = starts + index * (n_bags + 1) * static_cast<int64_t>(own.element_size());
    features_.push_back(feature);
    columns_.push_back(columns_.back() + tables_[static_cast<size_t>(table)].dim);
  }
  output_shape_ = {n_bags, columns_.back()};
  Link();
}

}  // namespace resembed::adapter
