// SPDX-License-Identifier: Apache-2.0
#include "host/table_set.h"

#include "host/descriptor.h"
#include "host/nvtx.h"
#include "host/validate.h"

namespace resembed::detail {
namespace {

// At the start of a set's memory; the resolved tables follow at kTablesOffset.
struct SetHeader {
  uint64_t magic;
  uint64_t table_bytes;  // sizeof(resembed_table) of the library that wrote the set
  int64_t n_tables;
};
constexpr uint64_t kMagic = 0x7465735f62616d72;
constexpr size_t kTablesOffset = 64;

size_t SetBytes(int32_t n_tables) {
  return kTablesOffset + static_cast<size_t>(n_tables) * sizeof(resembed_table);
}

}  // namespace

resembed_status ReadTableSet(const char* op, const resembed_table_set* set, const resembed_place& place,
                             const resembed_table** tables, int32_t* n_tables) {
  const resembed_table_set given = ReadDescriptor(set);
  if (given.struct_size == 0 || given.memory == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables.set is empty; needs a set from table_set_prepare", op);
  }
  if (given.backend != place.backend || given.device != place.device) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: tables.set is for %s device %d; needs %s device %d", op,
                BackendName(given.backend), given.device, BackendName(place.backend), place.device);
  }
  // The host reads the tables of every call, and device memory is out of its reach.
  if (place.backend == RESEMBED_CUDA) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: tables.set is given; needs null on cuda (give an array of tables)",
                op);
  }
  const auto* header = static_cast<const SetHeader*>(given.memory);
  if (given.n_tables < 0 || given.memory_bytes < SetBytes(given.n_tables) || header->magic != kMagic ||
      header->table_bytes != sizeof(resembed_table) || header->n_tables != given.n_tables) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: tables.set.memory is %p with %d tables; needs what table_set_prepare wrote", op,
                given.memory, given.n_tables);
  }
  *tables = reinterpret_cast<const resembed_table*>(static_cast<const char*>(given.memory) + kTablesOffset);
  *n_tables = given.n_tables;
  return RESEMBED_OK;
}

}  // namespace resembed::detail

using resembed::detail::CheckPlace;
using resembed::detail::CheckTables;
using resembed::detail::Fail;
using resembed::detail::Tables;

extern "C" {

resembed_status resembed_table_set_size(const resembed_tables* tables, const resembed_place* place,
                                        size_t* memory_bytes) {
  constexpr const char* kOp = "table_set_size";
  resembed_place where = {};
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, &where));
  if (memory_bytes == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: memory_bytes is null; needs a size_t", kOp);
  }
  Tables given;
  RESEMBED_RETURN_IF_ERROR(CheckTables(kOp, tables, where, &given));
  *memory_bytes = resembed::detail::SetBytes(given.size());
  return RESEMBED_OK;
}

resembed_status resembed_table_set_prepare(const resembed_tables* tables, void* memory, size_t memory_bytes,
                                           resembed_table_set* set, const resembed_place* place) {
  constexpr const char* kOp = "table_set_prepare";
  resembed_place where = {};
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, &where));
  if (set == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: set is null; needs a resembed_table_set", kOp);
  }
  Tables given;
  RESEMBED_RETURN_IF_ERROR(CheckTables(kOp, tables, where, &given));
  const size_t needed = resembed::detail::SetBytes(given.size());
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckWorkspace(kOp, memory, memory_bytes, needed));
  const resembed::detail::NvtxRange range(resembed::detail::NvtxOp::kTableSetPrepare, [&] {
    return resembed::detail::NvtxSize{0, given.size(), static_cast<int64_t>(needed)};
  });
  auto* header = static_cast<resembed::detail::SetHeader*>(memory);
  *header = {resembed::detail::kMagic, sizeof(resembed_table), given.size()};
  auto* copies =
      reinterpret_cast<resembed_table*>(static_cast<char*>(memory) + resembed::detail::kTablesOffset);
  for (int32_t index = 0; index < given.size(); ++index) copies[index] = given[index];
  *set = {sizeof(resembed_table_set), where.backend, where.device, given.size(), memory, memory_bytes};
  return RESEMBED_OK;
}

}  // extern "C"
