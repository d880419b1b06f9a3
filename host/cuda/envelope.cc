// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/envelope.h"

#include "host/cuda/device.h"
#include "host/cuda/forward.h"
#include "host/workspace.h"
#include "kernels/sort/sort.h"

namespace resembed::detail::cuda {
namespace {

constexpr int64_t kMaxItems = 0x7fffffff;  // item numbers are sorted as 32 bits

int KeyBits(int64_t n_interests) {
  int bits = 1;
  while (bits < 32 && n_interests >> bits != 0) ++bits;
  return bits;
}

resembed_status SortBytes(const char* op, int64_t n_items, int64_t n_interests, size_t* bytes) {
  const cudaError_t error = kernels::SortPairs(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, n_items,
                                               KeyBits(n_interests), nullptr);
  return error == cudaSuccess ? RESEMBED_OK : CudaFailure(op, "the size of its sort", error);
}

struct Regions {
  kernels::EnvelopeParams params;
  char* sort_temp;
};

Regions Carve(const resembed_envelope_args& args, const resembed_table& table, size_t sort_bytes,
              Workspace* workspace) {
  Regions out = {};
  kernels::EnvelopeParams& params = out.params;
  const int64_t n = table.n_items, k = args.n_interests;
  const int64_t slots = kernels::PiecesFor(n, k), global_slots = kernels::PiecesFor(n, 0);
  params.keys = workspace->Take<uint32_t>(n);
  params.items = workspace->Take<uint32_t>(n);
  params.sorted_keys = workspace->Take<uint32_t>(n);
  params.members = workspace->Take<uint32_t>(n);
  params.starts = workspace->Take<int64_t>(k + 1);
  if (table.form == RESEMBED_CENTRAL_ATTENTION)
    params.attention = workspace->Take<float>(n * table.n_neighbors);
  params.distance = workspace->Take<float>(n);
  params.residual_norm = workspace->Take<float>(n);
  params.central_norm = workspace->Take<float>(n);
  params.ratio = workspace->Take<float>(n);
  params.squares = workspace->Take<float>(n);
  params.column_sums = workspace->Take<double>(slots * table.dim);
  params.piece_sums = workspace->Take<double>(slots * 3);
  params.global_column_sums = workspace->Take<double>(global_slots * table.dim);
  params.global_piece_sums = workspace->Take<double>(global_slots * 3);
  params.mean = workspace->Take<double>(k * table.dim);
  params.global_mean = workspace->Take<double>(table.dim);
  params.interest_squares = workspace->Take<double>(k);
  out.sort_temp = workspace->Take<char>(static_cast<int64_t>(sort_bytes));
  return out;
}

}  // namespace

resembed_status EnvelopeWorkspaceBytes(const char* op, const resembed_envelope_args& args,
                                       const resembed_table& table, const resembed_place& place,
                                       size_t* bytes) {
  if (table.n_items > kMaxItems) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: n_items is %lld; needs at most 2^31 - 1 on cuda", op,
                static_cast<long long>(table.n_items));
  }
  const DeviceScope scope(op, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  size_t sort_bytes = 0;
  RESEMBED_RETURN_IF_ERROR(SortBytes(op, table.n_items, args.n_interests, &sort_bytes));
  Workspace count(nullptr);
  Carve(args, table, sort_bytes, &count);
  *bytes = count.used();
  return RESEMBED_OK;
}

resembed_status Envelope(const char* op, const resembed_envelope_args& args, const resembed_table& table,
                         void* workspace, const resembed_place& place, int64_t most_blocks) {
  const DeviceScope scope(op, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  const cudaStream_t stream = StreamOf(place);
  size_t sort_bytes = 0;
  RESEMBED_RETURN_IF_ERROR(SortBytes(op, table.n_items, args.n_interests, &sort_bytes));
  Workspace memory(workspace);
  Regions regions = Carve(args, table, sort_bytes, &memory);
  kernels::EnvelopeParams& params = regions.params;
  params.table = ResolveTable(table);
  params.central_dtype = table.central_dtype;
  params.residual_dtype = table.residual_dtype;
  params.interest_of = args.interest_of;
  params.n_interests = args.n_interests;
  params.count = args.count;
  params.mean_residual_norm = args.residual_norm;
  params.mean_central_norm = args.central_norm;
  params.global = args.global;
  const auto check = [op](const char* what, cudaError_t error) -> resembed_status {
    return error == cudaSuccess ? RESEMBED_OK : CudaFailure(op, what, error);
  };
  RESEMBED_RETURN_IF_ERROR(
      check("the launch of EnvelopeKeysKernel", kernels::LaunchEnvelopeKeys(params, most_blocks, stream)));
  if (table.n_items > 0) {
    RESEMBED_RETURN_IF_ERROR(check(
        "its sort",
        kernels::SortPairs(regions.sort_temp, &sort_bytes, params.keys, params.sorted_keys, params.items,
                           params.members, table.n_items, KeyBits(args.n_interests), stream)));
  }
  RESEMBED_RETURN_IF_ERROR(
      check("the launch of its sums", kernels::LaunchEnvelopeSums(params, most_blocks, stream)));
  const auto select = [&](const float* values, double quantile, bool whole, float* out,
                          int64_t stride) -> resembed_status {
    if (out == nullptr || (!whole && args.n_interests == 0)) return RESEMBED_OK;
    return check("the launch of EnvelopeSelectKernel",
                 kernels::LaunchSelect(params, values, quantile, whole, out, stride, most_blocks, stream));
  };
  RESEMBED_RETURN_IF_ERROR(select(params.distance, 1.0, false, args.radius, 1));
  RESEMBED_RETURN_IF_ERROR(select(params.ratio, -1.0, false, args.ratio, 1));
  RESEMBED_RETURN_IF_ERROR(
      select(params.ratio, -1.0, true, args.global == nullptr ? nullptr : args.global + 3, 1));
  for (int32_t index = 0; index < args.n_quantiles; ++index) {
    const auto quantile = static_cast<double>(args.quantiles[index]);
    const auto at = [index](float* out) { return out == nullptr ? nullptr : out + index; };
    RESEMBED_RETURN_IF_ERROR(
        select(params.distance, quantile, false, at(args.radius_quantiles), args.n_quantiles));
    RESEMBED_RETURN_IF_ERROR(
        select(params.residual_norm, quantile, false, at(args.residual_norm_quantiles), args.n_quantiles));
  }
  return FinishLaunches(op, stream);
}

}  // namespace resembed::detail::cuda
