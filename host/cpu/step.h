// SPDX-License-Identifier: Apache-2.0
// One optimizer update of the rows of one matrix (R or C).
#pragma once

#include <cstdint>

#include "host/cpu/row_ops.h"
#include "host/cpu/step_ops.h"
#include "host/executor.h"
#include "host/philox.h"
#include "host/workspace.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// One matrix and its optimizer, everything resolved (host/optimizer.h). Rows are named by ids: item ids for R,
// central rows for C.
struct MatrixUpdate {
  UpdateRule rule;
  const StepOps* ops;
  const RowOps* row_ops;
  int64_t dim;
  int64_t n_ids;
  const int32_t* row_of;  // R: [n_ids] id -> row, -1 = none; null = identity
  char* rows;
  int64_t row_pitch;  // bytes
  resembed_dtype dtype;
  resembed_dtype state_dtype;
  char* state1;  // null where the kind has none
  char* state2;
  int64_t state1_pitch, state2_pitch;  // bytes
  int64_t state1_dim, state2_dim;      // dim, or 1 for one number a row
  bool plain;                          // fp32 rows and states: updated in place
  bool stochastic;                     // 16-bit rows
  bool whole_table;
  RoundingStream random;  // of row 0
  int64_t* n_skipped;     // or null

  int64_t RowOf(int64_t id) const { return row_of == nullptr ? id : row_of[id]; }
};

// Floats of scratch one task needs.
constexpr int64_t kUpdateScratchRows = 3;

// A gradient in memory: row `index` of a compressed one belongs to ids[index], of a dense one to that row.
struct GradRows {
  const float* rows;
  int64_t stride;
  const int64_t* ids;  // null = dense
  int64_t n_rows;
};

// Updates the row of `id`; an id without a row is passed over. scratch: [kUpdateScratchRows * dim]. False: the
// gradient is not finite, the row is left alone.
bool UpdateRow(const MatrixUpdate& update, int64_t id, const float* gradient, float* scratch);

// Asks for the row of `id` and its state, for writing.
__attribute__((always_inline)) inline void PrefetchForWrite(const char* first, int64_t bytes) {
  for (const char* line = first - (reinterpret_cast<uintptr_t>(first) & 63); line < first + bytes;
       line += 64) {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*line));  // __builtin_prefetch asks for it only with -mprfchw
#else
    __builtin_prefetch(line, 1, 3);
#endif
  }
}
__attribute__((always_inline)) inline void PrefetchRow(const MatrixUpdate& update, int64_t id) {
  const int64_t row = update.RowOf(id);
  if (row < 0) return;
  PrefetchForWrite(update.rows + row * update.row_pitch, update.dim * ElementBytes(update.dtype));
  if (update.state1 != nullptr) {
    PrefetchForWrite(update.state1 + row * update.state1_pitch,
                     update.state1_dim * ElementBytes(update.state_dtype));
  }
  if (update.state2 != nullptr) {
    PrefetchForWrite(update.state2 + row * update.state2_pitch,
                     update.state2_dim * ElementBytes(update.state_dtype));
  }
}

// Rows of a gradient, and with whole_table (or a dense gradient) every other row of the table with gradient 0.
// scratch: [kMaxTasks * (kUpdateScratchRows + 1) * padded dim].
void UpdateMatrix(const MatrixUpdate& update, const GradRows& grad, float* scratch, const Executor& executor);

// whole_table: the rows whose ids are not among ids[0, n) (increasing), with gradient 0.
template <typename IdT>
void UpdateOtherRows(const MatrixUpdate& update, const IdT* ids, int64_t n, float* scratch,
                     const Executor& executor);

}  // namespace resembed::detail
