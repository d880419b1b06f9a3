// SPDX-License-Identifier: Apache-2.0
// Attention pooling on the cuda backend: against float64 loops (exp is in it), against itself, and the fused step
// against backward and then step.
#include <gtest/gtest.h>

#include "tests/cuda/support/device_training.h"
#include "tests/support/attention_cases.h"
#include "tests/support/gradient_oracle.h"

namespace resembed::testing {
namespace {

// Long bags and runs once a form: the emulator takes its time with them.
std::vector<AttentionCase> CudaCases() {
  std::vector<AttentionCase> cases;
  for (AttentionCase& one : AttentionCases()) {
    if (one.name.find("sigmoid_skewed") == std::string::npos) cases.push_back(std::move(one));
  }
  return cases;
}

TEST(CudaAttention, ForwardMatchesTheOracle) {
  for (const AttentionCase& one : CudaCases()) {
    SCOPED_TRACE(one.name);
    for (const bool saved : {true, false}) {
      GradientProblem problem(one.tables, one.features, 1);
      DeviceProblem device(problem);
      ForwardOptions options;
      options.extra_stride = 1;
      options.saved_attention = saved;
      const ForwardResult got = RunOnDevice(&device, options);
      ExpectMatchesOracle(&problem, got, RESEMBED_F32);
      if (!saved) continue;
      // What is saved is the CPU's to the rounding of exp and of its sum.
      const ForwardResult want = RunForward(&problem, PlaceOf(nullptr), options);
      for (size_t index = 0; index < want.features.size(); ++index) {
        const std::vector<float>&p = want.features[index].attention, &q = got.features[index].attention;
        ASSERT_EQ(p.size(), q.size());
        for (size_t at = 0; at < p.size(); ++at) ASSERT_NEAR(q[at], p[at], 2e-4f * p[at] + 1e-30f) << at;
      }
    }
    if (HasFailure()) return;
  }
}

TEST(CudaAttention, BackwardMatchesTheOracleAndItself) {
  for (const AttentionCase& one : CudaCases()) {
    SCOPED_TRACE(one.name);
    const GradientProblem problem(one.tables, one.features, 1);
    const DeviceProblem device(problem);
    const Grads got = RunBackwardOnDevice(problem, device);
    ExpectMatchesOracle(problem, got);
    EXPECT_TRUE(SameBits(RunBackwardOnDevice(problem, device), got)) << "another run";
    Asked dense;
    dense.layout = RESEMBED_GRAD_DENSE;
    dense.central = false;
    dense.neighbor_weights = dense.sample_weights = false;
    EXPECT_TRUE(SameBits(RunBackwardOnDevice(problem, device, dense).queries[0], got.queries[0]));
    if (HasFailure()) return;
  }
}

// The two calls of a trainer: gradients of queries alone, then the tables' with what the first call left.
TEST(CudaAttention, PartsAgreeWithTheWhole) {
  for (const AttentionCase& one : CudaCases()) {
    SCOPED_TRACE(one.name);
    GradientProblem problem(one.tables, one.features, 3);
    DeviceProblem device(problem);
    std::deque<DeviceBuffer> kept;
    const ForwardResult forward = RunOnDevice(&device);
    const auto keep = [&kept](const std::vector<float>& values) {
      kept.emplace_back(values.data(), values.size() * 4);
      return static_cast<float*>(kept.back().data());
    };
    for (size_t index = 0; index < device.features.size(); ++index) {
      device.features[index].saved_argmax = nullptr;  // it is gone with the forward pass
      device.features[index].saved_attention =
          forward.features[index].attention.empty() ? nullptr : keep(forward.features[index].attention);
    }
    const Grads whole = RunBackwardOnDevice(problem, device);
    Asked queries, tables;
    queries.residual = queries.central = queries.neighbor_weights = queries.sample_weights = false;
    tables.queries = tables.scores = tables.sample_weights = false;
    const Grads first = RunBackwardOnDevice(problem, device, queries);
    for (size_t index = 0; index < problem.features.size(); ++index) {
      if (problem.features[index]->spec.pooling != RESEMBED_POOLING_ATTENTION) continue;
      EXPECT_TRUE(SameBits(first.queries[index], whole.queries[index]));
      EXPECT_TRUE(SameBits(first.scores[index], whole.scores[index]));
      problem.features[index]->grad.grad_scores = keep(first.scores[index]);
      problem.features[index]->grad.grad_scores_ready = 1;
    }
    const Grads second = RunBackwardOnDevice(problem, device, tables);
    for (size_t index = 0; index < whole.tables.size(); ++index) {
      EXPECT_TRUE(SameBits(second.tables[index].residual.rows, whole.tables[index].residual.rows));
      EXPECT_TRUE(SameBits(second.tables[index].central.rows, whole.tables[index].central.rows));
    }
    if (HasFailure()) return;
  }
}

TEST(CudaAttention, FusedStepIsBackwardThenStep) {
  for (const AttentionCase& one : CudaCases()) {
    SCOPED_TRACE(one.name);
    OptimizerSpec optimizer;
    optimizer.kind = RESEMBED_ROWWISE_ADAGRAD;
    std::vector<unsigned char> written[2];
    for (const bool fused : {false, true}) {
      Training training(one.tables, one.features, optimizer, optimizer, 4);
      DeviceTraining device(&training);
      fused ? device.Fused() : device.Separate();
      written[fused ? 1 : 0] = device.Written();
    }
    EXPECT_TRUE(written[0] == written[1]);
    if (HasFailure()) return;
  }
}

TEST(CudaAttention, BadIdsAreRecordedOnce) {
  FeatureSpec feature = AttentionFeature(RESEMBED_ATTENTION_SOFTMAX);
  feature.bad_ids = .2;
  GradientProblem problem({AttentionTable(RESEMBED_CENTRAL_STORED, 12)}, {feature}, 5);
  DeviceProblem device(problem);
  resembed_bad_ids got = {}, want = {};
  ForwardOptions options;
  options.bad_ids = &got;
  ExpectMatchesOracle(&problem, RunOnDevice(&device, options), RESEMBED_F32);
  options.bad_ids = &want;
  RunForward(&problem, PlaceOf(nullptr), options);
  EXPECT_GT(want.count, 0);
  EXPECT_EQ(got.count, want.count);
  EXPECT_EQ(got.position, want.position);
  EXPECT_EQ(got.value, want.value);
}

}  // namespace
}  // namespace resembed::testing
