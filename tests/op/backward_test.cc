// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "host/status.h"
#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

constexpr double kEps = 0x1p-24;  // half a unit in the last place of fp32

// A sum of n rounded terms, each a product of a few factors: at most (n + factors) roundings of the magnitude.
double Tolerance(const OracleSum& sum, int64_t more_roundings) {
  return kEps * static_cast<double>(sum.n_terms + more_roundings) * sum.magnitude * 1.01 + 1e-37;
}

void ExpectRows(const Compressed& got, const std::map<int64_t, OracleRow>& want, int64_t dim, int64_t roundings,
                const char* what) {
  std::vector<int64_t> ids;
  for (const auto& entry : want) ids.push_back(entry.first);
  ASSERT_EQ(got.ids, ids) << what;
  for (size_t index = 0; index < ids.size(); ++index) {
    const OracleRow& row = want.at(ids[index]);
    for (int64_t col = 0; col < dim; ++col) {
      const double value = static_cast<double>(got.rows[index * static_cast<size_t>(dim) + static_cast<size_t>(col)]);
      const OracleSum& sum = row[static_cast<size_t>(col)];
      ASSERT_NEAR(value, sum.value, Tolerance(sum, roundings))
          << what << " of row " << ids[index] << ", column " << col << ", " << sum.n_terms << " terms";
    }
  }
}

// Everything backward gives, against the oracle.
void ExpectMatchesOracle(const GradientProblem& problem, const Grads& got) {
  const OracleGrads want = OracleBackward(problem.OracleTables(), problem.OracleFeatures());
  int64_t n_uses = 0;
  for (const auto& feature : problem.features) n_uses += feature->descriptor.n_ids;
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    const TableSpec& spec = problem.tables[at]->spec;
    SCOPED_TRACE("table " + std::to_string(index));
    if (spec.residual) ExpectRows(got.tables[at].residual, want.tables[at].items, spec.dim, 8, "dR");
    if (spec.form == RESEMBED_CENTRAL_NONE) continue;
    // dE was rounded as a sum of its own; attention adds dots over dim, the softmax and exp.
    const bool attention = spec.form == RESEMBED_CENTRAL_ATTENTION;
    const int64_t roundings = 8 + n_uses + (attention ? 8 * (spec.dim + spec.n_neighbors) + 64 : 0);
    ExpectRows(got.tables[at].central, want.tables[at].central, spec.dim, roundings, "dC");
    if (spec.form != RESEMBED_CENTRAL_STORED) continue;
    size_t unique = 0;
    for (const auto& [item, row] : want.tables[at].neighbor_weights) {
      for (int64_t slot = 0; slot < spec.n_neighbors; ++slot) {
        const double value = static_cast<double>(
            got.tables[at].neighbor_weights[unique * static_cast<size_t>(spec.n_neighbors) + static_cast<size_t>(slot)]);
        if (slot < static_cast<int64_t>(row.size())) {
          const OracleSum& sum = row[static_cast<size_t>(slot)];
          ASSERT_NEAR(value, sum.value, Tolerance(sum, spec.dim + n_uses)) << "dW of item " << item;
        } else {
          ASSERT_EQ(value, 0.0) << "dW past the list of item " << item;
        }
      }
      ++unique;
    }
  }
  for (size_t feature = 0; feature < problem.features.size(); ++feature) {
    const TableSpec& spec = problem.tables[static_cast<size_t>(problem.features[feature]->spec.table)]->spec;
    for (size_t id = 0; id < got.sample_weights[feature].size(); ++id) {
      const OracleSum& sum = want.sample_weights[feature][id];
      // The embedding itself is a rounded sum of K + 1 rows; attention rounds its weights as well.
      const int64_t roundings = 16 + spec.n_neighbors + (spec.form == RESEMBED_CENTRAL_ATTENTION ? 8 * spec.dim : 0);
      const double slack = kEps * static_cast<double>(roundings * spec.dim) * 4;
      ASSERT_NEAR(static_cast<double>(got.sample_weights[feature][id]), sum.value, Tolerance(sum, roundings) + slack)
          << "dL/da of feature " << feature << ", id " << id;
    }
  }
}

