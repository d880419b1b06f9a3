// SPDX-License-Identifier: Apache-2.0
// Forward and backward as adjoints, and derivatives by finite differences: what the two say about each other, without
// trusting the equations of either oracle.
#include <gtest/gtest.h>

#include <cmath>

#include "host/status.h"
#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

TableSpec Table(resembed_central_form form, int64_t dim) {
  TableSpec spec;
  spec.form = form;
  spec.dim = dim;
  return spec;
}

std::vector<FeatureSpec> Features() {
  FeatureSpec sum, mean, none;
  sum.weights = true;
  mean.pooling = RESEMBED_POOLING_MEAN;
  mean.weights = true;
  mean.padding = true;
  mean.bad_ids = .1;
  none.pooling = RESEMBED_POOLING_NONE;
  return {sum, mean, none};
}

// <grad, library's forward>.
double ForwardLoss(const GradientProblem& problem, const resembed_place& place) {
  std::vector<std::vector<float>> outputs;
  std::vector<resembed_feature> features;
  std::vector<const resembed_feature*> list;
  for (const auto& data : problem.features) {
    const int64_t dim = problem.tables[static_cast<size_t>(data->spec.table)]->spec.dim;
    const bool pooled = data->spec.pooling != RESEMBED_POOLING_NONE;
    outputs.emplace_back(
        static_cast<size_t>((pooled ? data->descriptor.n_bags : data->descriptor.n_ids) * dim));
    features.push_back(data->descriptor);
  }
  for (size_t index = 0; index < features.size(); ++index) {
    features[index].output = outputs[index].data();
    features[index].output_dtype = RESEMBED_F32;
    list.push_back(&features[index]);
  }
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = problem.table_list();
  args.features = list.data();
  args.n_features = problem.n_features();
  args.bounds = RESEMBED_BOUNDS_SKIP;
  size_t bytes = 0;
  EXPECT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  EXPECT_EQ(resembed_forward(&args, workspace.data(), workspace.size(), &place), RESEMBED_OK)
      << resembed_last_error_message();
  double loss = 0;
  const std::vector<OracleFeature> oracle = problem.OracleFeatures();
  for (size_t index = 0; index < outputs.size(); ++index) {
    for (size_t at = 0; at < outputs[index].size(); ++at) {
      loss += static_cast<double>(outputs[index][at]) * oracle[index].grad[at];
    }
  }
  return loss;
}

// y is linear in R and C together (but for attention), so <y(R, C), g> = <R, dR> + <C, dC>.
TEST(Adjoint, ForwardAndBackwardAgree) {
  const TestExecutor executor(2);
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED}) {
    for (const int64_t dim : {1, 7, 18, 64, 130}) {
      const GradientProblem problem({Table(form, dim)}, Features(), static_cast<uint64_t>(dim));
      const Grads grads = RunBackward(problem, PlaceOf(&executor));
      const OracleTable table = problem.OracleTables()[0];
      double paired = 0, magnitude = 0;
      const auto add = [&](const Compressed& grad, const std::vector<double>& rows) {
        for (size_t row = 0; row < grad.ids.size(); ++row) {
          for (size_t col = 0; col < static_cast<size_t>(dim); ++col) {
            const double term = static_cast<double>(grad.rows[row * static_cast<size_t>(dim) + col]) *
                                rows[static_cast<size_t>(grad.ids[row] * dim) + col];
            paired += term;
            magnitude += std::abs(term);
          }
        }
      };
      add(grads.tables[0].residual, table.residual);
      if (form != RESEMBED_CENTRAL_NONE) add(grads.tables[0].central, table.central);
      EXPECT_NEAR(ForwardLoss(problem, PlaceOf(&executor)), paired, 1e-5 * magnitude)
          << detail::FormName(form) << " dim " << dim;
    }
  }
}

