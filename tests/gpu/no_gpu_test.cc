// SPDX-License-Identifier: Apache-2.0
// The library with the cuda backend on a machine without a GPU: it loads, cuda says why it is not there, and the
// cpu goes on. Where a GPU is, the other test programs speak for the backend and this one is skipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <resembed/resembed.hpp>
#include <string>
#include <thread>
#include <vector>

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class NoGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (resembed_backend_available(RESEMBED_CUDA, 0) == RESEMBED_OK) GTEST_SKIP() << "this machine has a GPU";
    table.Residual(residual.data()).Central(central.data(), 2).Assignment(centers.data());
    feature.Ids(ids.data(), 3).FixedLength(3, 1).Output(pooled.data());
  }

  std::vector<float> residual = {1, 2, 3, 4}, central = {10, 20, 30, 40}, pooled = {-1, -1};
  const std::vector<int32_t> centers = {1, 0}, ids = {0, 1, 1};
  Table table{2, 2};
  Feature feature{0, RESEMBED_POOLING_SUM};
};

// Any error of the device query means no GPU, whichever driver is or is not installed.
TEST_F(NoGpu, BackendSaysWhy) {
  EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_CUDA_ERROR);
  EXPECT_THAT(resembed_last_error_message(),
              StartsWith("backend_available: place.backend is cuda; needs a GPU ("));
}

TEST_F(NoGpu, OperationsAreRefusedAndWriteNothing) {
  Batch batch({&table}, {&feature}, Place::Cuda(0, nullptr));
  const Status forward = batch.Forward();
  EXPECT_EQ(forward.code(), RESEMBED_CUDA_ERROR);
  EXPECT_THAT(forward.message(), HasSubstr("needs a GPU"));
  EXPECT_THAT(pooled, ::testing::ElementsAre(-1, -1));
  EXPECT_FALSE(batch.Plan().ok());

  Descriptor<resembed_materialize_args> materialize;
  materialize.table = &table;
  materialize.n_items = 2;
  std::vector<float> items(4, -1);
  materialize.output = items.data();
  const Place place = Place::Cuda(0, nullptr);
  EXPECT_EQ(resembed_materialize(&materialize, nullptr, 0, &place), RESEMBED_CUDA_ERROR);
  EXPECT_THAT(items, ::testing::Each(-1));
}

// The runtime's error sticks to the process; the cpu never asks for it.
TEST_F(NoGpu, CpuWorksBeforeAndAfterAndOnOtherThreads) {
  const auto forward = [this](std::vector<float>* output) {
    Feature own = feature;
    own.Output(output->data());
    Batch batch({&table}, {&own}, Place::Cpu());
    ASSERT_TRUE(batch.Plan().ok());
    ASSERT_TRUE(batch.Forward().ok());
    // e_0 = (1, 2) + (30, 40), e_1 = (3, 4) + (10, 20)
    EXPECT_THAT(*output, ::testing::ElementsAre(31 + 2 * 13, 42 + 2 * 24));
  };
  std::vector<float> first(2), second(2), third(2);
  forward(&first);
  std::thread refused([] { EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_CUDA_ERROR); });
  refused.join();
  EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_CUDA_ERROR);
  forward(&second);
  std::thread other([&] { forward(&third); });
  other.join();
}

}  // namespace
}  // namespace resembed::testing
