// SPDX-License-Identifier: Apache-2.0
// The arithmetic of rows: exact bits against plain loops, for every instruction set this machine has.
#include "host/cpu/row_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace resembed::detail {
namespace {

const resembed_dtype kTypes[] = {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16};

std::vector<resembed_cpu_isa> Isas() {
  std::vector<resembed_cpu_isa> isas;
  for (const resembed_cpu_isa isa : {RESEMBED_ISA_PORTABLE, RESEMBED_ISA_AVX2, RESEMBED_ISA_AVX512}) {
    if (IsaAvailable(isa)) isas.push_back(isa);
  }
  return isas;
}

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
uint32_t ToBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

// IEEE binary16 from its definition; NaN payloads are kept, and quiet.
float HalfValue(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 0x3ff;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  if (exponent == 31) {
    return FromBits(sign | 0x7f800000u |
                    (fraction == 0 ? 0u : 0x400000u | static_cast<uint32_t>(fraction) << 13));
  }
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return FromBits(sign | ToBits(static_cast<float>(magnitude)));
}

float Value(const void* row, resembed_dtype dtype, int64_t col) {
  if (dtype == RESEMBED_F32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(row) + col * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, static_cast<const char*>(row) + col * 2, 2);
  return dtype == RESEMBED_F16 ? HalfValue(half) : FromBits(static_cast<uint32_t>(half) << 16);
}

// Random rows of normal numbers in [-2, 2], beginning `shift` elements past an aligned address.
class Row {
 public:
  Row(resembed_dtype dtype, int64_t dim, int64_t shift, std::mt19937* random)
      : bytes_(static_cast<size_t>((dim + shift) * ElementBytes(dtype)) + 64) {
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    data_ = bytes_.data() + (64 - address % 64) % 64;
    bytes_.resize(bytes_.size() + 64);
    data_ = bytes_.data() + (64 - reinterpret_cast<uintptr_t>(bytes_.data()) % 64) % 64 +
            shift * ElementBytes(dtype);
    std::uniform_real_distribution<float> uniform(-2, 2);
    for (int64_t col = 0; col < dim; ++col) {
      if (dtype == RESEMBED_F32) {
        const float value = uniform(*random);
        std::memcpy(data_ + col * 4, &value, 4);
      } else {
        const uint32_t sign = (*random)() & 0x8000u;
        const uint32_t below_two =
            dtype == RESEMBED_F16 ? (*random)() % 0x4000u : 0x3e00u + (*random)() % 0x200u;
        const auto half = static_cast<uint16_t>(sign | below_two);
        std::memcpy(data_ + col * 2, &half, 2);
      }
    }
  }
  const void* data() const { return data_; }

 private:
  std::vector<unsigned char> bytes_;
  unsigned char* data_;
};

::testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t col = 0; col < a.size(); ++col) {
    if (ToBits(a[col]) != ToBits(b[col])) {
      return ::testing::AssertionFailure() << "column " << col << ": " << a[col] << " and " << b[col];
    }
  }
  return ::testing::AssertionSuccess();
}

std::vector<int64_t> Dims() {
  std::vector<int64_t> dims;
#ifdef RESEMBED_SANITIZE
  dims = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 63, 64, 65, 127, 128, 130, 200, 300};
#else
  for (int64_t dim = 1; dim <= 300; ++dim) dims.push_back(dim);
  dims.push_back(513);
#endif
  return dims;
}

