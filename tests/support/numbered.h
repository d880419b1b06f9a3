// SPDX-License-Identifier: Apache-2.0
// A training whose first table is in center-major order: the same numbers, other places.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/training.h"

namespace resembed::testing {

class Numbered {
 public:
  // Moves table 0 and its states to internal order, and the ids of its features with their padding ids. A table with
  // neighbor lists is numbered by made-up centers, and its central rows are items.
  explicit Numbered(Training* training) : training_(*training) {
    const resembed_table& table = Table();
    internal_of.resize(static_cast<size_t>(table.n_items));
    external_of.resize(internal_of.size());
    numbering_ = {};
    numbering_.struct_size = sizeof(numbering_);
    numbering_.n_items = table.n_items;
    numbering_.internal_of = internal_of.data();
    numbering_.external_of = external_of.data();
    std::vector<int32_t> made_up;
    for (int64_t item = 0; item < table.n_items; ++item)
      made_up.push_back(static_cast<int32_t>(item * 7 % 5) - 1);
    const bool assigned = table.form == RESEMBED_CENTRAL_ASSIGNMENT;
    const void* centers = assigned ? table.center_of : made_up.data();
    EXPECT_EQ(resembed_number_by_center(centers, assigned ? table.center_of_dtype : RESEMBED_I32,
                                        assigned ? table.central_rows : 4, &numbering_),
              RESEMBED_OK)
        << resembed_last_error_message();
    Move(RESEMBED_TO_INTERNAL);
    resembed_table& own = Table();
    own.center_major = assigned ? 1 : 0;
    own.map_version += 1;
    for (const auto& feature : training_.problem.features) {
      if (feature->descriptor.table == 0) Translate(feature.get());
    }
  }

  // Rows, maps and states, in place.
  void Move(resembed_direction direction) {
    const resembed_table& table = Table();
    arrays_.clear();
    const bool mapped = table.residual_row_of != nullptr;
    if (mapped) Add(table.residual_row_of, RESEMBED_I32, 1, 1);
    if (!mapped && table.residual != nullptr) {
      Add(table.residual, table.residual_dtype, table.dim, table.residual_stride);
      AddStates(*training_.residual[0]);
    }
    if (table.center_of != nullptr) Add(table.center_of, table.center_of_dtype, 1, 1);
    if (table.neighbors != nullptr) {
      EXPECT_EQ(table.central_rows, table.n_items);
      Add(table.neighbors, RESEMBED_I32, table.n_neighbors, table.neighbors_stride);
      arrays_.back().holds_items = 1;
      if (table.neighbor_weights != nullptr) {
        Add(table.neighbor_weights, RESEMBED_F32, table.n_neighbors, table.neighbor_weights_stride);
      }
      Add(table.central, table.central_dtype, table.dim, table.central_stride);
      AddStates(*training_.central[0]);
    }
    std::vector<const resembed_item_rows*> list;
    for (const resembed_item_rows& rows : arrays_) list.push_back(&rows);
    ASSERT_EQ(resembed_renumber(&numbering_, direction, list.data(), static_cast<int32_t>(list.size())),
              RESEMBED_OK)
        << resembed_last_error_message();
  }

  // The feature's ids, which are external ones, and its padding id.
  void Translate(FeatureData* feature) {
    resembed_translate_args args = {};
    args.struct_size = sizeof(args);
    args.ids = args.output = feature->id_bytes.data();
    args.id_dtype = feature->descriptor.id_dtype;
    args.n_ids = feature->descriptor.n_ids;
    args.map = internal_of.data();
    args.n_map = numbering_.n_items;
    const resembed_place place = PlaceOf(nullptr);
    ASSERT_EQ(resembed_translate(&args, &place), RESEMBED_OK) << resembed_last_error_message();
    if (feature->descriptor.has_padding == 0) return;
    feature->descriptor.padding_id =
        internal_of[static_cast<size_t>(feature->spec.padding ? numbering_.n_items / 2 : 0)];
  }

  // As Training::Written, in external order.
  std::vector<unsigned char> WrittenExternally() {
    Move(RESEMBED_TO_EXTERNAL);
    std::vector<unsigned char> bytes = training_.Written();
    Move(RESEMBED_TO_INTERNAL);
    return bytes;
  }

  std::vector<int32_t> internal_of, external_of;

 private:
  resembed_table& Table() { return training_.problem.tables[0]->descriptor; }

  void Add(const void* data, resembed_dtype dtype, int64_t dim, int64_t stride) {
    resembed_item_rows rows = {};
    rows.struct_size = sizeof(rows);
    rows.data = const_cast<void*>(data);
    rows.dtype = dtype;
    rows.dim = dim;
    rows.stride = stride;
    arrays_.push_back(rows);
  }
  void AddStates(const OptimizerState& state) {
    const resembed_optimizer& optimizer = state.descriptor;
    if (optimizer.state1 != nullptr)
      Add(optimizer.state1, optimizer.state_dtype, state.state1_dim, optimizer.state1_stride);
    if (optimizer.state2 != nullptr)
      Add(optimizer.state2, optimizer.state_dtype, state.state2_dim, optimizer.state2_stride);
  }

  Training& training_;
  resembed_numbering numbering_;
  std::vector<resembed_item_rows> arrays_;
};

}  // namespace resembed::testing
