// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: a draw is a function of what it is for, never of what was drawn before. So
// neither the number of threads nor an interruption changes a run.
#pragma once

#include <cmath>
#include <cstdint>

#include "host/train/random.h"

namespace resembed::train {

// Who draws; keeps the sequences of different purposes apart.
enum class Stream : uint64_t {
  kInit = 1,
  kPositions,
  kShuffle,
  kNegatives,
  kDropout,
  kPicture,
  kSubset,
  kPretrain
};

RESEMBED_HOST_DEVICE inline uint64_t Scramble(uint64_t x) { return MixBits(x + 0x9E3779B97F4A7C15u); }

// Draw(seed, stream, a, b, c) = DrawOf(KeyOf(seed, stream, a, b), c)
inline uint64_t KeyOf(uint64_t seed, Stream stream, uint64_t a, uint64_t b) {
  uint64_t h = Scramble(seed ^ (static_cast<uint64_t>(stream) << 56));
  h = Scramble(h ^ a);
  return Scramble(h ^ b);
}
RESEMBED_HOST_DEVICE inline uint64_t DrawOf(uint64_t key, uint64_t c) { return Scramble(key ^ c); }
inline uint64_t Draw(uint64_t seed, Stream stream, uint64_t a, uint64_t b = 0, uint64_t c = 0) {
  return DrawOf(KeyOf(seed, stream, a, b), c);
}

// [0, 1) with 53 bits.
inline double UnitOf(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

// [0, n); the bias is below n / 2^32.
inline int64_t BelowOf(uint64_t bits, int64_t n) {
  const uint64_t high = bits >> 32;
  if (n <= 0x7FFFFFFF) return static_cast<int64_t>((high * static_cast<uint64_t>(n)) >> 32);
  return static_cast<int64_t>(bits % static_cast<uint64_t>(n));
}

// Standard normal (Box and Muller 1958, the cosine half).
inline double NormalOf(uint64_t bits1, uint64_t bits2) {
  const double u = (static_cast<double>(bits1 >> 11) + 1.0) * 0x1.0p-53;  // (0, 1]
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * UnitOf(bits2));
}

}  // namespace resembed::train
