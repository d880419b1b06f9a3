// SPDX-License-Identifier: Apache-2.0
// What plan, backward and step of one batch have to move, table by table: the compulsory bytes that times on a GPU are
// held against. Beside bench/support/bytes.h, whose states are fp32.
#pragma once

#include <cstdint>

#include "bench/support/bytes.h"

namespace resembed::bench {

struct StepShape {
  BatchShape batch;  // n_bags: rows of output gradient, output_bytes: of one of its elements
  int64_t row_states = 0, element_states = 0, state_bytes = 4;  // numbers a row, numbers an element
  int64_t key_bits = 0;                                         // of the plan's sort
  int64_t n_pairs = 0;                                          // (unique item, slot) that name a central row
};

// Output gradients, each row once.
inline int64_t GradientBytes(const StepShape& s) {
  return s.batch.n_bags * s.batch.dim * s.batch.output_bytes;
}

// Output gradients, a row for every use of an item: from the second-level cache where the batch repeats.
inline int64_t LogicalGradientBytes(const StepShape& s) {
  return s.batch.n_ids * s.batch.dim * s.batch.output_bytes;
}

// Gradients in, compressed gradients of R and C out in fp32 with their ids.
inline int64_t CompulsoryBackward(const StepShape& s) {
  return GradientBytes(s) + (s.batch.n_unique + s.batch.n_unique_central) * (s.batch.dim * 4 + 8);
}

// Gradients in, unique rows of R and C and their states read and written.
inline int64_t CompulsoryBackwardStep(const StepShape& s) {
  const int64_t states = s.state_bytes * (s.row_states + s.element_states * s.batch.dim);
  return GradientBytes(s) + 2 * s.batch.n_unique * (s.batch.dim * s.batch.residual_bytes + states) +
         2 * s.batch.n_unique_central * (s.batch.dim * s.batch.central_bytes + states);
}

// Second level over neighbor lists: a gradient row of fp32 for every pair, and one of every unique item besides.
inline int64_t NeighborBytes(const StepShape& s) { return (s.n_pairs + s.batch.n_unique) * s.batch.dim * 4; }

// A radix sort of n pairs of 32 bits each: 8 bits of the key a pass, every pass reads and writes them; one more read of
// the keys counts all digits.
inline int64_t SortBytes(int64_t n, int64_t key_bits) { return n * (4 + 16 * ((key_bits + 7) / 8)); }

// Ids in, keys and uses out, the sort, then uses, their rows and the item of every use out.
inline int64_t PlanBytes(const StepShape& s) {
  return s.batch.n_ids * (s.batch.id_bytes + 8) + SortBytes(s.batch.n_ids, s.key_bits) +
         s.batch.n_ids * (8 + 12) + s.batch.n_unique * 8;
}

// Least time for the gradients of a batch that repeats items: unique bytes at the copy's rate, or every use's row at
// the rate of the second-level cache, whichever is more. Rates in GB/s.
inline double LeastBackwardSeconds(const StepShape& s, double copy_gbps, double l2_gbps) {
  const double memory = 1e-9 * static_cast<double>(CompulsoryBackward(s)) / copy_gbps;
  const double cache = 1e-9 * static_cast<double>(LogicalGradientBytes(s)) / l2_gbps;
  return memory > cache ? memory : cache;
}

}  // namespace resembed::bench
