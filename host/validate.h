// SPDX-License-Identifier: Apache-2.0
// Checks that several operations share, and their wording. First failed check wins:
// null -> type -> shape -> stride -> aliasing -> workspace -> device. No check allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// The tables of one call, from an array of descriptors or a prepared set.
class Tables {
 public:
  // Keeps pointers into caller memory; `op` names the operation in messages. Does not check the tables.
  resembed_status Init(const char* op, const resembed_tables* tables, const resembed_place& place);
  int32_t size() const { return n_; }
  // A copy with defaults resolved, see ReadTable.
  resembed_table operator[](int32_t index) const;

 private:
  const resembed_table* const* array_ = nullptr;
  const resembed_table* flat_ = nullptr;  // from a prepared set
  int32_t n_ = 0;
};

// Copies with every default resolved and fields that do not apply cleared:
//   table    strides 0 -> dim or K; residual_rows -> n_items without residual_row_of; no central pointers
//            under form NONE; n_neighbors 0 for forms without a list
//   feature  output_stride, query_stride 0 -> dim; attention_scale 0 -> 1; pooling NONE -> n_ids bags of one id,
//            offsets null
resembed_table ReadTable(const resembed_table* table);
resembed_feature ReadFeature(const resembed_feature* feature, int64_t dim);

// Backends that an operation is built for, in a build that has them.
enum class Backends { kCpu, kCpuAndCuda };

// null, backend, device, stream, executor, isa; *out is the resolved copy (isa never BEST on the cpu). Says
// nothing about a GPU being there: sizes are asked for without one.
resembed_status CheckPlace(const char* op, const resembed_place* place, resembed_place* out,
                           Backends backends = Backends::kCpu);
// `table` is resolved; messages say tables[index].
resembed_status CheckTable(const char* op, int32_t index, const resembed_table& table);
// Init, then CheckTable on each.
resembed_status CheckTables(const char* op, const resembed_tables* tables, const resembed_place& place,
                            Tables* out);
// Everything about a feature but its output; `feature` as the caller gave it (ReadDescriptor).
resembed_status CheckFeature(const char* op, int32_t index, const resembed_feature& feature,
                             const Tables& tables);
// The array, each entry's null and struct_size, then CheckFeature on each.
resembed_status CheckFeatures(const char* op, const resembed_feature* const* features, int32_t n_features,
                              const Tables& tables);
// What forward and backward read of a feature with pooling ATTENTION; `feature` is resolved.
resembed_status CheckQuery(const char* op, int32_t index, const resembed_feature& feature, int64_t dim);
resembed_status CheckWorkspace(const char* op, const void* workspace, size_t workspace_bytes, size_t needed);

bool IsFloatType(resembed_dtype dtype);                     // F32, F16, BF16
bool IsIndexType(resembed_dtype dtype);                     // I32, I64
bool IsAligned(const void* pointer, resembed_dtype dtype);  // to the element type

// [a, a + a_bytes) and [b, b + b_bytes) share a byte.
bool Overlaps(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes);

// A matrix in memory: `rows` rows of dim elements, stride elements apart.
struct Matrix {
  const void* data;
  int64_t rows, dim, stride;
  resembed_dtype dtype;
};
// Rows share a byte. Matrices side by side in one buffer (equal row pitch, disjoint columns) do not; for
// different pitches the whole ranges are compared.
bool Overlaps(const Matrix& a, const Matrix& b);
// First byte to one past the last: 0 without rows.
int64_t SpanBytes(const Matrix& matrix);
// rows * stride * element size stays below 2^62.
bool FitsInMemory(int64_t rows, int64_t stride, resembed_dtype dtype);

// Element `index` of an I32 or I64 array.
inline int64_t ReadIndex(const void* array, resembed_dtype dtype, int64_t index) {
  return dtype == RESEMBED_I32 ? static_cast<const int32_t*>(array)[index]
                               : static_cast<const int64_t*>(array)[index];
}

// Walks every feature's offsets and ids before anything is written. Offsets are checked under each policy.
// Fills *record when not null: under CHECK and SKIP with the number of bad ids and the first one (lowest
// feature, then lowest position; padding ids are never bad), under TRUST with none.
// CHECK: out_of_range when there is a bad id.
resembed_status CheckIds(const char* op, const resembed_feature* const* features, int32_t n_features,
                         const Tables& tables, resembed_bounds bounds, resembed_bad_ids* record,
                         const resembed_place& place);

}  // namespace resembed::detail
