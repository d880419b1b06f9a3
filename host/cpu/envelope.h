// SPDX-License-Identifier: Apache-2.0
// Envelope statistics on the CPU. Items are grouped by interest (counting sort, item order inside a group).
//
// Means and sums of squares run in double, over pieces of 4096 members that meet in order; distances and
// norms are RowOps::dot in fp32. So the bits depend on neither threads nor instruction set.
#pragma once

#include <cstdint>

#include "host/cpu/row_ops.h"
#include "host/executor.h"
#include "host/workspace.h"
#include "resembed/resembed.h"

namespace resembed::detail::cpu {

struct EnvelopeWork {
  int64_t* starts;   // [n_interests + 1] of each interest's members in `members`
  int64_t* members;  // [n_items] items grouped by interest
  // By place in `members`:
  float* distance;       // to the interest's mean
  float* residual_norm;  // |R|
  float* central_norm;   // |central part|
  float* ratio;          // |R| / |central part|, NaN without a central part
  double* squares;       // [n_interests] sum of squared distances to the global mean
  double* sums;          // [pieces, dim] column sums of a long list's pieces
  double* mean;          // [dim] of a long list
  double* global_mean;   // [dim]
  double* task_mean;     // [tasks, dim]
  float* task_rows;      // [tasks, 2, dim]
  double* piece_totals;  // [pieces]
};

EnvelopeWork CarveEnvelope(const resembed_envelope_args& args, const resembed_table& table,
                           Workspace* workspace);

// Everything is checked; args.interest_of included.
void Envelope(const resembed_envelope_args& args, const resembed_table& table, const EnvelopeWork& work,
              const RowOps& ops, const Executor& executor);

}  // namespace resembed::detail::cpu
