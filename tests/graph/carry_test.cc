// SPDX-License-Identifier: Apache-2.0
// A trained table goes on after items came, went and were renumbered: rows and optimizer states move by item.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::testing {
namespace {

constexpr int64_t kDim = 6;

// One table of items with a center each, trained with Adam on a sequence feature.
struct Trained {
  Trained(std::vector<int32_t> centers, int64_t n_centers)
      : center_of(std::move(centers)), n_items(static_cast<int64_t>(center_of.size())), n_rows(n_centers) {
    for (std::vector<float>* part : {&residual, &residual_state1, &residual_state2}) Resize(part, n_items);
    for (std::vector<float>* part : {&central, &central_state1, &central_state2}) Resize(part, n_rows);
  }
  static void Resize(std::vector<float>* part, int64_t rows) {
    part->assign(static_cast<size_t>(rows * kDim), 0.0f);
  }

  // One step on items with the given gradients [ids, kDim].
  void Step(const std::vector<int32_t>& ids, const std::vector<float>& grad, int64_t step) {
    resembed_table table = {};
    table.struct_size = sizeof(table);
    table.n_items = n_items;
    table.dim = kDim;
    table.form = RESEMBED_CENTRAL_ASSIGNMENT;
    table.residual = residual.data();
    table.central = central.data();
    table.central_rows = n_rows;
    table.center_of = center_of.data();
    table.center_of_dtype = RESEMBED_I32;
    table.map_version = 1;
    const resembed_table* const table_pointer = &table;
    resembed_tables tables = {};
    tables.struct_size = sizeof(tables);
    tables.tables = &table_pointer;
    tables.n_tables = 1;
    resembed_feature feature = {};
    feature.struct_size = sizeof(feature);
    feature.pooling = RESEMBED_POOLING_NONE;
    feature.ids = ids.data();
    feature.n_ids = feature.n_bags = static_cast<int64_t>(ids.size());
    feature.id_dtype = RESEMBED_I32;
    feature.bag_length = 1;
    std::vector<float> output(grad.size());
    feature.output = output.data();
    feature.output_dtype = RESEMBED_F32;
    const resembed_feature* const feature_pointer = &feature;
    resembed_place place = {};
    place.struct_size = sizeof(place);
    place.backend = RESEMBED_CPU;

    resembed_plan_args plan_args = {};
    plan_args.struct_size = sizeof(plan_args);
    plan_args.tables = &tables;
    plan_args.features = &feature_pointer;
    plan_args.n_features = 1;
    size_t plan_bytes = 0, bytes = 0;
    ASSERT_EQ(resembed_plan_size(&plan_args, &place, &plan_bytes, &bytes), RESEMBED_OK);
    std::vector<Line> memory(plan_bytes / 64 + 1), workspace(bytes / 64 + 1);
    resembed_plan_header plan = {};
    plan.struct_size = sizeof(plan);
    ASSERT_EQ(resembed_plan(&plan_args, memory.data(), memory.size() * 64, &plan, workspace.data(),
                            workspace.size() * 64, &place),
              RESEMBED_OK)
        << resembed_last_error_message();

    resembed_feature_grad feature_grad = {};
    feature_grad.struct_size = sizeof(feature_grad);
    feature_grad.grad_output = grad.data();
    feature_grad.grad_output_dtype = RESEMBED_F32;
    const resembed_feature_grad* const grad_pointer = &feature_grad;
    const resembed_optimizer residual_optimizer = Adam(&residual_state1, &residual_state2, step),
                             central_optimizer = Adam(&central_state1, &central_state2, step);
    resembed_table_step table_step = {};
    table_step.struct_size = sizeof(table_step);
    table_step.residual = &residual_optimizer;
    table_step.central = &central_optimizer;
    const resembed_table_step* const step_pointer = &table_step;
    resembed_backward_step_args args = {};
    args.struct_size = sizeof(args);
    args.plan = &plan;
    args.tables = &tables;
    args.features = &feature_pointer;
    args.n_features = 1;
    args.feature_grads = &grad_pointer;
    args.steps = &step_pointer;
    ASSERT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK);
    workspace.resize(bytes / 64 + 1);
    ASSERT_EQ(resembed_backward_step(&args, workspace.data(), workspace.size() * 64, &place), RESEMBED_OK)
        << resembed_last_error_message();
  }

  static resembed_optimizer Adam(std::vector<float>* state1, std::vector<float>* state2, int64_t step) {
    resembed_optimizer optimizer = {};
    optimizer.struct_size = sizeof(optimizer);
    optimizer.kind = RESEMBED_ADAM;
    optimizer.lr = 0.1f;
    optimizer.beta1 = 0.9f;
    optimizer.beta2 = 0.999f;
    optimizer.eps = 1e-8f;
    optimizer.step = step;
    optimizer.state1 = state1->data();
    optimizer.state2 = state2->data();
    return optimizer;
  }

  struct alignas(64) Line {
    unsigned char bytes[64];
  };
  std::vector<int32_t> center_of;
  int64_t n_items, n_rows;
  std::vector<float> residual, residual_state1, residual_state2, central, central_state1, central_state2;
};

