// SPDX-License-Identifier: Apache-2.0
// From tensors to the descriptors of the C ABI: what every operation of the adapter shares.
//
// A check here is one the C ABI cannot make, because it does not see tensors: rank, type, device, shapes that must
// agree. All others are the library's, raised as RuntimeError with its sentence.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/util/SmallVector.h>

#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::adapter {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// RuntimeError unless ok.
void Check(resembed_status status);

// "float32", as in Python.
const char* NameOf(at::ScalarType type);
resembed_dtype FloatTypeOf(const char* op, const char* name, at::ScalarType type);
resembed_dtype IndexTypeOf(const char* op, const char* name, const Tensor& tensor);
resembed_central_form FormOf(const char* op, std::string_view fusion);
resembed_pooling PoolingOf(const char* op, std::string_view mode);
resembed_bounds BoundsOf(const char* op, std::string_view bounds);
// Gradients of a maximum are not offered as sparse tensors, as in torch.
inline void CheckSparse(const char* op, bool sparse, std::string_view mode) {
  TORCH_CHECK(!sparse || mode != "max", op, ": sparse is True with mode 'max'; needs False");
}
resembed_optimizer_kind OptimizerOf(const char* op, std::string_view name);

// A matrix whose rows are contiguous and lie in the order of memory.
struct RowMatrix {
  void* data;
  int64_t rows, dim, stride;
  resembed_dtype dtype;
};
RowMatrix RowsOf(const char* op, const char* name, const Tensor& tensor);

void CheckDevice(const char* op, const char* name, const Tensor& tensor, at::Device table);
inline void CheckDevice(const char* op, const char* name, const Tensor& tensor, const Tensor& table) {
  CheckDevice(op, name, tensor, table.device());
}
// Defined, with elements or of rank 2: an absent part of a list of tables is a one-dimensional tensor of none.
inline bool IsGiven(const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); }

// Where a call runs: threads of at::parallel_for, or the current stream of the table's device, which is current
// for the life of the object.
class Place {
 public:
  explicit Place(const Tensor& table);
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  const resembed_place* get() const { return &place_; }
  bool on_gpu() const { return place_.backend == RESEMBED_CUDA; }
  at::Device device() const { return device_; }

 private:
  at::Device device_;
  c10::OptionalDeviceGuard guard_;
  resembed_executor executor_ = {};
  resembed_place place_ = {};
};

// Scratch memory of one call, 64-byte aligned. CUDA: of torch's caching allocator, so ordered by the stream. CPU: each
// thread keeps its largest scratch of each kind, because fresh pages cost more than many a call.
enum class ScratchKind { kPlan, kWorkspace };
class Scratch {
 public:
  Scratch(const Place& place, size_t bytes, ScratchKind kind);
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Tensor memory_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// One table as an operation receives it.
struct TableArgs {
  const Tensor& weight;                    // R [n_items, dim]
  const OptionalTensor& central_weight;    // C [central_rows, dim]
  const OptionalTensor& central_map;       // [n_items, K] neighbors or [n_items] centers
  const OptionalTensor& neighbor_weights;  // [n_items, K]
  std::string_view fusion;
};
// The descriptor points into the tensors.
resembed_table TableOf(const char* op, const TableArgs& args);

// The lists of tables of a table-batched operation; an empty list is a part no table has.
struct TableLists {
  at::TensorList weights, central_weights, central_maps, neighbor_weights;
  at::ArrayRef<std::string> fusions;
};

// Bags over one table.
struct BagArgs {
  const Tensor& indices;
  const OptionalTensor& offsets;
  const OptionalTensor& per_sample_weights;
  std::string_view mode;
  std::optional<int64_t> padding_idx;
  bool include_last_offset;
  std::string_view bounds;
};

// Bags of many features over many tables, feature-major: offsets [F * B + 1].
struct BatchArgs {
  const Tensor& indices;
  const Tensor& offsets;
  const OptionalTensor& per_sample_weights;
  at::IntArrayRef feature_table;
  at::OptionalIntArrayRef feature_lengths;
  std::string_view mode;
  std::string_view bounds;
};

// Tables and features of one call. Holds what had to be copied.
class Lookup {
 public:
  Lookup(const char* op, const TableArgs& table, const BagArgs& bags);
  Lookup(const char* op, const TableLists& tables, const BatchArgs& batch);
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  const Place& place() const { return place_; }
  const resembed_tables* tables() const { return &set_; }
  const resembed_table& table(size_t index) const { return tables_[index]; }
  size_t n_tables() const { return tables_.size(); }
  const resembed_feature* const* features() const { return feature_list_.data(); }
  resembed_feature& feature(size_t index) { return features_[index]; }
  const resembed_feature& feature(size_t index) const { return features_[index]; }
  int32_t n_features() const { return static_cast<int32_t>(features_.size()); }
  resembed_bounds bounds() const { return bounds_; }
  int64_t n_ids() const { return n_ids_; }
  at::IntArrayRef output_shape() const { return output_shape_; }
  // Columns of the output before feature f; entry F is all of them. One table: {0, dim}.
  at::IntArrayRef columns() const { return columns_; }

 private:
  void Link();
  Tensor Keep(Tensor tensor);
  void AddFeature(const char* op, const BagArgs& bags);
  const void* PadOffsets(const Tensor& offsets, int64_t n_ids);
  const float* SampleWeights(const char* op, const OptionalTensor& given, const Tensor& indices);
  std::vector<int64_t> FirstIds(const char* op, const BatchArgs& batch, int64_t n_bags) const;

  Place place_;
  c10::SmallVector<Tensor, 4> kept_;
  c10::SmallVector<resembed_table, 1> tables_;
  c10::SmallVector<const resembed_table*, 1> table_list_;
  c10::SmallVector<resembed_feature, 1> features_;
  c10::SmallVector<const resembed_feature*, 1> feature_list_;
  c10::SmallVector<int64_t, 4> output_shape_;
  c10::SmallVector<int64_t, 2> columns_;
  resembed_tables set_ = {};
  resembed_bounds bounds_ = RESEMBED_BOUNDS_CHECK;
  int64_t n_ids_ = 0;
};

}  // namespace resembed::adapter
