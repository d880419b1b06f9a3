// SPDX-License-Identifier: Apache-2.0
// Gradients of C through the unique items: the second level. The output gradients are not read again but for items
// used once, whose rows they are.
#include <atomic>

#include "host/cpu/backward.h"
#include "host/cpu/backward_runs.h"
#include "host/cpu/item_stream.h"

namespace resembed::detail {
namespace {

constexpr int64_t kItemsPerTask = 512;
constexpr int64_t kListsAhead = 16;
// A row of C comes from memory: asked for 8 rows (2 KiB at dim 64) ahead. Its terms come from the caches in two
// steps: pair and item first, then the row of gradient the item points to.
constexpr int64_t kRowsAhead = 12;
constexpr int64_t kPairsAhead = 16;
constexpr int64_t kTermsAhead = 8;

struct UniqueItems {
  const int32_t* items;
  int64_t operator()(int64_t run) const { return items[run]; }
};

ScaledRow QueryOf(const TableBackward& work, int64_t unique) {
  return work.queries == nullptr ? ScaledRow{} : work.queries[unique];
}

// dE of a unique item in memory; row null is zero.
void ItemRow(const TableBackward& work, int64_t unique, float* g) {
  const ItemGrad& item = work.items[unique];
  if (item.row == nullptr) return Zero(g, work.table.dim);
  const GradTerm term = {item.row, item.a, 1.0f, QueryOf(work, unique), {}, item.dtype};
  work.step_ops->sum_terms(g, &term, 1, work.table.dim);
}

// Softmax weights, slopes ds, the query's gradient and a copy of C[i] for every unique item.
void PrepareAttention(const TableBackward& work, const Executor& executor) {
  const PlanRuns& items = work.plan.items;
  const int64_t dim = work.table.dim;
  const resembed_dtype dtype = work.table.central_dtype;
  const int64_t n_tasks = TaskCount(executor, items.n_runs, kItemsPerTask);
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(items.n_runs, n_tasks, task);
    float* const g = work.TaskScratch(task);
    ItemStream<UniqueItems> stream(work.table, *work.row_ops, {items.rows}, range.first, range.last);
    for (int64_t unique = range.first; unique < range.last; ++unique) {
      const ItemRows& rows = *stream.Next();
      if (rows.n_central == 0) continue;
      float* const weights = work.pair_weight + (unique << work.plan.slot_bits);
      float* const slopes = work.pair_slope + (unique << work.plan.slot_bits);
      ItemRow(work, unique, g);
      float mean = 0.0f;
      for (int slot = 0; slot < rows.n_central; ++slot) {
        weights[slot] = rows.weights[slot];
        slopes[slot] = work.row_ops->dot(g, RESEMBED_F32, rows.central[slot], dtype, dim);
        mean = slot == 0 ? weights[slot] * slopes[slot] : mean + weights[slot] * slopes[slot];
      }
      float* const query = work.query + unique * dim;
      for (int slot = 0; slot < rows.n_central; ++slot) {
        slopes[slot] = weights[slot] * (slopes[slot] - mean);
        if (slot == 0) {
          work.row_ops->set_scaled(query, slopes[slot], rows.central[slot], dtype, dim);
        } else {
          work.row_ops->add_scaled(query, slopes[slot], rows.central[slot], dtype, dim);
        }
      }
      const char* own = static_cast<const char*>(work.table.central) +
                        items.rows[unique] * work.table.central_stride * ElementBytes(dtype);
      work.row_ops->set_scaled(work.own + unique * dim, 1.0f, own, dtype, dim);
    }
  });
}

// Terms of the pairs [first, last), at most kSumBlock.
int64_t PairTerms(const TableBackward& work, int64_t first, int64_t last, GradTerm* terms) {
  const PlanTable& plan = work.plan;
  const int64_t dim = work.table.dim;
  const uint32_t slot_mask = (uint32_t{1} << plan.slot_bits) - 1;
  int64_t n_terms = 0;
  for (int64_t at = first; at < last; ++at) {
    const uint32_t number = plan.pair[at];
    const uint32_t unique = number >> plan.slot_bits;
    if (work.query != nullptr && (number & slot_mask) == static_cast<uint32_t>(work.table.n_neighbors)) {
      terms[n_terms++] = {work.query + unique * dim, 1.0f, 1.0f, {}, {}, RESEMBED_F32};
      continue;
    }
    const ItemGrad& item = work.items[unique];
    if (item.row == nullptr) continue;
    float weight = 1.0f;
    if (work.pair_weight != nullptr) {
      weight = work.pair_weight[work.table.form == RESEMBED_CENTRAL_UNIFORM ? unique : number];
    }
    GradTerm& term = terms[n_terms++];
    term = {item.row, item.a, weight, QueryOf(work, unique), {}, item.dtype};
    if (work.pair_slope != nullptr) term.second = {work.own + unique * dim, work.pair_slope[number]};
  }
  return n_terms;
}

void SumPairs(const TableBackward& work, int64_t first, int64_t last, float* g) {
  GradTerm terms[kSumBlock];
  const int64_t n_terms = PairTerms(work, first, last, terms);
  if (n_terms == 0) return Zero(g, work.table.dim);
  work.step_ops->sum_terms(g, terms, n_terms, work.table.dim);
}

}  // namespace

