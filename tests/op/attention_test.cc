// SPDX-License-Identifier: Apache-2.0
// Attention pooling against the oracle, against the sequence output and plain loops, and against itself: threads,
// instruction sets, the two calls of a trainer, the fused step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "host/status.h"
#include "tests/support/attention_cases.h"
#include "tests/support/gradient_oracle.h"
#include "tests/support/run_forward.h"
#include "tests/support/training.h"

namespace resembed::testing {
namespace {

using Case = AttentionCase;

class Attention : public ::testing::TestWithParam<Case> {};

TEST_P(Attention, ForwardMatchesTheOracle) {
  const TestExecutor executor(2);
  for (const resembed_dtype output : {RESEMBED_F32, RESEMBED_BF16}) {
    GradientProblem problem(GetParam().tables, GetParam().features, 1);
    ForwardOptions options;
    options.output_dtype = output;
    options.extra_stride = 1;
    const ForwardResult result = RunForward(&problem, PlaceOf(&executor), options);
    ExpectMatchesOracle(&problem, result, output);
    const std::vector<OracleTable> tables = problem.OracleTables();
    const std::vector<OracleFeature> features = problem.OracleFeatures();
    for (size_t index = 0; index < features.size(); ++index) {
      if (features[index].pooling != RESEMBED_POOLING_ATTENTION) continue;
      const OracleTable& table = tables[static_cast<size_t>(features[index].table)];
      for (int64_t bag = 0; bag < features[index].n_rows(); ++bag) {
        const OracleBagAttention want = OracleAttend(table, features[index], bag);
        for (size_t at = 0; at < want.p.size(); ++at) {
          const auto id = static_cast<size_t>(features[index].offsets[static_cast<size_t>(bag)]) + at;
          const double error =
              kEps * (static_cast<double>(want.p.size() * 3 + 64) + 40 * (1 + want.score_magnitude));
          ASSERT_NEAR(static_cast<double>(result.features[index].attention[id]), want.p[at],
                      error * want.p[at])
              << "feature " << index << " bag " << bag << " item " << at;
        }
      }
    }
  }
}

TEST_P(Attention, BackwardMatchesTheOracle) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 1);
  const TestExecutor serial(1);
  ExpectMatchesOracle(problem, RunBackward(problem, PlaceOf(&serial)));
}

TEST_P(Attention, IsTheSameOnEveryExecutorAndInstructionSet) {
  GradientProblem problem(GetParam().tables, GetParam().features, 2);
  const TestExecutor serial(1);
  const resembed_place portable = PlaceOf(&serial, RESEMBED_ISA_PORTABLE);
  const Grads want = RunBackward(problem, portable);
  const ForwardResult forward = RunForward(&problem, portable);
  for (const resembed_cpu_isa isa : AvailableIsas()) {
    const TestExecutor two(2), reversed(7, true);
    for (const TestExecutor* executor : {&two, &reversed}) {
      EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(executor, isa)), want))
          << detail::IsaName(isa) << ", width " << executor->width;
      EXPECT_TRUE(SameBits(RunForward(&problem, PlaceOf(executor, isa)), forward))
          << detail::IsaName(isa) << ", width " << executor->width;
    }
  }
  // Composing each unique item once gives the same bits.
  const MadePlan plan(problem.PlanArgs(), PlaceOf(&serial));
  ForwardOptions options;
  options.plan = &plan.header;
  options.expected_unique = 1;
  EXPECT_TRUE(SameBits(RunForward(&problem, PlaceOf(&serial), options), forward)) << "with a plan";
}

// What is saved, handed over or left out changes no other bit.
TEST_P(Attention, PartsAgreeWithTheWhole) {
  GradientProblem problem(GetParam().tables, GetParam().features, 3);
  const TestExecutor executor(2);
  const resembed_place place = PlaceOf(&executor);
  const Grads whole = RunBackward(problem, place);
  Asked tables_only, queries_only;
  tables_only.queries = tables_only.scores = tables_only.sample_weights = false;
  queries_only.residual = queries_only.central = queries_only.neighbor_weights = false;
  queries_only.sample_weights = false;
  const Grads tables = RunBackward(problem, place, tables_only);
  const Grads queries = RunBackward(problem, place, queries_only);

  ForwardResult forward = RunForward(&problem, place);
  Grads handed = whole;
  for (size_t index = 0; index < problem.features.size(); ++index) {
    FeatureData& feature = *problem.features[index];
    if (feature.spec.pooling != RESEMBED_POOLING_ATTENTION) continue;
    EXPECT_TRUE(SameBits(queries.queries[index], whole.queries[index]));
    EXPECT_TRUE(SameBits(queries.scores[index], whole.scores[index]));
    feature.descriptor.saved_attention = forward.features[index].attention.data();
    feature.grad.grad_scores = handed.scores[index].data();
    feature.grad.grad_scores_ready = 1;
  }
  tables_only.scores = false;
  const Grads ready = RunBackward(problem, place, tables_only);
  for (size_t index = 0; index < whole.tables.size(); ++index) {
    for (const Grads* other : {&tables, &ready}) {
      EXPECT_TRUE(SameBits(other->tables[index].residual.rows, whole.tables[index].residual.rows));
      EXPECT_TRUE(SameBits(other->tables[index].central.rows, whole.tables[index].central.rows));
    }
  }
}

