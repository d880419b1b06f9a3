// SPDX-License-Identifier: Apache-2.0
//
// ThreadSanitizer with one identity a CUDA thread: finds each race below, and nothing in the same kernel without it.
#include <gtest/gtest.h>

#include "kernels/gpu.cuh"
#include "tests/emulator/conformance/device_array.h"
#include "tests/emulator/emulator.h"

namespace {
int n_reports = 0;
}  // namespace

// The runtime calls these. A report is what some of the tests want, so it does not end the program; and shared
// memory of one launch after another has the same address, which would hide all but the first.
extern "C" const char* __tsan_default_options() { return "exitcode=0:suppress_equal_addresses=0"; }
extern "C" __attribute__((no_sanitize("thread"))) void __tsan_on_report(void*) { ++n_reports; }

namespace resembed::emulator {
namespace {

using conformance::DeviceArray;
using conformance::Stream;

// Races reported while a kernel runs on 64 threads a block.
template <class... P, class... A>
int RacesOf(void (*kernel)(P...), unsigned n_blocks, A... args) {
  const Stream stream;
  n_reports = 0;
  EXPECT_EQ(gpu::Launch(kernel, dim3(n_blocks), dim3(64), 0, stream, args...), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  return n_reports;
}

// Each kernel has its fault as a template argument, so that the two are one text.
template <bool kRight>
__global__ void HandOverKernel(int* out) {
  RESEMBED_SHARED(int, tile, [64]);
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kRight) __syncthreads();
  out[threadIdx.x] = tile[(threadIdx.x + 32) % 64];
}

TEST(Races, MissingBarrierAfterAWrite) {
  const DeviceArray<int> out(64);
  EXPECT_GT(RacesOf(HandOverKernel<false>, 1, out.get()), 0);
  EXPECT_EQ(RacesOf(HandOverKernel<true>, 1, out.get()), 0);
}

template <bool kRight>
__global__ void ReuseKernel(int* out) {
  RESEMBED_SHARED(int, tile, [64]);
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    tile[threadIdx.x] = round;
    __syncthreads();
    sum += tile[63 - threadIdx.x];
    if (kRight) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

TEST(Races, MissingBarrierBeforeTheNextWrite) {
  const DeviceArray<int> out(64);
  EXPECT_GT(RacesOf(ReuseKernel<false>, 1, out.get()), 0);
  EXPECT_EQ(RacesOf(ReuseKernel<true>, 1, out.get()), 0);
}

template <bool kRight>
__global__ void WarpHandOverKernel(int* out) {
  RESEMBED_SHARED(int, tile, [64]);
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kRight) __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 1u];
}

TEST(Races, MissingSyncwarp) {
  const DeviceArray<int> out(64);
  EXPECT_GT(RacesOf(WarpHandOverKernel<false>, 1, out.get()), 0);
  EXPECT_EQ(RacesOf(WarpHandOverKernel<true>, 1, out.get()), 0);
}

// A shuffle orders nothing.
template <bool kRight>
__global__ void ShuffleAsFenceKernel(int* out) {
  RESEMBED_SHARED(int, tile, [64]);
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  __shfl_xor_sync(0xffffffffu, 1, 1);
  if (kRight) __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 2u];
}

TEST(Races, ShuffleTakenForAFence) {
  const DeviceArray<int> out(64);
  EXPECT_GT(RacesOf(ShuffleAsFenceKernel<false>, 1, out.get()), 0);
  EXPECT_EQ(RacesOf(ShuffleAsFenceKernel<true>, 1, out.get()), 0);
}

// A barrier of one warp does not order another.
template <bool kRight>
__global__ void WrongScopeKernel(int* out) {
  RESEMBED_SHARED(int, tile, [64]);
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kRight) {
    __barrier_sync_count(1, 64);
  } else {
    __syncwarp();
  }
  out[threadIdx.x] = tile[threadIdx.x ^ 32u];
}

TEST(Races, BarrierOfTheWrongScope) {
  const DeviceArray<int> out(64);
  EXPECT_GT(RacesOf(WrongScopeKernel<false>, 1, out.get()), 0);
  EXPECT_EQ(RacesOf(WrongScopeKernel<true>, 1, out.get()), 0);
}

template <bool kRight>
__global__ void CountKernel(int* count) {
  if (kRight) {
    atomicAdd(count, 1);
  } else {
    *count += 1;
  }
}

TEST(Races, PlainSumForAnAtomic) {
  const DeviceArray<int> count(1, 0);
  EXPECT_GT(RacesOf(CountKernel<false>, 1, count.get()), 0);
  EXPECT_EQ(RacesOf(CountKernel<true>, 3, count.get()), 0);
}

// Two blocks, one thread each.
template <bool kRight>
__global__ void TwoBlocksKernel(int* out) {
  if (threadIdx.x == 0) out[kRight ? blockIdx.x : 0u] = static_cast<int>(blockIdx.x);
}

TEST(Races, BlocksThatWriteOnePlace) {
  const DeviceArray<int> out(2, 0);
  EXPECT_GT(RacesOf(TwoBlocksKernel<false>, 2, out.get()), 0);
  EXPECT_EQ(RacesOf(TwoBlocksKernel<true>, 2, out.get()), 0);
}

template <bool kRight>
__global__ void LastBlockKernel(int* partial, unsigned* counter, int* out) {
  RESEMBED_SHARED(int, is_last, [1]);
  const unsigned at = blockIdx.x * 64 + threadIdx.x;
  partial[at] = static_cast<int>(at);
  if (kRight) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
  __syncthreads();
  if (is_last[0] == 0) return;
  int sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += partial[block * 64 + threadIdx.x];
  out[threadIdx.x] = sum;
}

TEST(Races, MissingFenceBeforeTheCounter) {
  const DeviceArray<int> partial(4 * 64), out(64);
  const DeviceArray<unsigned> counter(1, 0u), again(1, 0u);
  EXPECT_GT(RacesOf(LastBlockKernel<false>, 4, partial.get(), counter.get(), out.get()), 0);
  EXPECT_EQ(RacesOf(LastBlockKernel<true>, 4, partial.get(), again.get(), out.get()), 0);
}

// Threads and blocks come and go on the emulator's own stacks: their local variables are nobody else's.
__global__ void LocalArrayKernel(int* out) {
  volatile int local[64];
  for (unsigned i = 0; i < 64; ++i) local[i] = static_cast<int>(i + threadIdx.x);
  out[blockIdx.x * 64 + threadIdx.x] = local[threadIdx.x];
}

TEST(Races, LocalVariablesAreNotShared) {
  const DeviceArray<int> out(5 * 64);
  EXPECT_EQ(RacesOf(LocalArrayKernel, 5, out.get()), 0);
}

// What one launch writes the next one reads: the stream orders them.
__global__ void PassOnKernel(const int* in, int* out) { out[threadIdx.x] = in[63 - threadIdx.x] + 1; }

TEST(Races, LaunchesOfAStreamAreOrdered) {
  const DeviceArray<int> a(64, 0), b(64, 0);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(RacesOf(PassOnKernel, 1, a.get(), b.get()), 0);
    EXPECT_EQ(RacesOf(PassOnKernel, 1, b.get(), a.get()), 0);
  }
  EXPECT_EQ(a.Read()[5], 6);
}

}  // namespace
}  // namespace resembed::emulator
