// SPDX-License-Identifier: Apache-2.0
#include "host/torch/call.h"

#include <ATen/Parallel.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <atomic>
#include <cstring>
#include <memory>

namespace resembed::adapter {
namespace {

// At most one task a thread at a time, taken as threads become free; inside a parallel region one thread does all.
void RunTasks(void*, int64_t n_tasks, void (*task)(void* arg, int64_t index), void* arg) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int64_t, int64_t) {
    for (int64_t index = next.fetch_add(1, std::memory_order_relaxed); index < n_tasks;
         index = next.fetch_add(1, std::memory_order_relaxed)) {
      task(arg, index);
    }
  };
  at::parallel_for(0, std::min<int64_t>(n_tasks, at::get_num_threads()), 1, work);
}

void* ThreadScratch(size_t bytes, ScratchKind kind) {
  struct Buffer {
    std::unique_ptr<void, decltype(&std::free)> data{nullptr, &std::free};
    size_t bytes = 0;
  };
  thread_local Buffer buffers[2];
  Buffer& buffer = buffers[static_cast<int>(kind)];
  if (buffer.bytes < bytes) {
    buffer.bytes = 0;
    buffer.data.reset();
    const size_t unit = RESEMBED_WORKSPACE_ALIGNMENT;
    // An eighth more, so that batches of slowly growing size do not take fresh memory each.
    const size_t padded = (bytes + bytes / 8 + unit) / unit * unit;
    buffer.data.reset(std::aligned_alloc(unit, padded));
    TORCH_CHECK_WITH(OutOfMemoryError, buffer.data != nullptr, "resembed: no ", padded,
                     " bytes of scratch memory");
    buffer.bytes = padded;
  }
  return buffer.data.get();
}

template <typename Code>
struct Name {
  std::string_view name;
  Code code;
};

template <typename Code, size_t n>
Code Find(const char* op, const char* argument, std::string_view seen, const Name<Code> (&names)[n]) {
  for (const auto& entry : names) {
    if (entry.name == seen) return entry.code;
  }
  std::string allowed;
  for (size_t index = 0; index < n; ++index) {
    allowed += (index == 0       ? ""
                : index + 1 == n ? " or "
                                 : ", ") +
               ("'" + std::string(names[index].name) + "'");
  }
  TORCH_CHECK(false, op, ": ", argument, " is '", seen, "'; needs ", allowed);
}

std::string ShapeOf(const Tensor& tensor) { return c10::str(tensor.sizes()); }

}  // namespace

void Check(resembed_status status) { TORCH_CHECK(status == RESEMBED_OK, resembed_last_error_message()); }

const char* NameOf(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kDouble:
      return "float64";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    default:
      return c10::toString(type);
  }
}

resembed_dtype FloatTypeOf(const char* op, const char* name, at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return RESEMBED_F32;
    case at::kHalf:
      return RESEMBED_F16;
    case at::kBFloat16:
      return RESEMBED_BF16;
    default:
      TORCH_CHECK(false, op, ": ", name, ".dtype is ", NameOf(type), "; needs float32, float16 or bfloat16");
  }
}

resembed_dtype IndexTypeOf(const char* op, const char* name, const Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  TORCH_CHECK(type == at::kInt || type == at::kLong, op, ": ", name, ".dtype is ", NameOf(type),
              "; needs int32 or int64");
  return type == at::kInt ? RESEMBED_I32 : RESEMBED_I64;
}

resembed_central_form FormOf(const char* op, std::string_view fusion) {
  static constexpr Name<resembed_central_form> kForms[] = {{"none", RESEMBED_CENTRAL_NONE},
                                                           {"assign", RESEMBED_CENTRAL_ASSIGNMENT},
                                                           {"avg", RESEMBED_CENTRAL_UNIFORM},
                                                           {"gcn", RESEMBED_CENTRAL_STORED},
                                                           {"att", RESEMBED_CENTRAL_ATTENTION}};
  return Find(op, "fusion", fusion, kForms);
}

resembed_pooling PoolingOf(const char* op, std::string_view mode) {
  static constexpr Name<resembed_pooling> kModes[] = {{"none", RESEMBED_POOLING_NONE},
                                                      {"sum", RESEMBED_POOLING_SUM},
                                                      {"mean", RESEMBED_POOLING_MEAN},
                                                      {"max", RESEMBED_POOLING_MAX}};
  return Find(op, "mode", mode, kModes);
}

