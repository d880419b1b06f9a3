// SPDX-License-Identifier: Apache-2.0
// Tables that share launches, on the cuda backend: in batches of any size they have the bits of the CPU backend.
#include <gtest/gtest.h>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/fused_on.h"

namespace resembed::testing {
namespace {

// Tables of every form, several widths and types, that share launches: all of them, some, or none.
TEST(CudaStep, AnyBatchesOfTablesHaveTheSameBits) {
  constexpr resembed_dtype kTypes[] = {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16};
  const int64_t dims[] = {7, 32, 44, 132};
  const resembed_central_form forms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                         RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED};
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
  for (int32_t number = 0; number < 20; ++number) {
    TableSpec table;
    table.form = forms[number % 4];
    table.dim = dims[number / 4 % 4];
    table.n_items = number == 9 ? 900 : 40;
    table.central_rows = 30;
    table.row_map = number % 5 == 2;
    table.residual_dtype = kTypes[number % 3];
    tables.push_back(table);
    FeatureSpec feature = CaseFeature(static_cast<resembed_pooling>(number % 4), number % 6 * 10, 5);
    feature.table = number;
    feature.weights = number % 4 != RESEMBED_POOLING_MAX;
    if (number == 9) feature = CaseFeature(RESEMBED_POOLING_MEAN, 120, 20), feature.table = 9;
    if (number == 9) feature.same_id = .6;  // runs of more than 256 uses
    if (number != 13) features.push_back(feature);
  }
  OptimizerSpec residual, central;
  residual.kind = RESEMBED_ADAM;
  residual.decay = RESEMBED_DECAY_L2_WHOLE_TABLE;
  residual.weight_decay = .01f;
  central.kind = RESEMBED_ROWWISE_ADAGRAD;
  Training training(tables, features, residual, central, 6);
  DeviceTraining whole(&training), separate(&training);
  std::deque<DeviceTraining> others;
  for (size_t at = 0; at < 3; ++at) others.emplace_back(&training);
  whole.Fused();
  separate.Separate();
  training.Fused(PlaceOf(nullptr));
  const std::vector<unsigned char> want = training.Written();
  EXPECT_TRUE(whole.Written() == want);
  EXPECT_TRUE(separate.Written() == want) << "backward, then step";
  const int64_t sizes[] = {1, 40'000, 200'000};
  for (size_t at = 0; at < others.size(); ++at) {
    const int64_t batch_bytes = sizes[at];
    FusedOn({}, &others[at], batch_bytes);
    EXPECT_TRUE(others[at].Written() == want) << "batches of " << batch_bytes << " bytes";
  }
}

}  // namespace
}  // namespace resembed::testing
