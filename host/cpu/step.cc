// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/step.h"

#include <atomic>
#include <cstring>

#include "host/cpu/tasks.h"

namespace resembed::detail {
namespace {

constexpr int64_t kRowsPerTask = 256;
constexpr int64_t kRowsAhead = 8;

float* TaskScratch(const MatrixUpdate& update, float* scratch, int64_t task) {
  return scratch + task * (kUpdateScratchRows + 1) * PaddedDim(update.dim);
}

void CountSkipped(const MatrixUpdate& update, int64_t n) {
  if (update.n_skipped != nullptr) *update.n_skipped += n;
}

// 16-bit rows or states: widened, updated, rounded.
bool UpdateConverted(const MatrixUpdate& update, int64_t id, char* row, char* state1, char* state2,
                     const float* gradient, float* scratch) {
  const int64_t padded = PaddedDim(update.dim);
  float* const row32 = scratch;
  float* const state1_32 = scratch + padded;
  float* const state2_32 = scratch + 2 * padded;
  const auto widen = [&](float* to, const char* from, resembed_dtype dtype, int64_t n) {
    if (from != nullptr) update.row_ops->set_scaled(to, 1.0f, from, dtype, n);
  };
  widen(row32, row, update.dtype, update.dim);
  widen(state1_32, state1, update.state_dtype, update.state1_dim);
  widen(state2_32, state2, update.state_dtype, update.state2_dim);
  if (!update.ops->update(update.rule, gradient, row32, state1_32, state2_32, update.dim)) return false;
  if (update.stochastic) {
    RoundingStream random = update.random;
    random.row = id;
    StoreStochastic(row, update.dtype, row32, update.dim, random);
  } else {
    update.row_ops->store(row, update.dtype, row32, update.dim);
  }
  if (state1 != nullptr) update.row_ops->store(state1, update.state_dtype, state1_32, update.state1_dim);
  if (state2 != nullptr) update.row_ops->store(state2, update.state_dtype, state2_32, update.state2_dim);
  return true;
}

}  // namespace

bool UpdateRow(const MatrixUpdate& update, int64_t id, const float* gradient, float* scratch) {
  const int64_t index = update.RowOf(id);
  if (index < 0) return true;
  char* const row = update.rows + index * update.row_pitch;
  char* const state1 = update.state1 == nullptr ? nullptr : update.state1 + index * update.state1_pitch;
  char* const state2 = update.state2 == nullptr ? nullptr : update.state2 + index * update.state2_pitch;
  if (!update.plain) return UpdateConverted(update, id, row, state1, state2, gradient, scratch);
  return update.ops->update(update.rule, gradient, reinterpret_cast<float*>(row),
                            reinterpret_cast<float*>(state1), reinterpret_cast<float*>(state2), update.dim);
}

template <typename IdT>
void UpdateOtherRows(const MatrixUpdate& update, const IdT* ids, int64_t n, float* scratch,
                     const Executor& executor) {
  const int64_t n_tasks = TaskCount(executor, update.n_ids, kRowsPerTask);
  std::atomic<int64_t> skipped{0};
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(update.n_ids, n_tasks, task);
    float* const own = TaskScratch(update, scratch, task);
    float* const zeros = own + kUpdateScratchRows * PaddedDim(update.dim);
    std::memset(zeros, 0, static_cast<size_t>(update.dim) * sizeof(float));
    int64_t next = std::lower_bound(ids, ids + n, static_cast<IdT>(range.first)) - ids;
    int64_t bad = 0;
    for (int64_t id = range.first; id < range.last; ++id) {
      if (next < n && ids[next] == id) {
        ++next;
      } else {
        bad += !UpdateRow(update, id, zeros, own);
      }
    }
    skipped.fetch_add(bad, std::memory_order_relaxed);
  });
  CountSkipped(update, skipped.load());
}

template void UpdateOtherRows<int32_t>(const MatrixUpdate&, const int32_t*, int64_t, float*, const Executor&);
template void UpdateOtherRows<int64_t>(const MatrixUpdate&, const int64_t*, int64_t, float*, const Executor&);

void UpdateMatrix(const MatrixUpdate& update, const GradRows& grad, float* scratch,
                  const Executor& executor) {
  const bool dense = grad.ids == nullptr;
  const int64_t n = dense ? update.n_ids : grad.n_rows;
  const int64_t n_tasks = TaskCount(executor, n, kRowsPerTask);
  std::atomic<int64_t> skipped{0};
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(n, n_tasks, task);
    float* const own = TaskScratch(update, scratch, task);
    int64_t bad = 0;
    for (int64_t index = range.first; index < range.last; ++index) {
      if (!dense && index + kRowsAhead < range.last) PrefetchRow(update, grad.ids[index + kRowsAhead]);
      const int64_t id = dense ? index : grad.ids[index];
      const int64_t grad_row = dense ? update.RowOf(id) : index;
      if (grad_row < 0) continue;
      bad += !UpdateRow(update, id, grad.rows + grad_row * grad.stride, own);
    }
    skipped.fetch_add(bad, std::memory_order_relaxed);
  });
  CountSkipped(update, skipped.load());
  if (!dense && update.whole_table) UpdateOtherRows(update, grad.ids, grad.n_rows, scratch, executor);
}

}  // namespace resembed::detail
