// SPDX-License-Identifier: Apache-2.0
// Center-major numbering: a stable permutation that callers do not see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <random>

#include "resembed/resembed.hpp"
#include "tests/support/numbered.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Numbering, CentersInOrderItemsByIdAndThoseWithoutACenterLast) {
  const std::vector<int32_t> centers = {2, -1, 0, 2, 1, -1, 0};
  Numbering numbering;
  ASSERT_TRUE(numbering.Create(centers.data(), RESEMBED_I32, 7, 3).ok());
  EXPECT_THAT(numbering.external_of(), ElementsAre(2, 6, 4, 0, 3, 1, 5));
  EXPECT_THAT(numbering.internal_of(), ElementsAre(3, 5, 0, 4, 2, 6, 1));
  const std::vector<uint16_t> narrow = {2, 65535, 0, 2, 1, 65535, 0};
  Numbering same;
  ASSERT_TRUE(same.Create(narrow.data(), RESEMBED_U16, 7, 3).ok());
  EXPECT_EQ(same.external_of(), numbering.external_of());
  Numbering empty;
  EXPECT_TRUE(empty.Create(nullptr, RESEMBED_I32, 0, 0).ok());
  EXPECT_TRUE(empty.Renumber(RESEMBED_TO_INTERNAL, {}).ok());
}

std::vector<int32_t> RandomCenters(int64_t n_items, int32_t n_centers, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> centers;
  for (int64_t item = 0; item < n_items; ++item)
    centers.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(n_centers + 1)) - 1);
  return centers;
}

TEST(Numbering, MovesRowsOfEveryTypeAndBack) {
  constexpr int64_t kItems = 997;
  const std::vector<int32_t> centers = RandomCenters(kItems, 13, 1);
  Numbering numbering;
  ASSERT_TRUE(numbering.Create(centers.data(), RESEMBED_I32, kItems, 13).ok());
  struct Type {
    resembed_dtype dtype;
    int64_t bytes;
  };
  for (const Type type : {Type{RESEMBED_U8, 1}, Type{RESEMBED_U16, 2}, Type{RESEMBED_BF16, 2},
                          Type{RESEMBED_F32, 4}, Type{RESEMBED_I32, 4}, Type{RESEMBED_I64, 8}}) {
    for (const int64_t dim : {1, 3, 16}) {
      for (const int64_t gap : {0, 2}) {
        const int64_t pitch = (dim + gap) * type.bytes;
        std::vector<unsigned char> data(static_cast<size_t>(kItems * pitch));
        for (size_t at = 0; at < data.size(); ++at) data[at] = static_cast<unsigned char>(at * 31 + at / 251);
        const std::vector<unsigned char> before = data;
        ItemRows rows;
        rows.data = data.data();
        rows.dtype = type.dtype;
        rows.dim = dim;
        rows.stride = gap == 0 ? 0 : dim + gap;
        ASSERT_TRUE(numbering.Renumber(RESEMBED_TO_INTERNAL, {&rows}).ok());
        for (int64_t row = 0; row < kItems; ++row) {
          const auto* from = before.data() + numbering.external_of()[static_cast<size_t>(row)] * pitch;
          ASSERT_TRUE(std::equal(from, from + dim * type.bytes, data.data() + row * pitch)) << row;
          ASSERT_TRUE(std::equal(before.data() + row * pitch + dim * type.bytes,
                                 before.data() + (row + 1) * pitch,
                                 data.data() + row * pitch + dim * type.bytes))
              << "gap of row " << row;
        }
        ASSERT_TRUE(numbering.Renumber(RESEMBED_TO_EXTERNAL, {&rows}).ok());
        EXPECT_EQ(data, before);
      }
    }
  }
}

TEST(Numbering, TranslatesIdsAndLeavesBadOnesAlone) {
  constexpr int64_t kItems = 50'000;
  const std::vector<int32_t> centers = RandomCenters(kItems, 100, 2);
  Numbering numbering;
  ASSERT_TRUE(numbering.Create(centers.data(), RESEMBED_I32, kItems, 100).ok());
  std::vector<int64_t> wide = {-1, -7, kItems, kItems + 5, int64_t{1} << 40};
  for (int64_t item = 0; item < kItems; ++item) wide.push_back(item);
  std::vector<int32_t> narrow(wide.begin(), wide.end());
  const std::vector<int64_t> before = wide;
  const TestExecutor four(4);
  Place place;
  static_cast<resembed_place&>(place) = PlaceOf(&four);
  ASSERT_TRUE(numbering.ToInternal(wide.data(), static_cast<int64_t>(wide.size()), place).ok());
  ASSERT_TRUE(numbering.ToInternal(narrow.data(), static_cast<int64_t>(narrow.size()), place).ok());
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 5, wide.begin()));
  for (size_t at = 5; at < wide.size(); ++at) {
    ASSERT_EQ(wide[at], numbering.internal_of()[static_cast<size_t>(before[at])]);
    ASSERT_EQ(narrow[at], wide[at]);
  }
}

