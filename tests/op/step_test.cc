// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "host/cpu/row_ops.h"
#include "host/status.h"
#include "tests/support/training.h"

namespace resembed::testing {
namespace {

constexpr resembed_optimizer_kind kKinds[] = {RESEMBED_SGD, RESEMBED_ADAGRAD, RESEMBED_ROWWISE_ADAGRAD,
                                              RESEMBED_ADAM, RESEMBED_PARTIAL_ROWWISE_ADAM};
constexpr resembed_decay kDecays[] = {RESEMBED_DECAY_L2, RESEMBED_DECAY_DECOUPLED,
                                      RESEMBED_DECAY_L2_WHOLE_TABLE};

TableSpec Plain(int64_t dim, resembed_dtype dtype = RESEMBED_F32) {
  TableSpec spec;
  spec.dim = dim;
  spec.n_items = 30;
  spec.residual_dtype = dtype;
  return spec;
}

// A step on compressed or dense gradients given by hand.
struct OneTable {
  OneTable(const TableSpec& table, const OptimizerSpec& optimizer)
      : training({table}, {}, optimizer, optimizer, 3), dim(table.dim) {
    grad = {};
    grad.struct_size = sizeof(grad);
    table_grad = {};
    table_grad.struct_size = sizeof(table_grad);
    table_grad.residual = &grad;
  }
  void SetCompressed(const std::vector<int64_t>& row_ids, const std::vector<float>& values) {
    ids = row_ids;
    rows = values;
    n_rows = static_cast<int64_t>(ids.size());
    grad.layout = RESEMBED_GRAD_COMPRESSED;
    grad.rows = rows.data();
    grad.row_ids = ids.data();
    grad.n_rows = &n_rows;
    grad.capacity = n_rows;
  }
  resembed_status Step(const resembed_place& place) {
    const resembed_table_grad* const grads[] = {&table_grad};
    const resembed_table_step* const steps[] = {&training.steps[0]};
    resembed_step_args args = {};
    args.struct_size = sizeof(args);
    args.tables = training.problem.table_list();
    args.table_grads = grads;
    args.steps = steps;
    size_t bytes = 0;
    const resembed_status status = resembed_step_workspace_size(&args, &place, &bytes);
    if (status != RESEMBED_OK) return status;
    Guarded workspace(bytes);
    const resembed_status done = resembed_step(&args, workspace.data(), workspace.size(), &place);
    EXPECT_TRUE(workspace.Intact());
    return done;
  }
  OptimizerState& state() { return *training.residual[0]; }
  std::vector<double> Row(int64_t row) const {
    return Decode(training.problem.tables[0]->ResidualRow(row),
                  training.problem.tables[0]->spec.residual_dtype, dim);
  }
  OracleRowState StateOf(int64_t row) {
    const OptimizerState& s = state();
    const auto read = [row, &s](const std::vector<unsigned char>& bytes, int64_t columns) {
      if (columns == 0) return std::vector<double>();
      const resembed_dtype dtype = s.descriptor.state_dtype;
      return Decode(bytes.data() + row * (columns + 1) * detail::ElementBytes(dtype), dtype, columns);
    };
    return {Row(row), read(s.state1, s.state1_dim), read(s.state2, s.state2_dim)};
  }

