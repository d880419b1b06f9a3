// SPDX-License-Identifier: Apache-2.0
// Backward in float64, written as the equations are: one plain loop a line of method.md 3 and 7. Nothing is sorted,
// nothing is shared with the library.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::testing {

struct OracleTable {
  int64_t n_items = 0, dim = 0;
  resembed_central_form form = RESEMBED_CENTRAL_NONE;
  bool has_residual = false;
  std::vector<double> residual;  // [n_items, dim], already mapped; rows of zeros where an item has none
  std::vector<double> central;   // [central_rows, dim]
  std::vector<std::vector<int>> neighbors;   // [n_items]; assignment: one center or none
  std::vector<std::vector<double>> weights;  // [n_items], stored form
};

struct OracleFeature {
  int32_t table = 0;
  resembed_pooling pooling = RESEMBED_POOLING_SUM;
  std::vector<int64_t> ids;
  std::vector<int64_t> offsets;  // [n_bags + 1]; pooling NONE: not used
  std::vector<double> weights;   // empty = all 1
  bool has_padding = false;
  int64_t padding_id = 0;
  bool has_grad = true;
  std::vector<double> grad;   // dL/dy
  std::vector<double> query;  // [n_bags, dim], pooling attention
  resembed_attention_activation activation = RESEMBED_ATTENTION_SOFTMAX;
  double scale = 1;

  int64_t n_rows() const {
    return static_cast<int64_t>(pooling == RESEMBED_POOLING_NONE ? ids.size() : offsets.size() - 1);
  }
};

// A sum and what bounds its rounding error: the sum of the magnitudes of its terms.
struct OracleSum {
  double value = 0, magnitude = 0;
  int64_t n_terms = 0;
  void Add(double term) { Add(term, term < 0 ? -term : term); }
  void Add(double term, double term_magnitude) {
    value += term;
    magnitude += term_magnitude;
    ++n_terms;
  }
};
using OracleRow = std::vector<OracleSum>;

struct OracleTableGrad {
  std::map<int64_t, OracleRow> items;             // dE of every item of the batch (= dR)
  std::map<int64_t, OracleRow> central;           // dC of every central row the batch touches
  std::map<int64_t, OracleRow> neighbor_weights;  // item -> [its neighbors]
};

struct OracleGrads {
  std::vector<OracleTableGrad> tables;
  std::vector<std::vector<OracleSum>> sample_weights;  // [features][ids]
  std::vector<std::vector<OracleSum>> queries;         // [features][n_bags * dim], pooling attention
  std::vector<std::vector<OracleSum>> scores;          // [features][ids]
};

// Target attention over the ids [first, last) of a bag.
struct OracleBagAttention {
  std::vector<double> p;       // [last - first], 0 where an id takes no part
  double score_magnitude = 0;  // largest scale * sum_c |q_c e_c|: what the rounding of scores is relative to
};
OracleBagAttention OracleAttend(const OracleTable& table, const OracleFeature& feature, int64_t bag);

// e of one item.
std::vector<double> OracleEmbedding(const OracleTable& table, int64_t item);
// Softmax weights of an item's neighbors.
std::vector<double> OracleAttention(const OracleTable& table, int64_t item);
// y of one feature.
std::vector<double> OracleForward(const OracleTable& table, const OracleFeature& feature);
// sum over features of <grad, y>: the function whose derivatives backward computes.
double OracleLoss(const std::vector<OracleTable>& tables, const std::vector<OracleFeature>& features);

OracleGrads OracleBackward(const std::vector<OracleTable>& tables,
                           const std::vector<OracleFeature>& features);

}  // namespace resembed::testing