TableSpec Assigned(bool row_map = false) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.n_items = 400;
  table.central_rows = 9;
  table.dim = 12;
  table.row_map = row_map;
  table.u16_centers = row_map;
  return table;
}

// Ids turned by one position, here and there.
void Turn(Training* plain, Training* numbered) {
  for (Training* training : {plain, numbered}) {
    for (const auto& feature : training->problem.features) {
      std::vector<unsigned char>& ids = feature->id_bytes;
      const auto element = feature->descriptor.id_dtype == RESEMBED_I32 ? 4 : 8;
      if (!ids.empty()) std::rotate(ids.begin(), ids.begin() + element, ids.end());
    }
  }
}

TEST(Numbering, IsInvisibleStepByStep) {
  for (int kind = RESEMBED_SGD; kind <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++kind) {
    for (const bool row_map : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "kind " << kind << " row map " << row_map);
      FeatureSpec mean, sequence, max;
      mean.pooling = RESEMBED_POOLING_MEAN;
      mean.weights = mean.padding = true;
      mean.bad_ids = .1;
      mean.n_bags = 60;
      mean.max_length = 20;
      mean.same_id = .3;  // runs past 256 uses
      sequence.pooling = RESEMBED_POOLING_NONE;
      sequence.id_dtype = RESEMBED_I32;
      sequence.n_bags = 300;
      max.pooling = RESEMBED_POOLING_MAX;
      OptimizerSpec residual, central;
      residual.kind = kind;
      residual.weight_decay = .01f;
      residual.max_row_norm = 2;
      central.kind = 4 - kind;
      const std::vector<TableSpec> tables = {Assigned(row_map), TableSpec()};
      FeatureSpec other;
      other.table = 1;
      const std::vector<FeatureSpec> features = {mean, sequence, max, other};
      Training plain(tables, features, residual, central, 3), moved(tables, features, residual, central, 3);
      Numbered numbered(&moved);
      ASSERT_FALSE(std::is_sorted(numbered.internal_of.begin(), numbered.internal_of.end()));
      ASSERT_TRUE(numbered.WrittenExternally() == plain.Written());
      for (int step = 1; step <= 20; ++step) {
        const ForwardResult want = RunForward(&plain.problem, PlaceOf(nullptr)),
                            got = RunForward(&moved.problem, PlaceOf(nullptr));
        ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
        ASSERT_TRUE(SameBits(got, want)) << "forward of step " << step;
        for (Training* training : {&plain, &moved}) {
          training->residual[0]->descriptor.step = training->central[0]->descriptor.step = step;
          step % 2 == 0 ? training->Fused(PlaceOf(nullptr)) : training->Separate(PlaceOf(nullptr));
        }
        ASSERT_TRUE(numbered.WrittenExternally() == plain.Written()) << "step " << step;
        Turn(&plain, &moved);
      }
    }
  }
}

// Where central rows are items they move as well. Their gradients are then summed in another order.
TEST(Numbering, NeighborListsMoveWithTheirItems) {
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    TableSpec table;
    table.form = form;
    table.n_items = table.central_rows = 60;
    OptimizerSpec sgd;
    Training plain({table}, {FeatureSpec()}, sgd, sgd, 5), moved({table}, {FeatureSpec()}, sgd, sgd, 5);
    Numbered numbered(&moved);
    EXPECT_TRUE(
        SameBits(RunForward(&moved.problem, PlaceOf(nullptr)), RunForward(&plain.problem, PlaceOf(nullptr))));
    plain.Fused(PlaceOf(nullptr));
    moved.Fused(PlaceOf(nullptr));
    numbered.Move(RESEMBED_TO_EXTERNAL);
    EXPECT_EQ(moved.problem.tables[0]->residual, plain.problem.tables[0]->residual);
    EXPECT_EQ(moved.problem.tables[0]->neighbors, plain.problem.tables[0]->neighbors);
    const auto central = [&](const Training& training) {
      const TableData& data = *training.problem.tables[0];
      return Decode(data.central.data(), RESEMBED_F32, static_cast<int64_t>(data.central.size() / 4) - 1);
    };
    EXPECT_THAT(central(moved),
                ::testing::Pointwise(::testing::NanSensitiveDoubleNear(1e-5), central(plain)));
  }
}

