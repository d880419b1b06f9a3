// SPDX-License-Identifier: Apache-2.0
// Gradients of item embeddings: the first level, and all of R.
#include <atomic>

#include "host/cpu/backward.h"
#include "host/cpu/backward_runs.h"
#include "host/cpu/bags.h"

namespace resembed::detail {
namespace {

// Rows asked for ahead of their update, from memory; and output gradients, which mostly lie in a cache.
constexpr int64_t kRowsAhead = 8;
constexpr int64_t kUsesAhead = 8;

struct Use {
  const GradSource* source;
  int64_t use, row;  // of the source
};

Use UseAt(const TableBackward& work, int64_t at) {
  const int64_t use = work.plan.use[at];
  const GradSource& source = work.n_sources == 1 ? work.sources[0] : work.SourceOfUse(use);
  return {&source, use - source.first_use, work.plan.use_row[at] - source.first_row};
}

// The use's term as a scaled row of dy, columns of a max bag included that another item won; attention pooling adds a
// scaled query.
GradTerm TermOf(const Use& use) {
  const GradSource& source = *use.source;
  float a = source.weights != nullptr ? source.weights[use.use] : 1.0f;
  if (source.divisor != nullptr) a = a / source.divisor[use.row];
  ScaledRow query = {};
  if (source.query != nullptr) {
    query = {source.query + use.row * source.query_stride, source.score_grads[use.use]};
  }
  return {source.rows + use.row * source.pitch, a, 1.0f, query, {}, source.dtype};
}

// Columns where this use holds the maximum of its bag: dy; the others: +0.
void MaskedRow(const TableBackward& work, const Use& use, float* row) {
  const GradSource& source = *use.source;
  const int64_t dim = work.table.dim;
  const int32_t* argmax = source.argmax + use.row * dim;
  const int64_t position = use.use - BagBegin(source.feature, use.row);
  work.row_ops->set_scaled(row, 1.0f, source.rows + use.row * source.pitch, source.dtype, dim);
  for (int64_t col = 0; col < dim; ++col) {
    if (argmax[col] != position) row[col] = 0.0f;
  }
}

// g = sum of the uses [first, last), at most kSumBlock; false: none has a gradient and g is zeros.
bool SumUses(const TableBackward& work, int64_t first, int64_t last, float* g, float* scratch) {
  const int64_t dim = work.table.dim;
  GradTerm terms[kSumBlock];
  int64_t n_terms = 0;
  if (!work.any_max) {
    for (int64_t at = first; at < last; ++at) {
      const Use use = UseAt(work, at);
      if (use.source->rows != nullptr) terms[n_terms++] = TermOf(use);
    }
    if (n_terms > 0) work.step_ops->sum_terms(g, terms, n_terms, dim);
  } else {
    float* const row = scratch;
    for (int64_t at = first; at < last; ++at) {
      const Use use = UseAt(work, at);
      if (use.source->rows == nullptr) continue;
      float* const to = n_terms++ == 0 ? g : row;
      if (use.source->argmax != nullptr) {
        MaskedRow(work, use, to);
      } else {
        terms[0] = TermOf(use);
        work.step_ops->sum_terms(to, terms, 1, dim);
      }
      if (to == row) work.row_ops->add_scaled(g, 1.0f, row, RESEMBED_F32, dim);
    }
  }
  if (n_terms == 0) Zero(g, dim);
  return n_terms > 0;
}

}  // namespace

void ItemGradients(const TableBackward& work, const GradOut* out, const MatrixUpdate* given_update,
                   const Executor& executor) {
  if (!work.request.items()) return;
  const bool in_registers = given_update != nullptr && CanUpdateRuns(work, *given_update);
  const MatrixUpdate* const update = in_registers ? nullptr : given_update;
  const PlanTable& plan = work.plan;
  const PlanRuns& runs = plan.items;
  const int64_t dim = work.table.dim;
  const bool dense = out != nullptr && out->layout == RESEMBED_GRAD_DENSE;
  if (out != nullptr) StartGradient(*out, runs, work.table.residual_rows, dim, executor);
  SumLongChunks(work, runs, executor, [&](int64_t first, int64_t last, float* row, float* scratch) {
    SumUses(work, first, last, row, scratch);
  });
  const RunCuts cuts(runs, executor);
  std::atomic<int64_t> skipped{0};
  executor.ParallelFor(cuts.n_tasks, [&](int64_t task) {
    const int64_t last_run = cuts.First(task + 1);
    float* const scratch = work.TaskScratch(task);
    float* const once = scratch + kUpdateScratchRows * PaddedDim(dim);
    int64_t bad = 0;
    for (int64_t run = cuts.First(task); run < last_run; ++run) {
      if (update != nullptr && run + kRowsAhead < last_run) PrefetchRow(*update, runs.rows[run + kRowsAhead]);
      const int64_t first = runs.begin[run], last = runs.begin[run + 1];
      for (int64_t at = first + kUsesAhead; at < last + kUsesAhead && at < runs.begin[last_run]; ++at) {
        const Use ahead = UseAt(work, at);
        if (ahead.source->rows != nullptr) {
          PrefetchRead(ahead.source->rows + ahead.row * ahead.source->pitch,
                       dim * ElementBytes(ahead.source->dtype));
        }
      }
      ItemGrad& item = work.items[run];
      float* g = work.item_rows + run * work.item_stride;
      const float* gradient = g;
      const Use use = UseAt(work, first);
      if (last - first == 1 && use.source->rows != nullptr && use.source->argmax == nullptr) {
        const GradTerm term = TermOf(use);
        item = {term.row, term.a, term.dtype};
        if (work.queries != nullptr) work.queries[run] = term.query;
        if (work.request.keeps_item_rows) {
          work.step_ops->sum_terms(g, &term, 1, dim);
        } else if (update != nullptr || dense) {
          // 1 * x is x: the row of dy itself serves as gradient.
          if (term.a == 1.0f && term.query.row == nullptr && term.dtype == RESEMBED_F32) {
            gradient = static_cast<const float*>(term.row);
          } else {
            work.step_ops->sum_terms(once, &term, 1, dim);
            gradient = once;
          }
        }
      } else {
        bool any = true;
        if (last - first > kSumBlock) {
          MeetLongRun(work, runs, run, g);
        } else {
          any = SumUses(work, first, last, g, once + PaddedDim(dim));
        }
        item = {any ? g : nullptr, 1.0f, RESEMBED_F32};
        if (work.queries != nullptr) work.queries[run] = {};
      }
      if (dense) {
        const int64_t row = work.table.residual_row_of == nullptr
                                ? runs.rows[run]
                                : work.table.residual_row_of[runs.rows[run]];
        if (row >= 0) std::memcpy(OutRow(*out, run, row), gradient, static_cast<size_t>(dim) * sizeof(float));
      }
      if (update != nullptr) bad += !UpdateRow(*update, runs.rows[run], gradient, scratch);
    }
    skipped.fetch_add(bad, std::memory_order_relaxed);
  });
  if (given_update == nullptr) return;
  if (in_registers) UpdateRunsInRegisters(work, runs, nullptr, *given_update, executor);
  if (given_update->n_skipped != nullptr) *given_update->n_skipped += skipped.load();
  if (given_update->whole_table)
    UpdateOtherRows(*given_update, runs.rows, runs.n_runs, work.scratch, executor);
}

}  // namespace resembed::detail
