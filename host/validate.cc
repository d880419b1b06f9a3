// SPDX-License-Identifier: Apache-2.0
#include "host/validate.h"

#include <cmath>

#include "host/cpu/row_ops.h"
#include "host/descriptor.h"
#include "host/table_set.h"

namespace resembed::detail {
namespace {

using ll = long long;

constexpr int64_t kMaxBytes = int64_t{1} << 62;
constexpr int64_t kMaxInt32 = 0x7fffffff;

resembed_status Bad(const char* op, int32_t index, const char* field, int64_t seen, const char* rule) {
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables[%d].%s is %lld; needs %s", op, index, field,
              static_cast<ll>(seen), rule);
}

resembed_status BadPointer(const char* op, int32_t index, const char* field, const char* seen,
                           const char* rule) {
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables[%d].%s is %s; needs %s", op, index, field, seen, rule);
}

// One matrix of a table: type, shape, stride, alignment.
resembed_status CheckPart(const char* op, int32_t index, const char* part, const Matrix& matrix) {
  if (!IsFloatType(matrix.dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables[%d].%s_dtype is %s; needs f32, f16 or bf16", op, index,
                part, DtypeName(matrix.dtype));
  }
  if (matrix.stride < matrix.dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables[%d].%s_stride is %lld; needs at least dim (%lld)", op,
                index, part, static_cast<ll>(matrix.stride), static_cast<ll>(matrix.dim));
  }
  if (!FitsInMemory(matrix.rows, matrix.stride, matrix.dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: tables[%d].%s is %lld rows of stride %lld; needs below 2^62 bytes", op, index, part,
                static_cast<ll>(matrix.rows), static_cast<ll>(matrix.stride));
  }
  if (!IsAligned(matrix.data, matrix.dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables[%d].%s is %p; needs the alignment of %s", op, index,
                part, matrix.data, DtypeName(matrix.dtype));
  }
  return RESEMBED_OK;
}

resembed_status CheckMap(const char* op, int32_t index, const resembed_table& table) {
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    if (table.center_of == nullptr && table.n_items > 0) {
      return BadPointer(op, index, "center_of", "null", "[n_items] codes for form assignment");
    }
    if (table.center_of_dtype != RESEMBED_I32 && table.center_of_dtype != RESEMBED_U16) {
      return BadPointer(op, index, "center_of_dtype", DtypeName(table.center_of_dtype), "i32 or u16");
    }
    if (!IsAligned(table.center_of, table.center_of_dtype)) {
      return BadPointer(op, index, "center_of", "misaligned", "the alignment of its type");
    }
    return RESEMBED_OK;
  }
  if (table.neighbors == nullptr && table.n_items > 0) {
    return BadPointer(op, index, "neighbors", "null", "[n_items, n_neighbors] central rows");
  }
  if (table.form == RESEMBED_CENTRAL_STORED && table.neighbor_weights == nullptr && table.n_items > 0) {
    return BadPointer(op, index, "neighbor_weights", "null",
                      "[n_items, n_neighbors] weights for form stored");
  }
  if (table.n_neighbors < 1 || table.n_neighbors > RESEMBED_MAX_NEIGHBORS) {
    return Bad(op, index, "n_neighbors", table.n_neighbors, "1 .. 64");
  }
  if (table.neighbors_stride < table.n_neighbors) {
    return Bad(op, index, "neighbors_stride", table.neighbors_stride, "at least n_neighbors");
  }
  if (table.form == RESEMBED_CENTRAL_STORED && table.neighbor_weights_stride < table.n_neighbors) {
    return Bad(op, index, "neighbor_weights_stride", table.neighbor_weights_stride, "at least n_neighbors");
  }
  if (!FitsInMemory(table.n_items, table.neighbors_stride, RESEMBED_I32) ||
      !FitsInMemory(table.n_items, table.neighbor_weights_stride, RESEMBED_F32)) {
    return Bad(op, index, "neighbors_stride", table.neighbors_stride, "lists below 2^62 bytes");
  }
  if (!IsAligned(table.neighbors, RESEMBED_I32)) {
    return BadPointer(op, index, "neighbors", "misaligned", "the alignment of i32");
  }
  if (!IsAligned(table.neighbor_weights, RESEMBED_F32)) {
    return BadPointer(op, index, "neighbor_weights", "misaligned", "the alignment of f32");
  }
  if (table.form == RESEMBED_CENTRAL_ATTENTION && table.central_rows < table.n_items) {
    return Bad(op, index, "central_rows", table.central_rows,
               "at least n_items for form attention (item i asks with row i)");
  }
  return RESEMBED_OK;
}

}  // namespace