  Training training;
  int64_t dim;
  resembed_grad grad;
  resembed_table_grad table_grad;
  std::vector<int64_t> ids;
  std::vector<float> rows;
  int64_t n_rows = 0;
};

std::vector<float> RandomRows(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
  return values;
}

// Half a unit in the last place of a type, relative.
double RelativeError(resembed_dtype dtype) {
  return dtype == RESEMBED_F32 ? 0x1p-24 : dtype == RESEMBED_F16 ? 0x1p-11 : 0x1p-8;
}

void ExpectClose(const std::vector<double>& got, const std::vector<double>& want, double relative,
                 const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t at = 0; at < got.size(); ++at) {
    ASSERT_NEAR(got[at], want[at], relative * std::abs(want[at]) + relative * 0.1 + 1e-7)
        << what << " " << at;
  }
}

TEST(Step, FollowsTheFormulas) {
  const TestExecutor executor(2);
  for (const resembed_optimizer_kind kind : kKinds) {
    for (const resembed_decay decay : kDecays) {
      for (const int64_t dim : {1, 7, 64, 130}) {
        for (const auto& [dtype, state_dtype] :
             std::vector<std::pair<resembed_dtype, resembed_dtype>>{{RESEMBED_F32, RESEMBED_F32},
                                                                    {RESEMBED_BF16, RESEMBED_F32},
                                                                    {RESEMBED_F16, RESEMBED_BF16},
                                                                    {RESEMBED_F32, RESEMBED_F16}}) {
          for (const bool capped : {false, true}) {
            SCOPED_TRACE(std::string(detail::OptimizerName(kind)) + " decay " + std::to_string(decay) +
                         " dim " + std::to_string(dim) + " " + detail::DtypeName(dtype) + " state " +
                         detail::DtypeName(state_dtype) + (capped ? " capped" : ""));
            OptimizerSpec spec;
            spec.kind = kind;
            spec.decay = decay;
            spec.weight_decay = .1f;
            spec.grad_scale = .5f;
            spec.state_dtype = state_dtype;
            if (capped) spec.max_row_norm = .4f * std::sqrt(static_cast<float>(dim));
            OneTable one(Plain(dim, dtype), spec);
            const std::vector<int64_t> ids = {0, 3, 4, 17, 29};
            for (int64_t step = 1; step <= 3; ++step) {
              one.state().descriptor.step = step;
              const std::vector<float> rows =
                  RandomRows(ids.size() * static_cast<size_t>(dim), static_cast<uint64_t>(step));
              one.SetCompressed(ids, rows);
              std::vector<OracleRowState> want;
              for (int64_t row = 0; row < 30; ++row) {
                want.push_back(one.StateOf(row));
                std::vector<double> gradient(static_cast<size_t>(dim));
                bool touched = decay == RESEMBED_DECAY_L2_WHOLE_TABLE;
                for (size_t at = 0; at < ids.size(); ++at) {
                  if (ids[at] != row) continue;
                  touched = true;
                  for (size_t col = 0; col < gradient.size(); ++col) {
                    gradient[col] = static_cast<double>(rows[at * gradient.size() + col]);
                  }
                }
                if (touched) OracleStep(OracleOf(one.state().descriptor), gradient, &want.back());
              }
              ASSERT_EQ(one.Step(PlaceOf(&executor)), RESEMBED_OK) << resembed_last_error_message();
              for (int64_t row = 0; row < 30; ++row) {
                const OracleRowState got = one.StateOf(row);
                const OracleRowState& wanted = want[static_cast<size_t>(row)];
                // Some 20 roundings of fp32 (a mean over dim has 5 levels of sums), and the one of the stored type.
                const double fp32 = 0x1p-24 * (24 + static_cast<double>(dim) / 32);
                ExpectClose(got.row, wanted.row, fp32 + RelativeError(dtype), "column");
                ExpectClose(got.state1, wanted.state1, fp32 + RelativeError(state_dtype), "state1");
                ExpectClose(got.state2, wanted.state2, fp32 + RelativeError(state_dtype), "state2");
              }
            }
          }
        }
      }
    }
  }
}

struct Case {
  std::string name;
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
  OptimizerSpec residual, central;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
        RESEMBED_CENTRAL_ATTENTION}) {
    for (const resembed_optimizer_kind kind : kKinds) {
      for (const int64_t dim : {16, 18, 32, 48, 64}) {
        Case c;
        c.name = std::string(detail::FormName(form)) + "_kind" + std::to_string(kind) + "_dim" +
                 std::to_string(dim);
        TableSpec table;
        table.form = form;
        table.dim = dim;
        FeatureSpec bags, list;
        bags.weights = true;
        bags.n_bags = 60;
        bags.pooling = dim == 16 ? RESEMBED_POOLING_MEAN : RESEMBED_POOLING_SUM;
        list.pooling = RESEMBED_POOLING_NONE;
        list.padding = true;
        list.bad_ids = .1;
        c.tables = {table};
        c.features = {bags, list};
        c.residual.kind = c.central.kind = kind;
        c.residual.weight_decay = dim == 32 ? 0.0f : .01f;
        c.central.weight_decay = dim == 48 ? .02f : 0.0f;
        c.residual.decay = dim == 64   ? RESEMBED_DECAY_DECOUPLED
                           : dim == 18 ? RESEMBED_DECAY_L2_WHOLE_TABLE
                                       : RESEMBED_DECAY_L2;
        c.central.decay = dim == 48 ? RESEMBED_DECAY_L2_WHOLE_TABLE : RESEMBED_DECAY_L2;
        if (dim == 64) c.residual.max_row_norm = 2.0f;
        cases.push_back(c);
        if (dim == 64) {
          c.name += "_odd";
          c.tables[0].row_map = true;
          c.tables[0].misaligned = true;
          c.tables[0].extra_stride = 1;
          c.features[0].has_grad = false;
          cases.push_back(c);
        }
        if (dim != 18) continue;
        c.name += "_max_16bit";
        c.features[0].pooling = RESEMBED_POOLING_MAX;
        c.features[0].weights = false;
        c.tables[0].residual_dtype = RESEMBED_F16;
        c.tables[0].central_dtype = RESEMBED_BF16;
        c.residual.stochastic = c.central.stochastic = true;
        c.central.state_dtype = RESEMBED_BF16;
        cases.push_back(c);
      }
    }
  }
  // Runs of 256 and more in both levels, enough work for many tasks, two tables.
  Case skewed;
  skewed.name = "skewed";
  TableSpec stored;
  stored.form = RESEMBED_CENTRAL_STORED;
  stored.dim = 64;
  stored.n_items = 4000;
  stored.central_rows = 50;
  TableSpec uniform = stored;
  uniform.form = RESEMBED_CENTRAL_UNIFORM;
  uniform.dim = 20;
  FeatureSpec feature;
  feature.n_bags = 3000;
  feature.same_id = .2;
  FeatureSpec other = feature;
  other.table = 1;
  skewed.tables = {stored, uniform};
  skewed.features = {feature, other};
  skewed.residual.kind = skewed.central.kind = RESEMBED_ROWWISE_ADAGRAD;
  cases.push_back(skewed);
  return cases;
}

