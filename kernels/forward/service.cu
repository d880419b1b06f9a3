// SPDX-License-Identifier: Apache-2.0
// What surrounds the kernels of forward: long bags meet, bad ids are reported.
#include "kernels/forward/forward.cuh"

namespace resembed::kernels {

// y_b = (p_0 + p_1) + ... over the slots of a long bag. A group of 32 lanes takes 32 columns of one slot;
// those of a bag's first slot do the work.
__global__ void __launch_bounds__(kForwardThreads, 2)
    MeetKernel(const __grid_constant__ ForwardParams params) {
  for (int64_t block = blockIdx.x; block < params.n_blocks; block += gridDim.x) {
    Place place;
    if (!FindWork<1>(params, block, &place) || !place.lane.in_row) continue;
    const ForwardFeature& feature = *place.feature;
    const int64_t bag = feature.slot_bag[place.unit];
    if (bag < 0) continue;
    const int64_t start = BagStart(feature, bag), first = FirstSlot(start);
    if (first != place.unit) continue;
    const int64_t n_blocks = BlocksOf(BagStart(feature, bag + 1) - start);
    const bool is_max = feature.pooling == RESEMBED_POOLING_MAX;
    const float* partials = feature.partials + first * feature.dim + place.lane.column;
    int64_t count = feature.partial_counts[first];
    float total[1] = {partials[0]};
    int32_t argmax = is_max ? feature.partial_argmax[first * feature.dim + place.lane.column] : 0;
#pragma unroll 4
    for (int64_t at = 1; at < n_blocks; ++at) {
      const float partial = partials[at * feature.dim];
      const int32_t more = feature.partial_counts[first + at];
      if (!is_max) {
        total[0] += partial;
      } else if (more > 0 &&
                 (count == 0 || partial > total[0] || (partial != partial && total[0] == total[0]))) {
        total[0] = partial;
        argmax = feature.partial_argmax[(first + at) * feature.dim + place.lane.column];
      }
      count += more;
    }
    if (feature.pooling == RESEMBED_POOLING_MEAN && count > 0) total[0] /= static_cast<float>(count);
    StoreOutput(feature, bag, place.lane, total);
    if (is_max && feature.saved_argmax != nullptr) {
      feature.saved_argmax[bag * feature.dim + place.lane.column] = argmax;
    }
  }
}

__global__ void BadIdsBeginKernel(resembed_bad_ids* record, unsigned long long* first_bad) {
  *record = {0, -1, -1, 0};
  *first_bad = ~0ull;
}

__global__ void BadIdsEndKernel(const __grid_constant__ ForwardParams params) {
  const unsigned long long first = *params.first_bad;
  const auto index = static_cast<int64_t>(first >> 48);
  const auto position = static_cast<int64_t>(first & ((1ull << 48) - 1));
  for (int at = 0; at < params.n_features; ++at) {
    const ForwardFeature& feature = params.features[at];
    if (first == ~0ull || feature.index != index) continue;
    params.bad_ids->feature = index;
    params.bad_ids->position = position;
    params.bad_ids->value = feature.wide_ids ? static_cast<const int64_t*>(feature.ids)[position]
                                             : static_cast<const int32_t*>(feature.ids)[position];
  }
}

cudaError_t LaunchForwardMeet(const ForwardParams& params, const LaunchShape& shape, cudaStream_t stream) {
  return gpu::Launch(MeetKernel, GridOf(params, shape), dim3(static_cast<unsigned int>(shape.threads)), 0,
                     stream, params);
}
cudaError_t LaunchBadIdsBegin(resembed_bad_ids* record, unsigned long long* first_bad, cudaStream_t stream) {
  return gpu::Launch(BadIdsBeginKernel, dim3(1), dim3(1), 0, stream, record, first_bad);
}
cudaError_t LaunchBadIdsEnd(const ForwardParams& params, cudaStream_t stream) {
  return gpu::Launch(BadIdsEndKernel, dim3(1), dim3(1), 0, stream, params);
}

}  // namespace resembed::kernels
