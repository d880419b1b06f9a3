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

template <typename T>
DeviceBuffer Upload(const std::vector<T>& values) {
  return DeviceBuffer(values.data(), values.size() * sizeof(T));
}

// The problem of nvtx_test.cc: 32 bytes an item, 40 bytes of ids, 32 of offsets.
TEST(NvtxCuda, OperationsAreRangesWithTheSizesOfTheCpuBackend) {
  const char* const log = std::getenv("RESEMBED_NVTX_LOG");
  if (log == nullptr) GTEST_SKIP() << "runs under the injection library";
  std::remove(log);
  const DeviceBuffer residual = Upload<float>({1, 2, 3, 4, 5, 6, 7, 8}),
                     central = Upload<float>({10, 20, 30, 40});
  const DeviceBuffer neighbors = Upload<int32_t>({0, 1, 1, -1, 0, -1, -1, -1});
  const DeviceBuffer ids = Upload<int64_t>({0, 1, 0, 2, 3}), offsets = Upload<int64_t>({0, 3, 3, 5});
  const DeviceBuffer pooled(24), items(24), workspace(1 << 16);
  const Stream stream;
  const Place place = Place::Cuda(0, stream.get());

  Table table(4, 2);
  table.Residual(residual.data()).Central(central.data(), 2);
  table.Uniform(static_cast<const int32_t*>(neighbors.data()), 2);
  Feature feature(0, RESEMBED_POOLING_SUM);
  feature.Ids(static_cast<const int64_t*>(ids.data()), 5);
  feature.Offsets(static_cast<const int64_t*>(offsets.data()), 3).Output(pooled.data());
  const resembed_table* const tables[] = {&table};
  const resembed_feature* const features[] = {&feature};
  Descriptor<resembed_tables> list;
  list.tables = tables;
  list.n_tables = 1;
  Descriptor<resembed_forward_args> forward;
  forward.tables = &list;
  forward.features = features;
  forward.n_features = 1;
  forward.bounds = RESEMBED_BOUNDS_TRUST;
  EXPECT_THAT(Ranges([&] { return resembed_forward(&forward, workspace.data(), workspace.size(), &place); }),
              ::testing::ElementsAre("push resembed forward 1 16777217 3 5 256", "pop resembed"));

  Descriptor<resembed_materialize_args> materialize;
  materialize.table = &table;
  materialize.first_item = 1;
  materialize.n_items = 3;
  materialize.output = items.data();
  EXPECT_THAT(
      Ranges([&] { return resembed_materialize(&materialize, workspace.data(), workspace.size(), &place); }),
      ::testing::ElementsAre("push resembed materialize 5 16777217 0 3 120", "pop resembed"));
  stream.Wait();
}

}  // namespace
}  // namespace resembed::testing
