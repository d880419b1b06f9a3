// SPDX-License-Identifier: Apache-2.0
#include "tests/support/gradient_problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "host/cpu/row_ops.h"

namespace resembed::testing {
namespace {

constexpr size_t kGuard = 64;
constexpr unsigned char kCanary = 0xa5;

const detail::RowOps& Ops() { return detail::GetRowOps(RESEMBED_ISA_PORTABLE); }

void RunTasks(void* context, int64_t n_tasks, void (*task)(void*, int64_t), void* arg) {
  const auto* self = static_cast<const TestExecutor*>(context);
  if (self->reversed) {
    for (int64_t index = n_tasks - 1; index >= 0; --index) task(arg, index);
    return;
  }
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t index = next.fetch_add(1); index < n_tasks; index = next.fetch_add(1)) task(arg, index);
  };
  std::vector<std::thread> threads;
  for (int thread = 1; thread < self->width; ++thread) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t Below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  double Unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  float Value() { return static_cast<float>(2 * Unit() - 1); }

 private:
  std::mt19937_64 engine_;
};

// Rows of random values; the padding between rows stays NaN.
std::vector<unsigned char> MakeRows(int64_t rows, int64_t dim, int64_t stride, resembed_dtype dtype,
                                    bool misaligned, Random* random) {
  const auto element = static_cast<size_t>(detail::ElementBytes(dtype));
  std::vector<unsigned char> bytes(element * static_cast<size_t>(rows * stride + 1), 0xff);
  unsigned char* first = bytes.data() + (misaligned ? element : 0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < dim; ++col) Encode(first, dtype, row * stride + col, random->Value());
  }
  return bytes;
}

std::vector<unsigned char> MakeIndices(const std::vector<int64_t>& values, resembed_dtype dtype) {
  std::vector<unsigned char> bytes(values.size() * static_cast<size_t>(detail::ElementBytes(dtype)));
  for (size_t index = 0; index < values.size(); ++index) {
    if (dtype == RESEMBED_I32) {
      const auto value = static_cast<int32_t>(values[index]);
      std::memcpy(bytes.data() + index * 4, &value, 4);
    } else {
      std::memcpy(bytes.data() + index * 8, &values[index], 8);
    }
  }
  return bytes;
}

void MakeTable(const TableSpec& spec, Random* random, TableData* out) {
  out->spec = spec;
  resembed_table& table = out->descriptor;
  table = {};
  table.struct_size = sizeof(table);
  table.n_items = spec.n_items;
  table.dim = spec.dim;
  table.form = spec.form;
  table.map_version = 1;
  const int64_t stride = spec.dim + spec.extra_stride;
  if (spec.residual) {
    int64_t rows = spec.n_items;
    if (spec.row_map) {
      // Every third item has no residual; the others take rows from the back.
      int64_t used = 0;
      for (int64_t item = 0; item < spec.n_items; ++item) used += item % 3 != 1;
      rows = used + 2;
      int32_t next = static_cast<int32_t>(rows) - 1;
      for (int64_t item = 0; item < spec.n_items; ++item)
        out->residual_row_of.push_back(item % 3 == 1 ? -1 : next--);
      table.residual_row_of = out->residual_row_of.data();
      table.residual_rows = rows;
    }
    out->residual = MakeRows(rows, spec.dim, stride, spec.residual_dtype, spec.misaligned, random);
    table.residual = out->residual.data() + (spec.misaligned ? detail::ElementBytes(spec.residual_dtype) : 0);
    table.residual_stride = stride;
    table.residual_dtype = spec.residual_dtype;
  }
  if (spec.form == RESEMBED_CENTRAL_NONE) return;
  table.central_rows =
      spec.form == RESEMBED_CENTRAL_ATTENTION ? std::max(spec.central_rows, spec.n_items) : spec.central_rows;
  out->central = MakeRows(table.central_rows, spec.dim, stride, spec.central_dtype, spec.misaligned, random);
  table.central = out->central.data() + (spec.misaligned ? detail::ElementBytes(spec.central_dtype) : 0);
  table.central_stride = stride;
  table.central_dtype = spec.central_dtype;
  if (spec.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    for (int64_t item = 0; item < spec.n_items; ++item) {
      const auto center = static_cast<int32_t>(random->Below(table.central_rows + 1)) - 1;
      out->centers32.push_back(center);
      out->centers16.push_back(static_cast<uint16_t>(center));
    }
    table.center_of =
        spec.u16_centers ? static_cast<const void*>(out->centers16.data()) : out->centers32.data();
    table.center_of_dtype = spec.u16_centers ? RESEMBED_U16 : RESEMBED_I32;
    return;
  }
  table.n_neighbors = spec.n_neighbors;
  table.neighbors_stride = spec.n_neighbors + 1;
  for (int64_t item = 0; item < spec.n_items; ++item) {
    const int64_t count = random->Below(spec.n_neighbors + 1);
    for (int64_t slot = 0; slot < table.neighbors_stride; ++slot) {
      const bool used = slot < count;
      out->neighbors.push_back(used ? static_cast<int32_t>(random->Below(table.central_rows)) : -1);
      out->neighbor_weights.push_back(used ? random->Value() : 0.0f);
    }
  }
  table.neighbors = out->neighbors.data();
  if (spec.form == RESEMBED_CENTRAL_STORED) {
    table.neighbor_weights = out->neighbor_weights.data();
    table.neighbor_weights_stride = table.neighbors_stride;
  }
}

