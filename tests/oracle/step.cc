// SPDX-License-Identifier: Apache-2.0
#include "tests/oracle/step.h"

#include <cmath>

namespace resembed::testing {

bool OracleStep(const OracleOptimizer& o, const std::vector<double>& gradient, OracleRowState* state) {
  std::vector<double>& row = state->row;
  const size_t dim = row.size();
  std::vector<double> g(dim);
  for (size_t col = 0; col < dim; ++col) {
    g[col] = o.grad_scale * gradient[col];
    if (!std::isfinite(g[col])) return false;
  }
  double mean_square = 0;
  for (size_t col = 0; col < dim; ++col) {
    if (o.decay != RESEMBED_DECAY_DECOUPLED) g[col] += o.weight_decay * row[col];
    mean_square += g[col] * g[col] / static_cast<double>(dim);
  }
  const double correct1 = 1 - std::pow(o.beta1, static_cast<double>(o.step));
  const double correct2 = 1 - std::pow(o.beta2, static_cast<double>(o.step));
  if (o.kind == RESEMBED_ROWWISE_ADAGRAD) state->state1[0] += mean_square;
  if (o.kind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
    state->state2[0] = o.beta2 * state->state2[0] + (1 - o.beta2) * mean_square;
  }
  for (size_t col = 0; col < dim; ++col) {
    if (o.decay == RESEMBED_DECAY_DECOUPLED) row[col] *= 1 - o.lr * o.weight_decay;
    switch (o.kind) {
      case RESEMBED_SGD:
        row[col] -= o.lr * g[col];
        break;
      case RESEMBED_ADAGRAD:
        state->state1[col] += g[col] * g[col];
        row[col] -= o.lr * g[col] / (std::sqrt(state->state1[col]) + o.eps);
        break;
      case RESEMBED_ROWWISE_ADAGRAD:
        row[col] -= o.lr * g[col] / (std::sqrt(state->state1[0]) + o.eps);
        break;
      default: {
        double& m = state->state1[col];
        m = o.beta1 * m + (1 - o.beta1) * g[col];
        double v = state->state2[o.kind == RESEMBED_ADAM ? col : 0];
        if (o.kind == RESEMBED_ADAM) {
          v = state->state2[col] = o.beta2 * v + (1 - o.beta2) * g[col] * g[col];
        }
        row[col] -= o.lr * (m / correct1) / (std::sqrt(v / correct2) + o.eps);
      }
    }
  }
  double norm = 0;
  for (const double value : row) norm += value * value;
  norm = std::sqrt(norm);
  if (o.max_row_norm > 0 && norm > o.max_row_norm) {
    for (double& value : row) value *= o.max_row_norm / norm;
  }
  return true;
}

}  // namespace resembed::testing
