// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;

struct Input {
  std::vector<int64_t> ids;
  std::vector<float> rows;
  int64_t n_rows;
  resembed_grad grad;
};

// `share` of the table's rows, each with a random row.
std::unique_ptr<Input> MakeInput(int64_t table_rows, int64_t dim, double share, uint64_t seed) {
  auto input = std::make_unique<Input>();
  std::mt19937_64 random(seed);
  for (int64_t row = 0; row < table_rows; ++row) {
    if (static_cast<double>(random() >> 11) * 0x1p-53 >= share) continue;
    input->ids.push_back(row);
    for (int64_t col = 0; col < dim; ++col) {
      input->rows.push_back(static_cast<float>(random() % 2001) * 1e-3f - 1.0f);
    }
  }
  input->n_rows = static_cast<int64_t>(input->ids.size());
  input->grad = {};
  input->grad.struct_size = sizeof(input->grad);
  input->grad.rows = input->rows.data();
  input->grad.row_ids = input->ids.data();
  input->grad.n_rows = &input->n_rows;
  input->grad.capacity = input->n_rows;
  return input;
}

struct Combination {
  std::vector<std::unique_ptr<Input>> inputs;
  std::vector<const resembed_grad*> list;
  Guarded rows, ids, count;
  resembed_grad output;
  resembed_combine_args args;

  Combination(int64_t table_rows, int64_t dim, const std::vector<double>& shares) : count(8) {
    for (size_t index = 0; index < shares.size(); ++index) {
      inputs.push_back(MakeInput(table_rows, dim, shares[index], index + 1));
    }
    std::set<int64_t> all;
    for (const auto& input : inputs) {
      all.insert(input->ids.begin(), input->ids.end());
      list.push_back(&input->grad);
    }
    const auto n = all.size();
    rows = Guarded(n * static_cast<size_t>(dim) * 4);
    ids = Guarded(n * 8);
    output = {};
    output.struct_size = sizeof(output);
    output.rows = static_cast<float*>(rows.data());
    output.row_ids = static_cast<int64_t*>(ids.data());
    output.n_rows = static_cast<int64_t*>(count.data());
    output.capacity = static_cast<int64_t>(n);
    args = {};
    args.struct_size = sizeof(args);
    args.inputs = list.data();
    args.n_inputs = static_cast<int32_t>(list.size());
    args.dim = dim;
    args.table_rows = table_rows;
    args.output = &output;
  }

  resembed_status Run(const resembed_place& place) {
    size_t bytes = 0;
    const resembed_status status = resembed_combine_workspace_size(&args, &place, &bytes);
    if (status != RESEMBED_OK) return status;
    Guarded workspace(bytes);
    const resembed_status done = resembed_combine(&args, workspace.data(), workspace.size(), &place);
    EXPECT_TRUE(workspace.Intact() && rows.Intact() && ids.Intact() && count.Intact());
    return done;
  }
};

TEST(Combine, SumsRowsInInputOrder) {
  for (const int64_t dim : {1, 7, 64}) {
    for (const std::vector<double>& shares : std::vector<std::vector<double>>{
             {}, {0.0}, {.5}, {.1, .9}, {.3, 0.0, 1.0, .5}, {.01, .02, .03, .04, .05, .06, .07, .08, .09}}) {
      Combination c(5000, dim, shares);
      // Plain loop: fp32, input by input.
      std::map<int64_t, std::vector<float>> want;
      for (const auto& input : c.inputs) {
        for (size_t row = 0; row < input->ids.size(); ++row) {
          const float* from = input->rows.data() + row * static_cast<size_t>(dim);
          const auto [at, added] = want.try_emplace(input->ids[row], from, from + dim);
          if (!added) {
            for (int64_t col = 0; col < dim; ++col) at->second[static_cast<size_t>(col)] += from[col];
          }
        }
      }
      const TestExecutor serial(1), two(2), reversed(7, true);
      for (const TestExecutor* executor : {&serial, &two, &reversed}) {
        for (const resembed_cpu_isa isa : AvailableIsas()) {
          ASSERT_EQ(c.Run(PlaceOf(executor, isa)), RESEMBED_OK) << resembed_last_error_message();
          ASSERT_EQ(*c.output.n_rows, static_cast<int64_t>(want.size()));
          size_t index = 0;
          for (const auto& [id, row] : want) {
            ASSERT_EQ(c.output.row_ids[index], id);
            ASSERT_EQ(std::memcmp(c.output.rows + index * row.size(), row.data(), row.size() * 4), 0)
                << "row " << id;
            ++index;
          }
        }
      }
    }
  }
}