void MakeFeature(const FeatureSpec& spec, const TableSpec& table, Random* random, FeatureData* out) {
  out->spec = spec;
  const bool pooled = spec.pooling != RESEMBED_POOLING_NONE;
  out->offsets = spec.offsets;
  if (out->offsets.empty()) {
    out->offsets.push_back(0);
    for (int64_t bag = 0; bag < spec.n_bags; ++bag) {
      const int64_t length = !pooled             ? 1
                             : spec.fixed_length ? spec.max_length
                                                 : random->Below(spec.max_length + 1);
      out->offsets.push_back(out->offsets.back() + length);
    }
  }
  const int64_t n_ids = out->offsets.back();
  const int64_t padding = table.n_items / 2;
  out->ids = spec.ids;
  while (static_cast<int64_t>(out->ids.size()) < n_ids) {
    int64_t id = random->Unit() < spec.same_id ? 0 : random->Below(std::max<int64_t>(table.n_items, 1));
    if (random->Unit() < spec.bad_ids)
      id = random->Unit() < .5 ? -1 - random->Below(5) : table.n_items + random->Below(5);
    if (spec.padding && random->Unit() < .1) id = padding;
    out->ids.push_back(id);
  }
  const int64_t n_bags = static_cast<int64_t>(out->offsets.size()) - 1;
  out->id_bytes = MakeIndices(out->ids, spec.id_dtype);
  out->offset_bytes = MakeIndices(out->offsets, spec.offset_dtype);
  if (spec.weights) {
    for (int64_t at = 0; at < n_ids; ++at) {
      out->weights.push_back(spec.integers ? static_cast<float>(random->Below(4)) : random->Value());
    }
  }
  const int64_t rows = pooled ? n_bags : n_ids;
  out->grad_bytes = MakeRows(rows, table.dim, table.dim + 1, spec.grad_dtype, false, random);
  if (spec.integers) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < table.dim; ++col) {
        Encode(out->grad_bytes.data(), spec.grad_dtype, row * (table.dim + 1) + col,
               static_cast<float>(random->Below(21) - 10));
      }
    }
  }

  resembed_feature& feature = out->descriptor;
  feature = {};
  feature.struct_size = sizeof(feature);
  feature.table = spec.table;
  feature.pooling = spec.pooling;
  feature.ids = out->id_bytes.data();
  feature.n_ids = n_ids;
  feature.id_dtype = spec.id_dtype;
  if (pooled) {
    feature.n_bags = n_bags;
    if (spec.fixed_length) {
      feature.bag_length = spec.max_length;
    } else {
      feature.offsets = out->offset_bytes.data();
      feature.offset_dtype = spec.offset_dtype;
    }
  }
  if (spec.weights) feature.weights = out->weights.data();
  if (spec.pooling == RESEMBED_POOLING_ATTENTION) {
    feature.query_stride = table.dim + 3;
    for (int64_t at = 0; at < n_bags * feature.query_stride; ++at) out->query.push_back(random->Value());
    feature.query = out->query.data();
    feature.attention_activation = spec.activation;
    feature.attention_scale = spec.attention_scale;
  }
  feature.has_padding = spec.padding ? 1 : 0;
  feature.padding_id = padding;
  out->grad = {};
  out->grad.struct_size = sizeof(out->grad);
  out->grad.grad_output = out->grad_bytes.data();
  out->grad.grad_output_stride = table.dim + 1;
  out->grad.grad_output_dtype = spec.grad_dtype;
}

}  // namespace

