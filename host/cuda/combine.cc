// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/combine.h"

#include <algorithm>

#include "host/cpu/sort.h"
#include "host/cuda/backward.h"
#include "host/cuda/device.h"
#include "host/cuda/store.h"
#include "host/descriptor.h"
#include "kernels/backward/combine.h"
#include "kernels/sort/sort.h"

namespace resembed::detail::cuda {
namespace {

constexpr const char* kOp = "combine";
using ll = long long;

resembed_grad ReadGrad(const resembed_grad* given, int64_t dim) {
  resembed_grad grad = ReadDescriptor(given);
  if (grad.stride == 0) grad.stride = dim;
  return grad;
}

struct Regions {
  kernels::PlanCounts* counts;
  unsigned long long* unused;
  kernels::CombineInput* inputs;
  EntryList<kernels::RunsParams> runs;
  uint32_t* keys;    // [n] later heads
  uint32_t* places;  // [n] later numbers
  uint32_t* sorted;
  uint32_t* sorted_places;
  uint32_t* order;
  int32_t* rows;
  uint32_t* begin;
  char* temp;
  size_t temp_bytes;
  int64_t n_places, max_runs;
};

resembed_status Take(const resembed_combine_args& args, Workspace* workspace, Regions* out) {
  Regions& regions = *out = {};
  for (int32_t index = 0; index < args.n_inputs; ++index) {
    regions.n_places += std::min<int64_t>(ReadGrad(args.inputs[index], args.dim).capacity, 0xffffffff);
  }
  if (regions.n_places >= 0xffffffff || args.table_rows > 0x7fffffff) {
    return Fail(
        RESEMBED_UNSUPPORTED,
        "%s: inputs is %lld rows of capacity over %lld table_rows; needs below 2^32 - 1 and 2^31 on cuda",
        kOp, static_cast<ll>(regions.n_places), static_cast<ll>(args.table_rows));
  }
  const int64_t n = regions.n_places;
  regions.max_runs = std::min({n, args.table_rows, ReadGrad(args.output, args.dim).capacity});
  size_t sort = 0, scan = 0;
  cudaError_t error = kernels::SortPairs(nullptr, &sort, nullptr, nullptr, nullptr, nullptr, n, 32, nullptr);
  if (error == cudaSuccess) error = kernels::InclusiveSum(nullptr, &scan, nullptr, nullptr, n, nullptr);
  if (error != cudaSuccess) return CudaFailure(kOp, "the size of the sort's memory", error);
  regions.temp_bytes = std::max<size_t>({sort, scan, 1});
  regions.counts = workspace->Take<kernels::PlanCounts>(1);
  regions.unused = workspace->Take<unsigned long long>(1);
  regions.inputs = workspace->Take<kernels::CombineInput>(args.n_inputs);
  regions.runs = {workspace, 1};
  regions.keys = workspace->Take<uint32_t>(n);
  regions.places = workspace->Take<uint32_t>(n);
  regions.sorted = workspace->Take<uint32_t>(n);
  regions.sorted_places = workspace->Take<uint32_t>(n);
  regions.order = workspace->Take<uint32_t>(n);
  regions.rows = workspace->Take<int32_t>(regions.max_runs);
  regions.begin = workspace->Take<uint32_t>(regions.max_runs + 1);
  regions.temp = workspace->Take<char>(static_cast<int64_t>(regions.temp_bytes));
  return RESEMBED_OK;
}

// Places sorted by id and cut into runs.
cudaError_t Sort(const resembed_combine_args& args, Regions regions, const kernels::Grid& grid,
                 cudaStream_t stream) {
  size_t bytes = regions.temp_bytes;
  cudaError_t error = kernels::SortPairs(regions.temp, &bytes, regions.keys, regions.sorted, regions.places,
                                         regions.sorted_places, regions.n_places,
                                         BitsFor(static_cast<uint64_t>(args.table_rows)), stream);
  kernels::RunsParams runs = {};
  runs.sorted = regions.sorted;
  runs.payload = regions.sorted_places;
  runs.heads = regions.keys;
  runs.numbers = regions.places;
  runs.n = regions.n_places;
  runs.sentinel = static_cast<uint32_t>(args.table_rows);
  runs.max_runs = regions.max_runs;
  runs.rows = regions.rows;
  runs.begin = regions.begin;
  runs.counts = regions.counts;
  runs.central = true;
  runs.order = regions.order;
  DescriptorStore store(stream);
  regions.runs.Add(runs, {kernels::BlocksFor(runs.n, grid), 0}, &store);
  if (error == cudaSuccess) error = store.Finish();
  if (error == cudaSuccess)
    error = kernels::LaunchMarkHeads(regions.runs.Of(kernels::kEntries), grid, stream);
  bytes = regions.temp_bytes;
  if (error == cudaSuccess) {
    error =
        kernels::InclusiveSum(regions.temp, &bytes, regions.keys, regions.places, regions.n_places, stream);
  }
  if (error == cudaSuccess)
    error = kernels::LaunchWriteRuns(regions.runs.Of(kernels::kEntries), grid, stream);
  return error;
}

}  // namespace

resembed_status CombineBytes(const resembed_combine_args& args, const resembed_place& place, size_t* bytes) {
  const DeviceScope scope(kOp, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  Workspace count(nullptr);
  Regions regions;
  RESEMBED_RETURN_IF_ERROR(Take(args, &count, &regions));
  *bytes = count.used();
  return RESEMBED_OK;
}

resembed_status Combine(const resembed_combine_args& args, void* workspace, const resembed_place& place,
                        const kernels::Grid& grid) {
  const DeviceScope scope(kOp, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  const cudaStream_t stream = StreamOf(place);
  Workspace carve(workspace);
  Regions regions;
  RESEMBED_RETURN_IF_ERROR(Take(args, &carve, &regions));
  const resembed_grad output = ReadGrad(args.output, args.dim);
  bool wide = args.dim % 4 == 0 && IsWideRow(output.rows, output.stride * 4, RESEMBED_F32);
  cudaError_t error = kernels::LaunchPlanBegin(regions.counts, 1, nullptr, regions.unused, stream);
  kernels::InputBatch batch = {};
  batch.to = regions.inputs;
  int64_t first = 0;
  for (int32_t index = 0; index < args.n_inputs && error == cudaSuccess; ++index) {
    const resembed_grad grad = ReadGrad(args.inputs[index], args.dim);
    const kernels::CombineInput input = {grad.rows,   grad.stride,   grad.row_ids,
                                         grad.n_rows, grad.capacity, first};
    wide = wide && IsWideRow(grad.rows, grad.stride * 4, RESEMBED_F32);
    first += grad.capacity;
    error = kernels::LaunchEnterRows({input, args.table_rows, regions.keys, regions.places, regions.counts},
                                     grid, stream);
    batch.inputs[batch.n++] = input;
    if (batch.n < kernels::kInputsPerLaunch && index + 1 < args.n_inputs) continue;
    if (error == cudaSuccess) error = kernels::LaunchStoreInputs(batch, stream);
    batch.to += batch.n;
    batch.n = 0;
  }
  if (error == cudaSuccess && regions.n_places > 0) error = Sort(args, regions, grid, stream);
  if (error == cudaSuccess) {
    kernels::CombineParams params = {};
    params.counts = regions.counts;
    params.rows = regions.rows;
    params.begin = regions.begin;
    params.places = regions.order;
    params.inputs = regions.inputs;
    params.n_inputs = args.n_inputs;
    params.dim = args.dim;
    params.out = output.rows;
    params.out_stride = output.stride;
    params.out_ids = output.row_ids;
    params.n_rows = output.n_rows;
    params.capacity = regions.max_runs;
    error = kernels::LaunchCombine(params, wide, grid, stream);
  }
  if (error != cudaSuccess) return LaunchFailure(kOp, "CombineKernel", grid.blocks, grid.threads, error);
  return FinishLaunches(kOp, stream);
}

}  // namespace resembed::detail::cuda