resembed_bounds BoundsOf(const char* op, std::string_view bounds) {
  static constexpr Name<resembed_bounds> kBounds[] = {
      {"check", RESEMBED_BOUNDS_CHECK}, {"trust", RESEMBED_BOUNDS_TRUST}, {"skip", RESEMBED_BOUNDS_SKIP}};
  return Find(op, "bounds", bounds, kBounds);
}

resembed_optimizer_kind OptimizerOf(const char* op, std::string_view name) {
  static constexpr Name<resembed_optimizer_kind> kKinds[] = {
      {"sgd", RESEMBED_SGD},
      {"adagrad", RESEMBED_ADAGRAD},
      {"rowwise_adagrad", RESEMBED_ROWWISE_ADAGRAD},
      {"adam", RESEMBED_ADAM},
      {"partial_rowwise_adam", RESEMBED_PARTIAL_ROWWISE_ADAM}};
  return Find(op, "optimizer", name, kKinds);
}

RowMatrix RowsOf(const char* op, const char* name, const Tensor& tensor) {
  TORCH_CHECK(tensor.dim() == 2, op, ": ", name, ".shape is ", ShapeOf(tensor), "; needs [rows, dim]");
  RowMatrix out;
  out.rows = tensor.size(0);
  out.dim = tensor.size(1);
  out.dtype = FloatTypeOf(op, name, tensor.scalar_type());
  TORCH_CHECK(out.dim > 0, op, ": ", name, ".shape is ", ShapeOf(tensor), "; needs a dim of 1 or more");
  TORCH_CHECK(out.dim == 1 || tensor.stride(1) == 1 || out.rows == 0, op, ": ", name, ".stride(1) is ",
              tensor.stride(1), "; needs contiguous rows (1)");
  // A table of one row may have any stride between rows.
  out.stride = out.rows > 1 ? tensor.stride(0) : out.dim;
  out.data = tensor.data_ptr();
  return out;
}

void CheckDevice(const char* op, const char* name, const Tensor& tensor, at::Device table) {
  TORCH_CHECK(tensor.device() == table, op, ": ", name, ".device is ", tensor.device(), "; needs ", table,
              ", where the table is");
}

Place::Place(const Tensor& table) : device_(table.device()) {
  place_.struct_size = sizeof(place_);
  if (device_.is_cpu()) {
    executor_ = {sizeof(executor_), at::in_parallel_region() ? 1 : at::get_num_threads(), &RunTasks, nullptr};
    place_.backend = RESEMBED_CPU;
    place_.executor = &executor_;
    return;
  }
  TORCH_CHECK(device_.is_cuda(), "resembed: the table's device is ", device_, "; needs cpu or cuda");
  guard_.reset_device(device_);
  place_.backend = RESEMBED_CUDA;
  place_.device = device_.index();
  place_.stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStream(device_).native_handle();
}

Scratch::Scratch(const Place& place, size_t bytes, ScratchKind kind) : bytes_(bytes) {
  if (bytes == 0) return;
  if (!place.on_gpu()) {
    data_ = ThreadScratch(bytes, kind);
    return;
  }
  memory_ = at::empty({static_cast<int64_t>(bytes)}, at::TensorOptions(at::kByte).device(place.device()));
  data_ = memory_.data_ptr();
}