void Carry(const Trained& from, const std::vector<int32_t>& source, const std::vector<int32_t>& center_source,
           Trained* to) {
  const auto carry = [](const std::vector<float>& old_rows, const std::vector<int32_t>& rows,
                        std::vector<float>* new_rows) {
    ASSERT_EQ(
        resembed_carry_rows(old_rows.data(), static_cast<int64_t>(old_rows.size()) / kDim, 0, RESEMBED_F32,
                            kDim, rows.data(), new_rows->data(), static_cast<int64_t>(rows.size()), 0),
        RESEMBED_OK)
        << resembed_last_error_message();
  };
  carry(from.residual, source, &to->residual);
  carry(from.residual_state1, source, &to->residual_state1);
  carry(from.residual_state2, source, &to->residual_state2);
  carry(from.central, center_source, &to->central);
  carry(from.central_state1, center_source, &to->central_state1);
  carry(from.central_state2, center_source, &to->central_state2);
}

std::vector<float> Row(const std::vector<float>& rows, int64_t row) {
  const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(row * kDim);
  return {begin, begin + kDim};
}

// Some items go, some come, those that stay are renumbered in order, and so are the centers. Trained on with the
// same clicks on items that stay, both tables have the same bits in the rows of those items and of their centers.
TEST(CarryRows, TrainingGoesOnWithTheBitsOfOneThatNeverMoved) {
  constexpr int32_t kOld = 40, kNew = 9;
  std::mt19937_64 random(11);
  std::vector<int32_t> centers, source, new_of(kOld, -1);
  for (int32_t item = 0; item < kOld; ++item) centers.push_back(static_cast<int32_t>(random() % 5));
  for (int32_t item = 0; item < kOld; ++item) {
    if (item % 6 == 1) continue;  // gone
    new_of[static_cast<size_t>(item)] = static_cast<int32_t>(source.size());
    source.push_back(item);
  }
  const auto n_kept = static_cast<int32_t>(source.size());
  source.resize(source.size() + kNew, -1);
  const int32_t new_center[] = {3, 0, 4, 1, 2};
  std::vector<int32_t> new_centers;
  for (const int32_t item : source) {
    new_centers.push_back(item < 0 ? 5 : new_center[centers[static_cast<size_t>(item)]]);
  }
  std::vector<int32_t> old_centers;  // of the new items' rows, -1 = none
  for (const int32_t item : source) old_centers.push_back(item < 0 ? -1 : centers[static_cast<size_t>(item)]);
  std::vector<int32_t> center_source(6);
  ASSERT_EQ(resembed_graph_match_centers(old_centers.data(), 5, new_centers.data(), 6,
                                         static_cast<int64_t>(source.size()), center_source.data()),
            RESEMBED_OK);
  ASSERT_EQ(center_source, (std::vector<int32_t>{1, 3, 4, 0, 2, -1}));

  Trained stays(centers, 5), moved(new_centers, 6);
  const auto step = [&](int64_t number, bool both) {
    std::vector<int32_t> ids, new_ids;
    std::vector<float> grad;
    for (int at = 0; at < 30; ++at) {
      const int32_t kept = source[random() % static_cast<uint64_t>(n_kept)];
      ids.push_back(both ? kept : static_cast<int32_t>(random() % kOld));
      new_ids.push_back(new_of[static_cast<size_t>(kept)]);
      for (int64_t col = 0; col < kDim; ++col) {
        grad.push_back(static_cast<float>(static_cast<int64_t>(random() % 2001) - 1000) * 1e-3f);
      }
    }
    stays.Step(ids, grad, number);
    if (both) moved.Step(new_ids, grad, number);
  };
  for (int64_t number = 1; number <= 10; ++number) step(number, false);
  Carry(stays, source, center_source, &moved);
  for (int64_t number = 11; number <= 20; ++number) step(number, true);
  for (size_t row = 0; row < source.size(); ++row) {
    const auto at = static_cast<int64_t>(row);
    if (source[row] < 0) {
      EXPECT_EQ(Row(moved.residual, at), std::vector<float>(kDim, 0.0f)) << "new item " << row;
      continue;
    }
    EXPECT_EQ(Row(moved.residual, at), Row(stays.residual, source[row])) << "item " << row;
    EXPECT_EQ(Row(moved.residual_state1, at), Row(stays.residual_state1, source[row])) << "item " << row;
    EXPECT_EQ(Row(moved.residual_state2, at), Row(stays.residual_state2, source[row])) << "item " << row;
  }
  for (int32_t center = 0; center < 5; ++center) {
    const int32_t from = center_source[static_cast<size_t>(center)];
    EXPECT_EQ(Row(moved.central, center), Row(stays.central, from)) << "center " << center;
    EXPECT_EQ(Row(moved.central_state1, center), Row(stays.central_state1, from)) << "center " << center;
    EXPECT_EQ(Row(moved.central_state2, center), Row(stays.central_state2, from)) << "center " << center;
  }
  EXPECT_NE(Row(moved.central, 0), Row(moved.central, 1));
}

}  // namespace
}  // namespace resembed::testing
