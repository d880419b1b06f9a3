// SPDX-License-Identifier: Apache-2.0
// What a step on the cuda backend does with gradients that name rows which are none.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/device_training.h"

namespace resembed::testing {
namespace {

// What the CPU refuses and a device cannot without waiting: an id that is no row is left out, and a count beyond the
// capacity is none.
TEST(CudaStep, WrongIdsAndCountsReachNoRow) {
  TableSpec table;
  table.dim = 4;
  table.n_items = 20;
  const int64_t n_items = 12;  // of which the call is told: what lies behind them must stay
  OptimizerSpec spec;
  for (const bool counts : {true, false}) {
    for (const resembed_decay decay : {RESEMBED_DECAY_L2, RESEMBED_DECAY_L2_WHOLE_TABLE}) {
      spec.decay = decay;
      spec.weight_decay = decay == RESEMBED_DECAY_L2 ? 0.0f : .1f;
      Training cpu({table}, {CaseFeature(RESEMBED_POOLING_SUM, 6, 3)}, spec, spec, 6);
      cpu.wants_sample_weights = false;
      DeviceTraining device(&cpu);
      device.device.tables[0].n_items = n_items;
      const std::vector<unsigned char> before = device.Written();
      const std::vector<float> rows(4 * 4, 1.0f);
      const int64_t ids[] = {-1, 3, n_items, n_items + 5};
      const int64_t n_rows = counts ? 4 : 5;
      const DeviceBuffer row_memory(rows.data(), rows.size() * 4), id_memory(ids, sizeof(ids)),
          count(&n_rows, 8);
      resembed_grad grad = {};
      grad.struct_size = sizeof(grad);
      grad.layout = RESEMBED_GRAD_COMPRESSED;
      grad.rows = static_cast<float*>(row_memory.data());
      grad.row_ids = static_cast<int64_t*>(id_memory.data());
      grad.n_rows = static_cast<int64_t*>(count.data());
      grad.capacity = 4;
      resembed_table_grad table_grad = {};
      table_grad.struct_size = sizeof(table_grad);
      table_grad.residual = &grad;
      const resembed_table_grad* table_grads[] = {&table_grad};
      const resembed_table_step* steps[] = {&device.steps[0]};
      resembed_step_args args = {};
      args.struct_size = sizeof(args);
      args.tables = device.device.Args().tables;
      args.table_grads = table_grads;
      args.steps = steps;
      const resembed_place place = CudaPlace(device.stream.get());
      size_t bytes = 0;
      ASSERT_EQ(resembed_step_workspace_size(&args, &place, &bytes), RESEMBED_OK)
          << resembed_last_error_message();
      DeviceBuffer workspace(bytes);
      ASSERT_EQ(resembed_step(&args, workspace.data(), bytes, &place), RESEMBED_OK)
          << resembed_last_error_message();
      EXPECT_TRUE(workspace.Download(device.stream));
      const std::vector<unsigned char> after = device.Written();
      ASSERT_EQ(after.size(), before.size());
      for (int64_t row = 0; row < table.n_items; ++row) {
        const auto at = static_cast<std::ptrdiff_t>(row * 16);
        const bool same = std::equal(after.begin() + at, after.begin() + at + 16, before.begin() + at);
        const bool updated = counts && row < n_items && (decay != RESEMBED_DECAY_L2 || row == 3);
        EXPECT_EQ(same, !updated) << "row " << row;
      }
      const auto end = static_cast<std::ptrdiff_t>(table.n_items * 16);
      EXPECT_TRUE(std::equal(after.begin() + end, after.end(), before.begin() + end)) << "behind the table";
    }
  }
}

}  // namespace
}  // namespace resembed::testing
