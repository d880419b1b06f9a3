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
      out = Broadcast<kN>(term.w) * (Broadcast<kN>(term.a) * row);
      if (term.second != nullptr) {
        F second;
        Load<kN, RESEMBED_F32>(second, term.second, col);
        out = out + Broadcast<kN>(term.second_w) * second;
      }
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
    plain = plain && terms[index].dtype == RESEMBED_F32 && terms[index].second == nullptr;
  }
  if (plain) {
    ForColumns(dim, SumBody<true>{g, terms, n_terms});
  } else {
    ForColumns(dim, SumBody<false>{g, terms, n_terms});
  }
}

// ---- reductions over columns

// 32 partial sums to one: 16+16, 8+8, 4+4, 2+2, 1+1.
RESEMBED_INLINE float Tree(const float* sums) {
  Vec<16>::F low16, high16;
  __builtin_memcpy(&low16, sums, sizeof(low16));
  __builtin_memcpy(&high16, sums + 16, sizeof(high16));
  low16 = low16 + high16;
  const Vec<8>::F sum8 = __builtin_shufflevector(low16, low16, 0, 1, 2, 3, 4, 5, 6, 7) +
                         __builtin_shufflevector(low16, low16, 8, 9, 10, 11, 12, 13, 14, 15);
  const Vec<4>::F sum4 =
      __builtin_shufflevector(sum8, sum8, 0, 1, 2, 3) + __builtin_shufflevector(sum8, sum8, 4, 5, 6, 7);
  return (sum4[0] + sum4[2]) + (sum4[1] + sum4[3]);
}

// sum_c x[c]^2 with x = scale * gradient + l2 * row (l2 only when kL2).
template <bool kL2>
RESEMBED_INLINE float SquaredNorm(const float* gradient, const float* row, float scale, float l2, int64_t dim) {
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

// All of scale * gradient is finite.
struct FiniteBody {
  const float* gradient;
  float scale;
  bool* finite;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    F zero = {};  // x - x is 0 for a finite x, NaN otherwise
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      F x;
      Load<kN, RESEMBED_F32>(x, gradient, col + part * kN);
      x = Broadcast<kN>(scale) * x;
      zero = zero + (x - x);
    }
    float sum = 0.0f;
    for (int lane = 0; lane < kN; ++lane) sum = sum + zero[lane];
    *finite = *finite && sum == 0.0f;
  }
};

bool IsFinite(const float* gradient, float scale, int64_t dim) {
  bool finite = true;
  ForColumns(dim, FiniteBody{gradient, scale, &finite});
  return finite;
}

// ---- updates

template <resembed_optimizer_kind kKind>
struct UpdateBody {
  const UpdateRule& rule;
  const float* gradient;
  float* row;
  float* state1;
  float* state2;
  float factor;  // of the row-wise kinds: one step length for all columns

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) One<kN>(col + part * kN);
  }

  template <int kN>
  RESEMBED_INLINE void One(int64_t col) const {
    using F = typename Vec<kN>::F;
    F g, value;
    Load<kN, RESEMBED_F32>(g, gradient, col);
    Load<kN, RESEMBED_F32>(value, row, col);
    g = Broadcast<kN>(rule.scale) * g;
    if (rule.l2 != 0.0f) g = g + Broadcast<kN>(rule.l2) * value;
    if (rule.keep != 1.0f) value = Broadcast<kN>(rule.keep) * value;
    if constexpr (kKind == RESEMBED_SGD) {
      value = value - Broadcast<kN>(rule.lr) * g;
    } else if constexpr (kKind == RESEMBED_ADAGRAD) {
      F sum;
      Load<kN, RESEMBED_F32>(sum, state1, col);
      sum = sum + g * g;
      Store<kN, RESEMBED_F32>(state1, col, sum);
      Sqrt<kN>(sum);
      value = value - (Broadcast<kN>(rule.lr) * g) / (sum + Broadcast<kN>(rule.eps));
    } else if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) {
      value = value - Broadcast<kN>(factor) * g;
    } else {
      F mean;
      Load<kN, RESEMBED_F32>(mean, state1, col);
      mean = Broadcast<kN>(rule.beta1) * mean + Broadcast<kN>(rule.rest1) * g;
      Store<kN, RESEMBED_F32>(state1, col, mean);
      if constexpr (kKind == RESEMBED_ADAM) {
        F square;
        Load<kN, RESEMBED_F32>(square, state2, col);
        square = Broadcast<kN>(rule.beta2) * square + Broadcast<kN>(rule.rest2) * (g * g);
        Store<kN, RESEMBED_F32>(state2, col, square);
        square = square / Broadcast<kN>(rule.correct2);
        Sqrt<kN>(square);
        value = value - (Broadcast<kN>(rule.lr1) * mean) / (square + Broadcast<kN>(rule.eps));
      } else {
        value = value - Broadcast<kN>(factor) * mean;
      }
    }
    Store<kN, RESEMBED_F32>(row, col, value);
  }
};