class BackwardStep : public ::testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Training> Make() const {
    return std::make_unique<Training>(GetParam().tables, GetParam().features, GetParam().residual,
                                      GetParam().central, 4);
  }
};

TEST_P(BackwardStep, HasTheBitsOfBackwardThenStep) {
  const TestExecutor executor(2);
  const auto fused = Make(), separate = Make();
  const std::vector<unsigned char> before = fused->Written();
  fused->Fused(PlaceOf(&executor));
  separate->Separate(PlaceOf(&executor));
  EXPECT_TRUE(fused->Written() == separate->Written());
  EXPECT_FALSE(fused->Written() == before);
}

TEST_P(BackwardStep, HasTheSameBitsOnEveryExecutorAndInstructionSet) {
  const TestExecutor serial(1), two(2), three(3), reversed(7, true);
  const auto want = Make();
  want->Fused(PlaceOf(&serial, RESEMBED_ISA_PORTABLE));
  for (const resembed_cpu_isa isa : AvailableIsas()) {
    for (const TestExecutor* executor : {&two, &three, &reversed}) {
      const auto got = Make();
      got->Fused(PlaceOf(executor, isa));
      EXPECT_TRUE(got->Written() == want->Written()) << detail::IsaName(isa) << ", width " << executor->width;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Curated, BackwardStep, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

TEST(Step, LeavesRowsAloneWhoseGradientIsNotFinite) {
  const TestExecutor executor(2);
  for (const resembed_optimizer_kind kind : kKinds) {
    for (const float bad : {NAN, INFINITY, 3e38f}) {  // the last one overflows with the scale
      for (const int64_t dim : {7, 64}) {
        OptimizerSpec spec;
        spec.kind = kind;
        spec.grad_scale = 2.0f;
        OneTable one(Plain(dim), spec);
        std::vector<float> rows = RandomRows(static_cast<size_t>(3 * dim), 1);
        rows[static_cast<size_t>(2 * dim - 1)] = bad;
        one.SetCompressed({2, 5, 9}, rows);
        const OracleRowState before = one.StateOf(5), other = one.StateOf(9);
        ASSERT_EQ(one.Step(PlaceOf(&executor)), RESEMBED_OK) << resembed_last_error_message();
        EXPECT_EQ(one.StateOf(5).row, before.row);
        EXPECT_EQ(one.StateOf(5).state1, before.state1);
        EXPECT_EQ(one.StateOf(5).state2, before.state2);
        EXPECT_NE(one.StateOf(9).row, other.row);
        EXPECT_EQ(one.state().n_skipped, 1);
      }
    }
  }
}

// Squares that overflow are no reason to skip a row: its gradient is finite.
TEST(Step, TakesHugeFiniteGradients) {
  const TestExecutor executor(1);
  OptimizerSpec spec;
  spec.kind = RESEMBED_ROWWISE_ADAGRAD;
  OneTable one(Plain(64), spec);
  one.SetCompressed({4}, std::vector<float>(64, 1e25f));
  ASSERT_EQ(one.Step(PlaceOf(&executor)), RESEMBED_OK);
  EXPECT_EQ(one.state().n_skipped, 0);
  EXPECT_TRUE(std::isinf(one.StateOf(4).state1[0]));
}

TEST(BackwardStep, SkipsAndCountsRowsWithoutFiniteGradient) {
  for (const int64_t dim : {18, 64}) {
    TableSpec table = Plain(dim);
    table.form = RESEMBED_CENTRAL_ASSIGNMENT;
    FeatureSpec feature;
    feature.pooling = RESEMBED_POOLING_NONE;
    feature.n_bags = 3;
    feature.ids = {1, 2, 3};
    OptimizerSpec spec;
    spec.kind = RESEMBED_ROWWISE_ADAGRAD;
    const TestExecutor executor(2);
    Training training({table}, {feature}, spec, spec, 1);
    auto& centers = training.problem.tables[0]->centers32;
    centers[1] = centers[2] = centers[3] = 0;
    Encode(training.problem.features[0]->grad_bytes.data(), RESEMBED_F32, (dim + 1) + 2, INFINITY);
    training.wants_sample_weights = false;
    training.Fused(PlaceOf(&executor));
    EXPECT_EQ(training.residual[0]->n_skipped, 1) << "item 2";
    EXPECT_EQ(training.central[0]->n_skipped, 1) << "the center of all three";
  }
}

TEST(Step, ReadsRateStepAndScaleFromMemory) {
  const TestExecutor executor(1);
  for (const resembed_optimizer_kind kind : kKinds) {
    OptimizerSpec spec;
    spec.kind = kind;
    spec.step = 7;
    spec.grad_scale = .5f;
    OneTable direct(Plain(18), spec), indirect(Plain(18), spec);
    const std::vector<float> rows = RandomRows(18, 1);
    direct.SetCompressed({3}, rows);
    indirect.SetCompressed({3}, rows);
    const float lr = direct.state().descriptor.lr, inv_scale = .25f, found = 0;
    const int64_t step = 7;
    direct.state().descriptor.grad_scale = .125f;
    resembed_optimizer& o = indirect.state().descriptor;
    o.lr = 77;
    o.step = 0;
    o.lr_device = &lr;
    o.step_device = &step;
    o.inv_scale_device = &inv_scale;
    o.found_inf_device = &found;
    ASSERT_EQ(direct.Step(PlaceOf(&executor)), RESEMBED_OK);
    ASSERT_EQ(indirect.Step(PlaceOf(&executor)), RESEMBED_OK) << resembed_last_error_message();
    EXPECT_TRUE(direct.training.Written() == indirect.training.Written()) << detail::OptimizerName(kind);
  }
}

TEST(Step, FoundInfSkipsTheWholeStep) {
  const TestExecutor executor(1);
  OptimizerSpec spec;
  spec.kind = RESEMBED_ADAM;
  const float found = 1;
  OneTable one(Plain(18), spec);
  one.SetCompressed({3}, RandomRows(18, 1));
  one.state().descriptor.found_inf_device = &found;
  const auto before = one.training.Written();
  ASSERT_EQ(one.Step(PlaceOf(&executor)), RESEMBED_OK);
  EXPECT_TRUE(one.training.Written() == before);

  Training training({Plain(18)}, {FeatureSpec()}, spec, spec, 1);
  training.wants_sample_weights = false;
  training.residual[0]->descriptor.found_inf_device = &found;
  const auto fused_before = training.Written();
  training.Fused(PlaceOf(&executor));
  EXPECT_TRUE(training.Written() == fused_before);
}

TEST(Step, DenseGradientUpdatesEveryRow) {
  const TestExecutor executor(2);
  TableSpec table = Plain(5);
  table.row_map = true;
  OptimizerSpec spec;
  spec.kind = RESEMBED_ADAM;
  OneTable dense(table, spec), compressed(table, spec);
  const std::vector<int32_t>& row_of = dense.training.problem.tables[0]->residual_row_of;
  const auto n_rows = static_cast<size_t>(dense.training.problem.tables[0]->descriptor.residual_rows);
  dense.rows = RandomRows(n_rows * 5, 9);
  dense.grad.layout = RESEMBED_GRAD_DENSE;
  dense.grad.rows = dense.rows.data();
  std::vector<int64_t> ids;
  std::vector<float> rows;
  for (size_t item = 0; item < row_of.size(); ++item) {
    if (row_of[item] < 0) continue;
    ids.push_back(static_cast<int64_t>(item));
    for (size_t col = 0; col < 5; ++col)
      rows.push_back(dense.rows[static_cast<size_t>(row_of[item]) * 5 + col]);
  }
  compressed.SetCompressed(ids, rows);
  ASSERT_EQ(dense.Step(PlaceOf(&executor)), RESEMBED_OK) << resembed_last_error_message();
  ASSERT_EQ(compressed.Step(PlaceOf(&executor)), RESEMBED_OK) << resembed_last_error_message();
  EXPECT_TRUE(dense.training.Written() == compressed.training.Written());
}

// Plain SGD with rate 1 on a bf16 table: over many steps the mean of what is stored is the number itself, and both
// neighbors occur.
TEST(Step, StochasticRoundingIsUnbiased) {
  const TestExecutor executor(1);
  for (const resembed_dtype dtype : {RESEMBED_BF16, RESEMBED_F16}) {
    OptimizerSpec spec;
    spec.stochastic = true;
    OneTable one(Plain(16, dtype), spec);
    one.state().descriptor.lr = 1.0f;
    const double unit = dtype == RESEMBED_BF16 ? 0x1p-7 : 0x1p-10;  // spacing between 1 and 2
    std::vector<double> sums(16);
    std::vector<int> low(16), high(16);
    constexpr int kSteps = 4000;
    for (int step = 1; step <= kSteps; ++step) {
      for (int col = 0; col < 16; ++col)
        Encode(one.training.problem.tables[0]->ResidualRow(3), dtype, col, 1.0f);
      std::vector<float> rows;
      for (int col = 0; col < 16; ++col) rows.push_back(static_cast<float>(-unit * (col + .5) / 16));
      one.SetCompressed({3}, rows);
      one.state().descriptor.step = step;
      ASSERT_EQ(one.Step(PlaceOf(&executor)), RESEMBED_OK);
      const std::vector<double> row = one.Row(3);
      for (size_t col = 0; col < 16; ++col) {
        sums[col] += row[col];
        low[col] += row[col] == 1.0;
        high[col] += row[col] == 1.0 + unit;
      }
    }
    for (size_t col = 0; col < 16; ++col) {
      const double fraction = (static_cast<double>(col) + .5) / 16;
      EXPECT_EQ(low[col] + high[col], kSteps);
      EXPECT_GT(low[col], 0);
      EXPECT_GT(high[col], 0);
      // Five standard deviations of a mean of 0/1 draws.
      EXPECT_NEAR(sums[col] / kSteps, 1 + unit * fraction,
                  5 * unit * std::sqrt(fraction * (1 - fraction) / kSteps))
          << col;
    }
  }
}

// The generator's row is the item, so where R's rows lie does not show.
TEST(Step, StochasticRoundingFollowsTheItemNotTheRow) {
  const TestExecutor executor(1);
  OptimizerSpec spec;
  spec.stochastic = true;
  TableSpec mapped = Plain(18, RESEMBED_BF16);
  mapped.row_map = true;
  OneTable a(Plain(18, RESEMBED_BF16), spec), b(mapped, spec);
  const int32_t row = b.training.problem.tables[0]->residual_row_of[5];
  ASSERT_NE(row, 5);
  std::memcpy(b.training.problem.tables[0]->ResidualRow(row), a.training.problem.tables[0]->ResidualRow(5),
              36);
  const std::vector<float> rows = RandomRows(18, 1);
  a.SetCompressed({5}, rows);
  b.SetCompressed({5}, rows);
  ASSERT_EQ(a.Step(PlaceOf(&executor)), RESEMBED_OK);
  ASSERT_EQ(b.Step(PlaceOf(&executor)), RESEMBED_OK);
  EXPECT_EQ(a.Row(5), b.Row(row));
}

}  // namespace
}  // namespace resembed::testing
