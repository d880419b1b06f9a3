// SPDX-License-Identifier: Apache-2.0
// Backward on the cuda backend against float64 loops: what exp is in, too, and every optional gradient.
#include <gtest/gtest.h>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/device_gradients.h"
#include "tests/support/gradient_oracle.h"

namespace resembed::testing {
namespace {

void ExpectTheOraclesNumbers(const GradientCase& one, uint64_t seed) {
  const GradientProblem problem(one.tables, one.features, seed);
  ExpectMatchesOracle(problem, RunBackwardOnDevice(problem, DeviceProblem(problem)));
}

TEST(CudaBackward, CuratedBatchesMatchTheOracle) {
  for (const GradientCase& one : CuratedCases()) {
    SCOPED_TRACE(one.name);
    ExpectTheOraclesNumbers(one, 11);
  }
}

TEST(CudaBackward, RandomBatchesMatchTheOracle) {
  for (uint64_t seed = 900; seed < 940; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    ExpectTheOraclesNumbers(RandomCase(seed), seed);
    if (HasFailure()) return;
  }
}

// Weights of samples and of stored neighbors, with every pooling that has them, K and width.
TEST(CudaBackward, GradientsOfWeightsMatchTheOracle) {
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION, RESEMBED_CENTRAL_UNIFORM}) {
    for (const resembed_pooling pooling :
         {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN}) {
      for (const int32_t n_neighbors : {1, 7, 64}) {
        for (const int64_t dim : {3, 36, 128}) {
          SCOPED_TRACE(::testing::Message() << "form " << form << " pooling " << pooling << " K "
                                            << n_neighbors << " dim " << dim);
          GradientCase one;
          TableSpec table;
          table.form = form;
          table.dim = dim;
          table.n_neighbors = n_neighbors;
          table.central_rows = 60;
          one.tables = {table};
          FeatureSpec feature = CaseFeature(pooling, 25, 7);
          feature.weights = true;
          feature.same_id = .2;
          one.features = {feature};
          ExpectTheOraclesNumbers(one, 17);
        }
      }
    }
  }
}

}  // namespace
}  // namespace resembed::testing
