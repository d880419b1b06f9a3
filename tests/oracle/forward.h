// SPDX-License-Identifier: Apache-2.0
// Forward, and statistics of interests, in float64: plain loops over the equations, with a bound on what fp32
// may differ by. Nothing is shared with the library.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/oracle/backward.h"

namespace resembed::testing {

// A value and how far a correct fp32 result may lie from it: (terms + roundings) * 2^-24 * sum of magnitudes,
// and for attention what the rounding of its dot products does to the weights.
struct Bounded {
  double value = 0, magnitude = 0, error = 0;
};
using BoundedRow = std::vector<Bounded>;

// e_i = sum_k w_ik C[n_ik] + R[i].
BoundedRow OracleItem(const OracleTable& table, int64_t item);

struct OracleOutput {
  std::vector<BoundedRow> rows;              // y, before rounding to the output type
  std::vector<std::vector<int64_t>> argmax;  // pooling max: position in the bag, -1 when empty
};
OracleOutput OracleForwardBounded(const OracleTable& table, const OracleFeature& feature);

// `error` widened by the rounding to nearest of the output type.
double OutputTolerance(const Bounded& sum, resembed_dtype dtype);

}  // namespace resembed::testing