bool IsFloatType(resembed_dtype dtype) {
  return dtype == RESEMBED_F32 || dtype == RESEMBED_F16 || dtype == RESEMBED_BF16;
}
bool IsIndexType(resembed_dtype dtype) { return dtype == RESEMBED_I32 || dtype == RESEMBED_I64; }
bool IsAligned(const void* pointer, resembed_dtype dtype) {
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(ElementBytes(dtype)) == 0;
}

bool Overlaps(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  if (a == nullptr || b == nullptr || a_bytes <= 0 || b_bytes <= 0) return false;
  const auto a_first = reinterpret_cast<uintptr_t>(a), b_first = reinterpret_cast<uintptr_t>(b);
  return a_first < b_first + static_cast<uintptr_t>(b_bytes) &&
         b_first < a_first + static_cast<uintptr_t>(a_bytes);
}

int64_t SpanBytes(const Matrix& matrix) {
  if (matrix.data == nullptr || matrix.rows <= 0) return 0;
  return ((matrix.rows - 1) * matrix.stride + matrix.dim) * ElementBytes(matrix.dtype);
}

bool Overlaps(const Matrix& a, const Matrix& b) {
  if (!Overlaps(a.data, SpanBytes(a), b.data, SpanBytes(b))) return false;
  const int64_t pitch = a.stride * ElementBytes(a.dtype);
  if (pitch != b.stride * ElementBytes(b.dtype)) return true;
  const Matrix& low = a.data <= b.data ? a : b;
  const Matrix& high = a.data <= b.data ? b : a;
  const int64_t shift =
      static_cast<int64_t>((reinterpret_cast<uintptr_t>(high.data) - reinterpret_cast<uintptr_t>(low.data)) %
                           static_cast<uintptr_t>(pitch));
  return shift < low.dim * ElementBytes(low.dtype) || shift + high.dim * ElementBytes(high.dtype) > pitch;
}

bool FitsInMemory(int64_t rows, int64_t stride, resembed_dtype dtype) {
  if (rows <= 0 || stride <= 0) return true;
  return stride <= kMaxBytes / ElementBytes(dtype) / rows;
}

resembed_table ReadTable(const resembed_table* table) {
  resembed_table out = ReadDescriptor(table);
  if (out.residual_stride == 0) out.residual_stride = out.dim;
  if (out.residual_row_of == nullptr && out.residual_rows == 0) out.residual_rows = out.n_items;
  if (out.residual == nullptr) out.residual_dtype = RESEMBED_F32;
  if (out.form == RESEMBED_CENTRAL_NONE) {
    out.central_rows = 0;
    out.central_dtype = RESEMBED_F32;
  }
  if (out.central_stride == 0) out.central_stride = out.dim;
  if (out.form < RESEMBED_CENTRAL_UNIFORM) {
    out.n_neighbors = 0;
    out.neighbors = nullptr;
    out.neighbors_stride = 0;
  }
  if (out.form != RESEMBED_CENTRAL_STORED) {
    out.neighbor_weights = nullptr;
    out.neighbor_weights_stride = 0;
  }
  if (out.form != RESEMBED_CENTRAL_ASSIGNMENT) out.center_of = nullptr;
  if (out.neighbors_stride == 0) out.neighbors_stride = out.n_neighbors;
  if (out.form == RESEMBED_CENTRAL_STORED && out.neighbor_weights_stride == 0) {
    out.neighbor_weights_stride = out.n_neighbors;
  }
  return out;
}

resembed_feature ReadFeature(const resembed_feature* feature, int64_t dim) {
  resembed_feature out = ReadDescriptor(feature);
  if (out.output_stride == 0) out.output_stride = dim;
  if (out.pooling == RESEMBED_POOLING_NONE) {
    out.offsets = nullptr;
    out.n_bags = out.n_ids;
    out.bag_length = 1;
  }
  if (out.query_stride == 0) out.query_stride = dim;
  if (out.attention_scale == 0.0f) out.attention_scale = 1.0f;
  return out;
}

