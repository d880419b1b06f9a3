// SPDX-License-Identifier: Apache-2.0
// The functions of StepOps for one instruction set. Included by isa_*.cc after row_ops.inl.h, whose vectors, loads
// and column loop it uses; the rules stated there hold here.
#include "host/cpu/step_ops.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {
namespace {

#define RESEMBED_INLINE inline __attribute__((always_inline))

template <int kN>
RESEMBED_INLINE void Sqrt(typename Vec<kN>::F& x) {
#if defined(__AVX512F__)
  if constexpr (kN == 16) {
    x = Bits<typename Vec<kN>::F>(_mm512_maskz_sqrt_ps(__mmask16{0xffff}, Bits<__m512>(x)));
    return;
  }
#endif
#if defined(__AVX__)
  if constexpr (kN == 8) {
    x = Bits<typename Vec<kN>::F>(_mm256_sqrt_ps(Bits<__m256>(x)));
    return;
  }
#endif
#if defined(__SSE2__)
  if constexpr (kN == 4) {
    x = Bits<typename Vec<kN>::F>(_mm_sqrt_ps(Bits<__m128>(x)));
    return;
  }
#endif
  for (int lane = 0; lane < kN; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
}

// ---- sums of gradient rows

template <int kN>
RESEMBED_INLINE void AddScaled(typename Vec<kN>::F& out, const ScaledRow& scaled, int64_t col) {
  if (scaled.row == nullptr) return;
  typename Vec<kN>::F row;
  Load<kN, RESEMBED_F32>(row, scaled.row, col);
  out = out + Broadcast<kN>(scaled.w) * row;
}

template <bool kPlain>
struct SumBody {
  float* g;
  const GradTerm* terms;
  int64_t n_terms;

  template <int kN>
  static RESEMBED_INLINE void LoadTerm(typename Vec<kN>::F& out, const GradTerm& term, int64_t col) {
    using F = typename Vec<kN>::F;
    F row;
    if constexpr (kPlain) {
      Load<kN, RESEMBED_F32>(row, term.row, col);
      out = Broadcast<kN>(term.w) * (Broadcast<kN>(term.a) * row);
    } else {
      if (term.dtype == RESEMBED_F32) {
        Load<kN, RESEMBED_F32>(row, term.row, col);
      } else if (term.dtype == RESEMBED_F16) {
        Load<kN, RESEMBED_F16>(row, term.row, col);
      } else {
        Load<kN, RESEMBED_BF16>(row, term.row, col);
      }
      row = Broadcast<kN>(term.a) * row;
      AddScaled<kN>(row, term.query, col);
      out = Broadcast<kN>(term.w) * row;
      AddScaled<kN>(out, term.second, col);
    }
  }

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    F sum[kCount];
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) LoadTerm<kN>(sum[part], terms[0], col + part * kN);
    for (int64_t index = 1; index < n_terms; ++index) {
#pragma GCC unroll 8
      for (int part = 0; part < kCount; ++part) {
        F term;
        LoadTerm<kN>(term, terms[index], col + part * kN);
        sum[part] = sum[part] + term;
      }
    }
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) Store<kN, RESEMBED_F32>(g, col + part * kN, sum[part]);
  }
};

void SumTerms(float* g, const GradTerm* terms, int64_t n_terms, int64_t dim) {
  bool plain = true;
  for (int64_t index = 0; index < n_terms; ++index) {
    plain = plain && terms[index].dtype == RESEMBED_F32 && terms[index].query.row == nullptr &&
            terms[index].second.row == nullptr;
  }
  if (plain) {
    ForColumns(dim, SumBody<true>{g, terms, n_terms});
  } else {
    ForColumns(dim, SumBody<false>{g, terms, n_terms});
  }
}

// ---- reductions over columns

