// SPDX-License-Identifier: Apache-2.0
// Items numbered center by center, and what has a row per item moved between the two orders.
#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "host/descriptor.h"
#include "host/executor.h"
#include "host/io/header.h"
#include "host/nvtx.h"
#include "host/status.h"
#include "host/validate.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/plan.h"
#endif
#include "resembed/resembed.h"

namespace resembed::detail {
namespace {

using ll = long long;

constexpr int64_t kMostItems = std::numeric_limits<int32_t>::max();
constexpr int64_t kIdsPerTask = 16384;
// The map is read at random and does not fit into a cache.
constexpr int64_t kIdsAhead = 16;

resembed_status ReadNumbering(const char* op, const resembed_numbering* given, resembed_numbering* out) {
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: numbering is %s; needs a resembed_numbering", op,
                given == nullptr ? "null" : "of struct_size 0");
  }
  *out = ReadDescriptor(given);
  if (out->n_items < 0 || out->n_items > kMostItems) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: numbering.n_items is %lld; needs 0 .. 2147483647", op,
                static_cast<ll>(out->n_items));
  }
  if (out->n_items > 0 && (out->internal_of == nullptr || out->external_of == nullptr)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: numbering.%s is null; needs a pointer", op,
                out->internal_of == nullptr ? "internal_of" : "external_of");
  }
  return RESEMBED_OK;
}

// Center of an item, or -1; a wrong one as it is.
int64_t CenterAt(const void* center_of, resembed_dtype dtype, int64_t item) {
  if (dtype == RESEMBED_I32) return static_cast<const int32_t*>(center_of)[item];
  const uint16_t code = static_cast<const uint16_t*>(center_of)[item];
  return code == 65535 ? -1 : code;
}

// Counting sort; items without a center are those of one more center.
resembed_status NumberByCenter(const void* center_of, resembed_dtype dtype, int64_t n_centers,
                               const resembed_numbering& numbering) {
  std::vector<int64_t> next(static_cast<size_t>(n_centers) + 2, 0);
  const auto slot = [&](int64_t item) {
    const int64_t center = CenterAt(center_of, dtype, item);
    return static_cast<size_t>(center < 0 ? n_centers : center);
  };
  for (int64_t item = 0; item < numbering.n_items; ++item) ++next[slot(item) + 1];
  for (size_t center = 1; center < next.size(); ++center) next[center] += next[center - 1];
  for (int64_t item = 0; item < numbering.n_items; ++item) {
    const int64_t internal = next[slot(item)]++;
    numbering.internal_of[item] = static_cast<int32_t>(internal);
    numbering.external_of[internal] = static_cast<int32_t>(item);
  }
  return RESEMBED_OK;
}

struct Rows {
  char* data;
  int64_t row_bytes, pitch;
  bool holds_items;
  int64_t dim;
};

resembed_status ReadRows(const char* op, const resembed_numbering& numbering, const resembed_item_rows* given,
                         int32_t index, Rows* out) {
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: arrays[%d] is %s; needs a resembed_item_rows", op, index,
                given == nullptr ? "null" : "of struct_size 0");
  }
  const resembed_item_rows rows = ReadDescriptor(given);
  if (rows.data == nullptr && numbering.n_items > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: arrays[%d].data is null; needs a pointer", op, index);
  }
  const int64_t element = FileElementBytes(rows.dtype);
  if (element == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: arrays[%d].dtype is %d; needs a known type", op, index,
                rows.dtype);
  }
  if (rows.holds_items != 0 && (rows.holds_items != 1 || rows.dtype != RESEMBED_I32)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: arrays[%d].holds_items is %d with dtype %s; needs 0, or 1 with i32", op, index,
                rows.holds_items, DtypeName(rows.dtype));
  }
  const int64_t stride = rows.stride == 0 ? rows.dim : rows.stride;
  if (rows.dim < 1 || stride < rows.dim || stride > (int64_t{1} << 56) / (numbering.n_items + 1)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: arrays[%d].dim and stride are %lld and %lld; needs 1 <= dim <= stride", op, index,
                static_cast<ll>(rows.dim), static_cast<ll>(rows.stride));
  }
  *out = {static_cast<char*>(rows.data), rows.dim * element, stride * element, rows.holds_items != 0,
          rows.dim};
  return RESEMBED_OK;
}

// Rows side by side in one buffer (equal pitch, disjoint columns) do not.
bool ShareBytes(const Rows& a, const Rows& b, int64_t n_rows) {
  const auto span = [n_rows](const Rows& rows) { return (n_rows - 1) * rows.pitch + rows.row_bytes; };
  if (!Overlaps(a.data, span(a), b.data, span(b))) return false;
  if (a.pitch != b.pitch) return true;
  const Rows& low = a.data <= b.data ? a : b;
  const Rows& high = a.data <= b.data ? b : a;
  const int64_t shift = (high.data - low.data) % low.pitch;
  return shift < low.row_bytes || shift + high.row_bytes > low.pitch;
}