TEST(RowOps, ComposeGivesTheBitsOfPlainLoopsForEveryDimAndType) {
  std::mt19937 random(7);
  for (const int64_t dim : Dims()) {
    for (const resembed_dtype central_type : kTypes) {
      for (const resembed_dtype residual_type : kTypes) {
        const int n_central = static_cast<int>(random() % 4);
        const bool has_residual = random() % 4 != 0;
        const int64_t shift = static_cast<int64_t>(random() % 2);
        std::vector<Row> central;
        std::vector<const void*> pointers(4, nullptr);
        std::vector<float> weights = {.3f, -.7f, 1.9f, 0.f};
        for (int slot = 0; slot < 4; ++slot)
          central.emplace_back(central_type, dim, slot == 0 ? 0 : shift, &random);
        for (int slot = 0; slot < 4; ++slot)
          pointers[static_cast<size_t>(slot)] = central[static_cast<size_t>(slot)].data();
        const Row residual(residual_type, dim, shift, &random);
        const Row start(RESEMBED_F32, dim, shift, &random);
        const ItemRows rows = {pointers.data(), weights.data(),
                               n_central,       has_residual ? residual.data() : nullptr,
                               central_type,    residual_type};
        const float a = -1.7f;
        std::vector<float> e(static_cast<size_t>(dim)), sum(static_cast<size_t>(dim));
        for (int64_t col = 0; col < dim; ++col) {
          float value = 0;
          for (int slot = 0; slot < n_central; ++slot) {
            const float term = weights[static_cast<size_t>(slot)] *
                               Value(pointers[static_cast<size_t>(slot)], central_type, col);
            value = slot == 0 ? term : value + term;
          }
          if (has_residual) {
            const float term = Value(residual.data(), residual_type, col);
            value = n_central == 0 ? term : value + term;
          }
          e[static_cast<size_t>(col)] = value;
          const float scaled = a * value;
          sum[static_cast<size_t>(col)] = Value(start.data(), RESEMBED_F32, col) + scaled;
        }
        for (const resembed_cpu_isa isa : Isas()) {
          const RowOps& ops = GetRowOps(isa);
          const size_t n = static_cast<size_t>(dim);
          const ItemRows ahead = {pointers.data(), weights.data(), 4,
                                  residual.data(), central_type,   residual_type};
          std::vector<float> out(n + 1, 7.f), out_ahead(n);
          ops.compose(out.data() + 1, rows, dim);
          const std::vector<float> got(out.begin() + 1, out.end());
          ASSERT_TRUE(SameBits(got, e)) << "isa " << isa << " dim " << dim;
          ops.compose_ahead(central_type, residual_type)(out_ahead.data(), rows, ahead, dim);
          ASSERT_TRUE(SameBits(out_ahead, e)) << "isa " << isa << " dim " << dim;
          ASSERT_EQ(out[0], 7.f);
          // Two items: the second is kept, and is the third of fp32 tables.
          std::vector<float> pooled(n + 1, 7.f), kept(n + 1, 7.f);
          std::memcpy(pooled.data() + 1, start.data(), n * 4);
          const ItemRows again = {nullptr, nullptr, 0, kept.data() + 1, central_type, residual_type};
          const int n_items = residual_type == RESEMBED_F32 ? 3 : 2;
          ItemBatch batch = {n_items,
                             {&rows, &rows, &again},
                             true,
                             {a, 1.0f, -.6f},
                             {nullptr, kept.data() + 1, nullptr},
                             4,
                             {&ahead, &ahead, &ahead, &ahead},
                             1,
                             {{reinterpret_cast<const char*>(weights.data()), 16}}};
          const PoolFunction pool = ops.pool(central_type, residual_type);
          pool(pooled.data() + 1, batch, dim);
          std::vector<float> want(n), want_ones(n);
          for (size_t col = 0; col < n; ++col) {
            want[col] = sum[col] + e[col];
            want_ones[col] = (0.f + e[col]) + e[col];
            if (n_items == 3) {
              const float term = -.6f * e[col];
              want[col] = want[col] + term;
              want_ones[col] = want_ones[col] + e[col];
            }
          }
          ASSERT_TRUE(SameBits({pooled.begin() + 1, pooled.end()}, want)) << "isa " << isa << " dim " << dim;
          ASSERT_TRUE(SameBits({kept.begin() + 1, kept.end()}, e)) << "isa " << isa << " dim " << dim;
          ASSERT_TRUE(pooled[0] == 7.f && kept[0] == 7.f);
          std::fill(pooled.begin(), pooled.end(), 0.f);
          batch.has_weights = false;
          pool(pooled.data() + 1, batch, dim);
          ASSERT_TRUE(SameBits({pooled.begin() + 1, pooled.end()}, want_ones))
              << "isa " << isa << " dim " << dim;
        }
      }
    }
  }
}