// Every read of a table comes before its first write: the tables after both are the same, and so are the gradients of
// queries that the fused call gives.
TEST_P(Attention, FusedStepIsBackwardThenStep) {
  const TestExecutor executor(2);
  const resembed_place place = PlaceOf(&executor);
  for (const resembed_optimizer_kind kind : {RESEMBED_SGD, RESEMBED_ROWWISE_ADAGRAD, RESEMBED_ADAM}) {
    OptimizerSpec optimizer;
    optimizer.kind = kind;
    std::vector<unsigned char> written[2];
    std::vector<std::vector<float>> queries[2];
    for (const bool fused : {false, true}) {
      Training training(GetParam().tables, GetParam().features, optimizer, optimizer, 4);
      std::vector<std::vector<float>>& dq = queries[fused ? 1 : 0];
      for (const auto& feature : training.problem.features) {
        const auto dim =
            static_cast<size_t>(training.problem.tables[static_cast<size_t>(feature->spec.table)]->spec.dim);
        dq.emplace_back(static_cast<size_t>(feature->descriptor.n_bags) * dim);
        if (feature->spec.pooling == RESEMBED_POOLING_ATTENTION) feature->grad.grad_query = dq.back().data();
      }
      fused ? training.Fused(place) : training.Separate(place);
      written[fused ? 1 : 0] = training.Written();
    }
    EXPECT_TRUE(written[0] == written[1]) << "optimizer " << kind;
    EXPECT_TRUE(queries[0] == queries[1]) << "optimizer " << kind;
  }
}

// One bag of 60,000 ids, cut into blocks that several threads take.
TEST(AttentionLong, OneBagOfSixtyThousand) {
  for (const resembed_attention_activation activation : kAttentionActivations) {
    FeatureSpec feature = AttentionFeature(activation);
    feature.offsets = {0, 60'000};
    feature.attention_scale = .25f;
    GradientProblem problem({AttentionTable(RESEMBED_CENTRAL_ASSIGNMENT, 18)}, {feature}, 5);
    const TestExecutor serial(1), many(7, true);
    const ForwardResult forward = RunForward(&problem, PlaceOf(&serial));
    ExpectMatchesOracle(&problem, forward, RESEMBED_F32);
    EXPECT_TRUE(SameBits(RunForward(&problem, PlaceOf(&many)), forward));
    const Grads grads = RunBackward(problem, PlaceOf(&serial));
    ExpectMatchesOracle(problem, grads);
    EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(&many)), grads));
  }
}

// A score that overflows exp on its own, alone and beside a large one: shifted by the largest, nothing overflows.
TEST(AttentionLong, LargeScoresStayFinite) {
  for (const float scale : {1000.0f, -1000.0f}) {
    FeatureSpec feature = AttentionFeature(RESEMBED_ATTENTION_SOFTMAX, 30, 40);
    feature.attention_scale = scale;
    GradientProblem problem({AttentionTable(RESEMBED_CENTRAL_STORED, 16)}, {feature}, 6);
    const TestExecutor executor(2);
    const ForwardResult result = RunForward(&problem, PlaceOf(&executor));
    for (int64_t bag = 0; bag < 30; ++bag) {
      const auto first = static_cast<size_t>(problem.features[0]->offsets[static_cast<size_t>(bag)]);
      const auto last = static_cast<size_t>(problem.features[0]->offsets[static_cast<size_t>(bag) + 1]);
      float sum = 0;
      for (size_t at = first; at < last; ++at) sum += result.features[0].attention[at];
      EXPECT_NEAR(sum, first == last ? 0.0f : 1.0f, 1e-5f) << "bag " << bag;
    }
    for (const double value : result.features[0].values) EXPECT_TRUE(std::isfinite(value));
  }
}

// Differences of the library's own forward, without trusting the equations of the oracle.
TEST(AttentionLong, HasTheDerivativesOfForward) {
  const TestExecutor executor(1);
  const resembed_place place = PlaceOf(&executor);
  for (const resembed_attention_activation activation : kAttentionActivations) {
    TableSpec spec = AttentionTable(RESEMBED_CENTRAL_STORED, 5);
    spec.n_items = spec.central_rows = 12;
    GradientProblem problem({spec}, {AttentionFeature(activation, 6, 9)}, 7);
    const Grads grads = RunBackward(problem, place);
    const std::vector<double> dy = problem.OracleFeatures()[0].grad;
    const auto difference = [&](float* at) {
      constexpr float kH = 1e-2f;
      const float value = *at;
      double loss[2] = {0, 0};
      for (const int side : {0, 1}) {
        *at = side == 0 ? value + kH : value - kH;
        const std::vector<double> y = RunForward(&problem, place).features[0].values;
        for (size_t index = 0; index < y.size(); ++index) loss[side] += y[index] * dy[index];
      }
      *at = value;
      return (loss[0] - loss[1]) / (2 * static_cast<double>(kH));
    };
    const auto expect_rows = [&](const Compressed& grad, const std::function<void*(int64_t)>& row_of) {
      for (size_t row = 0; row < grad.ids.size(); ++row) {
        auto* values = static_cast<float*>(row_of(grad.ids[row]));
        for (size_t col = 0; col < 5; ++col) {
          EXPECT_NEAR(difference(values + col), static_cast<double>(grad.rows[row * 5 + col]), 4e-3);
        }
      }
    };
    expect_rows(grads.tables[0].residual, [&](int64_t row) { return problem.tables[0]->ResidualRow(row); });
    expect_rows(grads.tables[0].central, [&](int64_t row) { return problem.tables[0]->CentralRow(row); });
    for (size_t at = 0; at < grads.queries[0].size(); ++at) {
      float* query = problem.features[0]->query.data() + at / 5 * 8 + at % 5;
      EXPECT_NEAR(difference(query), static_cast<double>(grads.queries[0][at]), 4e-3) << "query " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Attention, ::testing::ValuesIn(AttentionCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace resembed::testing
