// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/forward_problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "bench/gpu/kernels.h"
#include "bench/gpu/streams.h"

namespace resembed::bench::gpu {
namespace {

constexpr uint64_t kSeed = 11;

int64_t ElementBytes(resembed_dtype dtype) { return dtype == RESEMBED_F32 ? 4 : 2; }

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

float ToFloat(const unsigned char* element, resembed_dtype dtype) {
  if (dtype == RESEMBED_F32) {
    float value = 0;
    std::memcpy(&value, element, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, element, sizeof(bits));
  if (dtype == RESEMBED_BF16) {
    const uint32_t wide = uint32_t{bits} << 16;
    float value = 0;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
  const int exponent = bits >> 10 & 31;
  const auto mantissa = static_cast<float>(bits & 1023);
  const float magnitude = exponent == 0    ? std::ldexp(mantissa, -24)
                          : exponent == 31 ? INFINITY
                                           : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

template <typename T>
DeviceArray Rows(int64_t rows, int64_t dim, const T& workload, uint32_t seed, cudaStream_t stream) {
  DeviceArray array(static_cast<size_t>(rows * dim * ElementBytes(workload.dtype)));
  CheckCuda(FillValues(array.data(), rows * dim, workload.dtype, seed, stream), "FillValues");
  return array;
}

}  // namespace

const char* WayName(Way way) {
  static const char* const kNames[] = {"fused", "single", "two", "materialized", "cuembed"};
  return kNames[static_cast<int>(way)];
}

ForwardProblem::ForwardProblem(const Workload& workload, const ProblemOptions& options, Bench* bench)
    : workload_(workload), bench_(bench) {
  MakeIds(options);
  MakeTables();
  CheckCuda(cudaStreamSynchronize(bench_->stream()), "tables");
}

void ForwardProblem::MakeIds(const ProblemOptions& options) {
  Workload& w = workload_;
  if (w.ids != Ids::kHistogram) longest_bag_ = w.bag_length;
  std::vector<int32_t> ids;
  switch (w.ids) {
    case Ids::kDistinct:
      ids = DistinctIds(w.rows, w.n_bags * w.bag_length, kSeed);
      break;
    case Ids::kPowerLaw:
      ids = PowerLawBags(w.rows, w.alpha, w.n_bags, w.bag_length, kSeed);
      break;
    case Ids::kCoherent:
      ids = CoherentBags(w.rows, w.centers, w.interests, w.alpha, w.n_bags, w.bag_length, kSeed);
      break;
    case Ids::kHistogram: {
      const ReuseHistogram histogram = ReadHistogram(options.histogram_file, w.histogram_set);
      JaggedBags bags =
          HistogramBags(histogram, w.rows, std::min(histogram.lookups, w.rows * w.n_bags), kSeed);
      ids = std::move(bags.ids);
      jagged_ = true;
      for (size_t bag = 1; bag < bags.offsets.size(); ++bag) {
        longest_bag_ = std::max<int64_t>(longest_bag_, bags.offsets[bag] - bags.offsets[bag - 1]);
      }
      w.n_bags = static_cast<int64_t>(bags.offsets.size()) - 1;
      offsets_ = DeviceArray::Of(bags.offsets);
      for (int32_t& offset : bags.offsets) offset *= w.k;
      slot_offsets_ = DeviceArray::Of(bags.offsets);
      break;
    }
  }
  n_ids_ = static_cast<int64_t>(ids.size());
  n_unique_ = CountDistinct(ids, w.rows);
  ids_ = DeviceArray::Of(ids);
  if (w.form == RESEMBED_CENTRAL_NONE) return;

  const int64_t central_rows = w.form == RESEMBED_CENTRAL_ASSIGNMENT ? w.centers : w.rows;
  const std::vector<int32_t> lists = w.form == RESEMBED_CENTRAL_ASSIGNMENT && w.ids == Ids::kCoherent
                                         ? BlockCenters(w.rows, w.centers)
                                         : RandomCenters(w.rows * w.k, central_rows, kSeed + 1);
  lists_ = DeviceArray::Of(lists);
  std::vector<int32_t> used;
  for (const int32_t id : ids) {
    for (int32_t slot = 0; slot < w.k; ++slot) {
      used.push_back(lists[static_cast<size_t>(int64_t{id} * w.k + slot)]);
    }
  }
  n_unique_central_ = CountDistinct(used, central_rows);
  if (w.form == RESEMBED_CENTRAL_STORED) {
    list_weights_ = DeviceArray::Of(std::vector<float>(lists.size(), 1.0f / static_cast<float>(w.k)));
  }
}

void ForwardProblem::MakeTables() {
  const Workload& w = workload_;
  const cudaStream_t stream = bench_->stream();
  residual_ = Rows(w.rows, w.dim, w, 1, stream);
  plain_.struct_size = sizeof(plain_);
  plain_.n_items = w.rows;
  plain_.dim = w.dim;
  plain_.residual = residual_.data();
  plain_.residual_dtype = w.dtype;
  table_ = plain_;
  if (w.form == RESEMBED_CENTRAL_NONE) return;

  const int64_t central_rows = w.form == RESEMBED_CENTRAL_ASSIGNMENT ? w.centers : w.rows;
  central_ = Rows(central_rows, w.dim, w, 2, stream);
  table_.form = w.form;
  table_.central = central_.data();
  table_.central_rows = central_rows;
  table_.central_dtype = w.dtype;
  if (w.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    table_.center_of = lists_.data();
    table_.center_of_dtype = RESEMBED_I32;
  } else {
    table_.neighbors = lists_.as<int32_t>();
    table_.n_neighbors = w.k;
    if (w.form == RESEMBED_CENTRAL_STORED) table_.neighbor_weights = list_weights_.as<float>();
  }
  centers_ = plain_;
  centers_.n_items = central_rows;
  centers_.residual = central_.data();
}

// Over ids_per_item ids for each id of the batch.
resembed_feature ForwardProblem::FeatureOver(const int32_t* ids, int64_t ids_per_item, const float* weights,
                                             void* output) const {
  resembed_feature feature = {};
  feature.struct_size = sizeof(feature);
  feature.pooling = workload_.pooling;
  feature.ids = ids;
  feature.n_ids = n_ids_ * ids_per_item;
  feature.id_dtype = RESEMBED_I32;
  feature.n_bags = workload_.n_bags;
  feature.bag_length = workload_.bag_length * ids_per_item;
  if (jagged_) {
    feature.bag_length = 0;
    feature.offsets = ids_per_item == 1 ? offsets_.data() : slot_offsets_.data();
    feature.offset_dtype = RESEMBED_I32;
  }
  feature.weights = weights;
  feature.output = output;
  feature.output_dtype = workload_.dtype;
  return feature;
}

void ForwardProblem::Forward(const resembed_table& table, const resembed_feature& feature,
                             DeviceArray* workspace) {
  const resembed_table* const tables[] = {&table};
  const resembed_feature* const features[] = {&feature};
  resembed_tables list = {};
  list.struct_size = sizeof(list);
  list.tables = tables;
  list.n_tables = 1;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &list;
  args.features = features;
  args.n_features = 1;
  args.bounds = RESEMBED_BOUNDS_TRUST;
  args.expected_unique = n_unique_;
  args.coherent_bags = workload_.ids == Ids::kCoherent ? 1 : 0;
  const resembed_place place = Place(bench_->stream());
  size_t bytes = 0;
  Check(resembed_forward_workspace_size(&args, &place, &bytes));
  if (workspace->bytes() < bytes) *workspace = DeviceArray(bytes);
  Check(resembed_forward(&args, workspace->data(), bytes, &place));
}

void ForwardProblem::Materialize() {
  items_ = DeviceArray(residual_.bytes());
  resembed_materialize_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table_;
  args.n_items = workload_.rows;
  args.output = items_.data();
  args.output_dtype = workload_.dtype;
  const resembed_place place = Place(bench_->stream());
  size_t bytes = 0;
  Check(resembed_materialize_workspace_size(&args, &place, &bytes));
  const DeviceArray workspace(bytes);
  materialize_seconds_ =
      bench_->Seconds([&] { Check(resembed_materialize(&args, workspace.data(), bytes, &place)); });
  materialized_ = plain_;
  materialized_.residual = items_.data();
}

void* ForwardProblem::Output(Way way) {
  DeviceArray& output = outputs_[static_cast<int>(way)];
  if (output.data() == nullptr) {
    const int64_t rows = workload_.pooling == RESEMBED_POOLING_NONE ? n_ids_ : workload_.n_bags;
    output = DeviceArray(static_cast<size_t>(rows * workload_.dim * ElementBytes(workload_.dtype)));
  }
  return output.data();
}

void ForwardProblem::Run(Way way) {
  const Workload& w = workload_;
  const auto* ids = ids_.as<int32_t>();
  void* const output = Output(way);
  DeviceArray* const workspace = &workspaces_[static_cast<int>(way)];
  switch (way) {
    case Way::kFused:
      return Forward(table_, FeatureOver(ids, 1, nullptr, output), workspace);
    case Way::kSingle:
      return Forward(plain_, FeatureOver(ids, 1, nullptr, output), workspace);
    case Way::kMaterialized:
      if (items_.data() == nullptr) Materialize();
      return Forward(materialized_, FeatureOver(ids, 1, nullptr, output), workspace);
    case Way::kCuEmbed:
      return CuEmbedForward(w, residual_.data(), ids, output, bench_->stream());
    case Way::kTwo:
      break;
  }
  if (slots_.data() == nullptr) {
    slots_ = DeviceArray(static_cast<size_t>(n_ids_ * w.k * 4));
    if (list_weights_.data() != nullptr) slot_weights_ = DeviceArray(static_cast<size_t>(n_ids_ * w.k * 4));
    for (DeviceArray& part : parts_) part = DeviceArray(outputs_[static_cast<int>(way)].bytes());
  }
  CheckCuda(GatherLists(ids, n_ids_, lists_.as<int32_t>(), list_weights_.as<float>(), w.k,
                        slots_.as<int32_t>(), slot_weights_.as<float>(), bench_->stream()),
            "GatherLists");
  Forward(centers_, FeatureOver(slots_.as<int32_t>(), w.k, slot_weights_.as<float>(), parts_[0].data()),
          &part_workspaces_[0]);
  Forward(plain_, FeatureOver(ids, 1, nullptr, parts_[1].data()), &part_workspaces_[1]);
  const int64_t rows = w.pooling == RESEMBED_POOLING_NONE ? n_ids_ : w.n_bags;
  CheckCuda(Add(parts_[0].data(), parts_[1].data(), output, rows * w.dim, w.dtype, bench_->stream()), "Add");
}

bool ForwardProblem::Comparable(Way way) const {
  const bool one_table = way == Way::kSingle || way == Way::kCuEmbed;
  return !one_table || workload_.form == RESEMBED_CENTRAL_NONE;
}

int64_t ForwardProblem::CountDifferent(Way way) {
  const Workload& w = workload_;
  const int64_t rows = std::min<int64_t>(w.pooling == RESEMBED_POOLING_NONE ? n_ids_ : w.n_bags, 256);
  const auto row_bytes = static_cast<size_t>(w.dim * ElementBytes(w.dtype));
  std::vector<unsigned char> fused(static_cast<size_t>(rows) * row_bytes), other(fused.size());
  CheckCuda(cudaStreamSynchronize(bench_->stream()), "cudaStreamSynchronize");
  CheckCuda(cudaMemcpy(fused.data(), Output(Way::kFused), fused.size(), cudaMemcpyDeviceToHost),
            "cudaMemcpy");
  CheckCuda(cudaMemcpy(other.data(), Output(way), other.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  // The other ways round to the table's type in between: one rounding of each of the bag's terms, below 2.
  const double epsilon = w.dtype == RESEMBED_F32 ? 0x1p-23 : w.dtype == RESEMBED_F16 ? 0x1p-10 : 0x1p-7;
  const auto terms = static_cast<double>(longest_bag_);
  int64_t different = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const size_t from = static_cast<size_t>(row) * row_bytes;
    for (size_t at = from; at < from + row_bytes; at += static_cast<size_t>(ElementBytes(w.dtype))) {
      const double a = static_cast<double>(ToFloat(&fused[at], w.dtype));
      const double b = static_cast<double>(ToFloat(&other[at], w.dtype));
      if (std::abs(a - b) <= epsilon * (2 * terms + 4)) continue;
      ++different;
      break;
    }
  }
  return different;
}

BatchShape ForwardProblem::Shape(Way way) const {
  const bool one_table = way == Way::kSingle || way == Way::kCuEmbed || way == Way::kMaterialized;
  const Workload& w = workload_;
  BatchShape shape;
  shape.n_bags = w.pooling == RESEMBED_POOLING_NONE ? n_ids_ : w.n_bags;
  shape.n_ids = n_ids_;
  shape.dim = w.dim;
  shape.n_unique = n_unique_;
  shape.residual_bytes = shape.central_bytes = shape.output_bytes = ElementBytes(w.dtype);
  if (one_table || w.form == RESEMBED_CENTRAL_NONE) return shape;
  shape.n_central = n_ids_ * w.k;
  shape.n_unique_central = n_unique_central_;
  shape.list_bytes = int64_t{w.k} * (w.form == RESEMBED_CENTRAL_STORED ? 8 : 4);
  return shape;
}

}  // namespace resembed::bench::gpu