// A file in external ids: written by a numbered training, read by one that knows of no numbering, and back.
TEST(Numbering, FilesHaveExternalIds) {
  std::string folder = (std::filesystem::temp_directory_path() / "resembed-numbering-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/table.safetensors";
  constexpr int64_t kItems = 311, kDim = 5;
  const std::vector<int32_t> centers = RandomCenters(kItems, 7, 4);
  std::vector<float> table(kItems * kDim);
  std::iota(table.begin(), table.end(), 0.0f);
  const std::vector<float> external = table;
  Numbering numbering;
  ASSERT_TRUE(numbering.Create(centers.data(), RESEMBED_I32, kItems, 7).ok());
  ItemRows rows;
  rows.data = table.data();
  rows.dim = kDim;
  ASSERT_TRUE(numbering.Renumber(RESEMBED_TO_INTERNAL, {&rows}).ok());
  const std::vector<float> internal = table;
  EXPECT_NE(internal, external);

  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  tensor.name = "residual";
  tensor.n_dims = 2;
  tensor.shape[0] = kItems;
  tensor.shape[1] = kDim;
  tensor.data = table.data();
  const resembed_tensor* tensors[] = {&tensor};
  ASSERT_TRUE(numbering.Renumber(RESEMBED_TO_EXTERNAL, {&rows}).ok());
  ASSERT_EQ(resembed_save(path.c_str(), tensors, 1, nullptr, 0), RESEMBED_OK)
      << resembed_last_error_message();
  ASSERT_TRUE(numbering.Renumber(RESEMBED_TO_INTERNAL, {&rows}).ok());
  EXPECT_EQ(table, internal);

  std::vector<float> loaded(table.size());
  resembed_file* file = nullptr;
  ASSERT_EQ(resembed_file_open(path.c_str(), &file), RESEMBED_OK);
  ASSERT_EQ(resembed_file_read(file, 0, loaded.data(), 0, loaded.size() * 4), RESEMBED_OK);
  resembed_file_close(file);
  EXPECT_EQ(loaded, external);
  rows.data = loaded.data();
  ASSERT_TRUE(numbering.Renumber(RESEMBED_TO_INTERNAL, {&rows}).ok());
  EXPECT_EQ(loaded, internal);
  std::filesystem::remove_all(folder);
}

TEST(Numbering, CheckMapsSeesABrokenPromise) {
  for (const bool row_map : {false, true}) {  // u16 centers, too
    OptimizerSpec sgd;
    Training training({Assigned(row_map)}, {FeatureSpec()}, sgd, sgd, 3);
    const Numbered numbered(&training);
    const resembed_place place = PlaceOf(nullptr);
    TableData& table = *training.problem.tables[0];
    EXPECT_EQ(resembed_check_maps(&table.descriptor, &place), RESEMBED_OK) << resembed_last_error_message();
    table.centers16[7] = 1;
    table.centers32[7] = 1;
    EXPECT_EQ(resembed_check_maps(&table.descriptor, &place), RESEMBED_OUT_OF_RANGE);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr("check_maps: center_of[8] is 0; needs at least"));
    table.descriptor.center_major = 0;
    EXPECT_EQ(resembed_check_maps(&table.descriptor, &place), RESEMBED_OK);
  }
}

class RejectsNumbering : public ::testing::Test {
 protected:
  RejectsNumbering() : centers_{1, 0, -1}, internal_of_{9, 9, 9}, external_of_{9, 9, 9}, data_{0, 1, 2, 0} {
    numbering_.n_items = 3;
    numbering_.internal_of = internal_of_.data();
    numbering_.external_of = external_of_.data();
  }
  void Number() {
    ASSERT_EQ(resembed_number_by_center(centers_.data(), RESEMBED_I32, 2, &numbering_), RESEMBED_OK);
    rows_.data = data_.data();
    rows_.dtype = RESEMBED_I32;
    rows_.dim = 1;
  }
  void ExpectRefused(resembed_status got, resembed_status want, const char* sentence) {
    EXPECT_EQ(got, want);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr(sentence));
    EXPECT_THAT(data_, ElementsAre(0, 1, 2, 0)) << "something was moved";
  }
  resembed_status Renumber(resembed_direction direction = RESEMBED_TO_INTERNAL) {
    const resembed_item_rows* arrays[] = {&rows_, &rows_};
    return resembed_renumber(&numbering_, direction, arrays, n_arrays_);
  }
  std::vector<int32_t> centers_, internal_of_, external_of_, data_;
  Descriptor<resembed_numbering> numbering_;
  ItemRows rows_;
  int32_t n_arrays_ = 1;
};

