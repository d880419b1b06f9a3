// SPDX-License-Identifier: Apache-2.0
//
// Atomics, scalar intrinsics, arithmetic, conversions and hinted loads against plain loops; emulated and on a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>

#include "tests/emulator/conformance/device_array.h"
#include "tests/emulator/conformance/kernels.h"

namespace resembed::conformance {
namespace {

TEST(Conformance, Atomics) {
  const Stream stream;
  constexpr int kThreads = 640;
  std::mt19937 random(4);
  std::vector<int> in(kThreads);
  for (int& value : in) value = static_cast<int>(random() % 2001) - 1000;
  std::vector<std::uint64_t> start(14, 0);
  start[7] = 0xffffffffu;   // and
  start[13] = 0xffffffffu;  // exchange
  const DeviceArray<int> device_in(in);
  const DeviceArray<std::uint64_t> results(start);
  const DeviceArray<unsigned> tickets(2 * kThreads);
  ASSERT_EQ(RunAtomics(kThreads, device_in.get(), results.get(), tickets.get(), stream), cudaSuccess);
  const std::vector<std::uint64_t> got = results.Read();
  int sum = 0, smallest = 0, largest = 0;
  unsigned odd = 0;
  std::uint64_t wide = 0;
  for (const int value : in) {
    sum += value;
    smallest = std::min(smallest, value), largest = std::max(largest, value);
    odd ^= static_cast<unsigned>(value);
    wide += static_cast<std::uint64_t>(static_cast<std::int64_t>(value)) << 20;
  }
  const auto low = [&](std::size_t i) { return static_cast<std::uint32_t>(got[i]); };
  float real = 0;
  const std::uint32_t real_bits = low(3);
  std::memcpy(&real, &real_bits, sizeof real);
  EXPECT_EQ(static_cast<int>(low(0)), sum);
  EXPECT_EQ(low(1), static_cast<unsigned>(kThreads));
  EXPECT_EQ(got[2], wide);
  EXPECT_EQ(real, static_cast<float>(sum));
  EXPECT_EQ(static_cast<int>(low(4)), -sum);
  EXPECT_EQ(static_cast<int>(low(5)), smallest);
  EXPECT_EQ(static_cast<int>(low(6)), largest);
  EXPECT_EQ(low(7), 0u);
  EXPECT_EQ(low(8), 0x7fffffffu);
  EXPECT_EQ(low(9), odd);
  EXPECT_EQ(low(10), 3u * kThreads);
  EXPECT_EQ(low(11), static_cast<unsigned>(kThreads % 7));  // 0, 1, .. 6, 0, ..
  EXPECT_EQ(low(12), static_cast<unsigned>((7 - kThreads % 7) % 7));
  // Each old value came out once: of the counter, and of the exchanges with the last one left behind.
  const std::vector<unsigned> got_tickets = tickets.Read();
  std::set<unsigned> counts, exchanged = {low(13)};
  for (std::size_t i = 0; i < kThreads; ++i) {
    counts.insert(got_tickets[2 * i]);
    exchanged.insert(got_tickets[2 * i + 1]);
  }
  EXPECT_EQ(counts.size(), static_cast<std::size_t>(kThreads));
  EXPECT_EQ(*counts.rbegin(), static_cast<unsigned>(kThreads - 1));
  EXPECT_EQ(exchanged.size(), static_cast<std::size_t>(kThreads + 1));
}

int LeadingZeros(std::uint64_t x, int bits) {
  int n = 0;
  while (n < bits && (x >> (bits - 1 - n) & 1) == 0) ++n;
  return n;
}
int FirstSet(std::uint64_t x) {
  for (int n = 0; n < 64; ++n) {
    if (x >> n & 1) return n + 1;
  }
  return 0;
}
int CountBits(std::uint64_t x) {
  int n = 0;
  for (; x != 0; x &= x - 1) ++n;
  return n;
}
std::uint64_t HighProduct(std::uint64_t a, std::uint64_t b) {  // by 32-bit halves
  const std::uint64_t a_low = a & 0xffffffffu, a_high = a >> 32, b_low = b & 0xffffffffu, b_high = b >> 32;
  const std::uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
  const std::uint64_t other = a_low * b_high + (middle & 0xffffffffu);
  return a_high * b_high + (middle >> 32) + (other >> 32);
}
unsigned Permute(unsigned a, unsigned b, unsigned selector) {
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned nibble = selector >> (4 * i) & 15u;
    unsigned byte = ((nibble & 7u) < 4 ? a : b) >> (8 * (nibble & 3u)) & 0xffu;
    if (nibble >= 8) byte = byte >= 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}
std::uint32_t ToInt(double x) {
  if (std::isnan(x)) return 0;
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(std::clamp(x, -2147483648.0, 2147483647.0)));
}
float AsFloat(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
unsigned AsBits(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

TEST(Conformance, ScalarIntrinsics) {
  const Stream stream;
  std::mt19937 random(5);
  std::vector<unsigned> a = {0,
                             1,
                             0x80000000u,
                             0xffffffffu,
                             AsBits(0.5f),
                             AsBits(1.5f),
                             AsBits(-2.5f),
                             AsBits(3e9f),
                             AsBits(-5e9f),
                             AsBits(1e-40f),
                             0x7fc00000u,
                             AsBits(std::numeric_limits<float>::infinity())};
  while (a.size() < 4000) {
    a.push_back(static_cast<unsigned>(random()));
    a.push_back(AsBits(static_cast<float>(static_cast<int>(random())) / 1048576.0f));
  }
  std::vector<unsigned> b(a.size());
  for (unsigned& value : b) value = static_cast<unsigned>(random());
  b[0] = b[1] = 0;
  const DeviceArray<unsigned> device_a(a), device_b(b);
  const DeviceArray<std::uint64_t> out(a.size() * kScalars);
  ASSERT_EQ(RunScalars(static_cast<int>(a.size()), device_a.get(), device_b.get(), out.get(), stream),
            cudaSuccess);
  const std::vector<std::uint64_t> got = out.Read();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::uint64_t wide = static_cast<std::uint64_t>(b[i]) << 32 | a[i];
    const unsigned shift = b[i] & 31u;
    std::uint32_t reversed = 0;
    for (unsigned bit = 0; bit < 32; ++bit) reversed |= (a[i] >> bit & 1u) << (31 - bit);
    const float real = AsFloat(a[i]);
    const auto signed_a = static_cast<std::int32_t>(a[i]), signed_b = static_cast<std::int32_t>(b[i]);
    const auto product = static_cast<std::int64_t>(signed_a) * signed_b;
    const float saturated = std::isnan(real) || real <= 0 ? 0.0f : std::min(real, 1.0f);
    const std::uint64_t expected[kScalars] = {
        static_cast<std::uint64_t>(CountBits(a[i])),
        static_cast<std::uint64_t>(CountBits(wide)),
        static_cast<std::uint64_t>(LeadingZeros(a[i], 32)),
        static_cast<std::uint64_t>(LeadingZeros(wide, 64)),
        static_cast<std::uint64_t>(FirstSet(a[i])),
        static_cast<std::uint64_t>(FirstSet(wide)),
        reversed,
        static_cast<std::uint64_t>(a[i]) * b[i] >> 32,
        static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32),
        HighProduct(wide, wide * 3 + 1),
        Permute(a[i], b[i], 0x7531u),
        Permute(a[i], b[i], a[i] >> 3 & 0xffffu),
        shift == 0 ? b[i] : (b[i] << shift | a[i] >> (32 - shift)),
        shift == 0 ? a[i] : (a[i] >> shift | b[i] << (32 - shift)),
        a[i],
        b[i],
        ToInt(std::trunc(real)),
        ToInt(std::nearbyint(real)),
        ToInt(std::floor(real)),
        ToInt(std::ceil(real)),
        std::isnan(real) ? 0u
                         : static_cast<std::uint32_t>(
                               std::clamp(std::trunc(static_cast<double>(real)), 0.0, 4294967295.0)),
        AsBits(saturated),
        AsBits(static_cast<float>(signed_a)),
        static_cast<std::uint64_t>(static_cast<std::uint32_t>(std::min(signed_a, signed_b))) << 32 |
            static_cast<std::uint32_t>(std::max(signed_a, signed_b)),
    };
    for (std::size_t j = 0; j < kScalars; ++j) {
      ASSERT_EQ(got[kScalars * i + j], expected[j])
          << "intrinsic " << j << " of " << std::hex << a[i] << ", " << b[i];
    }
  }
}

void ExpectSameFloat(float got, float expected) {
  if (std::isnan(expected)) {
    ASSERT_TRUE(std::isnan(got));
  } else {
    ASSERT_EQ(AsBits(got), AsBits(expected)) << got << " " << expected;
  }
}

TEST(Conformance, ArithmeticIsRoundedOnce) {
  const Stream stream;
  std::mt19937 random(6);
  std::vector<float> a, b;
  for (int i = 0; i < 20000; ++i) {
    a.push_back(AsFloat(static_cast<unsigned>(random())));
    b.push_back(i % 2 == 0 ? AsFloat(static_cast<unsigned>(random()))
                           : a.back() * (1.0f + static_cast<float>(i) * 1e-6f));
  }
  const DeviceArray<float> device_a(a), device_b(b), out(6 * a.size());
  ASSERT_EQ(RunArithmetic(static_cast<int>(a.size()), device_a.get(), device_b.get(), out.get(), stream),
            cudaSuccess);
  const std::vector<float> got = out.Read();
  for (std::size_t i = 0; i < a.size(); ++i) {
    ExpectSameFloat(got[6 * i + 0], a[i] + b[i]);
    ExpectSameFloat(got[6 * i + 1], a[i] - b[i]);
    ExpectSameFloat(got[6 * i + 2], a[i] * b[i]);
    ExpectSameFloat(got[6 * i + 3], a[i] / b[i]);
    ExpectSameFloat(got[6 * i + 4], std::sqrt(std::fabs(a[i])));
    ExpectSameFloat(got[6 * i + 5], std::fma(a[i], b[i], a[i]));
    if (HasFatalFailure()) return;
  }
}

// The value of a 16-bit float with `mantissa` bits of fraction and the given largest exponent field.
double ValueOf(std::uint16_t bits, int mantissa) {
  const int exponent_bits = 15 - mantissa, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa & ((1 << exponent_bits) - 1), fraction = bits & ((1 << mantissa) - 1);
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa);
  return sign * std::ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
}

