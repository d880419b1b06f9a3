// SPDX-License-Identifier: Apache-2.0
// Tables, features and output gradients of one call, made from a seed: as the library's descriptors over exactly sized
// memory, and as the oracle's doubles of the same values.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "resembed/resembed.h"
#include "tests/oracle/backward.h"

namespace resembed::testing {

// Bytes with canaries on both sides, 64-byte aligned, filled with 0xff (NaN, negative ids).
class Guarded {
 public:
  explicit Guarded(size_t bytes = 0);
  void* data() { return bytes_.data() + offset_; }
  size_t size() const { return size_; }
  bool Intact() const;

 private:
  std::vector<unsigned char> bytes_;
  size_t offset_ = 0, size_ = 0;
};

// Calls tasks from `width` threads; or, with reversed, on this thread from the last to the first.
struct TestExecutor {
  explicit TestExecutor(int width, bool reversed = false);
  resembed_executor descriptor;
  int width;
  bool reversed;
};

resembed_place PlaceOf(const TestExecutor* executor, resembed_cpu_isa isa = RESEMBED_ISA_BEST);
std::vector<resembed_cpu_isa> AvailableIsas();

// Whether per-sample weights, and so their gradients, go with a pooling.
inline bool HasSampleWeights(resembed_pooling pooling) {
  return pooling != RESEMBED_POOLING_MAX && pooling != RESEMBED_POOLING_ATTENTION;
}

struct TableSpec {
  resembed_central_form form = RESEMBED_CENTRAL_NONE;
  int64_t n_items = 50, dim = 7, central_rows = 40;
  int32_t n_neighbors = 3;
  bool residual = true, row_map = false, u16_centers = false;
  resembed_dtype residual_dtype = RESEMBED_F32, central_dtype = RESEMBED_F32;
  int64_t extra_stride = 0;
  bool misaligned = false;  // rows begin one element past an aligned address
};

struct FeatureSpec {
  int32_t table = 0;
  resembed_pooling pooling = RESEMBED_POOLING_SUM;
  int64_t n_bags = 20, max_length = 6;  // bag lengths 0 .. max_length; NONE: n_bags ids
  bool weights = false, padding = false, fixed_length = false, has_grad = true, integers = false;
  double bad_ids = 0;  // share of ids outside the table
  double same_id = 0;  // share of ids that are item 0
  resembed_dtype id_dtype = RESEMBED_I64, offset_dtype = RESEMBED_I64, grad_dtype = RESEMBED_F32;
  std::vector<int64_t> ids, offsets;  // given instead of random ones
  // Pooling attention.
  resembed_attention_activation activation = RESEMBED_ATTENTION_SOFTMAX;
  float attention_scale = 0;
};

// One table's memory: rows as the caller would hold them.
struct TableData {
  TableSpec spec;
  std::vector<unsigned char> residual, central;
  std::vector<int32_t> residual_row_of, neighbors;
  std::vector<float> neighbor_weights;
  std::vector<uint16_t> centers16;
  std::vector<int32_t> centers32;
  resembed_table descriptor;

  void* ResidualRow(int64_t row);
  void* CentralRow(int64_t row);
};

struct FeatureData {
  FeatureSpec spec;
  std::vector<int64_t> ids, offsets;  // as numbers; the memory the library sees follows
  std::vector<unsigned char> id_bytes, offset_bytes, grad_bytes;
  std::vector<float> weights;
  std::vector<float> query;  // [n_bags, dim + 3], pooling attention
  resembed_feature descriptor;
  resembed_feature_grad grad;
};

class GradientProblem {
 public:
  GradientProblem(const std::vector<TableSpec>& tables, const std::vector<FeatureSpec>& features,
                  uint64_t seed);
  GradientProblem(const GradientProblem&) = delete;

  std::vector<std::unique_ptr<TableData>> tables;
  std::vector<std::unique_ptr<FeatureData>> features;

  const resembed_tables* table_list() const { return &table_list_; }
  const resembed_feature* const* feature_list() const { return feature_list_.data(); }
  const resembed_feature_grad* const* grad_list() const { return grad_list_.data(); }
  int32_t n_tables() const { return static_cast<int32_t>(tables.size()); }
  int32_t n_features() const { return static_cast<int32_t>(features.size()); }

  std::vector<OracleTable> OracleTables() const;
  std::vector<OracleFeature> OracleFeatures() const;
  resembed_plan_args PlanArgs(resembed_bounds bounds = RESEMBED_BOUNDS_SKIP) const;

 private:
  resembed_tables table_list_;
  std::vector<const resembed_table*> table_pointers_;
  std::vector<const resembed_feature*> feature_list_;
  std::vector<const resembed_feature_grad*> grad_list_;
};

// A plan in memory of exactly the size asked for, made with a workspace of exactly the size asked for.
struct MadePlan {
  MadePlan(const resembed_plan_args& args, const resembed_place& place);
  resembed_status status;
  std::string message;
  Guarded memory, workspace;
  resembed_plan_header header;
  resembed_plan_table View(int32_t table) const;
  bool Intact() const { return memory.Intact() && workspace.Intact(); }
};

// Numbers of a compressed gradient.
struct Compressed {
  std::vector<int64_t> ids;
  std::vector<float> rows;  // [ids, dim]
};

struct TableGrads {
  Compressed residual, central;
  std::vector<float> neighbor_weights;
};
struct Grads {
  std::vector<TableGrads> tables;
  std::vector<std::vector<float>> sample_weights;
  std::vector<std::vector<float>> queries, scores;  // dq, dz of features with pooling attention
};

struct Asked {
  bool residual = true, central = true, neighbor_weights = true, sample_weights = true;
  bool queries = true, scores = true;
  resembed_grad_layout layout = RESEMBED_GRAD_COMPRESSED;
};

// Plan and backward with guarded memory of exact sizes; fails the running test on any error. Dense gradients come back
// with every row of the table and no ids.
Grads RunBackward(const GradientProblem& problem, const resembed_place& place, const Asked& asked = {});

// Doubles of n stored elements.
std::vector<double> Decode(const void* data, resembed_dtype dtype, int64_t n);
// Stores a value with round to nearest even.
void Encode(void* data, resembed_dtype dtype, int64_t index, float value);

bool SameBits(const std::vector<float>& a, const std::vector<float>& b);
bool SameBits(const Grads& a, const Grads& b);

}  // namespace resembed::testing