TEST_F(RejectsNumbering, CentersThatAreNone) {
  const auto run = [&](resembed_dtype dtype, int64_t n_centers) {
    return resembed_number_by_center(centers_.data(), dtype, n_centers, &numbering_);
  };
  ExpectRefused(run(RESEMBED_I32, 1), RESEMBED_OUT_OF_RANGE,
                "number_by_center: center_of[0] is 1; needs -1 or a center below 1");
  ExpectRefused(run(RESEMBED_I64, 2), RESEMBED_INVALID_ARGUMENT, "center_of_dtype is i64; needs i32 or u16");
  ExpectRefused(run(RESEMBED_I32, -1), RESEMBED_INVALID_ARGUMENT, "n_centers is -1; needs");
  EXPECT_THAT(internal_of_, ElementsAre(9, 9, 9)) << "written in spite of an error";
  numbering_.external_of = nullptr;
  ExpectRefused(run(RESEMBED_I32, 2), RESEMBED_INVALID_ARGUMENT, "numbering.external_of is null");
  numbering_.n_items = -1;
  ExpectRefused(run(RESEMBED_I32, 2), RESEMBED_INVALID_ARGUMENT, "numbering.n_items is -1");
  numbering_.struct_size = 0;
  ExpectRefused(run(RESEMBED_I32, 2), RESEMBED_INVALID_ARGUMENT, "numbering is of struct_size 0");
}

TEST_F(RejectsNumbering, RowsThatCannotBeMoved) {
  Number();
  ExpectRefused(Renumber(2), RESEMBED_INVALID_ARGUMENT,
                "renumber: direction is 2; needs to_internal or to_external");
  n_arrays_ = 2;
  ExpectRefused(Renumber(), RESEMBED_INVALID_ARGUMENT, "arrays[1].data is overlapping arrays[0]");
  n_arrays_ = 1;
  rows_.dim = 0;
  ExpectRefused(Renumber(), RESEMBED_INVALID_ARGUMENT, "arrays[0].dim and stride are 0 and 0");
  rows_.dim = 1;
  rows_.dtype = 99;
  ExpectRefused(Renumber(), RESEMBED_INVALID_ARGUMENT, "arrays[0].dtype is 99");
  rows_.dtype = RESEMBED_F32;
  rows_.holds_items = 1;
  ExpectRefused(Renumber(), RESEMBED_INVALID_ARGUMENT, "arrays[0].holds_items is 1 with dtype f32");
  rows_.dtype = RESEMBED_I32;
  data_[1] = 3;
  EXPECT_EQ(Renumber(), RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("arrays[0] row 1 holds 3; needs -1 or an item below 3"));
  data_[1] = 1;
  rows_.data = nullptr;
  ExpectRefused(Renumber(), RESEMBED_INVALID_ARGUMENT, "arrays[0].data is null");
  rows_.data = data_.data();
  external_of_[0] = 0;  // twice
  ExpectRefused(Renumber(), RESEMBED_OUT_OF_RANGE, "renumber: numbering.internal_of[1] is 0");
}

TEST_F(RejectsNumbering, IdsThatCannotBeTranslated) {
  Number();
  Descriptor<resembed_translate_args> args;
  args.ids = args.output = data_.data();
  args.id_dtype = RESEMBED_I32;
  args.n_ids = 3;
  args.map = internal_of_.data();
  args.n_map = 3;
  const auto run = [&] {
    const resembed_place place = PlaceOf(nullptr);
    return resembed_translate(&args, &place);
  };
  args.output = data_.data() + 1;
  ExpectRefused(run(), RESEMBED_INVALID_ARGUMENT, "translate: output is overlapping ids");
  args.ids = centers_.data();
  args.output = internal_of_.data();
  ExpectRefused(run(), RESEMBED_INVALID_ARGUMENT, "translate: output is overlapping map");
  args.output = data_.data();
  args.id_dtype = RESEMBED_F32;
  ExpectRefused(run(), RESEMBED_INVALID_ARGUMENT, "translate: id_dtype is f32; needs i32 or i64");
  args.id_dtype = RESEMBED_I32;
  args.map = nullptr;
  ExpectRefused(run(), RESEMBED_INVALID_ARGUMENT, "translate: map is null");
  args.n_ids = -1;
  ExpectRefused(run(), RESEMBED_INVALID_ARGUMENT, "translate: n_ids is -1");
  EXPECT_EQ(resembed_translate(&args, nullptr), RESEMBED_INVALID_ARGUMENT);
  args.n_ids = args.n_map = 0;
  args.ids = args.output = nullptr;
  EXPECT_EQ(run(), RESEMBED_OK) << resembed_last_error_message();
}

}  // namespace
}  // namespace resembed::testing
