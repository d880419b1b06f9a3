// SPDX-License-Identifier: Apache-2.0
// What a profiler sees of the library: run under tests/nvtx/injection.cc, which writes down every range.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <resembed/resembed.hpp>
#include <string>
#include <vector>

#include "tests/nvtx/log.h"

namespace resembed::testing {
namespace {

using ::testing::ElementsAre;

// Four items of dim 2, up to two neighbors each: 8 bytes of list, 16 of C, 8 of R, that is 32 bytes an item.
// Three bags of five 64-bit ids: 40 bytes of ids, 32 of offsets.
class Nvtx : public ::testing::Test {
 protected:
  // An earlier run's log; the library opens its own at the first operation.
  static void SetUpTestSuite() {
    if (const char* log = std::getenv("RESEMBED_NVTX_LOG")) std::remove(log);
  }
  void SetUp() override {
    if (std::getenv("RESEMBED_NVTX_LOG") == nullptr) GTEST_SKIP() << "runs under the injection library";
    table.Residual(residual.data()).Central(central.data(), 2).Uniform(neighbors.data(), 2);
    feature.Ids(ids.data(), 5).Offsets(offsets.data(), 3).Output(pooled.data());
  }

  std::vector<float> residual = {1, 2, 3, 4, 5, 6, 7, 8}, central = {10, 20, 100, 200}, pooled = Floats(6);
  const std::vector<int32_t> neighbors = {0, 1, 1, -1, 0, -1, -1, -1};
  const std::vector<int64_t> ids = {0, 1, 0, 2, 3};
  const std::vector<int64_t> offsets = {0, 3, 3, 5};
  const std::vector<float> gradient = {1, 2, 9, 9, 3, 4};
  Table table{4, 2};
  Feature feature{0, RESEMBED_POOLING_SUM};
  const Place place = Place::Cpu();

