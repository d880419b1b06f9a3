// SPDX-License-Identifier: Apache-2.0
//
// Kernels that are wrong on purpose, one fault each, and what the emulator says of them. Races are in race_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/gpu.cuh"
#include "tests/emulator/conformance/device_array.h"
#include "tests/emulator/emulator.h"
#include "tests/emulator/fiber.h"

namespace resembed::emulator {
namespace {

using conformance::DeviceArray;
using conformance::Stream;
using testing::AllOf;
using testing::AnyOf;
using testing::Contains;
using testing::HasSubstr;

// Launches one block, and returns the fault that it ends with.
template <class... P, class... A>
std::string FaultOf(void (*kernel)(P...), unsigned threads, A... args) {
  const Stream stream;
  EXPECT_EQ(gpu::Launch(kernel, dim3(1), dim3(threads), 0, stream, args...), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  const std::vector<std::string> faults = TakeFaults();
  EXPECT_EQ(faults.size(), 1u);
  return faults.empty() ? "" : faults[0];
}

// ThreadSanitizer reports it: race_test.cc.
#ifndef RESEMBED_EMULATOR_TSAN
__global__ void MissingBarrierKernel(int* out) {
  RESEMBED_SHARED(int, tile, [64]);
  const int thread = static_cast<int>(threadIdx.x);
  tile[thread] = thread;
  out[thread] = tile[(thread + 1) % 64];
}

TEST(WrongKernels, MissingBarrierReadsPoison) {
  const Stream stream;
  const DeviceArray<int> out(64);
  ASSERT_EQ(gpu::Launch(MissingBarrierKernel, dim3(1), dim3(64), 0, stream, out.get()), cudaSuccess);
  EXPECT_THAT(out.Read(), Contains(-1));
}
#endif

__global__ void DivergentBarrierKernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST(WrongKernels, BarriersOfTwoBranches) {
  EXPECT_THAT(FaultOf(DivergentBarrierKernel, 64),
              AllOf(HasSubstr("divergent barrier 0"), HasSubstr("wrong_kernels_test.cc:")));
}

__global__ void ExitBeforeBarrierKernel(int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
}

TEST(WrongKernels, ExitBeforeBarrier) {
  EXPECT_THAT(FaultOf(ExitBeforeBarrierKernel, 64u, 50),
              HasSubstr("is not reached by the whole block: 50 of 64 threads wait there, 14 have ended"));
}

__global__ void BarrierAgainstShuffleKernel() {
  if (threadIdx.x % 32 == 7) {
    __syncthreads();
  } else {
    __shfl_xor_sync(0xffffffffu, 1, 1);
  }
}

TEST(WrongKernels, BarrierAgainstShuffle) {
  EXPECT_THAT(
      FaultOf(BarrierAgainstShuffleKernel, 64),
      AllOf(HasSubstr("deadlock"), HasSubstr("62 thread(s)"), HasSubstr("__shfl_xor_sync (mask 0xffffffff)"),
            HasSubstr("2 thread(s) from thread 7: in __syncthreads")));
}

__global__ void DivergentShuffleKernel() {
  if (threadIdx.x < 16) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __ballot_sync(0xffffffffu, 1);
  }
}

TEST(WrongKernels, CollectivesOfTwoKinds) {
  EXPECT_THAT(FaultOf(DivergentShuffleKernel, 32),
              AllOf(HasSubstr("meets thread"), HasSubstr("__ballot_sync")));
}

__global__ void WidthsDifferKernel() { __shfl_down_sync(0xffffffffu, 1, 1, threadIdx.x < 8 ? 8 : 32); }

TEST(WrongKernels, ShufflesOfTwoWidths) {
  EXPECT_THAT(FaultOf(WidthsDifferKernel, 32), HasSubstr("meets thread"));
}

__global__ void MaskWithoutCallerKernel() { __shfl_sync(0x0000ffffu, 1, 0); }

TEST(WrongKernels, MaskWithoutTheCaller) {
  EXPECT_THAT(FaultOf(MaskWithoutCallerKernel, 32), HasSubstr("mask 0x0000ffff does not name the caller"));
}

__global__ void OddWidthKernel(int width) { __shfl_sync(0xffffffffu, 1, 0, width); }

TEST(WrongKernels, WidthThatIsNoPowerOfTwo) {
  EXPECT_THAT(FaultOf(OddWidthKernel, 32u, 12), HasSubstr("width is 12; needs a power of two up to 32"));
  EXPECT_THAT(FaultOf(OddWidthKernel, 32u, 64), HasSubstr("width is 64"));
}

__global__ void NamedBarrierKernel(unsigned id, unsigned count, unsigned other) {
  __barrier_sync_count(id, threadIdx.x < 32 ? count : other);
}

TEST(WrongKernels, NamedBarriers) {
  EXPECT_THAT(FaultOf(NamedBarrierKernel, 64u, 1u, 40u, 40u),
              HasSubstr("thread count is 40; needs a multiple of 32"));
  EXPECT_THAT(FaultOf(NamedBarrierKernel, 64u, 16u, 64u, 64u), HasSubstr("barrier is 16; needs 0..15"));
  EXPECT_THAT(FaultOf(NamedBarrierKernel, 128u, 1u, 64u, 96u),
              AnyOf(HasSubstr("meets"), HasSubstr("deadlock")));
  EXPECT_THAT(FaultOf(NamedBarrierKernel, 64u, 1u, 96u, 96u), HasSubstr("thread count is 96"));
}

__global__ void LonelyNamedBarrierKernel() {
  if (threadIdx.x < 32) __barrier_sync_count(3, 64);
}

TEST(WrongKernels, NamedBarrierThatNobodyElseReaches) {
  EXPECT_THAT(FaultOf(LonelyNamedBarrierKernel, 64),
              AllOf(HasSubstr("__syncthreads"), HasSubstr("32 of 64")));
}

__global__ void TrapKernel() { __trap(); }

TEST(WrongKernels, Trap) { EXPECT_THAT(FaultOf(TrapKernel, 1), HasSubstr("__trap at")); }

__global__ void LargeSharedKernel(int* out) {
  RESEMBED_SHARED(int, tile, [12 * 1024 + 1]);
  tile[0] = 1;
  out[0] = tile[0];
}
__global__ void EmptyKernel() {}

TEST(WrongKernels, LimitsOfTheDevice) {
  {
    const DeviceArray<int> out(1);
    EXPECT_THAT(FaultOf(LargeSharedKernel, 1u, out.get()),
                HasSubstr("static shared memory is 49156 bytes; needs at most 49152"));
  }
  const Stream stream;
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(1), dim3(1025), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(1), dim3(1, 1, 65), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(0), dim3(1), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(1, 65536), dim3(1), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(1), dim3(1), 227 * 1024 + 1, stream), cudaErrorInvalidValue);
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(1), dim3(1), 227 * 1024, stream), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(WrongKernels, NothingRunsAfterAFault) {
  const Stream stream;
  const DeviceArray<int> out(64, 5);
  ASSERT_EQ(gpu::Launch(TrapKernel, dim3(1), dim3(1), 0, stream), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(out.get(), 0, 4, stream), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_EQ(gpu::Launch(EmptyKernel, dim3(1), dim3(1), 0, stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(TakeFaults().size(), 1u);
  EXPECT_EQ(out.Read()[0], 5);
}

__global__ void SpinKernel(unsigned* flag, int* out) {
  if (threadIdx.x == 40) {
    atomicExch(flag, 1u);
    return;
  }
  while (atomicAdd(flag, 0u) == 0) __nanosleep(20);
  out[threadIdx.x] = 1;
}

TEST(WrongKernels, SpinningWithSleepIsFine) {
  const Stream stream;
  const DeviceArray<unsigned> flag(1, 0u);
  const DeviceArray<int> out(64, 0);
  ASSERT_EQ(gpu::Launch(SpinKernel, dim3(1), dim3(64), 0, stream, flag.get(), out.get()), cudaSuccess);
  std::vector<int> expected(64, 1);
  expected[40] = 0;
  EXPECT_EQ(out.Read(), expected);
}

#ifndef RESEMBED_EMULATOR_TSAN
template <class... P, class... A>
void RunToDeath(void (*kernel)(P...), unsigned threads, std::size_t shared_bytes, A... args) {
  gpu::Launch(kernel, dim3(1), dim3(threads), shared_bytes, nullptr, args...);
  cudaDeviceSynchronize();
}

__global__ void SpinForeverKernel(volatile int* flag) {
  while (*flag == 0) {
  }
}

TEST(WrongKernelsDeath, WatchdogEndsASpinLoop) {
  const DeviceArray<int> flag(1, 0);
  EXPECT_DEATH((SetWatchdog(1), RunToDeath(SpinForeverKernel, 1, 0, flag.get())),
               "watchdog: one launch has taken 1 s; block .0,0,0. thread .0,0,0.");
}

__global__ void DeepKernel(int* out) {
  volatile char local[512 * 1024];
  for (int i = 0; i < 512 * 1024; i += 64) local[i] = static_cast<char>(i);
  out[0] = local[4096];
}

TEST(WrongKernelsDeath, StackOverflowMeetsTheGuardPage) {
  const DeviceArray<int> out(1, 0);
  EXPECT_DEATH(RunToDeath(DeepKernel, 1, 0, out.get()), "");
}
#endif

#ifdef RESEMBED_EMULATOR_ASAN
__global__ void GlobalKernel(const int* in, int* out, int n) {
  for (int i = static_cast<int>(threadIdx.x); i <= n; i += 32) out[i % 32] = in[i];
}
__global__ void StaticSharedKernel(int* out, int at) {
  RESEMBED_SHARED(int, tile, [8]);
  RESEMBED_SHARED(int, other, [8]);
  tile[0] = other[0] = 0;
  out[0] = tile[at];
}
__global__ void DynamicSharedKernel(int* out, int at) {
  RESEMBED_SHARED_DYN(int, tile);
  tile[0] = 0;
  out[0] = tile[at];
}
__global__ void MisalignedKernel(const float* in, float4* out) {
  out[threadIdx.x] = *reinterpret_cast<const float4*>(in + threadIdx.x);
}

TEST(WrongKernelsDeath, OutOfBounds) {
  const DeviceArray<int> in(100), out(32);
  EXPECT_DEATH(RunToDeath(GlobalKernel, 32, 0, in.get(), out.get(), 100), "heap-buffer-overflow");
  EXPECT_DEATH(RunToDeath(StaticSharedKernel, 1, 0, out.get(), 8), "heap-buffer-overflow|out of bounds");
  EXPECT_DEATH(RunToDeath(DynamicSharedKernel, 1, 64, out.get(), 16), "heap-buffer-overflow");
  EXPECT_DEATH(RunToDeath(DynamicSharedKernel, 1, 0, out.get(), 0), "SEGV|misaligned|null");
}

TEST(WrongKernelsDeath, MisalignedVector) {
  const DeviceArray<float> in(64);
  const DeviceArray<float4> out(32);
  EXPECT_DEATH(RunToDeath(MisalignedKernel, 32, 0, in.get(), out.get()), "misaligned");
}

TEST(WrongKernelsDeath, HostTouchesDeviceMemory) {
  const DeviceArray<int> in(100);
  EXPECT_DEATH(EXPECT_EQ(in.get()[3], 0), "use-after-poison");
}

TEST(WrongKernelsDeath, KernelTouchesAGapOrFreedMemory) {
  const DeviceArray<int> in(128), out(32);
  SetGap(in.get() + 96, 32 * sizeof(int));
  EXPECT_DEATH(RunToDeath(GlobalKernel, 32, 0, in.get(), out.get(), 96), "use-after-poison");
  int* freed = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&freed), 512), cudaSuccess);
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  EXPECT_DEATH(RunToDeath(GlobalKernel, 32, 0, freed, out.get(), 96), "heap-use-after-free");
}
#endif

}  // namespace
}  // namespace resembed::emulator
