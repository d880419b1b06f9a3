// SPDX-License-Identifier: Apache-2.0
//
// Collectives of warps and blocks, under CUDA's names and with the types that CUDA takes.
#ifndef RESEMBED_TESTS_EMULATOR_WARP_H_
#define RESEMBED_TESTS_EMULATOR_WARP_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/emulator/builtin.h"
#include "tests/emulator/engine.h"

namespace resembed::emulator {

// Call sites, as default arguments: evaluated where the intrinsic is called.
#define RESEMBED_EMULATOR_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <class T>
inline constexpr bool kShuffles = (std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8) &&
                                   !std::is_same_v<T, long double>) ||
                                  std::is_same_v<T, __half> || std::is_same_v<T, __half2> ||
                                  std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __nv_bfloat162>;

template <class T>
T Shuffle(WarpOp op, unsigned mask, T value, unsigned lane_argument, int width, Site site) {
  static_assert(kShuffles<T>, "CUDA has no shuffle of this type");
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = WarpCollective(op, mask, word, lane_argument, width, static_cast<int>(sizeof value), site);
  std::memcpy(static_cast<void*>(&value), &word, sizeof value);
  return value;
}

template <class T>
unsigned Match(WarpOp op, unsigned mask, T value, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "CUDA has no match of this type");
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return static_cast<unsigned>(WarpCollective(op, mask, word, 0, 32, static_cast<int>(sizeof value), site));
}

inline unsigned Join(WarpOp op, unsigned mask, unsigned value, Site site) {
  return static_cast<unsigned>(WarpCollective(op, mask, value, 0, 32, 4, site));
}

}  // namespace resembed::emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Shuffle(WarpOp::kShuffle, mask, value, static_cast<unsigned>(lane), width, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Shuffle(WarpOp::kShuffleUp, mask, value, delta, width, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Shuffle(WarpOp::kShuffleDown, mask, value, delta, width, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Shuffle(WarpOp::kShuffleXor, mask, value, static_cast<unsigned>(lane_mask), width, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kBallot, mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return static_cast<int>(Join(WarpOp::kAny, mask, predicate != 0, {file, line}));
}
inline int __all_sync(unsigned mask, int predicate, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return static_cast<int>(Join(WarpOp::kAll, mask, predicate != 0, {file, line}));
}
inline void __syncwarp(unsigned mask = 0xffffffffu, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  Join(WarpOp::kSync, mask, 0, {file, line});
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Match(WarpOp::kMatchAny, mask, value, {file, line});
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* all, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  const unsigned result = Match(WarpOp::kMatchAll, mask, value, {file, line});
  *all = result != 0;
  return result;
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kAdd, mask, value, {file, line});
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kMinUnsigned, mask, value, {file, line});
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kMaxUnsigned, mask, value, {file, line});
}
inline int __reduce_add_sync(unsigned mask, int value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return static_cast<int>(Join(WarpOp::kAdd, mask, static_cast<unsigned>(value), {file, line}));
}
inline int __reduce_min_sync(unsigned mask, int value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return static_cast<int>(Join(WarpOp::kMinSigned, mask, static_cast<unsigned>(value), {file, line}));
}
inline int __reduce_max_sync(unsigned mask, int value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return static_cast<int>(Join(WarpOp::kMaxSigned, mask, static_cast<unsigned>(value), {file, line}));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kAnd, mask, value, {file, line});
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kOr, mask, value, {file, line});
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return Join(WarpOp::kXor, mask, value, {file, line});
}

inline void __syncthreads(RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  BlockBarrier(BarrierOp::kSync, 0, 0, 0, {file, line});
}
inline int __syncthreads_count(int predicate, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return BlockBarrier(BarrierOp::kCount, 0, 0, predicate, {file, line});
}
inline int __syncthreads_and(int predicate, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return BlockBarrier(BarrierOp::kAnd, 0, 0, predicate, {file, line});
}
inline int __syncthreads_or(int predicate, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  return BlockBarrier(BarrierOp::kOr, 0, 0, predicate, {file, line});
}
inline void __barrier_sync(unsigned id, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  BlockBarrier(BarrierOp::kSync, static_cast<int>(id), 0, 0, {file, line});
}
inline void __barrier_sync_count(unsigned id, unsigned count, RESEMBED_EMULATOR_SITE) {
  using namespace resembed::emulator;
  BlockBarrier(BarrierOp::kSync, static_cast<int>(id), static_cast<int>(count), 0, {file, line});
}

inline void __nanosleep(unsigned, RESEMBED_EMULATOR_SITE) { resembed::emulator::Sleep({file, line}); }
[[noreturn]] inline void __trap(RESEMBED_EMULATOR_SITE) { resembed::emulator::Trap({file, line}); }
inline void __threadfence() { resembed::emulator::Fence(); }
inline void __threadfence_system() { resembed::emulator::Fence(); }
inline void __threadfence_block() {}

#endif  // RESEMBED_TESTS_EMULATOR_WARP_H_