// Nearest, ties to even, by search: patterns of positive values are ordered as the values are.
std::uint16_t Nearest(float x, int mantissa) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::fabs(static_cast<double>(x));
  const auto infinity = static_cast<std::uint16_t>(((1 << (15 - mantissa)) - 1) << mantissa);
  if (std::isinf(x)) return sign | infinity;
  std::uint16_t below = 0, above = infinity;
  while (above - below > 1) {
    const auto middle = static_cast<std::uint16_t>((below + above) / 2);
    (ValueOf(middle, mantissa) <= size ? below : above) = middle;
  }
  const double low = ValueOf(below, mantissa);
  // Past the largest finite value the next one would have been one step on.
  const double high =
      above == infinity ? low + (low - ValueOf(below - 1, mantissa)) : ValueOf(above, mantissa);
  const double to_low = size - low, to_high = high - size;
  const bool up = to_high < to_low || (to_high == to_low && (below & 1) != 0);
  return static_cast<std::uint16_t>(sign | (up ? above : below));
}

TEST(Conformance, SixteenBitConversions) {
  const Stream stream;
  std::mt19937 random(7);
  std::vector<float> in;
  for (int i = 0; i < 65536; i += 7) {  // each representable value, its half-way points and their neighbors
    for (const int mantissa : {10, 7}) {
      const auto bits = static_cast<std::uint16_t>(i);
      const double low = ValueOf(bits, mantissa),
                   high = ValueOf(static_cast<std::uint16_t>(bits + 1), mantissa);
      const float tie = static_cast<float>((low + high) / 2);
      if (std::isnan(tie)) continue;
      for (const float x :
           {static_cast<float>(low), tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e38f)})
        in.push_back(x);
    }
  }
  for (int i = 0; i < 20000; ++i) {
    const float x = AsFloat(static_cast<unsigned>(random()));
    if (!std::isnan(x)) in.push_back(x);
  }
  const DeviceArray<float> device_in(in), from_half(65536), from_bf16(65536);
  const DeviceArray<std::uint16_t> to_half(in.size()), to_bf16(in.size());
  ASSERT_EQ(RunConversions(static_cast<int>(in.size()), device_in.get(), to_half.get(), to_bf16.get(),
                           from_half.get(), from_bf16.get(), stream),
            cudaSuccess);
  const std::vector<std::uint16_t> halves = to_half.Read(), bf16s = to_bf16.Read();
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(halves[i], Nearest(in[i], 10)) << in[i];
    ASSERT_EQ(bf16s[i], Nearest(in[i], 7)) << in[i];
  }
  const std::vector<float> of_half = from_half.Read(), of_bf16 = from_bf16.Read();
  for (std::size_t i = 0; i < 65536; ++i) {
    ExpectSameFloat(of_half[i], static_cast<float>(ValueOf(static_cast<std::uint16_t>(i), 10)));
    ExpectSameFloat(of_bf16[i], static_cast<float>(ValueOf(static_cast<std::uint16_t>(i), 7)));
    if (HasFatalFailure()) return;
  }
}

TEST(Conformance, HintedLoadsAndStores) {
  const Stream stream;
  constexpr std::size_t kBytes = 1024;
  std::vector<unsigned char> in(kBytes);
  for (std::size_t i = 0; i < kBytes; ++i) in[i] = static_cast<unsigned char>(i * 7 + i / 256);
  const DeviceArray<unsigned char> device_in(in), out(10 * kBytes);
  ASSERT_EQ(RunLoads(static_cast<int>(kBytes), device_in.get(), out.get(), stream), cudaSuccess);
  const std::vector<unsigned char> got = out.Read();
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], in[i % kBytes]);
}

}  // namespace
}  // namespace resembed::conformance