// Row r becomes row source[r], along the cycles of the permutation; moved: n bits, row: one row.
void Permute(const Rows& rows, const int32_t* source, int64_t n, std::vector<bool>* moved,
             std::vector<char>* kept) {
  moved->assign(static_cast<size_t>(n), false);
  const auto row = [&rows](int64_t index) { return rows.data + index * rows.pitch; };
  const auto bytes = static_cast<size_t>(rows.row_bytes);
  for (int64_t start = 0; start < n; ++start) {
    if ((*moved)[static_cast<size_t>(start)] || source[start] == start) continue;
    std::memcpy(kept->data(), row(start), bytes);
    int64_t at = start;
    while (source[at] != start) {
      std::memcpy(row(at), row(source[at]), bytes);
      (*moved)[static_cast<size_t>(at)] = true;
      at = source[at];
    }
    std::memcpy(row(at), kept->data(), bytes);
    (*moved)[static_cast<size_t>(at)] = true;
  }
}

void TranslateEntries(const Rows& rows, const int32_t* map, int64_t n) {
  for (int64_t item = 0; item < n; ++item) {
    auto* entries = reinterpret_cast<int32_t*>(rows.data + item * rows.pitch);
    for (int64_t slot = 0; slot < rows.dim && entries[slot] != -1; ++slot) entries[slot] = map[entries[slot]];
  }
}

resembed_status Renumber(const char* op, const resembed_numbering& numbering, resembed_direction direction,
                         const resembed_item_rows* const* arrays, int32_t n_arrays) {
  const int64_t n = numbering.n_items;
  for (int64_t item = 0; item < n; ++item) {
    const int64_t internal = numbering.internal_of[item];
    if (internal >= 0 && internal < n && numbering.external_of[internal] == item) continue;
    return Fail(RESEMBED_OUT_OF_RANGE,
                "%s: numbering.internal_of[%lld] is %lld; needs an item whose external_of is %lld", op,
                static_cast<ll>(item), static_cast<ll>(internal), static_cast<ll>(item));
  }
  std::vector<Rows> all;
  int64_t row_bytes = 0;
  for (int32_t index = 0; index < n_arrays; ++index) {
    Rows rows;
    RESEMBED_RETURN_IF_ERROR(ReadRows(op, numbering, arrays[index], index, &rows));
    for (size_t other = 0; n > 0 && other < all.size(); ++other) {
      if (!ShareBytes(all[other], rows, n)) continue;
      return Fail(RESEMBED_INVALID_ARGUMENT,
                  "%s: arrays[%d].data is overlapping arrays[%zu]; needs memory of its own", op, index,
                  other);
    }
    for (int64_t item = 0; rows.holds_items && item < n; ++item) {
      const auto* entries = reinterpret_cast<const int32_t*>(rows.data + item * rows.pitch);
      for (int64_t slot = 0; slot < rows.dim && entries[slot] != -1; ++slot) {
        if (entries[slot] >= 0 && entries[slot] < n) continue;
        return Fail(RESEMBED_OUT_OF_RANGE, "%s: arrays[%d] row %lld holds %d; needs -1 or an item below %lld",
                    op, index, static_cast<ll>(item), entries[slot], static_cast<ll>(n));
      }
    }
    row_bytes = rows.row_bytes > row_bytes ? rows.row_bytes : row_bytes;
    all.push_back(rows);
  }
  const bool inwards = direction == RESEMBED_TO_INTERNAL;
  std::vector<bool> moved(static_cast<size_t>(n));
  std::vector<char> kept(static_cast<size_t>(row_bytes));
  for (const Rows& rows : all) {
    Permute(rows, inwards ? numbering.external_of : numbering.internal_of, n, &moved, &kept);
    if (rows.holds_items) TranslateEntries(rows, inwards ? numbering.internal_of : numbering.external_of, n);
  }
  return RESEMBED_OK;
}

template <typename Id>
void TranslateOnCpu(const resembed_translate_args& args, const Executor& executor) {
  const auto* ids = static_cast<const Id*>(args.ids);
  auto* output = static_cast<Id*>(args.output);
  const int64_t n_tasks = (args.n_ids + kIdsPerTask - 1) / kIdsPerTask;
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const int64_t last = std::min(args.n_ids, (task + 1) * kIdsPerTask);
    const auto is_item = [&args](int64_t id) { return id >= 0 && id < args.n_map; };
    for (int64_t at = task * kIdsPerTask; at < last; ++at) {
      if (at + kIdsAhead < last && is_item(ids[at + kIdsAhead]))
        __builtin_prefetch(args.map + ids[at + kIdsAhead]);
      const int64_t id = ids[at];
      output[at] = is_item(id) ? static_cast<Id>(args.map[id]) : ids[at];
    }
  });
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

using resembed::detail::Fail;

