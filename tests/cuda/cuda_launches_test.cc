// SPDX-License-Identifier: Apache-2.0
// How many launches and fills a call enqueues for T tables, as kernels/README.md says. Only the emulator counts; a sort
// and a scan are one launch each there, several kernels of CUB on a GPU.
#include <gtest/gtest.h>

#include "tests/cuda/support/device_training.h"

namespace resembed::testing {
namespace {

#ifdef RESEMBED_EMULATED
struct Launches {
  int plan, forward, backward_step;
};

Launches CountLaunches(int n_tables, resembed_central_form form, bool center_major = false) {
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
  for (int number = 0; number < n_tables; ++number) {
    TableSpec table;
    table.form = form;
    table.n_items = 300;  // lists of uses and of pairs long enough for chunks
    tables.push_back(table);
    FeatureSpec feature;
    feature.table = number;
    feature.n_bags = 5;
    feature.max_length = 60;
    feature.fixed_length = true;
    features.push_back(feature);
  }
  Training training(tables, features, {}, {}, 3);
  training.wants_sample_weights = false;
  DeviceTraining device(&training);
  std::deque<DeviceBuffer> outputs;
  for (resembed_feature& feature : device.device.features) {
    outputs.emplace_back(static_cast<size_t>(feature.n_bags) * 7 * 4);
    feature.output = outputs.back().data();
  }
  for (resembed_table& table : device.device.tables) table.center_major = center_major ? 1 : 0;
  const resembed_place place = CudaPlace(device.stream.get());
  Launches launches = {};
  size_t bytes = 0;
  resembed_forward_args forward = device.device.Args();
  forward.bounds = RESEMBED_BOUNDS_SKIP;
  EXPECT_EQ(resembed_forward_workspace_size(&forward, &place, &bytes), RESEMBED_OK);
  const DeviceBuffer forward_workspace(bytes);
  {
    const emulator::OperationScope scope("forward");
    EXPECT_EQ(resembed_forward(&forward, forward_workspace.data(), bytes, &place), RESEMBED_OK);
    launches.forward = scope.n_enqueued();
  }
  DevicePlan plan(device.device, device.stream);
  {
    const emulator::OperationScope scope("plan");
    plan.Make(device.stream);
    launches.plan = scope.n_enqueued();
  }
  EXPECT_EQ(plan.status, RESEMBED_OK) << plan.message;
  const resembed_backward_step_args args = device.FusedArgs(plan);
  EXPECT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK);
  const DeviceBuffer workspace(bytes);
  {
    const emulator::OperationScope scope("backward_step");
    EXPECT_EQ(resembed_backward_step(&args, workspace.data(), bytes, &place), RESEMBED_OK);
    launches.backward_step = scope.n_enqueued();
  }
  device.stream.Wait();
  return launches;
}

// Forward serves twelve features of one kernel in a launch; the tables of a plan, and of backward and step, share all
// of theirs but those that store their descriptors.
TEST(CudaLaunches, GrowWithTablesAsTheReadmeSays) {
#if defined(RESEMBED_EMULATOR_TSAN)
  const std::vector<int> sizes = {1, 3, 13};
#else
  const std::vector<int> sizes = {1, 3, 13, 100};
#endif
  for (const int n_tables : sizes) {
    SCOPED_TRACE(::testing::Message() << n_tables << " tables");
    const Launches assignment = CountLaunches(n_tables, RESEMBED_CENTRAL_ASSIGNMENT);
    EXPECT_EQ(assignment.forward, (n_tables + 11) / 12);
    EXPECT_EQ(assignment.plan, 14 + n_tables / 40);
    EXPECT_EQ(assignment.backward_step, 7 + n_tables / 30);
    if (n_tables > 13) continue;  // the emulator takes its time
    // Items numbered center by center: the second sort is left out.
    EXPECT_EQ(CountLaunches(n_tables, RESEMBED_CENTRAL_ASSIGNMENT, true).plan, 13);
    const Launches none = CountLaunches(n_tables, RESEMBED_CENTRAL_NONE);
    EXPECT_EQ(none.plan, 8);
    EXPECT_EQ(none.backward_step, 5);
  }
}
#else
TEST(CudaLaunches, GrowWithTablesAsTheReadmeSays) { GTEST_SKIP() << "the emulator counts launches"; }
#endif

}  // namespace
}  // namespace resembed::testing
