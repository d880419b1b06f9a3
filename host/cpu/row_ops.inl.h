// SPDX-License-Identifier: Apache-2.0
// The functions of RowOps for one instruction set. Included by isa_*.cc, which define
//   RESEMBED_ISA_NAMESPACE  the namespace of this copy
//   RESEMBED_ISA_LANES      floats in one register: 4, 8 or 16
//   RESEMBED_ISA_F16C       1 when fp16 conversion instructions may be used
//
// Every column is independent, so the width of a register never shows in the bits; reductions over columns
// take the 32 partial sums of design.md 9.2 whatever the width. No function of the standard library is
// called: an inline one compiled here could be the copy the linker keeps for machines without this set.
#include "host/cpu/row_ops.h"
#include "host/cpu/row_vectors.inl.h"

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {
namespace {

template <resembed_dtype kType, bool kAdd>
struct ScaledBody {
  float* y;
  float a;
  const void* x;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    const F factor = Broadcast<kN>(a);
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      F in;
      Load<kN, kType>(in, x, col + part * kN);
      F out = factor * in;
      if constexpr (kAdd) {
        F sum;
        Load<kN, RESEMBED_F32>(sum, y, col + part * kN);
        out = sum + out;
      }
      Store<kN, RESEMBED_F32>(y, col + part * kN, out);
    }
  }
};

template <bool kAdd>
RESEMBED_INLINE void ScaledAny(float* y, float a, const void* x, resembed_dtype x_dtype, int64_t dim) {
  if (x_dtype == RESEMBED_F32) {
    ForColumns(dim, ScaledBody<RESEMBED_F32, kAdd>{y, a, x});
  } else if (x_dtype == RESEMBED_F16) {
    ForColumns(dim, ScaledBody<RESEMBED_F16, kAdd>{y, a, x});
  } else {
    ForColumns(dim, ScaledBody<RESEMBED_BF16, kAdd>{y, a, x});
  }
}

void AddScaled(float* y, float a, const void* x, resembed_dtype x_dtype, int64_t dim) {
  ScaledAny<true>(y, a, x, x_dtype, dim);
}
void SetScaled(float* y, float a, const void* x, resembed_dtype x_dtype, int64_t dim) {
  ScaledAny<false>(y, a, x, x_dtype, dim);
}

template <resembed_dtype kType>
struct StoreBody {
  void* y;
  const float* x;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      typename Vec<kN>::F in;
      Load<kN, RESEMBED_F32>(in, x, col + part * kN);
      Store<kN, kType>(y, col + part * kN, in);
    }
  }
};

void StoreRow(void* y, resembed_dtype y_dtype, const float* x, int64_t dim) {
  if (y_dtype == RESEMBED_F32) {
    __builtin_memmove(y, x, static_cast<size_t>(dim) * sizeof(float));
  } else if (y_dtype == RESEMBED_F16) {
    ForColumns(dim, StoreBody<RESEMBED_F16>{y, x});
  } else {
    ForColumns(dim, StoreBody<RESEMBED_BF16>{y, x});
  }
}

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

// Partial sum j takes columns j, j + 32, ... of the whole groups of 32. Returns the column after them.
template <resembed_dtype kX, resembed_dtype kZ>
RESEMBED_INLINE int64_t SumGroups(typename Vec<kLanes>::F (&partial)[kPartials / kLanes], const void* x,
                                  const void* z, int64_t dim) {
  int64_t col = 0;
  for (; col + kPartials <= dim; col += kPartials) {
#pragma GCC unroll 8
    for (int part = 0; part < kPartials / kLanes; ++part) {
      typename Vec<kLanes>::F left, right;
      Load<kLanes, kX>(left, x, col + part * kLanes);
      Load<kLanes, kZ>(right, z, col + part * kLanes);
      partial[part] += left * right;
    }
  }
  return col;
}

// A column past the end adds +0, which changes no bit of a sum that began at +0.
template <resembed_dtype kX, resembed_dtype kZ>
RESEMBED_INLINE float DotInline(const void* x, const void* z, int64_t dim) {
  typename Vec<kLanes>::F partial[kPartials / kLanes] = {};
  const int64_t col = SumGroups<kX, kZ>(partial, x, z, dim);
  float sums[kPartials];
  __builtin_memcpy(sums, partial, sizeof(sums));
  for (int lane = 0; col + lane < dim; ++lane) {
    typename Vec<1>::F left, right;
    Load<1, kX>(left, x, col + lane);
    Load<1, kZ>(right, z, col + lane);
    sums[lane] += left[0] * right[0];
  }
  return Tree(sums);
}

template <resembed_dtype kX, resembed_dtype kZ>
float DotTyped(const void* x, const void* z, int64_t dim) {
  return DotInline<kX, kZ>(x, z, dim);
}

