// SPDX-License-Identifier: Apache-2.0
// Tables past the cache and batches of bags over them.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bench/support/bytes.h"
#include "bench/support/huge_array.h"
#include "bench/support/zipf.h"
#include "resembed/resembed.h"

namespace resembed::bench {

struct TableSpec {
  int64_t rows = 4'000'000;
  int64_t dim = 64;
  resembed_central_form form = RESEMBED_CENTRAL_STORED;
  int32_t k = 8;        // neighbors of every item
  double alpha = 0;     // skew of neighbors and centers
  int64_t centers = 0;  // ASSIGNMENT: rows of C
  resembed_dtype dtype = RESEMBED_F32;
  Pages pages = Pages::kHuge;  // of R, C and the map

  auto Key() const { return std::tie(rows, dim, form, k, alpha, centers, dtype, pages); }
};

int64_t ElementBytes(resembed_dtype dtype);

// C and R of one spec, with its map; every item has K neighbors (or a center).
class Scenario {
 public:
  explicit Scenario(const TableSpec& spec);

  const TableSpec& spec() const { return spec_; }
  const resembed_table& table() const { return table_; }
  const resembed_tables& tables() const { return tables_; }
  // Central rows of item i are central_row(i, 0 .. n_slots).
  int32_t n_slots() const { return n_slots_; }
  const int32_t* slots() const { return slots_.data(); }         // [rows, n_slots]
  const float* slot_weights() const { return weights_.data(); }  // [rows, n_slots], null unless STORED
  int64_t list_bytes() const { return n_slots_ * (spec_.form == RESEMBED_CENTRAL_STORED ? 8 : 4); }

  Scenario(const Scenario&) = delete;
  Scenario& operator=(const Scenario&) = delete;

 private:
  TableSpec spec_;
  int32_t n_slots_ = 0;
  HugeArray<char> residual_, central_;
  HugeArray<int32_t> slots_;
  HugeArray<float> weights_;
  resembed_table table_ = {};
  const resembed_table* table_pointer_ = &table_;
  resembed_tables tables_ = {};
};

// The scenario of `spec`; kept until another one is asked for.
Scenario& GetScenario(const TableSpec& spec);

struct Batch {
  std::vector<int32_t> ids;
  BatchShape shape;
  resembed_feature feature = {};
};
// Bags of equal length by the table's ids, skew alpha; ids by stream number.
Batch MakeBatch(const Scenario& scenario, const IdSource& source, int64_t n_bags, int64_t bag_length,
                uint64_t stream);

std::string DtypeName(resembed_dtype dtype);
std::string FormName(resembed_central_form form);
std::string CountName(int64_t n);  // 4000000 -> "4M"

resembed_place CpuPlace();
// Throws std::runtime_error with the library's sentence.
void Check(resembed_status status);

}  // namespace resembed::bench