resembed_status Tables::Init(const char* op, const resembed_tables* tables, const resembed_place& place) {
  if (tables == nullptr || tables->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables is %s; needs a resembed_tables", op,
                tables == nullptr ? "null" : "of struct_size 0");
  }
  const resembed_tables given = ReadDescriptor(tables);
  if (given.set != nullptr) {
    return ReadTableSet(op, given.set, place, &flat_, &n_);
  }
  if (given.n_tables < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_tables is %d; needs 0 or more", op, given.n_tables);
  }
  if (given.tables == nullptr && given.n_tables > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables.tables is null; needs %d tables", op, given.n_tables);
  }
  for (int32_t index = 0; index < given.n_tables; ++index) {
    if (given.tables[index] == nullptr || given.tables[index]->struct_size == 0) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables[%d] is %s; needs a resembed_table", op, index,
                  given.tables[index] == nullptr ? "null" : "of struct_size 0");
    }
  }
  array_ = given.tables;
  n_ = given.n_tables;
  return RESEMBED_OK;
}

resembed_table Tables::operator[](int32_t index) const {
  return flat_ != nullptr ? flat_[index] : ReadTable(array_[index]);
}

resembed_status CheckPlace(const char* op, const resembed_place* place, resembed_place* out,
                           [[maybe_unused]] Backends backends) {
  if (place == nullptr || place->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place is %s; needs a resembed_place", op,
                place == nullptr ? "null" : "of struct_size 0");
  }
  *out = ReadDescriptor(place);
  if (out->backend == RESEMBED_CUDA) {
#ifdef RESEMBED_WITH_CUDA
    if (backends == Backends::kCpu) {
      return Fail(RESEMBED_UNSUPPORTED,
                  "%s: place.backend is cuda; needs cpu (no cuda kernels for this operation)", op);
    }
    if (out->device < 0) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.device is %d; needs 0 or more", op, out->device);
    }
    return RESEMBED_OK;
#else
    return Fail(RESEMBED_UNSUPPORTED, "%s: place.backend is cuda; needs cpu (this build has no cuda kernels)",
                op);
#endif
  }
  if (out->backend != RESEMBED_CPU) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.backend is %d; needs cpu (%d) or cuda (%d)", op,
                out->backend, RESEMBED_CPU, RESEMBED_CUDA);
  }
  if (out->device != 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.device is %d; needs 0 on the cpu", op, out->device);
  }
  if (out->stream != nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.stream is %p; needs null on the cpu", op, out->stream);
  }
  if (out->executor != nullptr) {
    const resembed_executor executor = ReadDescriptor(out->executor);
    if (executor.parallel_for == nullptr) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.executor.parallel_for is null; needs a function", op);
    }
    if (executor.width < 1) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.executor.width is %d; needs 1 or more", op,
                  executor.width);
    }
  }
  if (out->isa < RESEMBED_ISA_BEST || out->isa > RESEMBED_ISA_AVX512) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.isa is %d; needs best, portable, avx2 or avx512", op,
                out->isa);
  }
  if (!IsaAvailable(out->isa)) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: place.isa is %s; needs what this machine has (widest: %s)", op,
                IsaName(out->isa), IsaName(ResolveIsa(RESEMBED_ISA_BEST)));
  }
  out->isa = ResolveIsa(out->isa);
  return RESEMBED_OK;
}