Guarded::Guarded(size_t bytes) : bytes_(bytes + 2 * kGuard + 64, kCanary), size_(bytes) {
  const auto address = reinterpret_cast<uintptr_t>(bytes_.data()) + kGuard;
  offset_ = kGuard + (64 - address % 64) % 64;
  std::memset(bytes_.data() + offset_, 0xff, bytes);
}

bool Guarded::Intact() const {
  const auto is_canary = [](unsigned char byte) { return byte == kCanary; };
  return std::all_of(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset_), is_canary) &&
         std::all_of(bytes_.begin() + static_cast<std::ptrdiff_t>(offset_ + size_), bytes_.end(), is_canary);
}

TestExecutor::TestExecutor(int threads, bool backwards) : width(threads), reversed(backwards) {
  descriptor = {};
  descriptor.struct_size = sizeof(descriptor);
  descriptor.width = threads;
  descriptor.parallel_for = RunTasks;
  descriptor.context = this;
}

resembed_place PlaceOf(const TestExecutor* executor, resembed_cpu_isa isa) {
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CPU;
  place.executor = executor == nullptr ? nullptr : &executor->descriptor;
  place.isa = isa;
  return place;
}

std::vector<resembed_cpu_isa> AvailableIsas() {
  std::vector<resembed_cpu_isa> isas;
  for (const resembed_cpu_isa isa : {RESEMBED_ISA_PORTABLE, RESEMBED_ISA_AVX2, RESEMBED_ISA_AVX512}) {
    if (resembed_isa_available(isa) == RESEMBED_OK) isas.push_back(isa);
  }
  return isas;
}

void* TableData::ResidualRow(int64_t row) {
  return static_cast<char*>(descriptor.residual) +
         row * descriptor.residual_stride * detail::ElementBytes(descriptor.residual_dtype);
}
void* TableData::CentralRow(int64_t row) {
  return static_cast<char*>(descriptor.central) +
         row * descriptor.central_stride * detail::ElementBytes(descriptor.central_dtype);
}

void Encode(void* data, resembed_dtype dtype, int64_t index, float value) {
  Ops().store(static_cast<char*>(data) + index * detail::ElementBytes(dtype), dtype, &value, 1);
}

std::vector<double> Decode(const void* data, resembed_dtype dtype, int64_t n) {
  std::vector<float> floats(static_cast<size_t>(n));
  Ops().set_scaled(floats.data(), 1.0f, data, dtype, n);
  return {floats.begin(), floats.end()};
}

GradientProblem::GradientProblem(const std::vector<TableSpec>& table_specs,
                                 const std::vector<FeatureSpec>& feature_specs, uint64_t seed) {
  Random random(seed);
  for (const TableSpec& spec : table_specs) {
    tables.push_back(std::make_unique<TableData>());
    MakeTable(spec, &random, tables.back().get());
    table_pointers_.push_back(&tables.back()->descriptor);
  }
  for (const FeatureSpec& spec : feature_specs) {
    features.push_back(std::make_unique<FeatureData>());
    MakeFeature(spec, table_specs[static_cast<size_t>(spec.table)], &random, features.back().get());
    feature_list_.push_back(&features.back()->descriptor);
    grad_list_.push_back(spec.has_grad ? &features.back()->grad : nullptr);
  }
  table_list_ = {};
  table_list_.struct_size = sizeof(table_list_);
  table_list_.tables = table_pointers_.data();
  table_list_.n_tables = n_tables();
}