resembed_table TableOf(const char* op, const TableArgs& args) {
  resembed_table table = {};
  table.struct_size = sizeof(table);
  const RowMatrix residual = RowsOf(op, "weight", args.weight);
  table.n_items = residual.rows;
  table.dim = residual.dim;
  table.residual = residual.data;
  table.residual_stride = residual.stride;
  table.residual_dtype = residual.dtype;
  table.form = FormOf(op, args.fusion);

  const bool has_map = IsGiven(args.central_map), has_weights = IsGiven(args.neighbor_weights);
  if (table.form == RESEMBED_CENTRAL_NONE) {
    TORCH_CHECK(
        !IsGiven(args.central_weight) && !has_map && !has_weights, op,
        ": fusion is 'none' with a central_weight, central_map or neighbor_weights; needs none of them, or "
        "'assign', 'avg', 'gcn' or 'att'");
    return table;
  }
  TORCH_CHECK(IsGiven(args.central_weight) && has_map, op, ": ", has_map ? "central_weight" : "central_map",
              " is None; needs a tensor for fusion '", args.fusion, "'");
  CheckDevice(op, "central_weight", *args.central_weight, args.weight);
  const RowMatrix central = RowsOf(op, "central_weight", *args.central_weight);
  TORCH_CHECK(central.dim == residual.dim, op, ": central_weight.shape is ", ShapeOf(*args.central_weight),
              "; needs rows of dim ", residual.dim);
  table.central = central.data;
  table.central_rows = central.rows;
  table.central_stride = central.stride;
  table.central_dtype = central.dtype;

  const Tensor& map = *args.central_map;
  CheckDevice(op, "central_map", map, args.weight);
  TORCH_CHECK(map.is_contiguous(), op, ": central_map has strides ", map.strides(),
              "; needs contiguous memory");
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    TORCH_CHECK(map.dim() == 1 && map.size(0) == table.n_items, op, ": central_map.shape is ", ShapeOf(map),
                "; needs [", table.n_items, "] for fusion 'assign'");
    TORCH_CHECK(map.scalar_type() == at::kInt || map.scalar_type() == at::kUInt16, op,
                ": central_map.dtype is ", NameOf(map.scalar_type()), "; needs int32 or uint16");
    table.center_of = map.data_ptr();
    table.center_of_dtype = map.scalar_type() == at::kInt ? RESEMBED_I32 : RESEMBED_U16;
  } else {
    TORCH_CHECK(map.dim() == 2 && map.size(0) == table.n_items && map.size(1) <= RESEMBED_MAX_NEIGHBORS, op,
                ": central_map.shape is ", ShapeOf(map), "; needs [", table.n_items,
                ", 1 .. 64] for fusion '", args.fusion, "'");
    TORCH_CHECK(map.scalar_type() == at::kInt, op, ": central_map.dtype is ", NameOf(map.scalar_type()),
                "; needs int32");
    table.neighbors = static_cast<const int32_t*>(map.data_ptr());
    table.n_neighbors = static_cast<int32_t>(map.size(1));
  }
  TORCH_CHECK(has_weights == (table.form == RESEMBED_CENTRAL_STORED), op, ": neighbor_weights is ",
              has_weights ? "given" : "None", "; needs ",
              has_weights ? "None but for fusion 'gcn'" : "a tensor for fusion 'gcn'");
  if (has_weights) {
    const Tensor& weights = *args.neighbor_weights;
    CheckDevice(op, "neighbor_weights", weights, args.weight);
    TORCH_CHECK(
        weights.sizes() == map.sizes() && weights.scalar_type() == at::kFloat && weights.is_contiguous(), op,
        ": neighbor_weights is ", NameOf(weights.scalar_type()), " ", ShapeOf(weights),
        "; needs contiguous float32 ", ShapeOf(map));
    table.neighbor_weights = static_cast<const float*>(weights.data_ptr());
  }
  return table;
}

Lookup::Lookup(const char* op, const TableArgs& table, const BagArgs& bags) : place_(table.weight) {
  tables_.push_back(TableOf(op, table));
  CheckDevice(op, "indices", bags.indices, table.weight);
  if (IsGiven(bags.offsets)) CheckDevice(op, "offsets", *bags.offsets, table.weight);
  AddFeature(op, bags);
  columns_ = {0, tables_[0].dim};
  Link();
}

void Lookup::Link() {
  for (const auto& table : tables_) table_list_.push_back(&table);
  for (const auto& feature : features_) feature_list_.push_back(&feature);
  set_ = {sizeof(set_), table_list_.data(), static_cast<int32_t>(tables_.size()), nullptr};
}

Tensor Lookup::Keep(Tensor tensor) {
  kept_.push_back(tensor);
  return tensor;
}

