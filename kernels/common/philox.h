// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): a counter-based generator,
// the same numbers on every backend and for any order of evaluation.
//
// Stochastic rounding draws from
//   key     = {seed low 32, seed high 32}
//   counter = {row low 32, (row high 32 & 0xffff) | ((2 * table_number + part) << 16), column / 8, step low 32}
// where part is 0 for R (row = item id) and 1 for C (row = central row). One block of four words serves eight
// columns, 16 bits each: column c takes bits [16 * (c & 1), +16) of word (c % 8) / 2.
//
// Rounding of x with 16 random bits u, away from zero with probability = the dropped fraction:
//   bf16          (bits(x) + u) >> 16
//   fp16          (magnitude bits + (u >> 3)) >> 13, re-biased; below 2^-14: floor(|x| 2^24 + u 2^-16), where the
//                 fraction of |x| 2^24 is cut to 16 bits
//   NaN and infinity keep their class; a magnitude beyond the largest finite value may become infinite.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/common/host_device.h"
#include "resembed/types.h"

namespace resembed::kernels {

struct PhiloxBlock {
  uint32_t word[4];
};

RESEMBED_HOST_DEVICE inline PhiloxBlock Philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {
        {static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
         static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The stream of one row in one step; Block(column / 8) serves columns [8 * (column / 8), +8).
struct RoundingStream {
  uint64_t seed;
  int64_t row;
  int32_t table_number;
  int32_t part;  // 0 = R, 1 = C
  int64_t step;

  RESEMBED_HOST_DEVICE PhiloxBlock Block(int64_t eighth) const {
    const uint32_t part_word = static_cast<uint32_t>(2 * table_number + part) << 16;
    return Philox4x32({{static_cast<uint32_t>(row),
                        (static_cast<uint32_t>(static_cast<uint64_t>(row) >> 32) & 0xffffu) | part_word,
                        static_cast<uint32_t>(eighth), static_cast<uint32_t>(step)}},
                      static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  }
  RESEMBED_HOST_DEVICE static uint32_t Bits(const PhiloxBlock& block, int64_t column) {
    return block.word[(column & 7) >> 1] >> (16 * (column & 1)) & 0xffffu;
  }
};

RESEMBED_HOST_DEVICE inline uint16_t RoundToBfloat(float x, uint32_t random16) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7f800000u) == 0x7f800000u) {  // NaN stays NaN though its payload may lie in the low bits
    return static_cast<uint16_t>((bits >> 16) | ((bits & 0x7fffffu) != 0 ? 0x40u : 0u));
  }
  return static_cast<uint16_t>((bits + random16) >> 16);
}

RESEMBED_HOST_DEVICE inline uint16_t RoundToHalf(float x, uint32_t random16) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x3ffu);
  } else if (magnitude >= 0x47800000u) {  // 65536 and above
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // 2^-14: normal
    half = (magnitude - (112u << 23) + (random16 >> 3)) >> 13;
  } else {
    float positive;
    std::memcpy(&positive, &magnitude, sizeof(positive));
    half = (static_cast<uint32_t>(positive * 0x1p40f) + random16) >> 16;  // |x| 2^24 with 16 fraction bits
  }
  return static_cast<uint16_t>(sign | half);
}

}  // namespace resembed::kernels