template <resembed_optimizer_kind kKind>
RESEMBED_INLINE void UpdateColumns(const UpdateRule& rule, const float* gradient, float* row, float* state1,
                                   float* state2, float factor, int64_t dim) {
  ForColumns(dim, UpdateBody<kKind>{rule, gradient, row, state1, state2, factor});
}

bool Update(const UpdateRule& rule, const float* gradient, float* row, float* state1, float* state2, int64_t dim) {
  const bool rowwise = rule.kind == RESEMBED_ROWWISE_ADAGRAD || rule.kind == RESEMBED_PARTIAL_ROWWISE_ADAM;
  float factor = 0.0f;
  float square = 0.0f;
  if (rowwise) {
    square = rule.l2 != 0.0f ? SquaredNorm<true>(gradient, row, rule.scale, rule.l2, dim)
                             : SquaredNorm<false>(gradient, row, rule.scale, 0.0f, dim);
  }
  // A finite sum of squares proves finite terms; an infinite one may be an overflow.
  if (!rowwise || !(square - square == 0.0f) || rule.l2 != 0.0f) {
    if (!IsFinite(gradient, rule.scale, dim)) return false;
  }
  if (rowwise) {
    const float mean = square / static_cast<float>(dim);
    Vec<4>::F root = {};
    if (rule.kind == RESEMBED_ROWWISE_ADAGRAD) {
      *state1 = *state1 + mean;
      root[0] = *state1;
      Sqrt<4>(root);
      factor = rule.lr / (root[0] + rule.eps);
    } else {
      *state2 = rule.beta2 * *state2 + rule.rest2 * mean;
      root[0] = *state2 / rule.correct2;
      Sqrt<4>(root);
      factor = rule.lr1 / (root[0] + rule.eps);
    }
  }
  switch (rule.kind) {
    case RESEMBED_SGD:
      UpdateColumns<RESEMBED_SGD>(rule, gradient, row, state1, state2, factor, dim);
      break;
    case RESEMBED_ADAGRAD:
      UpdateColumns<RESEMBED_ADAGRAD>(rule, gradient, row, state1, state2, factor, dim);
      break;
    case RESEMBED_ROWWISE_ADAGRAD:
      UpdateColumns<RESEMBED_ROWWISE_ADAGRAD>(rule, gradient, row, state1, state2, factor, dim);
      break;
    case RESEMBED_ADAM:
      UpdateColumns<RESEMBED_ADAM>(rule, gradient, row, state1, state2, factor, dim);
      break;
    default:
      UpdateColumns<RESEMBED_PARTIAL_ROWWISE_ADAM>(rule, gradient, row, state1, state2, factor, dim);
      break;
  }
  if (rule.max_norm > 0.0f) {
    Vec<4>::F norm = {};
    norm[0] = SquaredNorm<false>(row, row, 1.0f, 0.0f, dim);
    Sqrt<4>(norm);
    if (norm[0] > rule.max_norm) SetScaled(row, rule.max_norm / norm[0], row, RESEMBED_F32, dim);
  }
  return true;
}

#undef RESEMBED_INLINE

}  // namespace

extern const StepOps kStepOps;
constexpr StepOps kStepOps = {SumTerms, Update};

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