resembed_plan_args GradientProblem::PlanArgs(resembed_bounds bounds) const {
  resembed_plan_args args = {};
  args.struct_size = sizeof(args);
  args.tables = table_list();
  args.features = feature_list();
  args.n_features = n_features();
  args.bounds = bounds;
  return args;
}

std::vector<OracleTable> GradientProblem::OracleTables() const {
  std::vector<OracleTable> out;
  for (const auto& data : tables) {
    const resembed_table& table = data->descriptor;
    OracleTable oracle;
    oracle.n_items = table.n_items;
    oracle.dim = table.dim;
    oracle.form = table.form;
    oracle.has_residual = table.residual != nullptr;
    for (int64_t item = 0; item < table.n_items; ++item) {
      if (oracle.has_residual) {
        const int64_t row = table.residual_row_of == nullptr ? item : table.residual_row_of[item];
        const std::vector<double> values =
            row < 0 ? std::vector<double>(static_cast<size_t>(table.dim))
                    : Decode(data->ResidualRow(row), table.residual_dtype, table.dim);
        oracle.residual.insert(oracle.residual.end(), values.begin(), values.end());
      }
      oracle.neighbors.emplace_back();
      oracle.weights.emplace_back();
      if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) {
        const int32_t center = data->centers32[static_cast<size_t>(item)];
        if (center >= 0) oracle.neighbors.back().push_back(center);
      } else if (table.form != RESEMBED_CENTRAL_NONE) {
        for (int64_t slot = 0; slot < table.n_neighbors; ++slot) {
          const auto at = static_cast<size_t>(item * table.neighbors_stride + slot);
          if (data->neighbors[at] < 0) break;
          oracle.neighbors.back().push_back(data->neighbors[at]);
          oracle.weights.back().push_back(static_cast<double>(data->neighbor_weights[at]));
        }
      }
    }
    for (int64_t row = 0; row < table.central_rows; ++row) {
      const std::vector<double> values = Decode(data->CentralRow(row), table.central_dtype, table.dim);
      oracle.central.insert(oracle.central.end(), values.begin(), values.end());
    }
    out.push_back(std::move(oracle));
  }
  return out;
}

std::vector<OracleFeature> GradientProblem::OracleFeatures() const {
  std::vector<OracleFeature> out;
  for (const auto& data : features) {
    OracleFeature feature;
    feature.table = data->spec.table;
    feature.pooling = data->spec.pooling;
    feature.ids = data->ids;
    feature.offsets = data->offsets;
    feature.weights.assign(data->weights.begin(), data->weights.end());
    feature.has_padding = data->spec.padding;
    feature.padding_id = data->descriptor.padding_id;
    feature.has_grad = data->spec.has_grad;
    const int64_t dim = tables[static_cast<size_t>(feature.table)]->spec.dim;
    for (size_t at = 0; at < data->query.size(); ++at) {
      if (at % static_cast<size_t>(dim + 3) < static_cast<size_t>(dim)) {
        feature.query.push_back(static_cast<double>(data->query[at]));
      }
    }
    feature.activation = data->spec.activation;
    feature.scale =
        data->spec.attention_scale == 0.0f ? 1.0 : static_cast<double>(data->spec.attention_scale);
    const auto element = detail::ElementBytes(data->spec.grad_dtype);
    for (int64_t row = 0; row < feature.n_rows(); ++row) {
      const std::vector<double> values =
          Decode(data->grad_bytes.data() + row * (dim + 1) * element, data->spec.grad_dtype, dim);
      feature.grad.insert(feature.grad.end(), values.begin(), values.end());
    }
    out.push_back(std::move(feature));
  }
  return out;
}

}  // namespace resembed::testing
