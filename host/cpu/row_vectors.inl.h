// SPDX-License-Identifier: Apache-2.0
// Registers of one instruction set, and columns cut into them; for row_ops.inl.h, which says what is defined before.
#include <cstdint>

#include "host/cpu/row_ops.h"
#if RESEMBED_ISA_F16C
#include <immintrin.h>
#endif

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {
namespace {

constexpr int kLanes = RESEMBED_ISA_LANES;
// Registers one tile of columns takes: 64 columns (portable 32) leave half of the registers to operands.
constexpr int kTile = kLanes == 16 ? 4 : 8;
constexpr int kPartials = 32;

#define RESEMBED_INLINE inline __attribute__((always_inline))

template <int kN>
struct Vec {
  typedef float F __attribute__((vector_size(kN * 4)));
  typedef int32_t I __attribute__((vector_size(kN * 4)));
  typedef uint32_t U __attribute__((vector_size(kN * 4)));
  typedef uint16_t H __attribute__((vector_size(kN * 2)));
};

template <typename To, typename From>
RESEMBED_INLINE To Bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "bits are kept");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <int kN>
RESEMBED_INLINE void HalfToFloat(typename Vec<kN>::F& out, const typename Vec<kN>::H& half) {
  using U = typename Vec<kN>::U;
  using I = typename Vec<kN>::I;
  using F = typename Vec<kN>::F;
  const U bits = __builtin_convertvector(half, U);
  const U magnitude = bits & 0x7fffu;
  const U shifted = magnitude << 13;
  const U normal = shifted + (112u << 23);    // exponent bias 127 - 15
  const U infinite = shifted + (224u << 23);  // 255 - 31
  const U nan = infinite | 0x400000u;         // quiet, as the hardware makes it
  const F tiny = __builtin_convertvector(Bits<I>(magnitude), F) * 0x1p-24f;  // exact
  U result = magnitude < 0x400u ? Bits<U>(tiny) : normal;
  result = magnitude >= 0x7c00u ? infinite : result;
  result = magnitude > 0x7c00u ? nan : result;
  result = result | ((bits & 0x8000u) << 16);
  out = Bits<F>(result);
}

template <int kN>
RESEMBED_INLINE void FloatToHalf(typename Vec<kN>::H& out, const typename Vec<kN>::F& in) {
  using U = typename Vec<kN>::U;
  using F = typename Vec<kN>::F;
  using H = typename Vec<kN>::H;
  const U bits = Bits<U>(in);
  const U magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the sum with one half rounds to a multiple of 2^-24, the spacing of denormals.
  const F shifted = Bits<F>(magnitude) + 0.5f;
  const U tiny = Bits<U>(shifted) - 0x3f000000u;
  const U normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  U result = magnitude < 0x38800000u ? tiny : normal;
  result = magnitude >= 0x47800000u ? U{} + 0x7c00u : result;
  result = magnitude > 0x7f800000u ? nan : result;
  result = result | ((bits >> 16) & 0x8000u);
  out = __builtin_convertvector(result, H);
}

template <int kN>
RESEMBED_INLINE void FloatToBfloat(typename Vec<kN>::H& out, const typename Vec<kN>::F& in) {
  using U = typename Vec<kN>::U;
  using H = typename Vec<kN>::H;
  const U bits = Bits<U>(in);
  const U even = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U nan = (bits >> 16) | 0x40u;
  const U result = (bits & 0x7fffffffu) > 0x7f800000u ? nan : even;
  out = __builtin_convertvector(result, H);
}

// kN elements of the row at `row`, starting at column `col`, as floats.
template <int kN, resembed_dtype kType>
RESEMBED_INLINE void Load(typename Vec<kN>::F& out, const void* row, int64_t col) {
  if constexpr (kType == RESEMBED_F32) {
    __builtin_memcpy(&out, static_cast<const float*>(row) + col, sizeof(out));
  } else {
    typename Vec<kN>::H half;
    __builtin_memcpy(&half, static_cast<const uint16_t*>(row) + col, sizeof(half));
    if constexpr (kType == RESEMBED_BF16) {
      const typename Vec<kN>::U wide = __builtin_convertvector(half, typename Vec<kN>::U) << 16;
      out = Bits<typename Vec<kN>::F>(wide);
    } else {
#if RESEMBED_ISA_F16C
#if RESEMBED_ISA_LANES >= 16
      if constexpr (kN == 16) {
        out = Bits<typename Vec<kN>::F>(_mm512_maskz_cvtph_ps(__mmask16{0xffff}, Bits<__m256i>(half)));
        return;
      }
#endif
      if constexpr (kN == 8) {
        out = Bits<typename Vec<kN>::F>(_mm256_cvtph_ps(Bits<__m128i>(half)));
        return;
      }
#endif
      if constexpr (!RESEMBED_ISA_F16C || kN < 8) HalfToFloat<kN>(out, half);
    }
  }
}

template <int kN, resembed_dtype kType>
RESEMBED_INLINE void Store(void* row, int64_t col, const typename Vec<kN>::F& in) {
  if constexpr (kType == RESEMBED_F32) {
    __builtin_memcpy(static_cast<float*>(row) + col, &in, sizeof(in));
  } else {
    typename Vec<kN>::H half;
    if constexpr (kType == RESEMBED_BF16) {
      FloatToBfloat<kN>(half, in);
    } else {
      FloatToHalf<kN>(half, in);
    }
    __builtin_memcpy(static_cast<uint16_t*>(row) + col, &half, sizeof(half));
  }
}

template <int kN>
RESEMBED_INLINE typename Vec<kN>::F Broadcast(float value) {
  return value - typename Vec<kN>::F{};
}

// Calls body.Tile<kN, kCount>(col) over all columns: wide tiles first, then single registers, then narrower.
template <typename BodyT>
RESEMBED_INLINE void ForColumns(int64_t dim, const BodyT& body) {
  int64_t col = 0;
  for (; col + kLanes * kTile <= dim; col += kLanes * kTile) body.template Tile<kLanes, kTile>(col);
  for (; col + kLanes <= dim; col += kLanes) body.template Tile<kLanes, 1>(col);
  if constexpr (kLanes > 8) {
    for (; col + 8 <= dim; col += 8) body.template Tile<8, 1>(col);
  }
  if constexpr (kLanes > 4) {
    for (; col + 4 <= dim; col += 4) body.template Tile<4, 1>(col);
  }
  for (; col < dim; ++col) body.template Tile<1, 1>(col);
}

// Sends for the lines of columns [col, col + kColumns) of a row that begins at a line, into the second-level
// cache (item_stream.h).
template <int kColumns, resembed_dtype kType>
RESEMBED_INLINE void Send(const void* row, int64_t col) {
  constexpr int kBytes = kType == RESEMBED_F32 ? 4 : 2;
  const char* first = static_cast<const char*>(row) + col * kBytes;
  if constexpr (kColumns * kBytes >= 64) {
#pragma GCC unroll 8
    for (int line = 0; line < kColumns * kBytes; line += 64) __builtin_prefetch(first + line, 0, 2);
  } else {
    if (col * kBytes % 64 == 0) __builtin_prefetch(first, 0, 2);
  }
}

// The upper half of a register added to the lower one, until four floats are left.
template <int kN>
RESEMBED_INLINE void ToFour(Vec<4>::F& out, const typename Vec<kN>::F& in) {
  if constexpr (kN == 16) {
    const Vec<8>::F half = __builtin_shufflevector(in, in, 0, 1, 2, 3, 4, 5, 6, 7) +
                           __builtin_shufflevector(in, in, 8, 9, 10, 11, 12, 13, 14, 15);
    ToFour<8>(out, half);
  } else if constexpr (kN == 8) {
    out = __builtin_shufflevector(in, in, 0, 1, 2, 3) + __builtin_shufflevector(in, in, 4, 5, 6, 7);
  } else {
    out = in;
  }
}

// The 32 partial sums of a dot product to 4: 16+16, 8+8, 4+4.
RESEMBED_INLINE void PartialsToFour(Vec<4>::F& out, typename Vec<kLanes>::F (&partial)[kPartials / kLanes]) {
#pragma GCC unroll 4
  for (int half = kPartials / kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (int part = 0; part < half; ++part) partial[part] = partial[part] + partial[part + half];
  }
  ToFour<kLanes>(out, partial[0]);
}

// Four dot products of which four partial sums are left: 2+2, 1+1.
RESEMBED_INLINE void FoursToOnes(float* out, const Vec<4>::F* fours) {
  const Vec<4>::F ab = __builtin_shufflevector(fours[0], fours[1], 0, 1, 4, 5) +
                       __builtin_shufflevector(fours[0], fours[1], 2, 3, 6, 7);
  const Vec<4>::F cd = __builtin_shufflevector(fours[2], fours[3], 0, 1, 4, 5) +
                       __builtin_shufflevector(fours[2], fours[3], 2, 3, 6, 7);
  const Vec<4>::F ones =
      __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
  __builtin_memcpy(out, &ones, sizeof(ones));
}

}  // namespace
}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
