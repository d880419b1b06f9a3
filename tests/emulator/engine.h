// SPDX-License-Identifier: Apache-2.0
//
// What a kernel asks of the emulator: one fiber a CUDA thread, blocks one after the other. A thread runs until it
// meets a collective, a barrier or __nanosleep, or ends; then the next one runs. Ready threads go before threads
// that have not begun, so that one warp goes as far as it can before the next one starts: the worst legal case for
// code that forgot a barrier.
//
// Whatever a GPU would leave undefined or would hang on is an error with block, thread, file and line; it ends the
// launch, and the stand-in for the runtime keeps the text (emulator.h).
#ifndef RESEMBED_TESTS_EMULATOR_ENGINE_H_
#define RESEMBED_TESTS_EMULATOR_ENGINE_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <type_traits>

namespace resembed::emulator {

// Where a kernel stands. Filled in by default arguments of the intrinsics.
struct Site {
  const char* file;
  int line;
};

enum class WarpOp : unsigned char {
  kSync,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kAny,
  kAll,
  kMatchAny,
  kMatchAll,
  kAdd,
  kMinSigned,
  kMaxSigned,
  kMinUnsigned,
  kMaxUnsigned,
  kAnd,
  kOr,
  kXor,
  kGather,
};

// One rendezvous of a warp: every lane of `mask` that has not ended must come with the same mask, operation, width
// and size. Returns this lane's result. `lane_argument`: the other lane, delta or lane mask of a shuffle.
std::uint64_t WarpCollective(WarpOp op, unsigned mask, std::uint64_t value, unsigned lane_argument, int width,
                             int bytes, Site site);

// The values of all 32 lanes (0xFF where a lane takes no part), valid until the caller's next collective: the
// twin of mma.sync collects fragments with it.
const std::uint64_t* WarpGather(unsigned mask, std::uint64_t value, Site site);

enum class BarrierOp : unsigned char { kSync, kCount, kAnd, kOr };
// Barrier `id` of the block; `count` threads meet there, or all when it is 0. Returns the joined predicate.
int BlockBarrier(BarrierOp op, int id, int count, int predicate, Site site);

void Sleep(Site site);              // __nanosleep: others go first
[[noreturn]] void Trap(Site site);  // __trap
void Fence();                       // __threadfence
// Around an atomic operation on device or shared memory, for the race detector.
void BeforeAtomic(const void* address);
void AfterAtomic(const void* address);

// The block's own memory, 0xFF until written. `key` names one array of one kernel instance.
void* SharedStatic(const void* key, std::size_t bytes, std::size_t alignment);
void* SharedDynamic();

// A launch as the stream keeps it.
struct Grid {
  dim3 blocks, threads;
  std::size_t shared_bytes = 0;
  void (*run)(const void* call) = nullptr;  // calls the kernel once, as the current thread
  std::shared_ptr<const void> call;
};
cudaError_t Enqueue(Grid grid, cudaStream_t stream);

template <class... P>
struct KernelCall {
  void (*kernel)(P...);
  std::tuple<std::remove_cv_t<P>...> parameters;
  static void Run(const void* call) {
    const KernelCall& it = *static_cast<const KernelCall*>(call);
    std::apply(it.kernel, it.parameters);
  }
};

template <class... P, class... A>
cudaError_t Launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                   A&&... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel parameters are copied as bytes");
  static_assert(!(std::is_reference_v<P> || ...), "a kernel takes its parameters by value");
  using Call = KernelCall<P...>;
  auto call = std::make_shared<const Call>(Call{kernel, {static_cast<P>(args)...}});
  return Enqueue({grid, block, shared_bytes, &Call::Run, std::move(call)}, stream);
}

}  // namespace resembed::emulator

#endif  // RESEMBED_TESTS_EMULATOR_ENGINE_H_
