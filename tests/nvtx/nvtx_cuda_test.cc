// SPDX-License-Identifier: Apache-2.0
// The same ranges from the cuda backend, whose kernels are emulated here.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <resembed/resembed.hpp>
#include <vector>

#include "tests/cuda/support/device_buffer.h"
#include "tests/nvtx/log.h"

namespace resembed::testing {
namespace {

using ::testing::ElementsAre;

template <typename T>
DeviceBuffer Upload(const std::vector<T>& values) {
  return DeviceBuffer(values.data(), values.size() * sizeof(T));
}

template <typename T>
T* In(const DeviceBuffer& buffer) {
  return static_cast<T*>(buffer.data());
}

// Device memory of one size for every call.
class FixedMemory : public Memory {
 public:
  void* Reserve(size_t bytes) override { return bytes <= buffer_.size() ? buffer_.data() : nullptr; }

 private:
  DeviceBuffer buffer_{1 << 16};
};

// The problem of nvtx_test.cc: 32 bytes an item, 40 bytes of ids, 32 of offsets.
class NvtxCuda : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (const char* log = std::getenv("RESEMBED_NVTX_LOG")) std::remove(log);
  }
  void SetUp() override {
    if (std::getenv("RESEMBED_NVTX_LOG") == nullptr) GTEST_SKIP() << "runs under the injection library";
    table.Residual(residual.data()).Central(central.data(), 2).Uniform(In<const int32_t>(neighbors), 2);
    feature.Ids(In<const int64_t>(ids), 5).Offsets(In<const int64_t>(offsets), 3).Output(pooled.data());
  }
  void TearDown() override { stream.Wait(); }

  const DeviceBuffer residual = Upload<float>({1, 2, 3, 4, 5, 6, 7, 8}),
                     central = Upload<float>({10, 20, 30, 40});
  const DeviceBuffer neighbors = Upload<int32_t>({0, 1, 1, -1, 0, -1, -1, -1});
  const DeviceBuffer ids = Upload<int64_t>({0, 1, 0, 2, 3}), offsets = Upload<int64_t>({0, 3, 3, 5});
  const DeviceBuffer gradient = Upload<float>({1, 2, 9, 9, 3, 4});
  const DeviceBuffer pooled{24}, items{24};
  Table table{4, 2};
  Feature feature{0, RESEMBED_POOLING_SUM};
  FixedMemory workspace, plan_memory;
  const Stream stream;
  const Place place = Place::Cuda(0, stream.get());
};

TEST_F(NvtxCuda, ABatchHasTheRangesOfTheCpuBackend) {
  Batch batch({&table}, {&feature}, place, &workspace, &plan_memory);
  EXPECT_THAT(Ranges([&] { return batch.Plan().code(); }),
              ElementsAre("push resembed plan 2 16777217 3 5 72", "pop resembed"));
  EXPECT_THAT(Ranges([&] { return batch.Forward().code(); }),
              ElementsAre("push resembed forward 1 16777217 3 5 256", "pop resembed"));

  const FeatureGrad grad(In<float>(gradient));
  const DeviceBuffer residual_rows(32), central_rows(16), residual_ids(32), central_ids(16), counts(16);
  const Grad of_residual =
      Grad::Compressed(In<float>(residual_rows), In<int64_t>(residual_ids), In<int64_t>(counts), 4);
  const Grad of_central =
      Grad::Compressed(In<float>(central_rows), In<int64_t>(central_ids), In<int64_t>(counts) + 1, 2);
  const TableGrad table_grad(&of_residual, &of_central);
  EXPECT_THAT(Ranges([&] { return batch.Backward({&grad}, {&table_grad}).code(); }),
              ElementsAre("push resembed backward 3 16777217 3 5 96", "pop resembed"));
  const Optimizer sgd = Optimizer::Sgd(0.5f);
  const TableStep step(&sgd, &sgd);
  EXPECT_THAT(Ranges([&] { return batch.Step({&table_grad}, {&step}).code(); }),
              ElementsAre("push resembed step 4 16777217 0 6 144", "pop resembed"));
  EXPECT_THAT(Ranges([&] { return batch.BackwardStep({&grad}, {&step}).code(); }),
              ElementsAre("push resembed backward_step 4 16777217 3 5 96", "pop resembed"));

  const DeviceBuffer sum_rows(32), sum_ids(32), n_sum(8);
  const Grad sum = Grad::Compressed(In<float>(sum_rows), In<int64_t>(sum_ids), In<int64_t>(n_sum), 4);
  const resembed_grad* const inputs[] = {&of_residual, &of_residual};
  Descriptor<resembed_combine_args> combine;
  combine.inputs = inputs;
  combine.n_inputs = 2;
  combine.dim = 2;
  combine.table_rows = 4;
  combine.output = &sum;
  size_t bytes = 0;
  ASSERT_EQ(resembed_combine_workspace_size(&combine, &place, &bytes), RESEMBED_OK);
  EXPECT_THAT(Ranges([&] { return resembed_combine(&combine, workspace.Reserve(bytes), bytes, &place); }),
              ElementsAre("push resembed combine 3 16777217 0 8 192", "pop resembed"));
  stream.Wait();
}

TEST_F(NvtxCuda, WholeTableOperationsHaveTheRangesOfTheCpuBackend) {
  Descriptor<resembed_materialize_args> materialize;
  materialize.table = &table;
  materialize.first_item = 1;
  materialize.n_items = 3;
  materialize.output = items.data();
  size_t bytes = 0;
  ASSERT_EQ(resembed_materialize_workspace_size(&materialize, &place, &bytes), RESEMBED_OK);
  EXPECT_THAT(
      Ranges([&] { return resembed_materialize(&materialize, workspace.Reserve(bytes), bytes, &place); }),
      ElementsAre("push resembed materialize 5 16777217 0 3 120", "pop resembed"));

  const DeviceBuffer interest = Upload<int32_t>({0, 0, 1, 1});
  Descriptor<resembed_envelope_args> envelope;
  envelope.table = &table;
  envelope.interest_of = In<const int32_t>(interest);
  envelope.n_interests = 2;
  ASSERT_EQ(resembed_envelope_workspace_size(&envelope, &place, &bytes), RESEMBED_OK);
  EXPECT_THAT(Ranges([&] { return resembed_envelope(&envelope, workspace.Reserve(bytes), bytes, &place); }),
              ElementsAre("push resembed envelope 5 16777217 0 4 128", "pop resembed"));
  EXPECT_THAT(Ranges([&] { return resembed_check_maps(&table, &place); }),
              ElementsAre("push resembed check_maps 5 16777217 0 4 32", "pop resembed"));
  stream.Wait();
}

TEST_F(NvtxCuda, TranslatingIdsIsARange) {
  const DeviceBuffer translated(40), map = Upload<int32_t>({3, 2, 1, 0});
  Descriptor<resembed_translate_args> translate;
  translate.ids = ids.data();
  translate.output = translated.data();
  translate.id_dtype = RESEMBED_I64;
  translate.n_ids = 5;
  translate.map = In<const int32_t>(map);
  translate.n_map = 4;
  EXPECT_THAT(Ranges([&] { return resembed_translate(&translate, &place); }),
              ElementsAre("push resembed translate 2 16777217 0 5 100", "pop resembed"));
  stream.Wait();
}

}  // namespace
}  // namespace resembed::testing
