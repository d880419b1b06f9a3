// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/forward.h"

#include <algorithm>
#include <cmath>

namespace resembed::testing {
namespace {

constexpr double kUnit = 0x1p-24;  // half an ulp of 1 in fp32

double Central(const OracleTable& table, int64_t row, int64_t col) {
  return table.central[static_cast<size_t>(row * table.dim + col)];
}

struct Weight {
  double value, relative_error;
};

std::vector<Weight> Weights(const OracleTable& table, int64_t item) {
  const std::vector<int>& list = table.neighbors[static_cast<size_t>(item)];
  std::vector<Weight> weights(list.size(), {1.0, 0.0});
  if (table.form == RESEMBED_CENTRAL_UNIFORM) {
    for (Weight& weight : weights) weight = {1.0 / static_cast<double>(list.size()), kUnit};
  } else if (table.form == RESEMBED_CENTRAL_STORED) {
    for (size_t k = 0; k < list.size(); ++k) weights[k] = {table.weights[static_cast<size_t>(item)][k], 0.0};
  } else if (table.form == RESEMBED_CENTRAL_ATTENTION && !list.empty()) {
    std::vector<double> scores;
    double score_error = 0;
    for (const int neighbor : list) {
      double score = 0, magnitude = 0;
      for (int64_t col = 0; col < table.dim; ++col) {
        const double term = Central(table, item, col) * Central(table, neighbor, col);
        score += term;
        magnitude += std::fabs(term);
      }
      // dim / 32 sums in a lane, five levels of the tree, one product.
      score_error = std::max(score_error, (static_cast<double>(table.dim) / 32 + 8) * kUnit * magnitude);
      scores.push_back(score);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double score : scores) sum += std::exp(score - largest);
    for (size_t k = 0; k < list.size(); ++k) {
      const double distance = std::fabs(scores[k] - largest);
      weights[k] = {std::exp(scores[k] - largest) / sum,
                    4 * score_error + (distance + static_cast<double>(list.size()) + 8) * kUnit};
    }
  }
  return weights;
}

}  // namespace

BoundedRow OracleItem(const OracleTable& table, int64_t item) {
  BoundedRow row(static_cast<size_t>(table.dim));
  const std::vector<int>& list = table.neighbors[static_cast<size_t>(item)];
  const std::vector<Weight> weights = Weights(table, item);
  for (int64_t col = 0; col < table.dim; ++col) {
    Bounded& e = row[static_cast<size_t>(col)];
    for (size_t k = 0; k < list.size(); ++k) {
      const double term = weights[k].value * Central(table, list[k], col);
      e.value += term;
      e.magnitude += std::fabs(term);
      e.error += std::fabs(term) * weights[k].relative_error;
    }
    if (table.has_residual) {
      const double term = table.residual[static_cast<size_t>(item * table.dim + col)];
      e.value += term;
      e.magnitude += std::fabs(term);
    }
    e.error += static_cast<double>(list.size() + 2) * kUnit * e.magnitude;
  }
  return row;
}

OracleOutput OracleForwardBounded(const OracleTable& table, const OracleFeature& feature) {
  OracleOutput out;
  const bool pooled = feature.pooling != RESEMBED_POOLING_NONE;
  for (int64_t bag = 0; bag < feature.n_rows(); ++bag) {
    const int64_t first = pooled ? feature.offsets[static_cast<size_t>(bag)] : bag;
    const int64_t last = pooled ? feature.offsets[static_cast<size_t>(bag) + 1] : bag + 1;
    BoundedRow y(static_cast<size_t>(table.dim));
    std::vector<int64_t> argmax(static_cast<size_t>(table.dim), -1);
    int64_t count = 0;
    const bool attends = feature.pooling == RESEMBED_POOLING_ATTENTION;
    OracleBagAttention attention;
    double score_error = 0;
    if (attends) {
      attention = OracleAttend(table, feature, bag);
      // Of the dot product, and of the items in it.
      double item_error = 0;
      for (int64_t at = first; at < last; ++at) {
        const int64_t id = feature.ids[static_cast<size_t>(at)];
        if (id < 0 || id >= table.n_items) continue;
        const BoundedRow e = OracleItem(table, id);
        double error = 0;
        for (int64_t col = 0; col < table.dim; ++col) {
          error += std::fabs(feature.query[static_cast<size_t>(bag * table.dim + col)]) *
                   e[static_cast<size_t>(col)].error;
        }
        item_error = std::max(item_error, error);
      }
      score_error = std::fabs(feature.scale) * item_error +
                    (static_cast<double>(table.dim) / 32 + 10) * kUnit * attention.score_magnitude;
    }
    for (int64_t at = first; at < last; ++at) {
      const int64_t id = feature.ids[static_cast<size_t>(at)];
      if (id < 0 || id >= table.n_items || (feature.has_padding && id == feature.padding_id)) continue;
      const BoundedRow e = OracleItem(table, id);
      double a = feature.weights.empty() ? 1.0 : feature.weights[static_cast<size_t>(at)];
      double relative_error = 0;
      if (attends) {
        a = attention.p[static_cast<size_t>(at - first)];
        // Of the scores, of exp, of the sum it is divided by and of the rescaling, once for 8 items at most.
        relative_error = 2 * score_error +
                         kUnit * (3 * static_cast<double>(last - first) + 64 + 8 * attention.score_magnitude);
      }
      ++count;
      for (size_t col = 0; col < y.size(); ++col) {
        if (feature.pooling == RESEMBED_POOLING_MAX) {
          const bool wins = argmax[col] < 0 || e[col].value > y[col].value ||
                            (std::isnan(e[col].value) && !std::isnan(y[col].value));
          const double error = std::max(y[col].error, e[col].error);
          if (wins) {
            y[col] = e[col];
            argmax[col] = at - first;
          }
          y[col].error = error;
        } else {
          y[col].value += a * e[col].value;
          y[col].magnitude += std::fabs(a) * e[col].magnitude;
          y[col].error += std::fabs(a) * (e[col].error + relative_error * e[col].magnitude);
        }
      }
    }
    for (size_t col = 0; col < y.size() && feature.pooling != RESEMBED_POOLING_MAX; ++col) {
      y[col].error += static_cast<double>(count + 2) * kUnit * y[col].magnitude;
      if (feature.pooling == RESEMBED_POOLING_MEAN && count > 0) {
        y[col].value /= static_cast<double>(count);
        y[col].magnitude /= static_cast<double>(count);
        y[col].error = y[col].error / static_cast<double>(count) + 2 * kUnit * y[col].magnitude;
      }
    }
    out.rows.push_back(std::move(y));
    out.argmax.push_back(std::move(argmax));
  }
  return out;
}

double OutputTolerance(const Bounded& sum, resembed_dtype dtype) {
  const double size = std::fabs(sum.value) + sum.error;
  if (dtype == RESEMBED_F16) return sum.error + size * 0x1p-11 + 0x1p-25;
  if (dtype == RESEMBED_BF16) return sum.error + size * 0x1p-8;
  return sum.error + 0x1p-149;
}

}  // namespace resembed::testing
