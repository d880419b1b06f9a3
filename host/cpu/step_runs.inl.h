// SPDX-License-Identifier: Apache-2.0
// StepOps::update_runs: sum and update with the gradient in registers. Included by step_ops.inl.h, whose loads and
// formulas it uses; the same operations in the same order, so the same bits as sum_terms and update.

namespace resembed::detail {
namespace RESEMBED_ISA_NAMESPACE {
namespace {

// A row of the table comes in two steps: to the second-level cache 32 runs ahead, to the first for writing 8 runs ahead.
// A first-level cache has too few fill buffers to wait for memory with: in one step, the arithmetic adds to the time
// of the misses (29 ns for 256 bytes, 45 with 24 ns of arithmetic); in two, it hides behind them (21 and 25 ns).
constexpr int64_t kRowsAhead = 32;
constexpr int64_t kRowsNear = 8;
// Pairs, items and weights lie in the second and third level, and so do mostly the gradient rows items point to.
constexpr int64_t kPairsAhead = 24;
constexpr int64_t kTermsAhead = 8;

RESEMBED_INLINE void PrefetchLines(const char* first, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(first + at);
}
RESEMBED_INLINE void PrefetchLinesToSecondLevel(const char* first, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(first + at, 0, 2);
}
RESEMBED_INLINE void PrefetchLinesForWrite(const char* first, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(first[at]));
#else
    __builtin_prefetch(first + at, 1);
#endif
  }
}

// kCount registers of kLanes columns hold a row.
template <resembed_optimizer_kind kKind, int kCount>
struct RunUpdater {
  using F = typename Vec<kLanes>::F;
  using U = typename Vec<kLanes>::U;
  static constexpr bool kRowwise =
      kKind == RESEMBED_ROWWISE_ADAGRAD || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM;
  static constexpr bool kAdam = kKind == RESEMBED_ADAM || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM;
  static constexpr int64_t kDim = int64_t{kLanes} * kCount;
  const RunUpdates& runs;
  UpdateBody<kKind> body;
  float max_norm;

  explicit RESEMBED_INLINE RunUpdater(const RunUpdates& of) : runs(of), body{}, max_norm(of.rule->max_norm) {
    const UpdateRule& rule = *of.rule;
    body = {rule.scale, rule.l2,       rule.keep,  kAdam ? rule.lr1 : rule.lr,
            rule.eps,   rule.beta1,    rule.rest1, rule.beta2,
            rule.rest2, rule.correct2, 0.0f,       nullptr,
            nullptr,    nullptr,       nullptr};
  }

  // SquaredNorm of registers: columns j, j + 32, ... of a row share a partial sum.
  static RESEMBED_INLINE float Norm(const F* x) {
    constexpr int kRegisters = kPartials / kLanes;
    F partial[kRegisters] = {};
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) {
      partial[part % kRegisters] = partial[part % kRegisters] + x[part] * x[part];
    }
    float sums[kPartials];
    __builtin_memcpy(sums, partial, sizeof(sums));
    return Tree(sums);
  }