TEST(RowOps, ScaledDotAndMaximumGiveTheBitsOfPlainLoops) {
  std::mt19937 random(8);
  for (const int64_t dim : Dims()) {
    for (const resembed_dtype x_type : kTypes) {
      for (const resembed_dtype z_type : kTypes) {
        const int64_t shift = static_cast<int64_t>(random() % 2);
        const Row x(x_type, dim, shift, &random), z(z_type, dim, 1 - shift, &random),
            y(RESEMBED_F32, dim, shift, &random);
        const size_t n = static_cast<size_t>(dim);
        std::vector<float> set(n), added(n), best(n), partial(32, 0.f);
        std::vector<float> candidate(n);
        std::vector<int32_t> argmax(n, 3);
        for (int64_t col = 0; col < dim; ++col) {
          const auto at = static_cast<size_t>(col);
          const float term = 1.3f * Value(x.data(), x_type, col);
          set[at] = term;
          added[at] = Value(y.data(), RESEMBED_F32, col) + term;
          const float product = Value(x.data(), x_type, col) * Value(z.data(), z_type, col);
          partial[at % 32] += product;
          best[at] = Value(y.data(), RESEMBED_F32, col);
          candidate[at] = Value(x.data(), x_type, col);
        }
        for (size_t half = 16; half > 0; half /= 2) {
          for (size_t lane = 0; lane < half; ++lane) partial[lane] += partial[lane + half];
        }
        if (dim > 2) {
          candidate[1] = std::nanf("");
          best[2] = std::nanf("");
        }
        std::vector<float> want_best = best;
        std::vector<int32_t> want_argmax = argmax;
        for (size_t at = 0; at < n; ++at) {
          if (candidate[at] > best[at] || (std::isnan(candidate[at]) && !std::isnan(best[at]))) {
            want_best[at] = candidate[at];
            want_argmax[at] = 9;
          }
        }
        for (const resembed_cpu_isa isa : Isas()) {
          const RowOps& ops = GetRowOps(isa);
          std::vector<float> got_set(n), got_added(n), got_best = best;
          std::vector<int32_t> got_argmax = argmax;
          ops.set_scaled(got_set.data(), 1.3f, x.data(), x_type, dim);
          std::memcpy(got_added.data(), y.data(), n * 4);
          ops.add_scaled(got_added.data(), 1.3f, x.data(), x_type, dim);
          ops.max_update(got_best.data(), got_argmax.data(), candidate.data(), 9, dim);
          ASSERT_TRUE(SameBits(got_set, set) && SameBits(got_added, added))
              << "isa " << isa << " dim " << dim;
          ASSERT_EQ(ToBits(ops.dot(x.data(), x_type, z.data(), z_type, dim)), ToBits(partial[0]))
              << "isa " << isa << " dim " << dim;
          ASSERT_TRUE(SameBits(got_best, want_best)) << "isa " << isa << " dim " << dim;
          ASSERT_EQ(got_argmax, want_argmax);
          got_best = best;
          ops.max_update(got_best.data(), nullptr, candidate.data(), 9, dim);
          ASSERT_TRUE(SameBits(got_best, want_best));
        }
      }
    }
  }
}

// Several rows in one call: dot of each, add_scaled of each in order.
TEST(RowOps, RowsAtOnceGiveTheBitsOfOneAfterTheOther) {
  std::mt19937 random(9);
  for (const int64_t dim : Dims()) {
    const Row x(RESEMBED_F32, dim, 1, &random), y(RESEMBED_F32, dim, 0, &random);
    std::vector<Row> owners;
    std::vector<const float*> rows;
    for (int64_t row = 0; row < 5; ++row) owners.emplace_back(RESEMBED_F32, dim, row % 2, &random);
    for (const Row& row : owners) rows.push_back(static_cast<const float*>(row.data()));
    const float a[] = {1.5f, -.3f, 0.0f, 2e-3f, 7.0f};
    for (const resembed_cpu_isa isa : Isas()) {
      const RowOps& ops = GetRowOps(isa);
      for (const int64_t n : {0, 1, 5}) {
        std::vector<float> dots(6, 7.f), want_dots(6, 7.f), sum(static_cast<size_t>(dim)), want = sum;
        std::memcpy(sum.data(), y.data(), sum.size() * 4);
        want = sum;
        for (int64_t row = 0; row < n; ++row) {
          const auto at = static_cast<size_t>(row);
          want_dots[at] = ops.dot(x.data(), RESEMBED_F32, rows[at], RESEMBED_F32, dim);
          ops.add_scaled(want.data(), a[row], rows[at], RESEMBED_F32, dim);
        }
        ops.dot_rows(dots.data(), static_cast<const float*>(x.data()), rows.data(), n, dim);
        ops.add_rows(sum.data(), a, rows.data(), n, dim);
        ASSERT_TRUE(SameBits(dots, want_dots) && SameBits(sum, want)) << "isa " << isa << " dim " << dim;
      }
    }
  }
}

TEST(RowOps, EverySixteenBitValueIsReadExactly) {
  std::vector<uint16_t> all(65536);
  for (size_t bits = 0; bits < all.size(); ++bits) all[bits] = static_cast<uint16_t>(bits);
  for (const resembed_cpu_isa isa : Isas()) {
    for (const resembed_dtype dtype : {RESEMBED_F16, RESEMBED_BF16}) {
      // Two lengths, so that every value is met by wide registers and by the tail.
      for (const int64_t step : {int64_t{65536}, int64_t{3}}) {
        std::vector<float> out(all.size());
        for (int64_t first = 0; first < 65536; first += step) {
          const int64_t n = std::min<int64_t>(step, 65536 - first);
          const ItemRows rows = {nullptr, nullptr, 0, all.data() + first, RESEMBED_F32, dtype};
          GetRowOps(isa).compose(out.data() + first, rows, n);
        }
        for (size_t bits = 0; bits < all.size(); ++bits) {
          const uint32_t want =
              dtype == RESEMBED_F16 ? ToBits(HalfValue(all[bits])) : static_cast<uint32_t>(bits) << 16;
          ASSERT_EQ(ToBits(out[bits]), want) << "isa " << isa << " bits " << bits;
        }
      }
    }
  }
}