  static std::vector<float> Floats(size_t n) { return std::vector<float>(n); }
};

TEST_F(Nvtx, EveryOperationIsARangeOfTheDomainWithItsSizes) {
  Batch batch({&table}, {&feature}, place);
  // push domain name category schema bags rows bytes
  EXPECT_THAT(Ranges([&] { return batch.Plan().code(); }),
              ElementsAre("push resembed plan 2 16777217 3 5 72", "pop resembed"));
  EXPECT_THAT(Ranges([&] { return batch.Forward().code(); }),
              ElementsAre("push resembed forward 1 16777217 3 5 256", "pop resembed"));

  const FeatureGrad grad(gradient.data());
  std::vector<float> residual_rows(8), central_rows(4);
  std::vector<int64_t> residual_ids(4), central_ids(2);
  int64_t n_residual = 0, n_central = 0;
  const Grad of_residual = Grad::Compressed(residual_rows.data(), residual_ids.data(), &n_residual, 4);
  const Grad of_central = Grad::Compressed(central_rows.data(), central_ids.data(), &n_central, 2);
  const TableGrad table_grad(&of_residual, &of_central);
  EXPECT_THAT(Ranges([&] { return batch.Backward({&grad}, {&table_grad}).code(); }),
              ElementsAre("push resembed backward 3 16777217 3 5 96", "pop resembed"));
  const Optimizer sgd = Optimizer::Sgd(0.5f);
  const TableStep step(&sgd, &sgd);
  EXPECT_THAT(Ranges([&] { return batch.Step({&table_grad}, {&step}).code(); }),
              ElementsAre("push resembed step 4 16777217 0 6 144", "pop resembed"));
  EXPECT_THAT(Ranges([&] { return batch.BackwardStep({&grad}, {&step}).code(); }),
              ElementsAre("push resembed backward_step 4 16777217 3 5 96", "pop resembed"));

  std::vector<float> sum_rows(8);
  std::vector<int64_t> sum_ids(4);
  int64_t n_sum = 0;
  const Grad sum = Grad::Compressed(sum_rows.data(), sum_ids.data(), &n_sum, 4);
  const resembed_grad* const inputs[] = {&of_residual, &of_residual};
  Descriptor<resembed_combine_args> combine;
  combine.inputs = inputs;
  combine.n_inputs = 2;
  combine.dim = 2;
  combine.table_rows = 4;
  combine.output = &sum;
  size_t bytes = 0;
  ASSERT_EQ(resembed_combine_workspace_size(&combine, &place, &bytes), RESEMBED_OK);
  Memory workspace;
  EXPECT_THAT(Ranges([&] { return resembed_combine(&combine, workspace.Reserve(bytes), bytes, &place); }),
              ElementsAre("push resembed combine 3 16777217 0 8 192", "pop resembed"));
}

TEST_F(Nvtx, WholeTableOperationsAreRanges) {
  std::vector<float> items(6);
  Descriptor<resembed_materialize_args> materialize;
  materialize.table = &table;
  materialize.first_item = 1;
  materialize.n_items = 3;
  materialize.output = items.data();
  size_t bytes = 0;
  Memory workspace;
  ASSERT_EQ(resembed_materialize_workspace_size(&materialize, &place, &bytes), RESEMBED_OK);
  EXPECT_THAT(
      Ranges([&] { return resembed_materialize(&materialize, workspace.Reserve(bytes), bytes, &place); }),
      ElementsAre("push resembed materialize 5 16777217 0 3 120", "pop resembed"));

  const std::vector<int32_t> interest = {0, 0, 1, 1};
  Descriptor<resembed_envelope_args> envelope;
  envelope.table = &table;
  envelope.interest_of = interest.data();
  envelope.n_interests = 2;
  ASSERT_EQ(resembed_envelope_workspace_size(&envelope, &place, &bytes), RESEMBED_OK);
  EXPECT_THAT(Ranges([&] { return resembed_envelope(&envelope, workspace.Reserve(bytes), bytes, &place); }),
              ElementsAre("push resembed envelope 5 16777217 0 4 128", "pop resembed"));
}

TEST_F(Nvtx, WhatPreparesABatchOrATableIsARange) {
  std::vector<int64_t> translated(5);
  const std::vector<int32_t> map = {3, 2, 1, 0};
  Descriptor<resembed_translate_args> translate;
  translate.ids = ids.data();
  translate.output = translated.data();
  translate.id_dtype = RESEMBED_I64;
  translate.n_ids = 5;
  translate.map = map.data();
  translate.n_map = 4;
  // 5 ids in, 5 out, 5 entries of the map
  EXPECT_THAT(Ranges([&] { return resembed_translate(&translate, &place); }),
              ElementsAre("push resembed translate 2 16777217 0 5 100", "pop resembed"));
  // 4 items, lists of 2
  EXPECT_THAT(Ranges([&] { return resembed_check_maps(&table, &place); }),
              ElementsAre("push resembed check_maps 5 16777217 0 4 32", "pop resembed"));

  const resembed_table* const tables[] = {&table};
  Descriptor<resembed_tables> list;
  list.tables = tables;
  list.n_tables = 1;
  size_t bytes = 0;
  ASSERT_EQ(resembed_table_set_size(&list, &place, &bytes), RESEMBED_OK);
  Memory memory;
  resembed_table_set set = {};
  EXPECT_THAT(
      Ranges([&] { return resembed_table_set_prepare(&list, memory.Reserve(bytes), bytes, &set, &place); }),
      ElementsAre("push resembed table_set_prepare 5 16777217 0 1 " + std::to_string(bytes), "pop resembed"));
}

TEST_F(Nvtx, NamesCategoriesAndPayloadFieldsAreRegisteredOnce) {
  Batch batch({&table}, {&feature}, place);
  ASSERT_TRUE(batch.Forward().ok());
  ASSERT_TRUE(batch.Forward().ok());
  EXPECT_THAT(
      Lines("string"),
      ElementsAre("string resembed forward", "string resembed plan", "string resembed backward",
                  "string resembed step", "string resembed backward_step", "string resembed combine",
                  "string resembed materialize", "string resembed envelope", "string resembed translate",
                  "string resembed check_maps", "string resembed table_set_prepare"));
  EXPECT_THAT(Lines("category"), ElementsAre("category resembed 1 forward", "category resembed 2 index",
                                             "category resembed 3 backward", "category resembed 4 optimizer",
                                             "category resembed 5 table"));
  EXPECT_THAT(Lines("schema"), ElementsAre("schema resembed 16777217 24 bags:i64@0 rows:i64@8 bytes:i64@16"));
}

TEST_F(Nvtx, ARefusedCallIsNoRange) {
  const size_t before = Lines("p").size();
  feature.table = 7;
  Batch batch({&table}, {&feature}, place);
  EXPECT_FALSE(batch.Forward().ok());
  EXPECT_EQ(Lines("p").size(), before);
}

}  // namespace
}  // namespace resembed::testing
