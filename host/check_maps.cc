// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <memory>
#include <new>

#include "host/validate.h"

namespace resembed::detail {
namespace {

constexpr const char* kOp = "check_maps";
using ll = long long;

resembed_status CheckCenters(const resembed_table& table) {
  for (int64_t item = 0; item < table.n_items; ++item) {
    int64_t center;
    if (table.center_of_dtype == RESEMBED_U16) {
      const uint16_t code = static_cast<const uint16_t*>(table.center_of)[item];
      if (code == 65535) continue;
      center = code;
    } else {
      center = static_cast<const int32_t*>(table.center_of)[item];
      if (center == -1) continue;
    }
    if (center < 0 || center >= table.central_rows) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "%s: center_of[%lld] is %lld; needs 0 .. %lld (central_rows - 1) or %s", kOp,
                  static_cast<ll>(item), static_cast<ll>(center), static_cast<ll>(table.central_rows - 1),
                  table.center_of_dtype == RESEMBED_U16 ? "65535 (none)" : "-1 (none)");
    }
  }
  return RESEMBED_OK;
}

resembed_status CheckNeighbors(const resembed_table& table) {
  for (int64_t item = 0; item < table.n_items; ++item) {
    const int32_t* list = table.neighbors + item * table.neighbors_stride;
    int32_t end = table.n_neighbors;
    for (int32_t slot = 0; slot < table.n_neighbors; ++slot) {
      if (list[slot] == -1) {
        end = slot < end ? slot : end;
      } else if (slot > end) {
        return Fail(RESEMBED_OUT_OF_RANGE,
                    "%s: neighbors[%lld, %d] is %d; needs -1 (the list ended at slot %d)", kOp,
                    static_cast<ll>(item), slot, list[slot], end);
      } else if (list[slot] < 0 || list[slot] >= table.central_rows) {
        return Fail(RESEMBED_OUT_OF_RANGE,
                    "%s: neighbors[%lld, %d] is %d; needs 0 .. %lld (central_rows - 1) or -1 (end)", kOp,
                    static_cast<ll>(item), slot, list[slot], static_cast<ll>(table.central_rows - 1));
      }
    }
  }
  return RESEMBED_OK;
}

resembed_status CheckResidualRows(const resembed_table& table) {
  const auto n_words = static_cast<size_t>(table.residual_rows / 64 + 1);
  const std::unique_ptr<uint64_t[]> used(new (std::nothrow) uint64_t[n_words]);
  if (used == nullptr) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: residual_rows is %lld; needs %zu bytes to mark them", kOp,
                static_cast<ll>(table.residual_rows), n_words * 8);
  }
  std::memset(used.get(), 0, n_words * 8);
  for (int64_t item = 0; item < table.n_items; ++item) {
    const int32_t row = table.residual_row_of[item];
    if (row == -1) continue;
    if (row < 0 || row >= table.residual_rows) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "%s: residual_row_of[%lld] is %d; needs 0 .. %lld (residual_rows - 1) or -1 (none)", kOp,
                  static_cast<ll>(item), row, static_cast<ll>(table.residual_rows - 1));
    }
    uint64_t& word = used[static_cast<size_t>(row / 64)];
    const uint64_t bit = uint64_t{1} << (row % 64);
    if ((word & bit) != 0) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "%s: residual_row_of[%lld] is %d; needs a row that no item before it has", kOp,
                  static_cast<ll>(item), row);
    }
    word |= bit;
  }
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" resembed_status resembed_check_maps(const resembed_table* table, const resembed_place* place) {
  using namespace resembed::detail;  // NOLINT: one function
  resembed_place where = {};
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, &where));
  if (table == nullptr || table->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: table is %s; needs a resembed_table", kOp,
                table == nullptr ? "null" : "of struct_size 0");
  }
  const resembed_table given = ReadTable(table);
  RESEMBED_RETURN_IF_ERROR(CheckTable(kOp, 0, given));
  if (given.center_of != nullptr) RESEMBED_RETURN_IF_ERROR(CheckCenters(given));
  if (given.neighbors != nullptr) RESEMBED_RETURN_IF_ERROR(CheckNeighbors(given));
  if (given.residual != nullptr && given.residual_row_of != nullptr) {
    RESEMBED_RETURN_IF_ERROR(CheckResidualRows(given));
  }
  return RESEMBED_OK;
}
