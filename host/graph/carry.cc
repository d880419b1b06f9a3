// SPDX-License-Identifier: Apache-2.0
// What was trained on an old graph, carried over to a new one.
#include <cstring>
#include <limits>
#include <map>
#include <new>
#include <utility>
#include <vector>

#include "host/io/header.h"
#include "host/status.h"
#include "resembed/resembed.h"

extern "C" {

using resembed::detail::Fail;

resembed_status resembed_carry_rows(const void* from, int64_t from_rows, int64_t from_stride,
                                    resembed_dtype dtype, int64_t dim, const int32_t* source, void* to,
                                    int64_t to_rows, int64_t to_stride) {
  const int64_t element_bytes = resembed::detail::FileElementBytes(dtype);
  if ((from == nullptr && from_rows > 0) || ((source == nullptr || to == nullptr) && to_rows > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "carry_rows: %s is null; needs a pointer",
                from == nullptr && from_rows > 0 ? "from"
                : source == nullptr              ? "source"
                                                 : "to");
  }
  if (element_bytes == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "carry_rows: dtype is %d; needs a known type", dtype);
  }
  const int64_t from_step = from_stride == 0 ? dim : from_stride, to_step = to_stride == 0 ? dim : to_stride;
  if (from_rows < 0 || to_rows < 0 || dim < 1 || from_step < dim || to_step < dim) {
    return Fail(
        RESEMBED_INVALID_ARGUMENT,
        "carry_rows: rows, dim and strides are %lld, %lld, %lld, %lld, %lld; needs rows >= 0, dim >= 1 and "
        "strides >= dim",
        static_cast<long long>(from_rows), static_cast<long long>(to_rows), static_cast<long long>(dim),
        static_cast<long long>(from_stride), static_cast<long long>(to_stride));
  }
  const auto last = [&](int64_t rows, int64_t step) {
    return rows == 0 ? 0 : ((rows - 1) * step + dim) * element_bytes;
  };
  const char* first = static_cast<const char*>(from);
  const char* out = static_cast<const char*>(to);
  if (from_rows > 0 && to_rows > 0 && first < out + last(to_rows, to_step) &&
      out < first + last(from_rows, from_step)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "carry_rows: to is memory of from; needs memory of its own");
  }
  for (int64_t row = 0; row < to_rows; ++row) {
    if (source[row] >= -1 && source[row] < from_rows) continue;
    return Fail(RESEMBED_OUT_OF_RANGE, "carry_rows: source[%lld] is %d; needs -1 or a row below %lld",
                static_cast<long long>(row), source[row], static_cast<long long>(from_rows));
  }
  for (int64_t row = 0; row < to_rows; ++row) {
    if (source[row] < 0) continue;
    std::memcpy(static_cast<char*>(to) + row * to_step * element_bytes,
                first + source[row] * from_step * element_bytes, static_cast<size_t>(dim * element_bytes));
  }
  return RESEMBED_OK;
}

resembed_status resembed_graph_match_centers(const int32_t* old_center_of, int64_t n_old,
                                             const int32_t* new_center_of, int64_t n_new, int64_t n_items,
                                             int32_t* source) {
  constexpr const char* kOp = "graph_match_centers";
  if ((n_items > 0 && (old_center_of == nullptr || new_center_of == nullptr)) ||
      (n_new > 0 && source == nullptr)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", kOp,
                n_items > 0 && old_center_of == nullptr   ? "old_center_of"
                : n_items > 0 && new_center_of == nullptr ? "new_center_of"
                                                          : "source");
  }
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (n_items < 0 || n_old < 0 || n_new < 0 || n_old > kMost || n_new > kMost) {
    return Fail(
        RESEMBED_INVALID_ARGUMENT, "%s: n_items, n_old, n_new are %lld, %lld, %lld; needs 0 .. 2147483647",
        kOp, static_cast<long long>(n_items), static_cast<long long>(n_old), static_cast<long long>(n_new));
  }
  for (int64_t item = 0; item < n_items; ++item) {
    const bool bad_old = old_center_of[item] < -1 || old_center_of[item] >= n_old;
    if (bad_old || new_center_of[item] < -1 || new_center_of[item] >= n_new) {
      return Fail(RESEMBED_OUT_OF_RANGE, "%s: %s[%lld] is %d; needs -1 or a center below %lld", kOp,
                  bad_old ? "old_center_of" : "new_center_of", static_cast<long long>(item),
                  bad_old ? old_center_of[item] : new_center_of[item],
                  static_cast<long long>(bad_old ? n_old : n_new));
    }
  }
  try {
    std::map<std::pair<int32_t, int32_t>, int64_t> shared;  // (new, old) -> items
    for (int64_t item = 0; item < n_items; ++item) {
      if (old_center_of[item] >= 0 && new_center_of[item] >= 0)
        ++shared[{new_center_of[item], old_center_of[item]}];
    }
    std::vector<int64_t> most(static_cast<size_t>(n_new), 0);
    for (int64_t center = 0; center < n_new; ++center) source[center] = -1;
    for (const auto& [centers, n] : shared) {  // lower old centers first, so they win ties
      int64_t& best = most[static_cast<size_t>(centers.first)];
      if (n <= best) continue;
      best = n;
      source[centers.first] = centers.second;
    }
    return RESEMBED_OK;
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: n_items is %lld; needs about %lld bytes of memory", kOp,
                static_cast<long long>(n_items), static_cast<long long>(64 * n_items));
  }
}

}  // extern "C"