// sum_c x[c]^2 with x = scale * gradient + l2 * row (l2 only when kL2).
template <bool kL2>
RESEMBED_INLINE float SquaredNorm(const float* gradient, const float* row, float scale, float l2,
                                  int64_t dim) {
  constexpr int kCount = kPartials / kLanes;
  using F = typename Vec<kLanes>::F;
  F partial[kCount] = {};
  int64_t col = 0;
  for (; col + kPartials <= dim; col += kPartials) {
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      F x;
      Load<kLanes, RESEMBED_F32>(x, gradient, col + part * kLanes);
      x = Broadcast<kLanes>(scale) * x;
      if constexpr (kL2) {
        F value;
        Load<kLanes, RESEMBED_F32>(value, row, col + part * kLanes);
        x = x + Broadcast<kLanes>(l2) * value;
      }
      partial[part] = partial[part] + x * x;
    }
  }
  float sums[kPartials];
  __builtin_memcpy(sums, partial, sizeof(sums));
  for (int lane = 0; col + lane < dim; ++lane) {
    float x = scale * gradient[col + lane];
    if constexpr (kL2) x = x + l2 * row[col + lane];
    sums[lane] = sums[lane] + x * x;
  }
  return Tree(sums);
}

// All of scale * gradient is finite: no exponent of all ones.
struct FiniteBody {
  const float* gradient;
  float scale;
  bool* finite;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    using U = typename Vec<kN>::U;
    U largest = {};
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      F x;
      Load<kN, RESEMBED_F32>(x, gradient, col + part * kN);
      const U magnitude = Bits<U>(F(Broadcast<kN>(scale) * x)) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    const U over = Bits<U>(largest > 0x7f7fffffu ? ~U{} : U{});
    uint32_t lanes[kN];
    __builtin_memcpy(lanes, &over, sizeof(over));
    uint32_t any = 0;
    for (int lane = 0; lane < kN; ++lane) any |= lanes[lane];
    if (any != 0) *finite = false;
  }
};

RESEMBED_INLINE bool IsFinite(const float* gradient, float scale, int64_t dim) {
  bool finite = true;
  ForColumns(dim, FiniteBody{gradient, scale, &finite});
  return finite;
}

// ---- updates

// The numbers of an UpdateRule are copied: stores to the row could change them for all the compiler knows.
template <resembed_optimizer_kind kKind>
struct UpdateBody {
  float scale, l2, keep, lr, eps, beta1, rest1, beta2, rest2, correct2;
  float factor;  // of the row-wise kinds: one step length for all columns
  const float* gradient;
  float* row;
  float* state1;
  float* state2;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    F g[kCount], value[kCount];
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      Load<kN, RESEMBED_F32>(g[part], gradient, col + part * kN);
      Load<kN, RESEMBED_F32>(value[part], row, col + part * kN);
      g[part] = Broadcast<kN>(scale) * g[part];
    }
    if (l2 != 0.0f) {
#pragma GCC unroll 8
      for (int part = 0; part < kCount; ++part) g[part] = g[part] + Broadcast<kN>(l2) * value[part];
    }
    if (keep != 1.0f) {
#pragma GCC unroll 8
      for (int part = 0; part < kCount; ++part) value[part] = Broadcast<kN>(keep) * value[part];
    }
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      Step<kN>(value[part], g[part], col + part * kN);
      Store<kN, RESEMBED_F32>(row, col + part * kN, value[part]);
    }
  }

  template <int kN>
  RESEMBED_INLINE void Step(typename Vec<kN>::F& value, const typename Vec<kN>::F& g, int64_t col) const {
    using F = typename Vec<kN>::F;
    if constexpr (kKind == RESEMBED_SGD) {
      value = value - Broadcast<kN>(lr) * g;
    } else if constexpr (kKind == RESEMBED_ADAGRAD) {
      F sum;
      Load<kN, RESEMBED_F32>(sum, state1, col);
      sum = sum + g * g;
      Store<kN, RESEMBED_F32>(state1, col, sum);
      Sqrt<kN>(sum);
      value = value - (Broadcast<kN>(lr) * g) / (sum + Broadcast<kN>(eps));
    } else if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) {
      value = value - Broadcast<kN>(factor) * g;
    } else {
      F mean;
      Load<kN, RESEMBED_F32>(mean, state1, col);
      mean = Broadcast<kN>(beta1) * mean + Broadcast<kN>(rest1) * g;
      Store<kN, RESEMBED_F32>(state1, col, mean);
      if constexpr (kKind == RESEMBED_ADAM) {
        F square;
        Load<kN, RESEMBED_F32>(square, state2, col);
        square = Broadcast<kN>(beta2) * square + Broadcast<kN>(rest2) * (g * g);
        Store<kN, RESEMBED_F32>(state2, col, square);
        square = square / Broadcast<kN>(correct2);
        Sqrt<kN>(square);
        value = value - (Broadcast<kN>(lr) * mean) / (square + Broadcast<kN>(eps));
      } else {
        value = value - Broadcast<kN>(factor) * mean;
      }
    }
  }
};

