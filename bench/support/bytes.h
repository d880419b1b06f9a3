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

}  // namespace resembed::bench
