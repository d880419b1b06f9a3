// SPDX-License-Identifier: Apache-2.0
//
// Atomic operations: relaxed, as on the device. Each returns the old value.
#ifndef RESEMBED_TESTS_EMULATOR_ATOMICS_H_
#define RESEMBED_TESTS_EMULATOR_ATOMICS_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/emulator/engine.h"

namespace resembed::emulator {

template <std::size_t kBytes>
struct AtomicWord;
template <>
struct AtomicWord<2> {
  using type = std::uint16_t;
};
template <>
struct AtomicWord<4> {
  using type = std::uint32_t;
};
template <>
struct AtomicWord<8> {
  using type = std::uint64_t;
};

// *address = update(*address) as one step, for any value of 2, 4 or 8 bytes.
template <class T, class Update>
T Atomic(T* address, Update update) {
  using Word = typename AtomicWord<sizeof(T)>::type;
  Word* const word = reinterpret_cast<Word*>(address);
  BeforeAtomic(address);
  Word old = __atomic_load_n(word, __ATOMIC_RELAXED);
  T value;
  for (;;) {
    std::memcpy(static_cast<void*>(&value), &old, sizeof value);
    const T updated = update(value);
    Word next;
    std::memcpy(&next, &updated, sizeof next);
    if (__atomic_compare_exchange_n(word, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
  }
  AfterAtomic(address);
  return value;
}

template <class T>
inline constexpr bool kAtomicInteger = std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);
// Deduces from the address alone, so that atomicAdd(&unsigned, 1) works as it does on the device.
template <class T>
struct Same {
  using type = T;
};
template <class T>
using SameT = typename Same<T>::type;

// Integers wrap around.
template <class T>
T WrappingAdd(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}

}  // namespace resembed::emulator

template <class T>
T atomicAdd(T* address, resembed::emulator::SameT<T> value) {
  using namespace resembed::emulator;
  if constexpr (std::is_integral_v<T>) {
    static_assert(kAtomicInteger<T> && !(std::is_signed_v<T> && sizeof(T) == 8),
                  "CUDA has no atomicAdd of this type");
    return Atomic(address, [value](T old) { return WrappingAdd(old, value); });
  } else {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, __half> ||
                      std::is_same_v<T, __half2> || std::is_same_v<T, __nv_bfloat16> ||
                      std::is_same_v<T, __nv_bfloat162>,
                  "CUDA has no atomicAdd of this type");
    return Atomic(address, [value](T old) { return static_cast<T>(old + value); });
  }
}
template <class T>
T atomicSub(T* address, resembed::emulator::SameT<T> value) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4, "CUDA has no atomicSub of this type");
  return resembed::emulator::Atomic(address, [value](T old) {
    return static_cast<T>(static_cast<unsigned>(old) - static_cast<unsigned>(value));
  });
}
template <class T>
T atomicMin(T* address, resembed::emulator::SameT<T> value) {
  static_assert(resembed::emulator::kAtomicInteger<T>, "CUDA has no atomicMin of this type");
  return resembed::emulator::Atomic(address, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicMax(T* address, resembed::emulator::SameT<T> value) {
  static_assert(resembed::emulator::kAtomicInteger<T>, "CUDA has no atomicMax of this type");
  return resembed::emulator::Atomic(address, [value](T old) { return value > old ? value : old; });
}
template <class T>
T atomicAnd(T* address, resembed::emulator::SameT<T> value) {
  static_assert(resembed::emulator::kAtomicInteger<T>, "CUDA has no atomicAnd of this type");
  return resembed::emulator::Atomic(address, [value](T old) { return old & value; });
}
template <class T>
T atomicOr(T* address, resembed::emulator::SameT<T> value) {
  static_assert(resembed::emulator::kAtomicInteger<T>, "CUDA has no atomicOr of this type");
  return resembed::emulator::Atomic(address, [value](T old) { return old | value; });
}
template <class T>
T atomicXor(T* address, resembed::emulator::SameT<T> value) {
  static_assert(resembed::emulator::kAtomicInteger<T>, "CUDA has no atomicXor of this type");
  return resembed::emulator::Atomic(address, [value](T old) { return old ^ value; });
}
template <class T>
T atomicExch(T* address, resembed::emulator::SameT<T> value) {
  static_assert(resembed::emulator::kAtomicInteger<T> || std::is_same_v<T, float>,
                "CUDA has no atomicExch of this type");
  return resembed::emulator::Atomic(address, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* address, resembed::emulator::SameT<T> expected, resembed::emulator::SameT<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has no atomicCAS of this type");
  return resembed::emulator::Atomic(address,
                                    [expected, value](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return resembed::emulator::Atomic(address, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}
inline unsigned atomicDec(unsigned* address, unsigned limit) {
  return resembed::emulator::Atomic(
      address, [limit](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}

#endif  // RESEMBED_TESTS_EMULATOR_ATOMICS_H_
