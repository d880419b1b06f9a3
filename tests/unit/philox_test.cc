// SPDX-License-Identifier: Apache-2.0
#include "host/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "host/cpu/row_ops.h"

namespace resembed::detail {
namespace {

struct KnownAnswer {
  PhiloxBlock counter;
  uint32_t key[2];
  PhiloxBlock answer;
};

// Known answers of Random123 (kat_vectors, "philox4x32 10"): zeros, ones, digits of pi.
constexpr KnownAnswer kKnown[] = {
    {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
    {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
     {0xffffffff, 0xffffffff},
     {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
    {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
     {0xa4093822, 0x299f31d0},
     {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
};

TEST(Philox, GivesTheKnownAnswers) {
  for (const KnownAnswer& known : kKnown) {
    const PhiloxBlock got = Philox4x32(known.counter, known.key[0], known.key[1]);
    for (int word = 0; word < 4; ++word) EXPECT_EQ(got.word[word], known.answer.word[word]);
  }
}

TEST(Philox, StreamPlacesSeedRowTablePartColumnAndStep) {
  const RoundingStream stream = {0x299f31d0a4093822u, int64_t{0x85a3} << 32 | 0x243f6a88, 0, 0, 0x9103707344};
  // Row bits above 48 are cut; table number 0 and part 0 leave the upper half of the second word empty.
  const PhiloxBlock want =
      Philox4x32({{0x243f6a88, 0x000085a3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0);
  const PhiloxBlock got = stream.Block(0x13198a2e);
  for (int word = 0; word < 4; ++word) EXPECT_EQ(got.word[word], want.word[word]);
  RoundingStream central = stream;
  central.table_number = 32767;
  central.part = 1;
  const PhiloxBlock want_central =
      Philox4x32({{0x243f6a88, 0xffff85a3, 1, 0x03707344}}, 0xa4093822, 0x299f31d0);
  EXPECT_EQ(central.Block(1).word[3], want_central.word[3]);
}

TEST(Philox, ColumnsTakeHalvesOfWordsInOrder) {
  const PhiloxBlock block = {{0x11110000, 0x33332222, 0x55554444, 0x77776666}};
  for (uint32_t column = 0; column < 16; ++column) {
    EXPECT_EQ(RoundingStream::Bits(block, column), column % 8 * 0x1111u);
  }
}

float Widen(uint16_t bits, resembed_dtype dtype) {
  float value;
  GetRowOps(RESEMBED_ISA_PORTABLE).set_scaled(&value, 1.0f, &bits, dtype, 1);
  return value;
}
uint16_t Round(float x, uint32_t random16, resembed_dtype dtype) {
  return dtype == RESEMBED_BF16 ? RoundToBfloat(x, random16) : RoundToHalf(x, random16);
}

// Every 16-bit draw once: the share that rounds away from zero is the dropped fraction, so the mean is x.
TEST(StochasticRounding, MeanOverAllDrawsIsTheNumber) {
  for (const resembed_dtype dtype : {RESEMBED_BF16, RESEMBED_F16}) {
    for (const float x : {1.0f + 0x1p-9f, -3.14159f, 0.1f, 1000.7f, 6.2e-5f, -3.3e-6f, 5.0e-8f, 0.0f}) {
      double sum = 0;
      float least = INFINITY, most = -INFINITY;
      for (uint32_t random16 = 0; random16 < 65536; ++random16) {
        const float value = Widen(Round(x, random16, dtype), dtype);
        sum += static_cast<double>(value);
        least = std::fmin(least, value);
        most = std::fmax(most, value);
      }
      EXPECT_LE(least, x);
      EXPECT_GE(most, x);
      const double gap = static_cast<double>(most) - static_cast<double>(least);
      // The fraction is kept to 13 bits or more.
      EXPECT_NEAR(sum / 65536, static_cast<double>(x), gap / 8192)
          << (dtype == RESEMBED_BF16 ? "bf16 " : "f16 ") << x;
    }
  }
}

TEST(StochasticRounding, ExactNumbersStay) {
  for (const resembed_dtype dtype : {RESEMBED_BF16, RESEMBED_F16}) {
    for (const uint32_t bits : {0x0000u, 0x8000u, 0x3c00u, 0x0001u, 0x83ffu, 0x0400u, 0x7800u, 0xfbffu}) {
      const float x = Widen(static_cast<uint16_t>(bits), dtype);
      for (const uint32_t random16 : {0u, 1u, 0x7fffu, 0xffffu}) EXPECT_EQ(Round(x, random16, dtype), bits);
    }
  }
}

TEST(StochasticRounding, NanAndInfinityKeepTheirClass) {
  for (const resembed_dtype dtype : {RESEMBED_BF16, RESEMBED_F16}) {
    for (const uint32_t random16 : {0u, 0xffffu}) {
      EXPECT_TRUE(std::isnan(Widen(Round(NAN, random16, dtype), dtype)));
      uint32_t low_payload = 0x7f800001;  // a NaN whose payload lies in the bits that are dropped
      float nan;
      std::memcpy(&nan, &low_payload, sizeof(nan));
      EXPECT_TRUE(std::isnan(Widen(Round(nan, random16, dtype), dtype)));
      EXPECT_EQ(Widen(Round(INFINITY, random16, dtype), dtype), INFINITY);
      EXPECT_EQ(Widen(Round(-INFINITY, random16, dtype), dtype), -INFINITY);
    }
  }
  EXPECT_EQ(Widen(RoundToHalf(70000.0f, 0), RESEMBED_F16), INFINITY);
}

// The same numbers on every machine and in every release: rounding is part of a training run.
TEST(StochasticRounding, GivesTheCommittedRow) {
  std::vector<float> x;
  for (int column = 0; column < 20; ++column) x.push_back(0.01f * static_cast<float>(column * column - 37));
  std::vector<uint16_t> row(20);
  StoreStochastic(row.data(), RESEMBED_BF16, x.data(), 20, {1234, 77, 3, 1, 9});
  const std::vector<uint16_t> bfloats = {0xbebd, 0xbeb8, 0xbea9, 0xbe90, 0xbe57, 0xbdf6, 0xbc24,
                                         0x3df5, 0x3e8a, 0x3ee2, 0x3f21, 0x3f57, 0x3f89, 0x3fa9,
                                         0x3fcc, 0x3ff1, 0x400c, 0x4022, 0x4038, 0x404f};
  EXPECT_EQ(row, bfloats);
  StoreStochastic(row.data(), RESEMBED_F16, x.data(), 20, {1234, 77, 3, 1, 9});
  const std::vector<uint16_t> halves = {0xb5eb, 0xb5c3, 0xb548, 0xb47b, 0xb2b9, 0xafae, 0xa11f,
                                        0x2fae, 0x3452, 0x370b, 0x390a, 0x3ab8, 0x3c47, 0x3d48,
                                        0x3e5d, 0x3f85, 0x4061, 0x410b, 0x41be, 0x427b};
  EXPECT_EQ(row, halves);
}

}  // namespace
}  // namespace resembed::detail