// Nearest of the two 16-bit neighbors of |value|, ties to the even one; by comparing in double.
uint16_t Nearest(float value, resembed_dtype dtype) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  const uint16_t infinity = dtype == RESEMBED_F16 ? 0x7c00 : 0x7f80;
  const auto number = [dtype](uint16_t bits) -> double {
    if (dtype == RESEMBED_F16) return bits == 0x7c00 ? 65536.0 : static_cast<double>(HalfValue(bits));
    return bits == 0x7f80 ? std::ldexp(1.0, 128)
                          : static_cast<double>(FromBits(static_cast<uint32_t>(bits) << 16));
  };
  uint16_t low = 0, high = infinity;  // number(low) <= magnitude
  if (magnitude >= number(infinity)) return static_cast<uint16_t>(sign | infinity);
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (number(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - number(low), above = number(high) - magnitude;
  const bool up = above < below || (above == below && low % 2 == 1);
  return static_cast<uint16_t>(sign | (up ? high : low));
}

TEST(RowOps, StoringRoundsToNearestEvenAtEveryBoundary) {
  std::mt19937 random(9);
  for (const resembed_dtype dtype : {RESEMBED_F16, RESEMBED_BF16}) {
    std::vector<float> values;
    const uint32_t last = dtype == RESEMBED_F16 ? 0x7c00 : 0x7f80;
    for (uint32_t bits = 0; bits < last; bits += dtype == RESEMBED_F16 ? 1 : 7) {
      const auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
      const auto number = [dtype](uint16_t half) {
        return dtype == RESEMBED_F16 ? HalfValue(half) : FromBits(static_cast<uint32_t>(half) << 16);
      };
      const double a = static_cast<double>(number(low));
      const double b = dtype == RESEMBED_F16 && high == 0x7c00 ? 65536.0 : static_cast<double>(number(high));
      const auto middle = static_cast<float>(a + (b - a) / 2);
      for (const float value :
           {number(low), middle, std::nextafter(middle, 0.f), std::nextafter(middle, 1e38f)}) {
        if (std::isfinite(value)) values.insert(values.end(), {value, -value});
      }
    }
    for (int count = 0; count < 20000; ++count) {
      const float value = FromBits(static_cast<uint32_t>(random()));
      if (std::isfinite(value)) values.push_back(value);
    }
    values.insert(values.end(),
                  {FromBits(1), FromBits(0x7f7fffff), FromBits(0x7f800000), FromBits(0xff800000)});
    std::vector<uint16_t> want;
    for (const float value : values) want.push_back(Nearest(value, dtype));
    // Payload bits of a NaN are cut, never into an infinity.
    for (const uint32_t nan : {0x7fc00000u, 0x7f800001u, 0xffc12345u, 0x7fffffffu}) {
      values.push_back(FromBits(nan));
      const uint32_t sign = (nan >> 16) & 0x8000u;
      want.push_back(static_cast<uint16_t>(dtype == RESEMBED_F16 ? sign | 0x7e00u | ((nan >> 13) & 0x3ffu)
                                                                 : (nan >> 16) | 0x40u));
    }
    for (const resembed_cpu_isa isa : Isas()) {
      for (const size_t step : {values.size(), size_t{3}}) {
        std::vector<uint16_t> out(values.size());
        for (size_t first = 0; first < values.size(); first += step) {
          const auto n = static_cast<int64_t>(std::min(step, values.size() - first));
          GetRowOps(isa).store(out.data() + first, dtype, values.data() + first, n);
        }
        for (size_t at = 0; at < out.size(); ++at) {
          ASSERT_EQ(out[at], want[at]) << "isa " << isa << " type " << dtype << " of " << values[at];
        }
      }
    }
  }
}

TEST(RowOps, BestIsOneOfTheSetsOfThisMachine) {
  const resembed_cpu_isa best = resembed_best_isa();
  EXPECT_NE(best, RESEMBED_ISA_BEST);
  EXPECT_EQ(best, Isas().back());
  EXPECT_EQ(&GetRowOps(RESEMBED_ISA_BEST), &GetRowOps(best));
  EXPECT_EQ(resembed_isa_available(best), RESEMBED_OK);
  EXPECT_EQ(resembed_isa_available(77), RESEMBED_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace resembed::detail
