// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/envelope.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/envelope.h"
#endif

#include <algorithm>
#include <limits>

#include "host/descriptor.h"
#include "host/nvtx.h"
#include "host/validate.h"

namespace resembed::detail {
namespace {

constexpr const char* kOp = "envelope";
using ll = long long;

resembed_status Check(const resembed_envelope_args* given, const resembed_place* place,
                      resembed_envelope_args* args, resembed_place* where, resembed_table* table) {
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, where, Backends::kCpuAndCuda));
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: args is %s; needs a resembed_envelope_args", kOp,
                given == nullptr ? "null" : "of struct_size 0");
  }
  *args = ReadDescriptor(given);
  if (args->table == nullptr || args->table->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: table is %s; needs a resembed_table", kOp,
                args->table == nullptr ? "null" : "of struct_size 0");
  }
  *table = ReadTable(args->table);
  RESEMBED_RETURN_IF_ERROR(CheckTable(kOp, 0, *table));
  if (args->interest_of == nullptr && table->n_items > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: interest_of is null; needs [n_items] interests", kOp);
  }
  if (args->n_interests < 0 || args->n_interests > std::numeric_limits<int32_t>::max()) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_interests is %lld; needs 0 .. 2^31 - 1", kOp,
                static_cast<ll>(args->n_interests));
  }
  if (args->n_quantiles < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_quantiles is %d; needs 0 or more", kOp, args->n_quantiles);
  }
  if (args->n_quantiles > 0 && args->quantiles == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: quantiles is null; needs %d numbers", kOp, args->n_quantiles);
  }
  for (int32_t index = 0; index < args->n_quantiles; ++index) {
    const float q = args->quantiles[index];
    if (!(q >= 0.0f && q <= 1.0f)) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: quantiles[%d] is %g; needs 0 .. 1", kOp, index,
                  static_cast<double>(q));
    }
  }
  return RESEMBED_OK;
}

resembed_status CheckInterests(const resembed_envelope_args& args, int64_t n_items) {
  int32_t smallest = 0, largest = -1;
  for (int64_t item = 0; item < n_items; ++item) {
    smallest = std::min(smallest, args.interest_of[item]);
    largest = std::max(largest, args.interest_of[item]);
  }
  if (smallest >= -1 && largest < args.n_interests) return RESEMBED_OK;
  for (int64_t item = 0; item < n_items; ++item) {
    if (args.interest_of[item] < -1 || args.interest_of[item] >= args.n_interests) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "%s: interest_of[%lld] is %d; needs -1 (left out) .. %lld (n_interests - 1)", kOp,
                  static_cast<ll>(item), args.interest_of[item], static_cast<ll>(args.n_interests - 1));
    }
  }
  return RESEMBED_OK;
}

resembed_status CountWorkspace(const resembed_envelope_args& args, const resembed_table& table,
                               [[maybe_unused]] const resembed_place& place, size_t* bytes) {
#ifdef RESEMBED_WITH_CUDA
  if (place.backend == RESEMBED_CUDA) return cuda::EnvelopeWorkspaceBytes(kOp, args, table, place, bytes);
#endif
  Workspace count(nullptr);
  cpu::CarveEnvelope(args, table, &count);
  *bytes = count.used();
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

resembed_status resembed_envelope_workspace_size(const resembed_envelope_args* args,
                                                 const resembed_place* place, size_t* bytes) {
  using namespace resembed::detail;  // NOLINT: one function
  if (bytes == nullptr) return Fail(RESEMBED_INVALID_ARGUMENT, "%s: bytes is null; needs a size_t", kOp);
  resembed_envelope_args given = {};
  resembed_place where = {};
  resembed_table table = {};
  RESEMBED_RETURN_IF_ERROR(Check(args, place, &given, &where, &table));
  return CountWorkspace(given, table, where, bytes);
}

resembed_status resembed_envelope(const resembed_envelope_args* args, void* workspace, size_t workspace_bytes,
                                  const resembed_place* place) {
  using namespace resembed::detail;  // NOLINT: one function
  resembed_envelope_args given = {};
  resembed_place where = {};
  resembed_table table = {};
  RESEMBED_RETURN_IF_ERROR(Check(args, place, &given, &where, &table));
  size_t needed = 0;
  RESEMBED_RETURN_IF_ERROR(CountWorkspace(given, table, where, &needed));
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace(kOp, workspace, workspace_bytes, needed));
  const NvtxRange range(NvtxOp::kEnvelope, [&] { return ItemsSize(table, table.n_items, 0); });
#ifdef RESEMBED_WITH_CUDA
  if (where.backend == RESEMBED_CUDA) return cuda::Envelope(kOp, given, table, workspace, where);
#endif
  RESEMBED_RETURN_IF_ERROR(CheckInterests(given, table.n_items));
  Workspace memory(workspace);
  const cpu::EnvelopeWork work = cpu::CarveEnvelope(given, table, &memory);
  cpu::Envelope(given, table, work, GetRowOps(where.isa), Executor(where));
  return RESEMBED_OK;
}

}  // extern "C"