void NeighborWeightGradients(const TableBackward& work, float* out, const Executor& executor) {
  const PlanRuns& items = work.plan.items;
  const int64_t n_slots = work.table.n_neighbors;
  const int64_t n_tasks = TaskCount(executor, items.n_runs, kItemsPerTask);
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(items.n_runs, n_tasks, task);
    float* const g = work.TaskScratch(task);
    ItemStream<UniqueItems> stream(work.table, *work.row_ops, {items.rows}, range.first, range.last);
    for (int64_t unique = range.first; unique < range.last; ++unique) {
      const ItemRows& rows = *stream.Next();
      ItemRow(work, unique, g);
      for (int64_t slot = 0; slot < n_slots; ++slot) {
        out[unique * n_slots + slot] = slot >= rows.n_central
                                           ? 0.0f
                                           : work.row_ops->dot(g, RESEMBED_F32, rows.central[slot],
                                                               work.table.central_dtype, work.table.dim);
      }
    }
  });
}

void PreparePairs(const TableBackward& work, const Executor& executor) {
  if (!work.request.central || work.pair_weight == nullptr) return;
  if (work.table.form == RESEMBED_CENTRAL_ATTENTION) return PrepareAttention(work, executor);
  // Weights of the unique items side by side: their pairs are met in the order of central rows, at random.
  const PlanRuns& items = work.plan.items;
  const resembed_table& table = work.table;
  const bool uniform = table.form == RESEMBED_CENTRAL_UNIFORM;
  const int64_t n_tasks = TaskCount(executor, items.n_runs, kItemsPerTask);
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(items.n_runs, n_tasks, task);
    for (int64_t unique = range.first; unique < range.last; ++unique) {
      if (unique + kListsAhead < range.last) {
        const int64_t ahead = items.rows[unique + kListsAhead];
        PrefetchRead(uniform ? static_cast<const void*>(table.neighbors + ahead * table.neighbors_stride)
                             : table.neighbor_weights + ahead * table.neighbor_weights_stride,
                     table.n_neighbors * 4);
      }
      const int64_t item = items.rows[unique];
      if (uniform) {
        const int32_t* list = table.neighbors + item * table.neighbors_stride;
        int count = 0;
        while (count < table.n_neighbors && list[count] >= 0) ++count;
        work.pair_weight[unique] = count == 0 ? 0.0f : 1.0f / static_cast<float>(count);
      } else {
        std::memcpy(work.pair_weight + (unique << work.plan.slot_bits),
                    table.neighbor_weights + item * table.neighbor_weights_stride,
                    static_cast<size_t>(table.n_neighbors) * sizeof(float));
      }
    }
  });
}

void CentralGradients(const TableBackward& work, const GradOut* out, const MatrixUpdate* update,
                      const Executor& executor) {
  if (!work.request.central) return;
  const PlanTable& plan = work.plan;
  const PlanRuns& runs = plan.central;
  const int64_t dim = work.table.dim;
  if (out != nullptr) StartGradient(*out, runs, work.table.central_rows, dim, executor);
  SumLongChunks(work, runs, executor,
                [&](int64_t first, int64_t last, float* row, float*) { SumPairs(work, first, last, row); });
  if (update != nullptr && work.query == nullptr && CanUpdateRuns(work, *update)) {
    UpdateRunsInRegisters(work, runs, plan.pair, *update, executor);
    if (update->whole_table) UpdateOtherRows(*update, runs.rows, runs.n_runs, work.scratch, executor);
    return;
  }
  const RunCuts cuts(runs, executor);
  std::atomic<int64_t> skipped{0};
  executor.ParallelFor(cuts.n_tasks, [&](int64_t task) {
    const int64_t last_run = cuts.First(task + 1);
    const int64_t last_pair = runs.begin[last_run];
    float* const scratch = work.TaskScratch(task);
    float* const own = scratch + kUpdateScratchRows * PaddedDim(dim);
    int64_t bad = 0;
    for (int64_t run = cuts.First(task); run < last_run; ++run) {
      if (update != nullptr && run + kRowsAhead < last_run) PrefetchRow(*update, runs.rows[run + kRowsAhead]);
      const int64_t first = runs.begin[run], last = runs.begin[run + 1];
      for (int64_t at = first; at < last; ++at) {
        if (at + kPairsAhead < last_pair) {
          const uint32_t number = plan.pair[at + kPairsAhead];
          __builtin_prefetch(work.items + (number >> plan.slot_bits));
          if (work.pair_weight != nullptr) {
            __builtin_prefetch(work.pair_weight + (work.table.form == RESEMBED_CENTRAL_UNIFORM
                                                       ? number >> plan.slot_bits
                                                       : number));
          }
        }
        if (at + kTermsAhead < last_pair) {
          const ItemGrad& item = work.items[plan.pair[at + kTermsAhead] >> plan.slot_bits];
          PrefetchRead(item.row, item.row == nullptr ? 0 : dim * ElementBytes(item.dtype));
        }
      }
      float* const g = out != nullptr ? OutRow(*out, run, runs.rows[run]) : own;
      if (last - first > kSumBlock) {
        MeetLongRun(work, runs, run, g);
      } else {
        SumPairs(work, first, last, g);
      }
      if (update != nullptr) bad += !UpdateRow(*update, runs.rows[run], g, scratch);
    }
    skipped.fetch_add(bad, std::memory_order_relaxed);
  });
  if (update == nullptr) return;
  if (update->n_skipped != nullptr) *update->n_skipped += skipped.load();
  if (update->whole_table) UpdateOtherRows(*update, runs.rows, runs.n_runs, work.scratch, executor);
}

}  // namespace resembed::detail