  static RESEMBED_INLINE bool Finite(const F* x) {
    U largest = {};
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) {
      const U magnitude = Bits<U>(x[part]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    const U over = Bits<U>(largest > 0x7f7fffffu ? ~U{} : U{});
    uint32_t lanes[kLanes], any = 0;
    __builtin_memcpy(lanes, &over, sizeof(over));
    for (int lane = 0; lane < kLanes; ++lane) any |= lanes[lane];
    return any == 0;
  }

  RESEMBED_INLINE void Gradient(F* g, int64_t run) const {
    const int64_t first = runs.begin[run], last = runs.begin[run + 1];
    if (runs.pair != nullptr && last - first > runs.max_terms) {
      runs.long_run(runs.context, run, runs.g);
#pragma GCC unroll 16
      for (int part = 0; part < kCount; ++part) Load<kLanes, RESEMBED_F32>(g[part], runs.g, part * kLanes);
      return;
    }
    if (runs.pair == nullptr) {
      Term(g, run, 1.0f);
      return;
    }
    PairTerm(g, runs.pair[first]);
    for (int64_t at = first + 1; at < last; ++at) {
      F term[kCount];
      PairTerm(term, runs.pair[at]);
#pragma GCC unroll 16
      for (int part = 0; part < kCount; ++part) g[part] = g[part] + term[part];
    }
  }

  RESEMBED_INLINE void PairTerm(F* term, uint32_t number) const {
    Term(term, number >> runs.slot_bits,
         runs.weights == nullptr ? 1.0f : runs.weights[number >> runs.weight_shift]);
  }

  RESEMBED_INLINE void Term(F* term, int64_t number, float w) const {
    const ItemGrad& item = runs.items[number];
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) {
      F row;
      Load<kLanes, RESEMBED_F32>(row, item.row, part * kLanes);
      term[part] = Broadcast<kLanes>(item.a) * row;
    }
    if (runs.queries != nullptr) {
#pragma GCC unroll 16
      for (int part = 0; part < kCount; ++part) {
        AddScaled<kLanes>(term[part], runs.queries[number], part * kLanes);
      }
    }
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) term[part] = Broadcast<kLanes>(w) * term[part];
  }

  // What the term of an item reads.
  RESEMBED_INLINE void SendTerm(int64_t number) const {
    PrefetchLines(static_cast<const char*>(runs.items[number].row), kDim * 4);
    if (runs.queries == nullptr || runs.queries[number].row == nullptr) return;
    PrefetchLines(reinterpret_cast<const char*>(runs.queries[number].row), kDim * 4);
  }

  RESEMBED_INLINE bool Update(F* g, float* row, float* state1, float* state2) {
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) g[part] = Broadcast<kLanes>(body.scale) * g[part];
    // Squares overflow where values do not; a value that is not finite shows in them.
    if (!kRowwise && !Finite(g)) return false;
    F value[kCount];
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) Load<kLanes, RESEMBED_F32>(value[part], row, part * kLanes);
    if constexpr (kRowwise) {
      if (body.l2 != 0.0f && !Finite(g)) return false;
    }
    if (body.l2 != 0.0f) {
#pragma GCC unroll 16
      for (int part = 0; part < kCount; ++part) g[part] = g[part] + Broadcast<kLanes>(body.l2) * value[part];
    }
    if constexpr (kRowwise) {
      const float square = Norm(g);
      if (!(square - square == 0.0f) && body.l2 == 0.0f && !Finite(g)) return false;
      const float mean = square / static_cast<float>(kDim);
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
    if (body.keep != 1.0f) {
#pragma GCC unroll 16
      for (int part = 0; part < kCount; ++part) value[part] = Broadcast<kLanes>(body.keep) * value[part];
    }
    body.state1 = state1;
    body.state2 = state2;
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) body.template Step<kLanes>(value[part], g[part], part * kLanes);
    if (max_norm > 0.0f) {
      const float norm = SqrtOne(Norm(value));
      if (norm > max_norm) {
        const float shrink = max_norm / norm;
#pragma GCC unroll 16
        for (int part = 0; part < kCount; ++part) value[part] = Broadcast<kLanes>(shrink) * value[part];
      }
    }