struct Case {
  std::string name;
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

TableSpec Table(resembed_central_form form, int64_t dim) {
  TableSpec spec;
  spec.form = form;
  spec.dim = dim;
  return spec;
}
FeatureSpec Feature(resembed_pooling pooling, bool weights = false) {
  FeatureSpec spec;
  spec.pooling = pooling;
  spec.weights = weights;
  return spec;
}

constexpr resembed_central_form kForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                            RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                            RESEMBED_CENTRAL_ATTENTION};
constexpr resembed_pooling kPoolings[] = {RESEMBED_POOLING_NONE, RESEMBED_POOLING_SUM, RESEMBED_POOLING_MEAN,
                                          RESEMBED_POOLING_MAX};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto name = [](const char* head, resembed_central_form form, resembed_pooling pooling, int64_t dim) {
    return std::string(head) + "_" + detail::FormName(form) + "_" + detail::PoolingName(pooling) + "_dim" +
           std::to_string(dim);
  };
  for (const resembed_central_form form : kForms) {
    for (const resembed_pooling pooling : kPoolings) {
      for (const int64_t dim : {1, 7, 18, 64, 130}) {
        cases.push_back({name("plain", form, pooling, dim), {Table(form, dim)},
                         {Feature(pooling, pooling != RESEMBED_POOLING_MAX && dim % 2 == 0)}});
      }
      Case odd = {name("odd", form, pooling, 18), {Table(form, 18)}, {Feature(pooling)}};
      odd.tables[0].extra_stride = 3;
      odd.tables[0].misaligned = true;
      odd.tables[0].row_map = true;
      odd.tables[0].u16_centers = true;
      odd.tables[0].residual_dtype = RESEMBED_BF16;
      odd.tables[0].central_dtype = RESEMBED_F16;
      odd.features[0].padding = true;
      odd.features[0].bad_ids = .1;
      odd.features[0].id_dtype = odd.features[0].offset_dtype = RESEMBED_I32;
      odd.features[0].grad_dtype = RESEMBED_BF16;
      cases.push_back(odd);
    }
    // Four features with different poolings and types over one table, one of them without a gradient, and a second
    // table between them.
    Case shared = {name("shared", form, RESEMBED_POOLING_NONE, 16), {Table(form, 16), Table(RESEMBED_CENTRAL_STORED, 5)}, {}};
    shared.features = {Feature(RESEMBED_POOLING_MEAN, true), Feature(RESEMBED_POOLING_NONE),
                       Feature(RESEMBED_POOLING_SUM, true), Feature(RESEMBED_POOLING_MAX), Feature(RESEMBED_POOLING_SUM)};
    shared.features[1].table = 1;
    shared.features[2].grad_dtype = RESEMBED_F16;
    shared.features[2].fixed_length = true;
    shared.features[4].has_grad = false;
    cases.push_back(shared);
    Case center_only = {name("center_only", form, RESEMBED_POOLING_SUM, 16), {Table(form, 16)}, {Feature(RESEMBED_POOLING_SUM)}};
    center_only.tables[0].residual = form == RESEMBED_CENTRAL_NONE;
    cases.push_back(center_only);
    // Three items only: runs of 256 and more, in all features.
    Case skewed = {name("skewed", form, RESEMBED_POOLING_MEAN, 16), {Table(form, 16)},
                   {Feature(RESEMBED_POOLING_MEAN, true), Feature(RESEMBED_POOLING_NONE, true)}};
    skewed.tables[0].n_items = 12;
    skewed.tables[0].central_rows = 4;
    skewed.features[0].n_bags = 300;
    skewed.features[0].same_id = .7;
    skewed.features[1].n_bags = 900;
    cases.push_back(skewed);
    Case empty = {name("empty", form, RESEMBED_POOLING_SUM, 4), {Table(form, 4)},
                  {Feature(RESEMBED_POOLING_SUM), Feature(RESEMBED_POOLING_MEAN)}};
    empty.features[0].n_bags = 0;
    empty.features[1].max_length = 0;
    cases.push_back(empty);
  }
  return cases;
}

class Backward : public ::testing::TestWithParam<Case> {};

TEST_P(Backward, MatchesTheOracle) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 1);
  const TestExecutor serial(1);
  ExpectMatchesOracle(problem, RunBackward(problem, PlaceOf(&serial)));
}

TEST_P(Backward, IsTheSameOnEveryExecutorAndInstructionSet) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 2);
  const TestExecutor serial(1);
  const Grads want = RunBackward(problem, PlaceOf(&serial, RESEMBED_ISA_PORTABLE));
  for (const resembed_cpu_isa isa : AvailableIsas()) {
    const TestExecutor two(2), three(3), reversed(7, true);
    for (const TestExecutor* executor : {&two, &three, &reversed}) {
      EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(executor, isa)), want))
          << detail::IsaName(isa) << ", width " << executor->width;
    }
  }
  EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(nullptr)), want)) << "the library's own threads";
}

TEST_P(Backward, DenseIsCompressedScattered) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 3);
  const TestExecutor executor(2);
  const Grads compressed = RunBackward(problem, PlaceOf(&executor));
  Asked asked;
  asked.layout = RESEMBED_GRAD_DENSE;
  const Grads dense = RunBackward(problem, PlaceOf(&executor), asked);
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    const resembed_table& table = problem.tables[at]->descriptor;
    const auto scatter = [&table](const Compressed& from, size_t size, const int32_t* row_of) {
      std::vector<float> rows(size, 0.0f);
      const auto dim = static_cast<size_t>(table.dim);
      for (size_t row = 0; row < from.ids.size(); ++row) {
        const int64_t to = row_of == nullptr ? from.ids[row] : row_of[from.ids[row]];
        if (to >= 0) std::memcpy(rows.data() + static_cast<size_t>(to) * dim, from.rows.data() + row * dim, dim * 4);
      }
      return rows;
    };
    EXPECT_TRUE(SameBits(dense.tables[at].residual.rows, scatter(compressed.tables[at].residual, dense.tables[at].residual.rows.size(), table.residual_row_of)));
    EXPECT_TRUE(SameBits(dense.tables[at].central.rows, scatter(compressed.tables[at].central, dense.tables[at].central.rows.size(), nullptr)));
  }
}

// What is not asked for changes nothing of what is.
TEST_P(Backward, PartsAskedForAloneHaveTheSameBits) {
  const GradientProblem problem(GetParam().tables, GetParam().features, 4);
  const TestExecutor executor(1);
  const Grads all = RunBackward(problem, PlaceOf(&executor));
  for (int part = 0; part < 4; ++part) {
    Asked asked;
    asked.residual = part == 0;
    asked.central = part == 1;
    asked.neighbor_weights = part == 2;
    asked.sample_weights = part == 3;
    Grads want = all;
    for (TableGrads& table : want.tables) {
      if (part != 0) table.residual = {};
      if (part != 1) table.central = {};
      if (part != 2) table.neighbor_weights = {};
    }
    if (part != 3) {
      for (auto& weights : want.sample_weights) weights = {};
    }
    EXPECT_TRUE(SameBits(RunBackward(problem, PlaceOf(&executor), asked), want)) << "part " << part;
  }
}

INSTANTIATE_TEST_SUITE_P(Curated, Backward, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace resembed::testing