// y is linear in a as well (MEAN divides by a count), and in stored w: <y, g> = <a, da>; <y - R part, g> = <w, dW>.
TEST(Adjoint, WeightsAgree) {
  const TestExecutor executor(2);
  FeatureSpec feature = Features()[1];
  for (const int64_t dim : {1, 18, 64}) {
    TableSpec spec = Table(RESEMBED_CENTRAL_STORED, dim);
    const GradientProblem problem({spec}, {feature}, static_cast<uint64_t>(dim));
    const Grads grads = RunBackward(problem, PlaceOf(&executor));
    double by_sample = 0, magnitude = 0;
    for (size_t at = 0; at < grads.sample_weights[0].size(); ++at) {
      const double term = static_cast<double>(grads.sample_weights[0][at]) *
                          static_cast<double>(problem.features[0]->weights[at]);
      by_sample += term;
      magnitude += std::abs(term);
    }
    EXPECT_NEAR(ForwardLoss(problem, PlaceOf(&executor)), by_sample, 1e-5 * magnitude);

    spec.residual = false;
    const GradientProblem center_only({spec}, {feature}, static_cast<uint64_t>(dim));
    Asked asked;
    asked.residual = false;
    const Grads center_grads = RunBackward(center_only, PlaceOf(&executor), asked);
    const OracleTable table = center_only.OracleTables()[0];
    const MadePlan plan(center_only.PlanArgs(), PlaceOf(&executor));
    const resembed_plan_table view = plan.View(0);
    double by_neighbor = 0, neighbor_magnitude = 0;
    for (int64_t unique = 0; unique < *view.n_unique; ++unique) {
      const auto& weights = table.weights[static_cast<size_t>(view.unique_items[unique])];
      for (size_t slot = 0; slot < weights.size(); ++slot) {
        const double term =
            static_cast<double>(
                center_grads.tables[0]
                    .neighbor_weights[static_cast<size_t>(unique * spec.n_neighbors) + slot]) *
            weights[slot];
        by_neighbor += term;
        neighbor_magnitude += std::abs(term);
      }
    }
    EXPECT_NEAR(ForwardLoss(center_only, PlaceOf(&executor)), by_neighbor, 1e-5 * neighbor_magnitude);
  }
}

// The float64 oracle's gradients are derivatives of the float64 loss: central differences, error O(h^2) + O(eps / h).
TEST(Adjoint, OracleHasTheDerivativesOfItsLoss) {
  for (const resembed_central_form form : {RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    TableSpec spec = Table(form, 5);
    spec.n_items = 12;
    spec.central_rows = 12;
    const GradientProblem problem({spec}, Features(), 3);
    std::vector<OracleTable> tables = problem.OracleTables();
    const std::vector<OracleFeature> features = problem.OracleFeatures();
    const OracleGrads grads = OracleBackward(tables, features);
    constexpr double kH = 1e-5;
    const auto difference = [&](double* at) {
      const double value = *at;
      *at = value + kH;
      const double up = OracleLoss(tables, features);
      *at = value - kH;
      const double down = OracleLoss(tables, features);
      *at = value;
      return (up - down) / (2 * kH);
    };
    for (int64_t row = 0; row < 12; ++row) {
      for (int64_t col = 0; col < 5; ++col) {
        const auto at = static_cast<size_t>(row * 5 + col);
        const auto residual = grads.tables[0].items.find(row), central = grads.tables[0].central.find(row);
        EXPECT_NEAR(
            difference(&tables[0].residual[at]),
            residual == grads.tables[0].items.end() ? 0 : residual->second[static_cast<size_t>(col)].value,
            1e-8);
        EXPECT_NEAR(
            difference(&tables[0].central[at]),
            central == grads.tables[0].central.end() ? 0 : central->second[static_cast<size_t>(col)].value,
            1e-8);
      }
    }
  }
}

// Attention through the fp32 path: differences of the library's own forward, h chosen for fp32.
TEST(Adjoint, AttentionHasTheDerivativesOfForward) {
  const TestExecutor executor(1);
  TableSpec spec = Table(RESEMBED_CENTRAL_ATTENTION, 5);
  spec.n_items = 12;
  spec.central_rows = 12;
  const GradientProblem problem({spec}, Features(), 4);
  const Grads grads = RunBackward(problem, PlaceOf(&executor));
  constexpr float kH = 1e-2f;
  const Compressed& central = grads.tables[0].central;
  ASSERT_GT(central.ids.size(), 5u);
  for (size_t row = 0; row < central.ids.size(); ++row) {
    auto* values = static_cast<float*>(problem.tables[0]->CentralRow(central.ids[row]));
    for (size_t col = 0; col < 5; ++col) {
      const float value = values[col];
      values[col] = value + kH;
      const double up = ForwardLoss(problem, PlaceOf(&executor));
      values[col] = value - kH;
      const double down = ForwardLoss(problem, PlaceOf(&executor));
      values[col] = value;
      // Third derivatives are of order 1 to 10 here: h^2 of them, and fp32's rounding over h.
      EXPECT_NEAR((up - down) / (2 * static_cast<double>(kH)),
                  static_cast<double>(central.rows[row * 5 + col]), 4e-3)
          << "row " << central.ids[row] << " column " << col;
    }
  }
}

}  // namespace
}  // namespace resembed::testing
