// SPDX-License-Identifier: Apache-2.0
// Gradients of the library against the float64 oracle: tolerances from the number of terms and their magnitude.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {

inline constexpr double kEps = 0x1p-24;  // half a unit in the last place of fp32

// A sum of n rounded terms, each a product of a few factors: at most (n + factors) roundings of the magnitude.
inline double Tolerance(const OracleSum& sum, int64_t more_roundings) {
  return kEps * static_cast<double>(sum.n_terms + more_roundings) * sum.magnitude * 1.01 + 1e-37;
}

inline void ExpectRows(const Compressed& got, const std::map<int64_t, OracleRow>& want, int64_t dim,
                       int64_t roundings, const char* what) {
  std::vector<int64_t> ids;
  for (const auto& entry : want) ids.push_back(entry.first);
  ASSERT_EQ(got.ids, ids) << what;
  for (size_t index = 0; index < ids.size(); ++index) {
    const OracleRow& row = want.at(ids[index]);
    for (int64_t col = 0; col < dim; ++col) {
      const double value =
          static_cast<double>(got.rows[index * static_cast<size_t>(dim) + static_cast<size_t>(col)]);
      const OracleSum& sum = row[static_cast<size_t>(col)];
      ASSERT_NEAR(value, sum.value, Tolerance(sum, roundings))
          << what << " of row " << ids[index] << ", column " << col << ", " << sum.n_terms << " terms";
    }
  }
}

// Everything backward gives, against the oracle.
inline void ExpectMatchesOracle(const GradientProblem& problem, const Grads& got) {
  const OracleGrads want = OracleBackward(problem.OracleTables(), problem.OracleFeatures());
  int64_t n_uses = 0;
  for (const auto& feature : problem.features) n_uses += feature->descriptor.n_ids;
  bool attends = false;  // pooling attention: each p is of dots over dim, of exp and of a sum over the bag
  for (const auto& feature : problem.features) {
    attends = attends || feature->spec.pooling == RESEMBED_POOLING_ATTENTION;
  }
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    const TableSpec& spec = problem.tables[at]->spec;
    SCOPED_TRACE("table " + std::to_string(index));
    const int64_t pooling_roundings = attends ? 8 * (spec.dim + spec.n_neighbors) + 64 + n_uses : 0;
    if (spec.residual) {
      ExpectRows(got.tables[at].residual, want.tables[at].items, spec.dim, 8 + pooling_roundings, "dR");
    }
    if (spec.form == RESEMBED_CENTRAL_NONE) continue;
    // dE was rounded as a sum of its own; attention adds dots over dim, the softmax and exp.
    const bool attention = spec.form == RESEMBED_CENTRAL_ATTENTION;
    const int64_t roundings =
        8 + n_uses + pooling_roundings + (attention ? 8 * (spec.dim + spec.n_neighbors) + 64 : 0);
    ExpectRows(got.tables[at].central, want.tables[at].central, spec.dim, roundings, "dC");
    if (spec.form != RESEMBED_CENTRAL_STORED) continue;
    size_t unique = 0;
    for (const auto& [item, row] : want.tables[at].neighbor_weights) {
      for (int64_t slot = 0; slot < spec.n_neighbors; ++slot) {
        const double value = static_cast<double>(
            got.tables[at].neighbor_weights[unique * static_cast<size_t>(spec.n_neighbors) +
                                            static_cast<size_t>(slot)]);
        if (slot < static_cast<int64_t>(row.size())) {
          const OracleSum& sum = row[static_cast<size_t>(slot)];
          ASSERT_NEAR(value, sum.value, Tolerance(sum, spec.dim + n_uses)) << "dW of item " << item;
        } else {
          ASSERT_EQ(value, 0.0) << "dW past the list of item " << item;
        }
      }
      ++unique;
    }
  }
  for (size_t feature = 0; feature < problem.features.size(); ++feature) {
    const TableSpec& spec = problem.tables[static_cast<size_t>(problem.features[feature]->spec.table)]->spec;
    const auto expect_sums = [&](const std::vector<float>& values, const std::vector<OracleSum>& sums,
                                 const char* what) {
      if (values.empty()) return;
      ASSERT_EQ(values.size(), sums.size()) << what;
      for (size_t position = 0; position < values.size(); ++position) {
        const int64_t roundings = 8 * (spec.dim + spec.n_neighbors) + 64 + n_uses;
        ASSERT_NEAR(static_cast<double>(values[position]), sums[position].value,
                    Tolerance(sums[position], roundings))
            << what << " of feature " << feature << ", position " << position;
      }
    };
    expect_sums(got.queries[feature], want.queries[feature], "dq");
    expect_sums(got.scores[feature], want.scores[feature], "dz");
    for (size_t id = 0; id < got.sample_weights[feature].size(); ++id) {
      const OracleSum& sum = want.sample_weights[feature][id];
      // The embedding itself is a rounded sum of K + 1 rows; attention rounds its weights as well.
      const int64_t roundings =
          16 + spec.n_neighbors + (spec.form == RESEMBED_CENTRAL_ATTENTION ? 8 * spec.dim : 0);
      const double slack = kEps * static_cast<double>(roundings * spec.dim) * 4;
      ASSERT_NEAR(static_cast<double>(got.sample_weights[feature][id]), sum.value,
                  Tolerance(sum, roundings) + slack)
          << "dL/da of feature " << feature << ", id " << id;
    }
  }
}

}  // namespace resembed::testing
