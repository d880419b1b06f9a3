// SPDX-License-Identifier: Apache-2.0
#include "bench/support/scenario.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "bench/support/parallel.h"

namespace resembed::bench {
namespace {

// Small numbers, finite in every type.
HugeArray<char> MakeMatrix(int64_t rows, const TableSpec& spec) {
  const int64_t dim = spec.dim;
  const resembed_dtype dtype = spec.dtype;
  HugeArray<char> matrix(rows * dim * ElementBytes(dtype), spec.pages);
  ParallelRanges(rows * dim, [&](int, int64_t first, int64_t last) {
    if (dtype == RESEMBED_F32) {
      auto* values = reinterpret_cast<float*>(matrix.data());
      for (int64_t i = first; i < last; ++i) values[i] = 1e-4f * static_cast<float>(i % 1009 - 504);
    } else {
      auto* bits = reinterpret_cast<uint16_t*>(matrix.data());
      for (int64_t i = first; i < last; ++i) bits[i] = static_cast<uint16_t>(0x2c00 | (i & 0x3ff));
    }
  });
  return matrix;
}

}  // namespace

int64_t ElementBytes(resembed_dtype dtype) { return dtype == RESEMBED_F32 ? 4 : 2; }

Scenario::Scenario(const TableSpec& spec) : spec_(spec) {
  table_.struct_size = sizeof(table_);
  table_.n_items = spec.rows;
  table_.dim = spec.dim;
  table_.form = spec.form;
  residual_ = MakeMatrix(spec.rows, spec);
  table_.residual = residual_.data();
  table_.residual_dtype = spec.dtype;
  if (spec.form != RESEMBED_CENTRAL_NONE) {
    const bool assignment = spec.form == RESEMBED_CENTRAL_ASSIGNMENT;
    n_slots_ = assignment ? 1 : spec.k;
    table_.central_rows = assignment ? spec.centers : spec.rows;
    table_.central_dtype = spec.dtype;
    central_ = MakeMatrix(table_.central_rows, spec);
    table_.central = central_.data();
    slots_ = HugeArray<int32_t>(spec.rows * n_slots_, spec.pages);
    const IdSource source(table_.central_rows, spec.alpha, 7);
    constexpr int64_t kBlock = 4096;
    ParallelRanges((slots_.size() + kBlock - 1) / kBlock, [&](int, int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t begin = block * kBlock, end = std::min(begin + kBlock, slots_.size());
        source.Fill(static_cast<uint64_t>(block), end - begin, slots_.data() + begin);
      }
    });
    if (assignment) {
      table_.center_of = slots_.data();
      table_.center_of_dtype = RESEMBED_I32;
    } else {
      table_.neighbors = slots_.data();
      table_.n_neighbors = n_slots_;
    }
    if (spec.form == RESEMBED_CENTRAL_STORED) {
      weights_ = HugeArray<float>(slots_.size(), spec.pages);
      for (int64_t i = 0; i < weights_.size(); ++i) weights_[i] = 0.05f + 0.01f * static_cast<float>(i % 7);
      table_.neighbor_weights = weights_.data();
    }
  }
  tables_.struct_size = sizeof(tables_);
  tables_.tables = &table_pointer_;
  tables_.n_tables = 1;
}

Scenario& GetScenario(const TableSpec& spec) {
  static std::unique_ptr<Scenario> current;
  if (current == nullptr || current->spec().Key() != spec.Key()) {
    current.reset();
    current = std::make_unique<Scenario>(spec);
  }
  return *current;
}

Batch MakeBatch(const Scenario& scenario, const IdSource& source, int64_t n_bags, int64_t bag_length,
                uint64_t stream) {
  Batch batch;
  const int64_t n_ids = n_bags * bag_length;
  batch.ids.resize(static_cast<size_t>(n_ids));
  source.Fill(stream, n_ids, batch.ids.data());
  std::vector<int32_t> items = batch.ids, central;
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  const int32_t n_slots = scenario.n_slots();
  for (const int32_t item : items) {
    const int32_t* slots = scenario.slots() + int64_t{item} * n_slots;
    central.insert(central.end(), slots, slots + n_slots);
  }
  std::sort(central.begin(), central.end());
  central.erase(std::unique(central.begin(), central.end()), central.end());

  BatchShape& shape = batch.shape;
  shape.n_bags = n_bags;
  shape.n_ids = n_ids;
  shape.dim = scenario.spec().dim;
  shape.n_unique = static_cast<int64_t>(items.size());
  shape.n_central = n_ids * n_slots;
  shape.n_unique_central = static_cast<int64_t>(central.size());
  shape.list_bytes = scenario.list_bytes();
  shape.residual_bytes = shape.central_bytes = ElementBytes(scenario.spec().dtype);

  resembed_feature& feature = batch.feature;
  feature.struct_size = sizeof(feature);
  feature.pooling = RESEMBED_POOLING_SUM;
  feature.ids = batch.ids.data();  // stays where it is when the batch is moved
  feature.n_ids = n_ids;
  feature.id_dtype = RESEMBED_I32;
  feature.n_bags = n_bags;
  feature.bag_length = bag_length;
  feature.output_dtype = RESEMBED_F32;
  return batch;
}

std::string DtypeName(resembed_dtype dtype) {
  return dtype == RESEMBED_F32 ? "f32" : dtype == RESEMBED_F16 ? "f16" : "bf16";
}

std::string FormName(resembed_central_form form) {
  static const char* const kNames[] = {"none", "assignment", "uniform", "stored", "attention"};
  return kNames[form];
}

std::string CountName(int64_t n) {
  if (n % 1'000'000 == 0) return std::to_string(n / 1'000'000) + "M";
  if (n % 1'000 == 0) return std::to_string(n / 1'000) + "k";
  return std::to_string(n);
}

resembed_place CpuPlace() {
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CPU;
  return place;
}

void Check(resembed_status status) {
  if (status != RESEMBED_OK) throw std::runtime_error(resembed_last_error_message());
}

}  // namespace resembed::bench