float Dot(const void* x, resembed_dtype x_dtype, const void* z, resembed_dtype z_dtype, int64_t dim) {
  using Function = float (*)(const void*, const void*, int64_t);
  static constexpr Function kByType[3][3] = {
      {DotTyped<RESEMBED_F32, RESEMBED_F32>, DotTyped<RESEMBED_F32, RESEMBED_F16>,
       DotTyped<RESEMBED_F32, RESEMBED_BF16>},
      {DotTyped<RESEMBED_F16, RESEMBED_F32>, DotTyped<RESEMBED_F16, RESEMBED_F16>,
       DotTyped<RESEMBED_F16, RESEMBED_BF16>},
      {DotTyped<RESEMBED_BF16, RESEMBED_F32>, DotTyped<RESEMBED_BF16, RESEMBED_F16>,
       DotTyped<RESEMBED_BF16, RESEMBED_BF16>}};
  return kByType[x_dtype][z_dtype](x, z, dim);
}

void DotRows(float* out, const float* x, const float* const* rows, int64_t n, int64_t dim) {
  int64_t row = 0;
  if (dim % kPartials == 0) {
    for (; row + 4 <= n; row += 4) {
      Vec<4>::F fours[4];
#pragma GCC unroll 4
      for (int of = 0; of < 4; ++of) {
        typename Vec<kLanes>::F partial[kPartials / kLanes] = {};
        SumGroups<RESEMBED_F32, RESEMBED_F32>(partial, x, rows[row + of], dim);
        PartialsToFour(fours[of], partial);
      }
      FoursToOnes(out + row, fours);
    }
  }
  for (; row < n; ++row) out[row] = DotInline<RESEMBED_F32, RESEMBED_F32>(x, rows[row], dim);
}

struct AddRowsBody {
  float* y;
  const float* a;
  const float* const* rows;
  int64_t n;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    F sum[kCount];
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) Load<kN, RESEMBED_F32>(sum[part], y, col + part * kN);
    for (int64_t row = 0; row < n; ++row) {
      const F factor = Broadcast<kN>(a[row]);
#pragma GCC unroll 8
      for (int part = 0; part < kCount; ++part) {
        F in;
        Load<kN, RESEMBED_F32>(in, rows[row], col + part * kN);
        sum[part] = sum[part] + factor * in;
      }
    }
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) Store<kN, RESEMBED_F32>(y, col + part * kN, sum[part]);
  }
};

void AddRows(float* y, const float* a, const float* const* rows, int64_t n, int64_t dim) {
  ForColumns(dim, AddRowsBody{y, a, rows, n});
}

struct MaxBody {
  float* best;
  int32_t* argmax;
  const float* e;
  int32_t position;

  template <int kN, int kCount>
  RESEMBED_INLINE void Tile(int64_t col) const {
    using F = typename Vec<kN>::F;
    using I = typename Vec<kN>::I;
#pragma GCC unroll 8
    for (int part = 0; part < kCount; ++part) {
      const int64_t at = col + part * kN;
      F old, candidate;
      Load<kN, RESEMBED_F32>(old, best, at);
      Load<kN, RESEMBED_F32>(candidate, e, at);
      const I wins = (candidate > old) | ((candidate != candidate) & (old == old));
      Store<kN, RESEMBED_F32>(best, at, wins ? candidate : old);
      if (argmax != nullptr) {
        I where;
        __builtin_memcpy(&where, argmax + at, sizeof(where));
        where = wins ? I{} + position : where;
        __builtin_memcpy(argmax + at, &where, sizeof(where));
      }
    }
  }
};

void MaxUpdate(float* best, int32_t* argmax, const float* e, int32_t position, int64_t dim) {
  ForColumns(dim, MaxBody{best, argmax, e, position});
}

#undef RESEMBED_INLINE

}  // namespace

// compose_*.cc
void Compose(float* e, const ItemRows& rows, int64_t dim);
ComposeFunction ComposeAheadOf(resembed_dtype central, resembed_dtype residual);
PoolFunction PoolOf(resembed_dtype central, resembed_dtype residual);

#if RESEMBED_ISA_LANES >= 8
const cpu::DenseSumFunctions* DenseSumOf(cpu::MapKind kind, int64_t dim, resembed_dtype id_dtype,
                                         bool has_cache);
constexpr decltype(RowOps::dense_sum) kDenseSum = DenseSumOf;
cpu::FillTileFunction FillTileOf(cpu::MapKind kind, int64_t dim, resembed_dtype id_dtype);
constexpr decltype(RowOps::fill_tile) kFillTile = FillTileOf;
#else
constexpr decltype(RowOps::dense_sum) kDenseSum = nullptr;
constexpr decltype(RowOps::fill_tile) kFillTile = nullptr;
#endif

extern const RowOps kRowOps;
constexpr RowOps kRowOps = {Compose, AddScaled, SetScaled,      StoreRow, Dot,       DotRows,
                            AddRows, MaxUpdate, ComposeAheadOf, PoolOf,   kDenseSum, kFillTile};

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
