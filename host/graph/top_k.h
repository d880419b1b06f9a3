// SPDX-License-Identifier: Apache-2.0
// The K best neighbors of a row, one candidate after the other.
#pragma once

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail {

// Places [0, k) of one row: neighbor -1 and count 0 past the end.
struct RowSlots {
  int32_t* neighbors;
  int64_t* counts;
  double* scores;  // null: the count is the score
};

// Best score first. Partners of a row come in increasing order, so an equal score stays behind those already
// there: ties go to the lower item.
inline void InsertNeighbor(const RowSlots& row, int32_t k, int32_t item, int64_t count, double score) {
  const auto better_than = [&](int32_t slot) {
    return row.neighbors[slot] < 0 ||
           (row.scores == nullptr ? row.counts[slot] < count : row.scores[slot] < score);
  };
  int32_t slot = k - 1;
  if (k == 0 || !better_than(slot)) return;
  for (; slot > 0 && better_than(slot - 1); --slot) {
    row.neighbors[slot] = row.neighbors[slot - 1];
    row.counts[slot] = row.counts[slot - 1];
    if (row.scores != nullptr) row.scores[slot] = row.scores[slot - 1];
  }
  row.neighbors[slot] = item;
  row.counts[slot] = count;
  if (row.scores != nullptr) row.scores[slot] = score;
}

// Slot 0 of a row becomes the item itself; see resembed_graph_options.self_loop.
inline void PutSelfLoop(int32_t item, int64_t self_loop, int32_t k, int32_t* neighbors, int64_t* counts) {
  int64_t count = self_loop;
  for (int32_t slot = 1; self_loop < 0 && slot < k; ++slot)
    count = counts[slot] > count ? counts[slot] : count;
  neighbors[0] = item;
  counts[0] = count > 0 ? count : 1;
}

// Checks of the options, in the order of their fields.
resembed_status CheckGraphOptions(const char* op, const resembed_graph_options& options);

}  // namespace resembed::detail
