// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "host/nvtx.h"
#include "host/validate.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/device.h"
#endif

namespace resembed::detail {
namespace {

constexpr const char* kOp = "check_maps";
using ll = long long;

// Calls check(first, last, map) for stretches [first, last) of the items in order, until one fails; `map` is ordinary
// memory that holds the stretch, `pitch` bytes an item, the last `bytes` of them of its last item.
template <typename Check>
resembed_status ForStretches(const resembed_place& place, const void* map, int64_t n_items,
                             [[maybe_unused]] int64_t pitch, [[maybe_unused]] int64_t bytes,
                             const Check& check) {
  if (place.backend == RESEMBED_CPU) return check(0, n_items, map);
#ifdef RESEMBED_WITH_CUDA
  constexpr int64_t kStretchBytes = 4 << 20;
  const int64_t most = std::max<int64_t>(1, kStretchBytes / pitch);
  const auto capacity = static_cast<size_t>((std::min(most, n_items) - 1) * pitch + bytes);
  const std::unique_ptr<char[]> copy(new (std::nothrow) char[n_items == 0 ? 0 : capacity]);
  if (copy == nullptr) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: a stretch of a map is %zu bytes; needs as many", kOp, capacity);
  }
  for (int64_t first = 0; first < n_items; first += most) {
    const int64_t last = std::min(n_items, first + most);
    RESEMBED_RETURN_IF_ERROR(cuda::CopyToHost(kOp, copy.get(), static_cast<const char*>(map) + first * pitch,
                                              static_cast<size_t>((last - first - 1) * pitch + bytes),
                                              place));
    RESEMBED_RETURN_IF_ERROR(check(first, last, copy.get()));
  }
#endif
  return RESEMBED_OK;
}

// Of items [first, last), whose codes begin at `codes`; the same below. *before: the center of the item before, none
// being central_rows.
resembed_status CheckCenters(const resembed_table& table, int64_t first, int64_t last, const void* codes,
                             int64_t* before) {
  for (int64_t item = first; item < last; ++item) {
    int64_t center;
    bool none;
    if (table.center_of_dtype == RESEMBED_U16) {
      center = static_cast<const uint16_t*>(codes)[item - first];
      none = center == 65535;
    } else {
      center = static_cast<const int32_t*>(codes)[item - first];
      none = center == -1;
    }
    const int64_t place = none ? table.central_rows : center;
    if (table.center_major != 0 && (none || center >= 0) && place < *before) {
      return Fail(
          RESEMBED_OUT_OF_RANGE,
          "%s: center_of[%lld] is %lld; needs at least that of the item before, items without a center "
          "last (center_major)",
          kOp, static_cast<ll>(item), static_cast<ll>(center));
    }
    *before = place;
    if (none) continue;
    if (center < 0 || center >= table.central_rows) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "%s: center_of[%lld] is %lld; needs 0 .. %lld (central_rows - 1) or %s", kOp,
                  static_cast<ll>(item), static_cast<ll>(center), static_cast<ll>(table.central_rows - 1),
                  table.center_of_dtype == RESEMBED_U16 ? "65535 (none)" : "-1 (none)");
    }
  }
  return RESEMBED_OK;
}

resembed_status CheckNeighbors(const resembed_table& table, int64_t first, int64_t last, const void* lists) {
  for (int64_t item = first; item < last; ++item) {
    const int32_t* list = static_cast<const int32_t*>(lists) + (item - first) * table.neighbors_stride;
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

// `used` has a bit for each row that an item before `first` has.
resembed_status CheckResidualRows(const resembed_table& table, int64_t first, int64_t last, const void* rows,
                                  uint64_t* used) {
  for (int64_t item = first; item < last; ++item) {
    const int32_t row = static_cast<const int32_t*>(rows)[item - first];
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

resembed_status CheckResidualRows(const resembed_table& table, const resembed_place& place) {
  const auto n_words = static_cast<size_t>(table.residual_rows / 64 + 1);
  const std::unique_ptr<uint64_t[]> used(new (std::nothrow) uint64_t[n_words]);
  if (used == nullptr) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: residual_rows is %lld; needs %zu bytes to mark them", kOp,
                static_cast<ll>(table.residual_rows), n_words * 8);
  }
  std::memset(used.get(), 0, n_words * 8);
  return ForStretches(place, table.residual_row_of, table.n_items, 4, 4,
                      [&](int64_t first, int64_t last, const void* rows) {
                        return CheckResidualRows(table, first, last, rows, used.get());
                      });
}

}  // namespace
}  // namespace resembed::detail

extern "C" resembed_status resembed_check_maps(const resembed_table* table, const resembed_place* place) {
  using namespace resembed::detail;  // NOLINT: one function
  resembed_place where = {};
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, &where, Backends::kCpuAndCuda));
  if (table == nullptr || table->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: table is %s; needs a resembed_table", kOp,
                table == nullptr ? "null" : "of struct_size 0");
  }
  const resembed_table given = ReadTable(table);
  RESEMBED_RETURN_IF_ERROR(CheckTable(kOp, 0, given));
  const NvtxRange range(NvtxOp::kCheckMaps, [&given] { return MapsSize(given); });
  if (given.center_of != nullptr) {
    const int64_t code_bytes = given.center_of_dtype == RESEMBED_U16 ? 2 : 4;
    int64_t before = 0;
    RESEMBED_RETURN_IF_ERROR(ForStretches(where, given.center_of, given.n_items, code_bytes, code_bytes,
                                          [&given, &before](int64_t first, int64_t last, const void* codes) {
                                            return CheckCenters(given, first, last, codes, &before);
                                          }));
  }
  if (given.neighbors != nullptr) {
    RESEMBED_RETURN_IF_ERROR(ForStretches(where, given.neighbors, given.n_items, given.neighbors_stride * 4,
                                          int64_t{given.n_neighbors} * 4,
                                          [&given](int64_t first, int64_t last, const void* lists) {
                                            return CheckNeighbors(given, first, last, lists);
                                          }));
  }
  if (given.residual != nullptr && given.residual_row_of != nullptr) {
    RESEMBED_RETURN_IF_ERROR(CheckResidualRows(given, where));
  }
  return RESEMBED_OK;
}