resembed_status CheckTable(const char* op, int32_t index, const resembed_table& table) {
  if (table.form < RESEMBED_CENTRAL_NONE || table.form > RESEMBED_CENTRAL_ATTENTION) {
    return Bad(op, index, "form", table.form, "none, assignment, uniform, stored or attention");
  }
  if (table.n_items < 0) return Bad(op, index, "n_items", table.n_items, "0 or more");
  if (table.dim < 1) return Bad(op, index, "dim", table.dim, "1 or more");
  if (table.form == RESEMBED_CENTRAL_NONE && table.central != nullptr) {
    return BadPointer(op, index, "central", "given", "null for form none");
  }
  if (table.form == RESEMBED_CENTRAL_NONE && table.residual == nullptr && table.n_items > 0) {
    return BadPointer(op, index, "residual", "null", "rows when there is no central part");
  }
  if (table.central_rows < 0 || table.central_rows > kMaxInt32) {
    return Bad(op, index, "central_rows", table.central_rows, "0 .. 2^31 - 1");
  }
  if (table.form != RESEMBED_CENTRAL_NONE && table.central == nullptr && table.central_rows > 0) {
    return BadPointer(op, index, "central", "null", "[central_rows, dim] rows");
  }
  if (table.residual_rows < 0) return Bad(op, index, "residual_rows", table.residual_rows, "0 or more");
  if (table.residual != nullptr && table.residual_row_of == nullptr && table.residual_rows != table.n_items) {
    return Bad(op, index, "residual_rows", table.residual_rows, "n_items (or 0) without residual_row_of");
  }
  const Matrix residual = {table.residual, table.residual_rows, table.dim, table.residual_stride,
                           table.residual_dtype};
  const Matrix central = {table.central, table.central_rows, table.dim, table.central_stride,
                          table.central_dtype};
  if (table.residual != nullptr) {
    RESEMBED_RETURN_IF_ERROR(CheckPart(op, index, "residual", residual));
    if (!IsAligned(table.residual_row_of, RESEMBED_I32)) {
      return BadPointer(op, index, "residual_row_of", "misaligned", "the alignment of i32");
    }
  }
  if (table.form != RESEMBED_CENTRAL_NONE) {
    RESEMBED_RETURN_IF_ERROR(CheckPart(op, index, "central", central));
    RESEMBED_RETURN_IF_ERROR(CheckMap(op, index, table));
  }
  if (Overlaps(residual, central)) {
    return BadPointer(op, index, "central", "overlapping residual", "memory of its own");
  }
  return RESEMBED_OK;
}

resembed_status CheckTables(const char* op, const resembed_tables* tables, const resembed_place& place,
                            Tables* out) {
  RESEMBED_RETURN_IF_ERROR(out->Init(op, tables, place));
  for (int32_t index = 0; index < out->size(); ++index) {
    RESEMBED_RETURN_IF_ERROR(CheckTable(op, index, (*out)[index]));
  }
  return RESEMBED_OK;
}

resembed_status CheckFeature(const char* op, int32_t index, const resembed_feature& feature,
                             const Tables& tables) {
  const auto bad = [op, index](const char* field, int64_t seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].%s is %lld; needs %s", op, index, field,
                static_cast<ll>(seen), rule);
  };
  const auto bad_word = [op, index](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].%s is %s; needs %s", op, index, field, seen,
                rule);
  };
  const bool pooled = feature.pooling != RESEMBED_POOLING_NONE;
  if (feature.table < 0 || feature.table >= tables.size()) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].table is %d; needs 0 .. %d (n_tables - 1)", op,
                index, feature.table, tables.size() - 1);
  }
  if (feature.pooling < RESEMBED_POOLING_NONE || feature.pooling > RESEMBED_POOLING_ATTENTION) {
    return bad("pooling", feature.pooling, "none, sum, mean, max or attention");
  }
  if (feature.n_ids < 0) return bad("n_ids", feature.n_ids, "0 or more");
  if (feature.ids == nullptr && feature.n_ids > 0) return bad_word("ids", "null", "[n_ids] ids");
  if (!IsIndexType(feature.id_dtype)) return bad_word("id_dtype", DtypeName(feature.id_dtype), "i32 or i64");
  if (!IsAligned(feature.ids, feature.id_dtype)) {
    return bad_word("ids", "misaligned", "the alignment of its type");
  }
  if (pooled) {
    if (feature.n_bags < 0) return bad("n_bags", feature.n_bags, "0 or more");
    if (feature.offsets != nullptr) {
      if (!IsIndexType(feature.offset_dtype)) {
        return bad_word("offset_dtype", DtypeName(feature.offset_dtype), "i32 or i64");
      }
      if (!IsAligned(feature.offsets, feature.offset_dtype)) {
        return bad_word("offsets", "misaligned", "the alignment of its type");
      }
    } else {
      if (feature.bag_length < 0) return bad("bag_length", feature.bag_length, "0 or more");
      if (feature.bag_length > 0 && feature.n_bags > kMaxBytes / feature.bag_length) {
        return bad("n_bags", feature.n_bags, "n_bags * bag_length below 2^62");
      }
      if (feature.n_bags * feature.bag_length != feature.n_ids) {
        return Fail(RESEMBED_INVALID_ARGUMENT,
                    "%s: features[%d].n_ids is %lld; needs n_bags * bag_length (%lld * %lld) without offsets",
                    op, index, static_cast<ll>(feature.n_ids), static_cast<ll>(feature.n_bags),
                    static_cast<ll>(feature.bag_length));
      }
    }
  }
  if (feature.weights != nullptr && feature.pooling == RESEMBED_POOLING_MAX) {
    return bad_word("weights", "given", "null with pooling max");
  }
  if (feature.weights != nullptr && feature.pooling == RESEMBED_POOLING_ATTENTION) {
    return bad_word("weights", "given", "null with pooling attention");
  }
  if (!IsAligned(feature.weights, RESEMBED_F32)) {
    return bad_word("weights", "misaligned", "the alignment of f32");
  }
  if (feature.pooling == RESEMBED_POOLING_MAX && feature.n_ids > kMaxInt32) {
    return bad("n_ids", feature.n_ids, "at most 2^31 - 1 with pooling max (positions are int32)");
  }
  return RESEMBED_OK;
}