resembed_status resembed_number_by_center(const void* center_of, resembed_dtype center_of_dtype,
                                          int64_t n_centers, const resembed_numbering* numbering) {
  using namespace resembed::detail;
  constexpr const char* kOp = "number_by_center";
  resembed_numbering read = {};
  RESEMBED_RETURN_IF_ERROR(ReadNumbering(kOp, numbering, &read));
  if (center_of == nullptr && read.n_items > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: center_of is null; needs a pointer", kOp);
  }
  if (center_of_dtype != RESEMBED_I32 && center_of_dtype != RESEMBED_U16) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: center_of_dtype is %s; needs i32 or u16", kOp,
                DtypeName(center_of_dtype));
  }
  if (n_centers < 0 || n_centers > kMostItems) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_centers is %lld; needs 0 .. 2147483647", kOp,
                static_cast<ll>(n_centers));
  }
  for (int64_t item = 0; item < read.n_items; ++item) {
    const int64_t center = CenterAt(center_of, center_of_dtype, item);
    if (center >= -1 && center < n_centers) continue;
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: center_of[%lld] is %lld; needs -1 or a center below %lld", kOp,
                static_cast<ll>(item), static_cast<ll>(center), static_cast<ll>(n_centers));
  }
  try {
    return NumberByCenter(center_of, center_of_dtype, n_centers, read);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: n_centers is %lld; needs %lld bytes of memory", kOp,
                static_cast<ll>(n_centers), static_cast<ll>(8 * (n_centers + 2)));
  }
}

resembed_status resembed_renumber(const resembed_numbering* numbering, resembed_direction direction,
                                  const resembed_item_rows* const* arrays, int32_t n_arrays) {
  using namespace resembed::detail;
  constexpr const char* kOp = "renumber";
  resembed_numbering read = {};
  RESEMBED_RETURN_IF_ERROR(ReadNumbering(kOp, numbering, &read));
  if (direction != RESEMBED_TO_INTERNAL && direction != RESEMBED_TO_EXTERNAL) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: direction is %d; needs to_internal or to_external", kOp,
                direction);
  }
  if (n_arrays < 0 || (arrays == nullptr && n_arrays > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_arrays is %d with arrays %p; needs 0 or more arrays", kOp,
                n_arrays, static_cast<const void*>(arrays));
  }
  try {
    return Renumber(kOp, read, direction, arrays, n_arrays);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: numbering.n_items is %lld; needs one bit an item and one row",
                kOp, static_cast<ll>(read.n_items));
  }
}

resembed_status resembed_translate(const resembed_translate_args* given, const resembed_place* place) {
  using namespace resembed::detail;
  constexpr const char* kOp = "translate";
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: args is %s; needs a resembed_translate_args", kOp,
                given == nullptr ? "null" : "of struct_size 0");
  }
  resembed_place where = {};
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, &where, Backends::kCpuAndCuda));
  const resembed_translate_args args = ReadDescriptor(given);
  if (args.n_ids < 0 || args.n_map < 0 || args.n_map > kMostItems) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is %lld; needs %s", kOp,
                args.n_ids < 0 ? "n_ids" : "n_map", static_cast<ll>(args.n_ids < 0 ? args.n_ids : args.n_map),
                args.n_ids < 0 ? "0 or more" : "0 .. 2147483647");
  }
  if (args.n_ids > 0 &&
      (args.ids == nullptr || args.output == nullptr || (args.map == nullptr && args.n_map > 0))) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", kOp,
                args.ids == nullptr      ? "ids"
                : args.output == nullptr ? "output"
                                         : "map");
  }
  if (!IsIndexType(args.id_dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: id_dtype is %s; needs i32 or i64", kOp,
                DtypeName(args.id_dtype));
  }
  const int64_t element = args.id_dtype == RESEMBED_I32 ? 4 : 8;
  if (args.n_ids > (int64_t{1} << 58)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_ids is %lld; needs at most 2^58", kOp,
                static_cast<ll>(args.n_ids));
  }
  if (args.output != args.ids &&
      Overlaps(args.ids, args.n_ids * element, args.output, args.n_ids * element)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output is overlapping ids; needs ids itself or other memory",
                kOp);
  }
  if (Overlaps(args.map, args.n_map * 4, args.output, args.n_ids * element)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output is overlapping map; needs memory of its own", kOp);
  }
  const NvtxRange range(NvtxOp::kTranslate, [&args] { return TranslateSize(args); });
#ifdef RESEMBED_WITH_CUDA
  if (where.backend == RESEMBED_CUDA) return cuda::Translate(args, where);
#endif
  const Executor executor(where);
  if (args.id_dtype == RESEMBED_I32) {
    TranslateOnCpu<int32_t>(args, executor);
  } else {
    TranslateOnCpu<int64_t>(args, executor);
  }
  return RESEMBED_OK;
}

}  // extern "C"