TEST(Combine, FailsOnTooSmallAnOutputBeforeWriting) {
  Combination c(100, 4, {.5, .5});
  --c.output.capacity;
  const TestExecutor serial(1);
  EXPECT_EQ(c.Run(PlaceOf(&serial)), RESEMBED_OUT_OF_RANGE);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("combine: output.capacity is"));
  const auto* bytes = static_cast<const unsigned char*>(c.rows.data());
  for (size_t at = 0; at < c.rows.size(); ++at) ASSERT_EQ(bytes[at], 0xff);
}

TEST(Combine, RejectsWhatItCannotSum) {
  struct Reject {
    const char* substring;
    resembed_status code;
    void (*spoil)(Combination*);
  };
  const Reject rejects[] = {
      {"combine: dim is 0; needs 1 or more", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->args.dim = 0; }},
      {"combine: table_rows is -1", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->args.table_rows = -1; }},
      {"combine: n_inputs is -1", RESEMBED_INVALID_ARGUMENT, [](Combination* c) { c->args.n_inputs = -1; }},
      {"combine: inputs is null", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->args.inputs = nullptr; }},
      {"combine: inputs[1] is null", RESEMBED_INVALID_ARGUMENT, [](Combination* c) { c->list[1] = nullptr; }},
      {"combine: output is null", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->args.output = nullptr; }},
      {"combine: inputs[0].struct_size is 0", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.struct_size = 0; }},
      {"combine: inputs[0].layout is not compressed", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.layout = RESEMBED_GRAD_DENSE; }},
      {"combine: inputs[0].stride is 3; needs at least dim (4)", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.stride = 3; }},
      {"combine: inputs[0].capacity is negative", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.capacity = -1; }},
      {"combine: inputs[0].capacity is too large", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.capacity = int64_t{1} << 61; }},
      {"combine: inputs[0].n_rows is null", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.n_rows = nullptr; }},
      {"combine: inputs[0].rows is null", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.rows = nullptr; }},
      {"combine: inputs[0].row_ids is null", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->inputs[0]->grad.row_ids = nullptr; }},
      {"combine: output.rows is misaligned", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) {
         c->output.rows = reinterpret_cast<float*>(reinterpret_cast<char*>(c->output.rows) + 1);
       }},
      {"combine: output is overlapping inputs[", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->output.rows = c->inputs[1]->grad.rows; }},
      {"combine: output is overlapping inputs[0]", RESEMBED_INVALID_ARGUMENT,
       [](Combination* c) { c->output.n_rows = c->inputs[0]->grad.n_rows; }},
      {"combine: inputs[1].n_rows[0] is -1", RESEMBED_OUT_OF_RANGE,
       [](Combination* c) { c->inputs[1]->n_rows = -1; }},
      {"combine: inputs[1].row_ids[0] is -1; needs increasing ids", RESEMBED_OUT_OF_RANGE,
       [](Combination* c) { c->inputs[1]->ids[0] = -1; }},
      {"needs increasing ids of 0 .. 9", RESEMBED_OUT_OF_RANGE,
       [](Combination* c) { c->args.table_rows = 10; }},
      {"combine: inputs[0].row_ids[1] is", RESEMBED_OUT_OF_RANGE,
       [](Combination* c) { c->inputs[0]->ids[1] = c->inputs[0]->ids[0]; }},
  };
  const TestExecutor serial(1);
  for (const Reject& reject : rejects) {
    Combination c(100, 4, {.5, .5});
    reject.spoil(&c);
    EXPECT_EQ(c.Run(PlaceOf(&serial)), reject.code) << reject.substring;
    EXPECT_THAT(resembed_last_error_message(), HasSubstr(reject.substring));
  }
  const resembed_place place = PlaceOf(&serial);
  size_t bytes = 0;
  EXPECT_EQ(resembed_combine_workspace_size(nullptr, &place, &bytes), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("combine: args is null"));
  Combination c(100, 4, {.5});
  EXPECT_EQ(resembed_combine_workspace_size(&c.args, &place, nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "combine: bytes is null; needs a size_t");
  EXPECT_EQ(resembed_combine(&c.args, nullptr, 0, &place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("combine: workspace_bytes is 0; needs"));
  EXPECT_EQ(resembed_combine(&c.args, nullptr, 0, nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("combine: place is null"));
}

}  // namespace
}  // namespace resembed::testing