#pragma GCC unroll 16
    for (int part = 0; part < kCount; ++part) Store<kLanes, RESEMBED_F32>(row, part * kLanes, value[part]);
    return true;
  }

  RESEMBED_INLINE int64_t RowOf(int64_t run) const {
    return runs.row_of == nullptr ? runs.rows[run] : runs.row_of[runs.rows[run]];
  }

  RESEMBED_INLINE void Send(int64_t run, int64_t last_run) const {
    if (run + kRowsAhead < last_run) {
      const int64_t row = RowOf(run + kRowsAhead);
      if (row >= 0) {
        PrefetchLinesToSecondLevel(runs.table + row * runs.pitch, kDim * 4);
        if (kKind != RESEMBED_SGD)
          PrefetchLinesToSecondLevel(runs.state1 + row * runs.state1_pitch, runs.state1_bytes);
        if (kAdam) PrefetchLinesToSecondLevel(runs.state2 + row * runs.state2_pitch, runs.state2_bytes);
      }
    }
    if (run + kRowsNear < last_run) {
      const int64_t row = RowOf(run + kRowsNear);
      if (row >= 0) {
        PrefetchLinesForWrite(runs.table + row * runs.pitch, kDim * 4);
        if (kKind != RESEMBED_SGD)
          PrefetchLinesForWrite(runs.state1 + row * runs.state1_pitch, runs.state1_bytes);
        if (kAdam) PrefetchLinesForWrite(runs.state2 + row * runs.state2_pitch, runs.state2_bytes);
      }
    }
    if (runs.pair == nullptr) {
      if (run + kTermsAhead < last_run) SendTerm(run + kTermsAhead);
      return;
    }
    const int64_t end = runs.begin[last_run];
    for (int64_t at = runs.begin[run]; at < runs.begin[run + 1]; ++at) {
      if (at + kPairsAhead >= end) break;
      const uint32_t later = runs.pair[at + kPairsAhead];
      __builtin_prefetch(runs.items + (later >> runs.slot_bits));
      if (runs.weights != nullptr) __builtin_prefetch(runs.weights + (later >> runs.weight_shift));
      if (runs.queries != nullptr) __builtin_prefetch(runs.queries + (later >> runs.slot_bits));
      SendTerm(runs.pair[at + kTermsAhead] >> runs.slot_bits);
    }
  }

  int64_t Walk(int64_t first, int64_t last) {
    int64_t bad = 0;
    for (int64_t run = first; run < last; ++run) {
      Send(run, last);
      const int64_t row = RowOf(run);
      if (row < 0) continue;
      F g[kCount];
      Gradient(g, run);
      bad += !Update(g, reinterpret_cast<float*>(runs.table + row * runs.pitch),
                     reinterpret_cast<float*>(runs.state1 + row * runs.state1_pitch),
                     reinterpret_cast<float*>(runs.state2 + row * runs.state2_pitch));
    }
    return bad;
  }
};

template <resembed_optimizer_kind kKind>
int64_t UpdateRunsOf(const RunUpdates& runs, int64_t first, int64_t last) {
  switch (runs.dim / 16) {
    case 1:
      return RunUpdater<kKind, 16 / kLanes>(runs).Walk(first, last);
    case 2:
      return RunUpdater<kKind, 32 / kLanes>(runs).Walk(first, last);
    case 3:
      return RunUpdater<kKind, 48 / kLanes>(runs).Walk(first, last);
    default:
      return RunUpdater<kKind, 64 / kLanes>(runs).Walk(first, last);
  }
}

int64_t UpdateRuns(const RunUpdates& runs, int64_t first, int64_t last) {
  switch (runs.rule->kind) {
    case RESEMBED_SGD:
      return UpdateRunsOf<RESEMBED_SGD>(runs, first, last);
    case RESEMBED_ADAGRAD:
      return UpdateRunsOf<RESEMBED_ADAGRAD>(runs, first, last);
    case RESEMBED_ROWWISE_ADAGRAD:
      return UpdateRunsOf<RESEMBED_ROWWISE_ADAGRAD>(runs, first, last);
    case RESEMBED_ADAM:
      return UpdateRunsOf<RESEMBED_ADAM>(runs, first, last);
    default:
      return UpdateRunsOf<RESEMBED_PARTIAL_ROWWISE_ADAM>(runs, first, last);
  }
}

}  // namespace

extern const StepOps kStepOps;
constexpr StepOps kStepOps = {SumTerms, Update, UpdateRuns};

}  // namespace RESEMBED_ISA_NAMESPACE
}  // namespace resembed::detail
