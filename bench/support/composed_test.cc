// SPDX-License-Identifier: Apache-2.0
// Composing first and attending in loops computes what the library does in one pass.
#include "bench/support/composed.h"

#include <gtest/gtest.h>

#include <cmath>

#include "bench/support/updater.h"

namespace resembed::bench {
namespace {

constexpr int64_t kRows = 400, kDim = 36, kBags = 20, kLength = 11;

TableSpec SpecOf(resembed_central_form form) {
  TableSpec spec;
  spec.rows = kRows;
  spec.dim = kDim;
  spec.k = 3;
  spec.form = form;
  spec.centers = 30;
  return spec;
}

HugeArray<float> Numbers(int64_t n, int64_t step) {
  HugeArray<float> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = 0.02f * static_cast<float>(i * step % 101 - 50);
  return values;
}

void Fill(void* rows, int64_t n, int64_t step) {
  const HugeArray<float> values = Numbers(n, step);
  std::copy_n(values.data(), n, static_cast<float*>(rows));
}

void ExpectNear(const float* got, const float* want, int64_t n, const char* what) {
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_NEAR(got[i], want[i], 2e-5f * (1 + std::abs(want[i]))) << what << " " << i;
  }
}

class ComposedPeer : public ::testing::TestWithParam<resembed_central_form> {};

TEST_P(ComposedPeer, ComputesWhatTheLibraryDoes) {
  const Scenario mine(SpecOf(GetParam())), theirs(SpecOf(GetParam()));
  const bool central = GetParam() != RESEMBED_CENTRAL_NONE;
  const int64_t central_rows = central ? mine.table().central_rows : 0;
  for (const Scenario* scenario : {&mine, &theirs}) {
    Fill(scenario->table().residual, kRows * kDim, 37);
    if (central) Fill(scenario->table().central, central_rows * kDim, 53);
  }
  const Batch batch = MakeBatch(mine, IdSource(kRows, 0, 3), kBags, kLength, 0);
  const HugeArray<float> query = Numbers(kBags * kDim, 7), dy = Numbers(kBags * kDim, 11);
  HugeArray<float> y(kBags * kDim), dq(kBags * kDim), their_y(kBags * kDim), their_dq(kBags * kDim);

  resembed_feature feature = batch.feature;
  feature.pooling = RESEMBED_POOLING_ATTENTION;
  feature.query = query.data();
  feature.output = y.data();
  const resembed_feature* features = &feature;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &mine.tables();
  args.features = &features;
  args.n_features = 1;
  const resembed_place place = CpuPlace();
  size_t bytes = 0;
  Check(resembed_forward_workspace_size(&args, &place, &bytes));
  HugeArray<char> workspace(static_cast<int64_t>(bytes));
  Check(resembed_forward(&args, workspace.data(), bytes, &place));
  ComposedAttention peer(theirs, batch.shape);
  peer.Forward(batch, query.data(), their_y.data());
  ExpectNear(their_y.data(), y.data(), kBags * kDim, "y");

  Part residual(RESEMBED_SGD, kRows, kDim), center(RESEMBED_SGD, kRows, kDim);
  residual.descriptor.lr = center.descriptor.lr = 0.5f;
  resembed_feature_grad grad = GradOf(dy.data());
  grad.grad_query = dq.data();
  Updater updater(mine.tables(), &feature, grad, &residual, central ? &center : nullptr);
  updater.Step();
  peer.Backward(query.data(), dy.data(), their_dq.data());
  ExpectNear(their_dq.data(), dq.data(), kBags * kDim, "dq");
  const resembed_feature sequence = peer.Sequence(batch);
  Updater their_updater(theirs.tables(), &sequence, GradOf(peer.item_grads()), &residual,
                        central ? &center : nullptr);
  their_updater.Step();
  ExpectNear(static_cast<const float*>(theirs.table().residual),
             static_cast<const float*>(mine.table().residual), kRows * kDim, "R");
  ExpectNear(static_cast<const float*>(theirs.table().central),
             static_cast<const float*>(mine.table().central), central_rows * kDim, "C");
}

INSTANTIATE_TEST_SUITE_P(BenchSupport, ComposedPeer,
                         ::testing::Values(RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_STORED));

}  // namespace
}  // namespace resembed::bench
