// SPDX-License-Identifier: Apache-2.0
// The walk over the runs of one ordering that both levels of backward share.
#pragma once

#include <cstring>

#include "host/cpu/backward.h"
#include "host/cpu/tasks.h"

namespace resembed::detail {

// A task is worth so many units; a run counts as kRunUnits beside its uses (a row of a table is written).
constexpr int64_t kUnitsPerTask = 2048;
constexpr int64_t kRunUnits = 4;

// Cuts runs into tasks of about equal work.
struct RunCuts {
  const PlanRuns& runs;
  int64_t total, n_tasks;

  RunCuts(const PlanRuns& of, const Executor& executor)
      : runs(of),
        total(of.n_runs == 0 ? 0 : Work(of.n_runs)),
        n_tasks(TaskCount(executor, total, kUnitsPerTask)) {}
  int64_t Work(int64_t run) const { return runs.begin[run] + kRunUnits * run; }
  // First run of a task; task may be n_tasks.
  int64_t First(int64_t task) const {
    if (task >= n_tasks) return runs.n_runs;
    const int64_t target = total / n_tasks * task;
    int64_t low = 0, high = runs.n_runs;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (Work(middle) < target) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// First long chunk of `run`.
inline int64_t FirstLongChunk(const PlanRuns& runs, int64_t run) {
  int64_t low = 0, high = runs.n_long_chunks;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (runs.long_chunks[middle].run < run) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Partial sums of the chunks of long runs: sum(first, last, row, task scratch) writes the sum of an ordering's range.
template <typename Sum>
void SumLongChunks(const TableBackward& work, const PlanRuns& runs, const Executor& executor,
                   const Sum& sum) {
  const int64_t n_tasks = TaskCount(executor, runs.n_long_chunks, 8);
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(runs.n_long_chunks, n_tasks, task);
    for (int64_t index = range.first; index < range.last; ++index) {
      const PlanChunk chunk = runs.long_chunks[index];
      const int64_t last = std::min<int64_t>(chunk.first + kSumBlock, runs.begin[chunk.run + 1]);
      sum(chunk.first, last, work.partials + index * work.table.dim, work.TaskScratch(task));
    }
  });
}

// g = ((p0 + p1) + p2) ... of a long run.
inline void MeetLongRun(const TableBackward& work, const PlanRuns& runs, int64_t run, float* g) {
  const int64_t dim = work.table.dim;
  const int64_t first = FirstLongChunk(runs, run);
  std::memcpy(g, work.partials + first * dim, static_cast<size_t>(dim) * sizeof(float));
  for (int64_t chunk = first + 1; chunk < runs.n_long_chunks && runs.long_chunks[chunk].run == run; ++chunk) {
    work.row_ops->add_scaled(g, 1.0f, work.partials + chunk * dim, RESEMBED_F32, dim);
  }
}

inline bool IsLong(const PlanRuns& runs, int64_t run) {
  return runs.begin[run + 1] - runs.begin[run] > kSumBlock;
}

inline void Zero(float* g, int64_t dim) { std::memset(g, 0, static_cast<size_t>(dim) * sizeof(float)); }

// Row of a dense or compressed gradient that belongs to run `run`; `row` is its table row.
inline float* OutRow(const GradOut& out, int64_t run, int64_t row) {
  return out.rows + (out.layout == RESEMBED_GRAD_DENSE ? row : run) * out.stride;
}

__attribute__((always_inline)) inline void PrefetchRead(const void* first, int64_t bytes) {
  const char* at = static_cast<const char*>(first);
  for (const char* line = at - (reinterpret_cast<uintptr_t>(at) & 63); line < at + bytes; line += 64) {
    __builtin_prefetch(line);
  }
}

// Updates the rows of `runs` with StepOps::update_runs where that is possible: every item gradient an fp32 row, fp32
// rows and states, a dim it takes. `pair` null: run r has the gradient of item r alone.
bool CanUpdateRuns(const TableBackward& work, const MatrixUpdate& update);
void UpdateRunsInRegisters(const TableBackward& work, const PlanRuns& runs, const uint32_t* pair,
                           const MatrixUpdate& update, const Executor& executor);

// The zeros of a dense gradient, and ids and count of a compressed one. n_rows: of the table.
void StartGradient(const GradOut& out, const PlanRuns& runs, int64_t n_rows, int64_t dim,
                   const Executor& executor);

}  // namespace resembed::detail
