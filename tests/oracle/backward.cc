// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/backward.h"

#include <algorithm>
#include <cmath>

namespace resembed::testing {
namespace {

size_t At(int64_t row, int64_t dim, int64_t col) { return static_cast<size_t>(row * dim + col); }

bool TakesPart(const OracleTable& table, const OracleFeature& feature, int64_t id) {
  return id >= 0 && id < table.n_items && !(feature.has_padding && id == feature.padding_id);
}

double Dot(const std::vector<double>& central, int64_t a, int64_t b, int64_t dim) {
  double sum = 0;
  for (int64_t col = 0; col < dim; ++col) sum += central[At(a, dim, col)] * central[At(b, dim, col)];
  return sum;
}

std::vector<double> WeightsOf(const OracleTable& table, int64_t item) {
  const auto& list = table.neighbors[static_cast<size_t>(item)];
  switch (table.form) {
    case RESEMBED_CENTRAL_UNIFORM:
      return std::vector<double>(list.size(), 1.0 / static_cast<double>(list.size()));
    case RESEMBED_CENTRAL_STORED:
      return table.weights[static_cast<size_t>(item)];
    case RESEMBED_CENTRAL_ATTENTION:
      return OracleAttention(table, item);
    default:
      return std::vector<double>(list.size(), 1.0);
  }
}

struct Bag {
  int64_t row, first, last, count;  // count: ids that take part
};

std::vector<Bag> BagsOf(const OracleTable& table, const OracleFeature& feature) {
  std::vector<Bag> bags;
  for (int64_t row = 0; row < feature.n_rows(); ++row) {
    Bag bag = {row, row, row + 1, 0};
    if (feature.pooling != RESEMBED_POOLING_NONE) {
      bag.first = feature.offsets[static_cast<size_t>(row)];
      bag.last = feature.offsets[static_cast<size_t>(row) + 1];
    }
    for (int64_t at = bag.first; at < bag.last; ++at) {
      bag.count += TakesPart(table, feature, feature.ids[static_cast<size_t>(at)]);
    }
    bags.push_back(bag);
  }
  return bags;
}

double WeightAt(const OracleFeature& feature, int64_t at) {
  return feature.weights.empty() ? 1.0 : feature.weights[static_cast<size_t>(at)];
}

// Position of the id that holds the maximum of a column of a bag: the first one, NaN wins; -1 in an empty bag.
std::vector<int64_t> MaxPositions(const OracleTable& table, const OracleFeature& feature, const Bag& bag) {
  std::vector<int64_t> where(static_cast<size_t>(table.dim), -1);
  std::vector<double> best(static_cast<size_t>(table.dim));
  for (int64_t at = bag.first; at < bag.last; ++at) {
    const int64_t id = feature.ids[static_cast<size_t>(at)];
    if (!TakesPart(table, feature, id)) continue;
    const std::vector<double> e = OracleEmbedding(table, id);
    for (size_t col = 0; col < e.size(); ++col) {
      if (where[col] < 0 || e[col] > best[col] || (std::isnan(e[col]) && !std::isnan(best[col]))) {
        best[col] = e[col];
        where[col] = at;
      }
    }
  }
  return where;
}

// Pooling attention: de_t = p_t dy + dz_t q; dz_t = scale p_t (dp_t - D) or scale p_t (1 - p_t) dp_t; dq = sum dz_t e_t.
// What rounding makes of a score is relative to the score's magnitude, and so is p: magnitudes grow by that.
void AddAttentionUses(const OracleTable& table, const OracleFeature& feature, OracleTableGrad* out,
                      std::vector<OracleSum>* queries, std::vector<OracleSum>* scores) {
  const int64_t dim = table.dim;
  const bool softmax = feature.activation == RESEMBED_ATTENTION_SOFTMAX;
  for (const Bag& bag : BagsOf(table, feature)) {
    const OracleBagAttention attention = OracleAttend(table, feature, bag.row);
    const double growth = 1 + 2 * attention.score_magnitude;
    std::vector<double> dp(attention.p.size()), dp_magnitude(attention.p.size());
    double mean = 0, mean_magnitude = 0;
    for (int64_t at = bag.first; at < bag.last; ++at) {
      const int64_t id = feature.ids[static_cast<size_t>(at)];
      if (!TakesPart(table, feature, id)) continue;
      const std::vector<double> e = OracleEmbedding(table, id);
      const auto index = static_cast<size_t>(at - bag.first);
      for (int64_t col = 0; col < dim; ++col) {
        const double term = feature.grad[At(bag.row, dim, col)] * e[static_cast<size_t>(col)];
        dp[index] += term;
        dp_magnitude[index] += std::abs(term);
      }
      mean += attention.p[index] * dp[index];
      mean_magnitude += attention.p[index] * dp_magnitude[index];
    }
    for (int64_t at = bag.first; at < bag.last; ++at) {
      const int64_t id = feature.ids[static_cast<size_t>(at)];
      if (!TakesPart(table, feature, id)) continue;
      const std::vector<double> e = OracleEmbedding(table, id);
      const auto index = static_cast<size_t>(at - bag.first);
      const double p = attention.p[index];
      const double slope = feature.scale * p * (softmax ? dp[index] - mean : (1 - p) * dp[index]);
      const double slope_magnitude =
          std::abs(feature.scale) * p * growth * (dp_magnitude[index] + (softmax ? mean_magnitude : 0));
      (*scores)[static_cast<size_t>(at)].Add(slope, slope_magnitude);
      OracleRow& row = out->items[id];
      row.resize(static_cast<size_t>(dim));
      for (int64_t col = 0; col < dim; ++col) {
        const double dy = feature.grad[At(bag.row, dim, col)], q = feature.query[At(bag.row, dim, col)];
        row[static_cast<size_t>(col)].Add(p * dy, p * growth * std::abs(dy));
        row[static_cast<size_t>(col)].Add(slope * q, slope_magnitude * std::abs(q));
        (*queries)[At(bag.row, dim, col)].Add(slope * e[static_cast<size_t>(col)],
                                              slope_magnitude * std::abs(e[static_cast<size_t>(col)]));
      }
    }
  }
}

void AddUses(const OracleTable& table, const OracleFeature& feature, OracleTableGrad* out,
             std::vector<OracleSum>* sample_weights) {
  const int64_t dim = table.dim;
  for (const Bag& bag : BagsOf(table, feature)) {
    std::vector<int64_t> where;
    if (feature.pooling == RESEMBED_POOLING_MAX) where = MaxPositions(table, feature, bag);
    for (int64_t at = bag.first; at < bag.last; ++at) {
      const int64_t id = feature.ids[static_cast<size_t>(at)];
      if (!TakesPart(table, feature, id)) continue;
      OracleRow& row = out->items[id];
      row.resize(static_cast<size_t>(dim));
      if (!feature.has_grad) continue;
      const double divisor = feature.pooling == RESEMBED_POOLING_MEAN ? static_cast<double>(bag.count) : 1.0;
      const std::vector<double> e = OracleEmbedding(table, id);
      OracleSum& weight_grad = (*sample_weights)[static_cast<size_t>(at)];
      for (int64_t col = 0; col < dim; ++col) {
        const double dy = feature.grad[At(bag.row, dim, col)];
        if (feature.pooling == RESEMBED_POOLING_MAX) {
          if (where[static_cast<size_t>(col)] == at) row[static_cast<size_t>(col)].Add(dy);
          continue;
        }
        row[static_cast<size_t>(col)].Add(WeightAt(feature, at) * dy / divisor);
        weight_grad.Add(dy * e[static_cast<size_t>(col)] / divisor);
      }
    }
  }
}

// Second level, item by item: row j of C gets w * dE; attention as in method.md 7.
void AddCentral(const OracleTable& table, OracleTableGrad* out) {
  const int64_t dim = table.dim;
  for (const auto& [item, de] : out->items) {
    const auto& list = table.neighbors[static_cast<size_t>(item)];
    const std::vector<double> weights = WeightsOf(table, item);
    const bool attention = table.form == RESEMBED_CENTRAL_ATTENTION;
    std::vector<double> dot(list.size()), dot_magnitude(list.size());
    double mean = 0, mean_magnitude = 0;
    OracleRow& weight_grad = out->neighbor_weights[item];
    weight_grad.resize(list.size());
    for (size_t k = 0; k < list.size(); ++k) {
      for (int64_t col = 0; col < dim; ++col) {
        const OracleSum& g = de[static_cast<size_t>(col)];
        const double c = table.central[At(list[k], dim, col)];
        dot[k] += g.value * c;
        dot_magnitude[k] += g.magnitude * std::abs(c);
        weight_grad[k].Add(g.value * c, g.magnitude * std::abs(c));
      }
      mean += weights[k] * dot[k];
      mean_magnitude += std::abs(weights[k]) * dot_magnitude[k];
    }
    for (size_t k = 0; k < list.size(); ++k) {
      OracleRow& row = out->central[list[k]];
      row.resize(static_cast<size_t>(dim));
      const double slope = attention ? weights[k] * (dot[k] - mean) : 0.0;
      const double slope_magnitude =
          attention ? std::abs(weights[k]) * (dot_magnitude[k] + mean_magnitude) : 0.0;
      for (int64_t col = 0; col < dim; ++col) {
        const OracleSum& g = de[static_cast<size_t>(col)];
        row[static_cast<size_t>(col)].Add(weights[k] * g.value, std::abs(weights[k]) * g.magnitude);
        if (!attention) continue;
        const double own = table.central[At(item, dim, col)];
        row[static_cast<size_t>(col)].Add(slope * own, slope_magnitude * std::abs(own));
        OracleRow& query = out->central[item];
        query.resize(static_cast<size_t>(dim));
        const double c = table.central[At(list[k], dim, col)];
        query[static_cast<size_t>(col)].Add(slope * c, slope_magnitude * std::abs(c));
      }
    }
  }
}

}  // namespace

std::vector<double> OracleAttention(const OracleTable& table, int64_t item) {
  const auto& list = table.neighbors[static_cast<size_t>(item)];
  std::vector<double> weights(list.size());
  double largest = -INFINITY, sum = 0;
  for (size_t k = 0; k < list.size(); ++k) {
    weights[k] = Dot(table.central, item, list[k], table.dim);
    largest = std::max(largest, weights[k]);
  }
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (double& weight : weights) weight /= sum;
  return weights;
}

OracleBagAttention OracleAttend(const OracleTable& table, const OracleFeature& feature, int64_t bag) {
  const int64_t first = feature.offsets[static_cast<size_t>(bag)];
  const int64_t last = feature.offsets[static_cast<size_t>(bag) + 1];
  OracleBagAttention out;
  out.p.resize(static_cast<size_t>(last - first));
  std::vector<double> scores(out.p.size());
  double largest = -INFINITY, sum = 0;
  for (int64_t at = first; at < last; ++at) {
    const int64_t id = feature.ids[static_cast<size_t>(at)];
    if (!TakesPart(table, feature, id)) continue;
    const std::vector<double> e = OracleEmbedding(table, id);
    double& score = scores[static_cast<size_t>(at - first)];
    double magnitude = 0;
    for (int64_t col = 0; col < table.dim; ++col) {
      const double term =
          feature.scale * feature.query[At(bag, table.dim, col)] * e[static_cast<size_t>(col)];
      score += term;
      magnitude += std::abs(term);
    }
    largest = std::max(largest, score);
    out.score_magnitude = std::max(out.score_magnitude, magnitude);
  }
  for (int64_t at = first; at < last; ++at) {
    if (!TakesPart(table, feature, feature.ids[static_cast<size_t>(at)])) continue;
    const auto index = static_cast<size_t>(at - first);
    if (feature.activation == RESEMBED_ATTENTION_SIGMOID) {
      out.p[index] = 1 / (1 + std::exp(-scores[index]));
    } else {
      out.p[index] = std::exp(scores[index] - largest);
      sum += out.p[index];
    }
  }
  if (feature.activation == RESEMBED_ATTENTION_SOFTMAX) {
    for (double& p : out.p) p = sum > 0 ? p / sum : 0;
  }
  return out;
}

std::vector<double> OracleEmbedding(const OracleTable& table, int64_t item) {
  std::vector<double> e(static_cast<size_t>(table.dim));
  if (table.form != RESEMBED_CENTRAL_NONE) {
    const std::vector<double> weights = WeightsOf(table, item);
    const auto& list = table.neighbors[static_cast<size_t>(item)];
    for (size_t k = 0; k < list.size(); ++k) {
      for (int64_t col = 0; col < table.dim; ++col) {
        e[static_cast<size_t>(col)] += weights[k] * table.central[At(list[k], table.dim, col)];
      }
    }
  }
  if (table.has_residual) {
    for (int64_t col = 0; col < table.dim; ++col) {
      e[static_cast<size_t>(col)] += table.residual[At(item, table.dim, col)];
    }
  }
  return e;
}

std::vector<double> OracleForward(const OracleTable& table, const OracleFeature& feature) {
  const int64_t dim = table.dim;
  std::vector<double> y(static_cast<size_t>(feature.n_rows() * dim));
  for (const Bag& bag : BagsOf(table, feature)) {
    if (feature.pooling == RESEMBED_POOLING_MAX) {
      const std::vector<int64_t> where = MaxPositions(table, feature, bag);
      for (int64_t col = 0; col < dim; ++col) {
        const int64_t at = where[static_cast<size_t>(col)];
        if (at < 0) continue;
        y[At(bag.row, dim, col)] =
            OracleEmbedding(table, feature.ids[static_cast<size_t>(at)])[static_cast<size_t>(col)];
      }
      continue;
    }
    const double divisor = feature.pooling == RESEMBED_POOLING_MEAN ? static_cast<double>(bag.count) : 1.0;
    OracleBagAttention attention;
    const bool attends = feature.pooling == RESEMBED_POOLING_ATTENTION;
    if (attends) attention = OracleAttend(table, feature, bag.row);
    for (int64_t at = bag.first; at < bag.last; ++at) {
      const int64_t id = feature.ids[static_cast<size_t>(at)];
      if (!TakesPart(table, feature, id)) continue;
      const std::vector<double> e = OracleEmbedding(table, id);
      const double a = attends ? attention.p[static_cast<size_t>(at - bag.first)] : WeightAt(feature, at);
      for (int64_t col = 0; col < dim; ++col) {
        y[At(bag.row, dim, col)] += a * e[static_cast<size_t>(col)] / divisor;
      }
    }
  }
  return y;
}

double OracleLoss(const std::vector<OracleTable>& tables, const std::vector<OracleFeature>& features) {
  double loss = 0;
  for (const OracleFeature& feature : features) {
    if (!feature.has_grad) continue;
    const std::vector<double> y = OracleForward(tables[static_cast<size_t>(feature.table)], feature);
    for (size_t index = 0; index < y.size(); ++index) loss += y[index] * feature.grad[index];
  }
  return loss;
}

OracleGrads OracleBackward(const std::vector<OracleTable>& tables,
                           const std::vector<OracleFeature>& features) {
  OracleGrads grads;
  grads.tables.resize(tables.size());
  for (const OracleFeature& feature : features) {
    grads.sample_weights.emplace_back(feature.ids.size());
    const auto table = static_cast<size_t>(feature.table);
    grads.queries.emplace_back(feature.query.size());
    grads.scores.emplace_back(feature.query.empty() ? 0 : feature.ids.size());
    if (feature.pooling == RESEMBED_POOLING_ATTENTION && feature.has_grad) {
      AddAttentionUses(tables[table], feature, &grads.tables[table], &grads.queries.back(),
                       &grads.scores.back());
      continue;
    }
    AddUses(tables[table], feature, &grads.tables[table], &grads.sample_weights.back());
  }
  for (size_t table = 0; table < tables.size(); ++table) {
    if (tables[table].form != RESEMBED_CENTRAL_NONE) AddCentral(tables[table], &grads.tables[table]);
  }
  return grads;
}

}  // namespace resembed::testing