RESEMBED_INLINE float SqrtOne(float x) {
  Vec<4>::F root = {x};
  Sqrt<4>(root);
  return root[0];
}

template <resembed_optimizer_kind kKind>
RESEMBED_INLINE bool UpdateOne(const UpdateRule& rule, const float* gradient, float* row, float* state1,
                               float* state2, int64_t dim) {
  constexpr bool kRowwise = kKind == RESEMBED_ROWWISE_ADAGRAD || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM;
  constexpr bool kAdam = kKind == RESEMBED_ADAM || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM;
  UpdateBody<kKind> body = {rule.scale, rule.l2,       rule.keep,  kAdam ? rule.lr1 : rule.lr,
                            rule.eps,   rule.beta1,    rule.rest1, rule.beta2,
                            rule.rest2, rule.correct2, 0.0f,       gradient,
                            row,        state1,        state2};
  float square = 0.0f;
  if constexpr (kRowwise) {
    square = body.l2 != 0.0f ? SquaredNorm<true>(gradient, row, body.scale, body.l2, dim)
                             : SquaredNorm<false>(gradient, row, body.scale, 0.0f, dim);
  }
  // A finite sum of squares proves finite terms; an infinite one may be an overflow.
  if (!kRowwise || !(square - square == 0.0f) || body.l2 != 0.0f) {
    if (!IsFinite(gradient, body.scale, dim)) return false;
  }
  if constexpr (kRowwise) {
    const float mean = square / static_cast<float>(dim);
    if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) {
      const float sum = *state1 + mean;
      *state1 = sum;
      body.factor = body.lr / (SqrtOne(sum) + body.eps);
    } else {
      const float sum = body.beta2 * *state2 + body.rest2 * mean;
      *state2 = sum;
      body.factor = body.lr / (SqrtOne(sum / body.correct2) + body.eps);
    }
  }
  ForColumns(dim, body);
  if (rule.max_norm > 0.0f) {
    const float norm = SqrtOne(SquaredNorm<false>(row, row, 1.0f, 0.0f, dim));
    if (norm > rule.max_norm) SetScaled(row, rule.max_norm / norm, row, RESEMBED_F32, dim);
  }
  return true;
}

bool Update(const UpdateRule& rule, const float* gradient, float* row, float* state1, float* state2,
            int64_t dim) {
  switch (rule.kind) {
    case RESEMBED_SGD:
      return UpdateOne<RESEMBED_SGD>(rule, gradient, row, state1, state2, dim);
    case RESEMBED_ADAGRAD:
      return UpdateOne<RESEMBED_ADAGRAD>(rule, gradient, row, state1, state2, dim);
    case RESEMBED_ROWWISE_ADAGRAD:
      return UpdateOne<RESEMBED_ROWWISE_ADAGRAD>(rule, gradient, row, state1, state2, dim);
    case RESEMBED_ADAM:
      return UpdateOne<RESEMBED_ADAM>(rule, gradient, row, state1, state2, dim);
    default:
      return UpdateOne<RESEMBED_PARTIAL_ROWWISE_ADAM>(rule, gradient, row, state1, state2, dim);
  }
}

}  // namespace
}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail

#include "host/cpu/step_runs.inl.h"

#undef RESEMBED_INLINE
