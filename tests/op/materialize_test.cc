// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "host/cpu/row_ops.h"
#include "tests/oracle/forward.h"
#include "tests/support/gradient_problem.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {
namespace {

const resembed_central_form kForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                        RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                        RESEMBED_CENTRAL_ATTENTION};

std::vector<unsigned char> Materialize(const resembed_table& table, int64_t first, int64_t n,
                                       resembed_dtype dtype, int64_t extra_stride,
                                       const resembed_place& place) {
  const int64_t element = detail::ElementBytes(dtype), stride = table.dim + extra_stride;
  Guarded output(static_cast<size_t>(n * stride * element));
  resembed_materialize_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table;
  args.first_item = first;
  args.n_items = n;
  args.output = output.data();
  args.output_stride = stride;
  args.output_dtype = dtype;
  size_t bytes = 0;
  EXPECT_EQ(resembed_materialize_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  EXPECT_EQ(resembed_materialize(&args, workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(output.Intact() && workspace.Intact());
  std::vector<unsigned char> rows;
  const auto* from = static_cast<const unsigned char*>(output.data());
  for (int64_t row = 0; row < n; ++row) {
    rows.insert(rows.end(), from + row * stride * element, from + (row * stride + table.dim) * element);
    for (int64_t gap = table.dim * element; gap < stride * element; ++gap) {
      EXPECT_EQ(from[row * stride * element + gap], 0xff) << "the gap after row " << row << " was written";
    }
  }
  return rows;
}

TEST(Materialize, IsForwardOfEveryItemBitForBitAndTheOracle) {
  for (const resembed_central_form form : kForms) {
    for (const int64_t dim : {int64_t{7}, int64_t{64}}) {
      TableSpec spec;
      spec.form = form;
      spec.dim = dim;
      spec.n_items = 3000;
      spec.row_map = dim == 7;
      spec.residual_dtype = dim == 7 ? RESEMBED_BF16 : RESEMBED_F32;
      spec.misaligned = dim == 7;
      FeatureSpec feature;
      feature.pooling = RESEMBED_POOLING_NONE;
      for (int64_t item = 100; item < 2900; ++item) feature.ids.push_back(item);
      feature.n_bags = 2800;
      GradientProblem problem({spec}, {feature}, 2);
      const resembed_table& table = problem.tables[0]->descriptor;
      for (const resembed_dtype dtype : {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16}) {
        ForwardOptions options;
        options.output_dtype = dtype;
        const ForwardResult want = RunForward(&problem, PlaceOf(nullptr), options);
        ASSERT_EQ(want.status, RESEMBED_OK) << want.message;
        for (const resembed_cpu_isa isa : AvailableIsas()) {
          for (const int width : {1, 3}) {
            const TestExecutor executor(width, width == 3);
            EXPECT_EQ(Materialize(table, 100, 2800, dtype, isa, PlaceOf(&executor, isa)),
                      want.features[0].bytes)
                << "form " << form << " dim " << dim << " type " << dtype << " isa " << isa;
          }
        }
        const OracleTable oracle = problem.OracleTables()[0];
        for (int64_t row = 0; row < 2800; row += 50) {
          const BoundedRow e = OracleItem(oracle, 100 + row);
          for (int64_t col = 0; col < dim; ++col) {
            ASSERT_LE(std::fabs(want.features[0].values[static_cast<size_t>(row * dim + col)] -
                                e[static_cast<size_t>(col)].value),
                      OutputTolerance(e[static_cast<size_t>(col)], dtype));
          }
        }
      }
    }
  }
}

TEST(Materialize, AnEmptyRangeIsValid) {
  GradientProblem problem({TableSpec()}, {}, 2);
  EXPECT_TRUE(Materialize(problem.tables[0]->descriptor, 50, 0, RESEMBED_F32, 0, PlaceOf(nullptr)).empty());
}

TEST(Materialize, RejectsWhatItCannotDo) {
  TableSpec spec;
  GradientProblem problem({spec}, {}, 2);
  std::vector<float> output(50 * 7);
  resembed_materialize_args good = {};
  good.struct_size = sizeof(good);
  good.table = &problem.tables[0]->descriptor;
  good.n_items = 50;
  good.output = output.data();
  struct Case {
    std::function<void(resembed_materialize_args*)> spoil;
    resembed_status status;
    const char* words;
  };
  const Case cases[] = {
      {[](auto* args) { args->struct_size = 0; }, RESEMBED_INVALID_ARGUMENT, "args is of struct_size 0"},
      {[](auto* args) { args->table = nullptr; }, RESEMBED_INVALID_ARGUMENT, "table is null"},
      {[](auto* args) { args->n_items = 51; }, RESEMBED_OUT_OF_RANGE,
       "items are 0 .. 0 + 51; needs a range of 0 .. 50"},
      {[](auto* args) { args->first_item = 1; }, RESEMBED_OUT_OF_RANGE, "items are 1"},
      {[](auto* args) { args->first_item = -1; }, RESEMBED_OUT_OF_RANGE, "items are -1"},
      {[](auto* args) { args->n_items = -1; }, RESEMBED_OUT_OF_RANGE, "+ -1"},
      {[](auto* args) { args->output = nullptr; }, RESEMBED_INVALID_ARGUMENT, "output is null"},
      {[](auto* args) { args->output_dtype = RESEMBED_I32; }, RESEMBED_INVALID_ARGUMENT,
       "output_dtype is i32"},
      {[](auto* args) { args->output_stride = 6; }, RESEMBED_INVALID_ARGUMENT,
       "output_stride is 6; needs at least dim (7)"},
      {[](auto* args) { args->output_stride = int64_t{1} << 60; }, RESEMBED_INVALID_ARGUMENT,
       "below 2^62 bytes"},
      {[](auto* args) { args->output = static_cast<char*>(args->output) + 1; }, RESEMBED_INVALID_ARGUMENT,
       "misaligned"},
      {[](auto* args) { args->output = args->table->residual; }, RESEMBED_INVALID_ARGUMENT,
       "overlapping the table"},
  };
  const resembed_place place = PlaceOf(nullptr);
  for (const Case& one : cases) {
    resembed_materialize_args args = good;
    one.spoil(&args);
    EXPECT_EQ(resembed_materialize(&args, nullptr, 0, &place), one.status) << one.words;
    const std::string message = resembed_last_error_message();
    EXPECT_NE(message.find(one.words), std::string::npos) << message;
    EXPECT_EQ(message.find("materialize: "), 0u) << message;
  }
  for (const float value : output) ASSERT_EQ(value, 0.0f) << "a rejected call wrote";
  good.output_dtype = RESEMBED_F16;
  EXPECT_EQ(resembed_materialize(&good, nullptr, 0, &place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_EQ(resembed_materialize_workspace_size(&good, &place, nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "materialize: bytes is null; needs a size_t");
}

}  // namespace
}  // namespace resembed::testing