resembed_status CheckQuery(const char* op, int32_t index, const resembed_feature& feature, int64_t dim) {
  if (feature.pooling != RESEMBED_POOLING_ATTENTION) return RESEMBED_OK;
  const auto bad = [op, index](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].%s is %s; needs %s", op, index, field, seen,
                rule);
  };
  if (feature.query == nullptr && feature.n_bags > 0) {
    return bad("query", "null", "[n_bags, dim] floats with pooling attention");
  }
  if (feature.query_stride < dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d].query_stride is %lld; needs at least dim (%lld)",
                op, index, static_cast<ll>(feature.query_stride), static_cast<ll>(dim));
  }
  if (!FitsInMemory(feature.n_bags, feature.query_stride, RESEMBED_F32)) {
    return bad("query_stride", "too long", "rows below 2^62 bytes");
  }
  if (!IsAligned(feature.query, RESEMBED_F32)) return bad("query", "misaligned", "the alignment of f32");
  if (!IsAligned(feature.saved_attention, RESEMBED_F32)) {
    return bad("saved_attention", "misaligned", "the alignment of f32");
  }
  if (feature.attention_activation != RESEMBED_ATTENTION_SOFTMAX &&
      feature.attention_activation != RESEMBED_ATTENTION_SIGMOID) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: features[%d].attention_activation is %d; needs softmax or sigmoid", op, index,
                feature.attention_activation);
  }
  if (!std::isfinite(feature.attention_scale)) {
    return bad("attention_scale", "not finite", "a finite number (0 means 1)");
  }
  return RESEMBED_OK;
}

resembed_status CheckFeatures(const char* op, const resembed_feature* const* features, int32_t n_features,
                              const Tables& tables) {
  if (n_features < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_features is %d; needs 0 or more", op, n_features);
  }
  if (features == nullptr && n_features > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features is null; needs %d features", op, n_features);
  }
  for (int32_t index = 0; index < n_features; ++index) {
    if (features[index] == nullptr || features[index]->struct_size == 0) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: features[%d] is %s; needs a resembed_feature", op, index,
                  features[index] == nullptr ? "null" : "of struct_size 0");
    }
    RESEMBED_RETURN_IF_ERROR(CheckFeature(op, index, ReadDescriptor(features[index]), tables));
  }
  return RESEMBED_OK;
}

resembed_status CheckWorkspace(const char* op, const void* workspace, size_t workspace_bytes, size_t needed) {
  if (needed == 0) return RESEMBED_OK;
  if (workspace_bytes < needed) {
    return Fail(RESEMBED_WORKSPACE_TOO_SMALL, "%s: workspace_bytes is %zu; needs %zu", op, workspace_bytes,
                needed);
  }
  if (workspace == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: workspace is null; needs %zu bytes", op, needed);
  }
  if (reinterpret_cast<uintptr_t>(workspace) % RESEMBED_WORKSPACE_ALIGNMENT != 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: workspace is %p; needs an address that is a multiple of %d",
                op, workspace, RESEMBED_WORKSPACE_ALIGNMENT);
  }
  return RESEMBED_OK;
}

}  // namespace resembed::detail
