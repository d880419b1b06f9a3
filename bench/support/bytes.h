// SPDX-License-Identifier: Apache-2.0
// How many bytes an operation moves. Logical: every use counted. Compulsory: what has to be read or written
// at least once, that is unique rows.
#pragma once

#include <cstdint>

namespace resembed::bench {

// One batch over one table.
struct BatchShape {
  int64_t n_bags = 0, n_ids = 0, dim = 0;
  int64_t n_unique = 0;          // distinct items
  int64_t n_central = 0;         // central rows over all ids (8 n_ids for full lists of 8)
  int64_t n_unique_central = 0;  // distinct central rows
  int64_t list_bytes = 0;  // an item's map: K * 4 for neighbors, K * 8 with stored weights, 4 for a center
  int64_t id_bytes = 4;
  int64_t residual_bytes = 4, central_bytes = 4, output_bytes = 4;  // of an element
  bool weighted = false;                                            // per-sample weights
};

struct ForwardBytes {
  int64_t rows;   // rows of R and C, the items' lists and their weights: what the read limit is compared with
  int64_t total;  // and ids, offsets, per-sample weights, outputs
};

inline int64_t BagBytes(const BatchShape& s) {
  return s.n_ids * (s.id_bytes + (s.weighted ? 4 : 0)) + (s.n_bags + 1) * s.id_bytes +
         s.n_bags * s.dim * s.output_bytes;
}

inline ForwardBytes LogicalForward(const BatchShape& s) {
  const int64_t rows =
      s.n_ids * (s.dim * s.residual_bytes + s.list_bytes) + s.n_central * s.dim * s.central_bytes;
  return {rows, rows + BagBytes(s)};
}

inline ForwardBytes CompulsoryForward(const BatchShape& s) {
  const int64_t rows =
      s.n_unique * (s.dim * s.residual_bytes + s.list_bytes) + s.n_unique_central * s.dim * s.central_bytes;
  return {rows, rows + BagBytes(s)};
}

// What one optimizer keeps: floats per row and per element.
struct StateShape {
  int64_t row_floats = 0, element_floats = 0;
};

// Backward and step: unique rows of R and C read and written, their state read and written, the output
// gradient read once.
inline int64_t CompulsoryUpdate(const BatchShape& s, const StateShape& state) {
  const int64_t state_bytes = 4 * (state.row_floats + state.element_floats * s.dim);
  return 2 * s.n_unique * (s.dim * s.residual_bytes + state_bytes) +
         2 * s.n_unique_central * (s.dim * s.central_bytes + state_bytes) + s.n_bags * s.dim * s.output_bytes;
}

// The same with a gradient row read for every use of an item.
inline int64_t LogicalUpdate(const BatchShape& s, const StateShape& state) {
  return CompulsoryUpdate(s, state) + (s.n_ids - s.n_bags) * s.dim * s.output_bytes;
}

// Counting item pairs of a log and keeping each item's K largest counts, by the obvious bounded-memory way: keys of
// two items, sorted by radix, equal ones summed.
struct GraphShape {
  int64_t n_interactions = 0, length = 0;  // of a sequence
  int64_t n_items = 0, n_pairs = 0;        // distinct ones
  int32_t window = 0, k = 0;
};

// Pairs of positions within a window, in sequences of equal length; two of the same item count, too.
inline int64_t PairUses(const GraphShape& s) {
  int64_t in_one = 0;
  for (int64_t distance = 1; distance <= s.window && distance < s.length; ++distance) {
    in_one += s.length - distance;
  }
  return s.n_interactions / s.length * in_one;
}

// Digits of 11 bits in two items: the passes of a radix sort.
inline int64_t SortPasses(int64_t n_items) {
  int64_t bits = 1;
  while (int64_t{1} << bits < n_items) ++bits;
  return (2 * bits + 10) / 11;
}

// The log read once; a key of 8 bytes written once, read and written by each pass, read once more; a distinct pair of
// 16 bytes written once.
inline int64_t CountBytes(const GraphShape& s) {
  return 4 * s.n_interactions + 8 * (s.n_interactions / s.length + 1) +
         PairUses(s) * 16 * (1 + SortPasses(s.n_items)) + 16 * s.n_pairs;
}

// A distinct pair read once, which changes the list (12 bytes a slot) of its higher item, anywhere in memory; the list of
// its lower item, which stays until the next one, counts once.
inline int64_t TopKBytes(const GraphShape& s) {
  return 16 * s.n_pairs + 2 * 12 * int64_t{s.k} * (s.n_pairs + s.n_items);
}

}  // namespace resembed::bench