// [n_bags] starts become [n_bags + 1].
const void* Lookup::PadOffsets(const Tensor& offsets, int64_t n_ids) {
  if (place_.on_gpu()) return Keep(at::constant_pad_nd(offsets, {0, 1}, n_ids)).data_ptr();
  const int64_t n_bags = offsets.size(0);
  const Tensor padded = Keep(at::empty({n_bags + 1}, offsets.options()));
  char* const to = static_cast<char*>(padded.data_ptr());
  const size_t bytes = static_cast<size_t>(n_bags) * offsets.element_size();
  std::memcpy(to, offsets.data_ptr(), bytes);
  if (offsets.scalar_type() == at::kInt) {
    const auto end = static_cast<int32_t>(n_ids);
    std::memcpy(to + bytes, &end, sizeof(end));
  } else {
    std::memcpy(to + bytes, &n_ids, sizeof(n_ids));
  }
  return to;
}

const float* Lookup::SampleWeights(const char* op, const OptionalTensor& given, const Tensor& indices) {
  if (!IsGiven(given)) return nullptr;
  CheckDevice(op, "per_sample_weights", *given, indices);
  TORCH_CHECK(given->sizes() == indices.sizes(), op, ": per_sample_weights.shape is ", ShapeOf(*given),
              "; needs that of indices, ", ShapeOf(indices));
  TORCH_CHECK(at::isFloatingType(given->scalar_type()), op, ": per_sample_weights.dtype is ",
              NameOf(given->scalar_type()), "; needs a floating type");
  if (given->scalar_type() == at::kFloat && given->is_contiguous()) {
    return static_cast<const float*>(given->data_ptr());
  }
  return static_cast<const float*>(Keep(given->to(at::kFloat).contiguous()).data_ptr());
}

void Lookup::AddFeature(const char* op, const BagArgs& bags) {
  resembed_feature feature = {};
  feature.struct_size = sizeof(feature);
  feature.pooling = PoolingOf(op, bags.mode);
  bounds_ = BoundsOf(op, bags.bounds);
  const int64_t n_items = tables_[0].n_items, dim = tables_[0].dim;

  const Tensor indices = bags.indices.is_contiguous() ? bags.indices : Keep(bags.indices.contiguous());
  feature.id_dtype = IndexTypeOf(op, "indices", indices);
  feature.ids = indices.data_ptr();
  feature.n_ids = n_ids_ = indices.numel();
  feature.weights = SampleWeights(op, bags.per_sample_weights, bags.indices);
  if (bags.padding_idx.has_value()) {
    const int64_t padding = *bags.padding_idx;
    TORCH_CHECK(padding >= -n_items && padding < n_items, op, ": padding_idx is ", padding, "; needs ",
                -n_items, " .. ", n_items - 1);
    feature.has_padding = 1;
    feature.padding_id = padding < 0 ? padding + n_items : padding;
  }

  if (feature.pooling == RESEMBED_POOLING_NONE) {
    TORCH_CHECK(!IsGiven(bags.offsets), op, ": offsets is given; needs None with mode 'none'");
    feature.n_bags = feature.n_ids;
    feature.bag_length = 1;
    output_shape_.append(bags.indices.sizes().begin(), bags.indices.sizes().end());
  } else if (bags.indices.dim() == 2) {
    TORCH_CHECK(!IsGiven(bags.offsets), op, ": offsets is given; needs None with indices of shape [B, N]");
    feature.n_bags = bags.indices.size(0);
    feature.bag_length = bags.indices.size(1);
    output_shape_.push_back(feature.n_bags);
  } else {
    TORCH_CHECK(bags.indices.dim() == 1, op, ": indices.shape is ", ShapeOf(bags.indices),
                "; needs [n_ids] with offsets, or [B, N]");
    TORCH_CHECK(IsGiven(bags.offsets), op,
                ": offsets is None; needs the start of each bag for indices of shape [n_ids]");
    const Tensor& given = *bags.offsets;
    feature.offset_dtype = IndexTypeOf(op, "offsets", given);
    TORCH_CHECK(given.dim() == 1 && (!bags.include_last_offset || given.size(0) > 0), op,
                ": offsets.shape is ", ShapeOf(given), "; needs [",
                bags.include_last_offset ? "B + 1]" : "B]");
    const Tensor offsets = given.is_contiguous() ? given : Keep(given.contiguous());
    feature.n_bags = offsets.size(0) - (bags.include_last_offset ? 1 : 0);
    feature.offsets = bags.include_last_offset ? offsets.data_ptr() : PadOffsets(offsets, feature.n_ids);
    output_shape_.push_back(feature.n_bags);
  }
  output_shape_.push_back(dim);
  features_.push_back(feature);
}

}  // namespace resembed::adapter
