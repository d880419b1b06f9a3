// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "tests/oracle/forward.h"
#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

struct Statistics {
  std::vector<int64_t> count;
  std::vector<float> radius, radius_quantiles, residual_norm, residual_norm_quantiles, central_norm, ratio,
      global;
  bool operator==(const Statistics& other) const {
    return count == other.count && SameBits(radius, other.radius) &&
           SameBits(radius_quantiles, other.radius_quantiles) &&
           SameBits(residual_norm, other.residual_norm) &&
           SameBits(residual_norm_quantiles, other.residual_norm_quantiles) &&
           SameBits(central_norm, other.central_norm) && SameBits(ratio, other.ratio) &&
           SameBits(global, other.global);
  }
};

const std::vector<float> kQuantiles = {0.0f, 0.5f, 0.95f, 1.0f};

Statistics RunEnvelope(const resembed_table& table, const std::vector<int32_t>& interest_of,
                       int64_t n_interests, const resembed_place& place) {
  const auto n = static_cast<size_t>(n_interests);
  Statistics out = {std::vector<int64_t>(n, -1), std::vector<float>(n, -1),     std::vector<float>(n * 4, -1),
                    std::vector<float>(n, -1),   std::vector<float>(n * 4, -1), std::vector<float>(n, -1),
                    std::vector<float>(n, -1),   std::vector<float>(4, -1)};
  resembed_envelope_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table;
  args.interest_of = interest_of.data();
  args.n_interests = n_interests;
  args.quantiles = kQuantiles.data();
  args.n_quantiles = 4;
  args.count = out.count.data();
  args.radius = out.radius.data();
  args.radius_quantiles = out.radius_quantiles.data();
  args.residual_norm = out.residual_norm.data();
  args.residual_norm_quantiles = out.residual_norm_quantiles.data();
  args.central_norm = out.central_norm.data();
  args.ratio = out.ratio.data();
  args.global = out.global.data();
  size_t bytes = 0;
  EXPECT_EQ(resembed_envelope_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  EXPECT_EQ(resembed_envelope(&args, workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(workspace.Intact());
  return out;
}

double NearestRank(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::max(1.0, std::ceil(q * static_cast<double>(values.size()))));
  return values[rank - 1];
}

double Norm(const std::vector<double>& row) {
  double sum = 0;
  for (const double value : row) sum += value * value;
  return std::sqrt(sum);
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

// Distances of each row to the mean of the rows.
std::vector<double> Distances(const std::vector<std::vector<double>>& rows, int64_t dim) {
  std::vector<double> mean(static_cast<size_t>(dim)), distances;
  for (const auto& row : rows) {
    for (size_t col = 0; col < row.size(); ++col) mean[col] += row[col] / static_cast<double>(rows.size());
  }
  for (auto row : rows) {
    for (size_t col = 0; col < row.size(); ++col) row[col] -= mean[col];
    distances.push_back(Norm(row));
  }
  return distances;
}

void ExpectNear(double got, double want, const char* what, int64_t interest) {
  ASSERT_NEAR(got, want, 2e-5 * std::max(1.0, std::fabs(want))) << what << " of interest " << interest;
}

void ExpectMatchesOracle(GradientProblem* problem, const std::vector<int32_t>& interest_of,
                         int64_t n_interests, const Statistics& got) {
  const OracleTable table = problem->OracleTables()[0];
  std::vector<std::vector<double>> all_rows;
  std::vector<double> all_residual, all_central, all_ratio;
  for (int64_t interest = 0; interest < n_interests; ++interest) {
    std::vector<std::vector<double>> rows;
    std::vector<double> residual, central, ratio;
    for (int64_t item = 0; item < table.n_items; ++item) {
      if (interest_of[static_cast<size_t>(item)] != interest) continue;
      const BoundedRow e = OracleItem(table, item);
      std::vector<double> row, part, rest;
      for (int64_t col = 0; col < table.dim; ++col) {
        row.push_back(e[static_cast<size_t>(col)].value);
        rest.push_back(table.has_residual ? table.residual[static_cast<size_t>(item * table.dim + col)] : 0);
        part.push_back(row.back() - rest.back());
      }
      rows.push_back(row);
      residual.push_back(Norm(rest));
      const bool has_center = !table.neighbors[static_cast<size_t>(item)].empty();
      central.push_back(has_center ? Norm(part) : 0);
      if (has_center) ratio.push_back(residual.back() / central.back());
    }
    const auto at = static_cast<size_t>(interest);
    const std::vector<double> distances = Distances(rows, table.dim);
    ASSERT_EQ(got.count[at], static_cast<int64_t>(rows.size()));
    ExpectNear(static_cast<double>(got.radius[at]), NearestRank(distances, 1), "radius", interest);
    ExpectNear(static_cast<double>(got.residual_norm[at]), Mean(residual), "residual_norm", interest);
    ExpectNear(static_cast<double>(got.central_norm[at]), Mean(central), "central_norm", interest);
    ExpectNear(static_cast<double>(got.ratio[at]), NearestRank(ratio, .5), "ratio", interest);
    for (size_t q = 0; q < kQuantiles.size(); ++q) {
      const auto share = static_cast<double>(kQuantiles[q]);
      ExpectNear(static_cast<double>(got.radius_quantiles[at * 4 + q]), NearestRank(distances, share),
                 "quantile", interest);
      ExpectNear(static_cast<double>(got.residual_norm_quantiles[at * 4 + q]), NearestRank(residual, share),
                 "residual quantile", interest);
    }
    all_rows.insert(all_rows.end(), rows.begin(), rows.end());
    all_residual.insert(all_residual.end(), residual.begin(), residual.end());
    all_central.insert(all_central.end(), central.begin(), central.end());
    all_ratio.insert(all_ratio.end(), ratio.begin(), ratio.end());
  }
  double squares = 0;
  for (const double distance : Distances(all_rows, table.dim)) squares += distance * distance;
  const double rms = all_rows.empty() ? 0 : std::sqrt(squares / static_cast<double>(all_rows.size()));
  ExpectNear(static_cast<double>(got.global[0]), rms, "global radius", -1);
  ExpectNear(static_cast<double>(got.global[1]), Mean(all_residual), "global |R|", -1);
  ExpectNear(static_cast<double>(got.global[2]), Mean(all_central), "global |center|", -1);
  ExpectNear(static_cast<double>(got.global[3]), NearestRank(all_ratio, .5), "global ratio", -1);
}

TEST(Envelope, MatchesTheOracleWithTheSameBitsForAnyThreadCountAndInstructionSet) {
  std::mt19937 random(3);
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    for (const bool large : {false, true}) {  // an interest longer than a piece
      TableSpec spec;
      spec.form = form;
      spec.n_items = large ? 9000 : 700;
      spec.dim = 11;
      spec.residual = form != RESEMBED_CENTRAL_STORED;
      spec.row_map = form == RESEMBED_CENTRAL_ASSIGNMENT;
      GradientProblem problem({spec}, {}, 4);
      std::vector<int32_t> interest_of;
      for (int64_t item = 0; item < spec.n_items; ++item) {
        interest_of.push_back(large && item % 8 < 6 ? 2 : static_cast<int32_t>(random() % 21) - 1);
        if (interest_of.back() == 5) interest_of.back() = -1;  // an interest without items
      }
      const resembed_table& table = problem.tables[0]->descriptor;
      const TestExecutor serial(1);
      const Statistics want = RunEnvelope(table, interest_of, 20, PlaceOf(&serial, RESEMBED_ISA_PORTABLE));
      ExpectMatchesOracle(&problem, interest_of, 20, want);
      for (const resembed_cpu_isa isa : AvailableIsas()) {
        for (const int width : {1, 2, 7}) {
          const TestExecutor executor(width, width == 7);
          if (form == RESEMBED_CENTRAL_ATTENTION && isa != RESEMBED_ISA_PORTABLE && width > 1) continue;
          EXPECT_TRUE(RunEnvelope(table, interest_of, 20, PlaceOf(&executor, isa)) == want)
              << "form " << form << " isa " << isa;
        }
      }
    }
  }
}

TEST(Envelope, EmptyGroupsGiveZeros) {
  GradientProblem problem({TableSpec()}, {}, 4);
  const Statistics none =
      RunEnvelope(problem.tables[0]->descriptor, std::vector<int32_t>(50, -1), 3, PlaceOf(nullptr));
  EXPECT_EQ(none.count, (std::vector<int64_t>{0, 0, 0}));
  for (const std::vector<float>& values :
       {none.radius, none.radius_quantiles, none.residual_norm, none.ratio, none.global}) {
    for (const float value : values) EXPECT_EQ(value, 0.0f);
  }
}

TEST(Envelope, RejectsWhatItCannotDo) {
  GradientProblem problem({TableSpec()}, {}, 4);
  std::vector<int32_t> interest_of(50, 1);
  std::vector<int64_t> count(2, -7);
  resembed_envelope_args good = {};
  good.struct_size = sizeof(good);
  good.table = &problem.tables[0]->descriptor;
  good.interest_of = interest_of.data();
  good.n_interests = 2;
  good.quantiles = kQuantiles.data();
  good.n_quantiles = 4;
  good.count = count.data();
  const resembed_place place = PlaceOf(nullptr);
  size_t bytes = 0;
  ASSERT_EQ(resembed_envelope_workspace_size(&good, &place, &bytes), RESEMBED_OK);
  Guarded workspace(bytes);
  const auto reject = [&](resembed_envelope_args args, size_t size, resembed_status status,
                          const char* words) {
    EXPECT_EQ(resembed_envelope(&args, workspace.data(), size, &place), status) << words;
    const std::string message = resembed_last_error_message();
    EXPECT_NE(message.find(words), std::string::npos) << message;
    EXPECT_EQ(message.find("envelope: "), 0u) << message;
    EXPECT_EQ(count[0], -7) << "a rejected call wrote";
  };
  resembed_envelope_args args = good;
  args.table = nullptr;
  reject(args, bytes, RESEMBED_INVALID_ARGUMENT, "table is null");
  args = good;
  args.interest_of = nullptr;
  reject(args, bytes, RESEMBED_INVALID_ARGUMENT, "interest_of is null");
  args = good;
  args.n_interests = -1;
  reject(args, bytes, RESEMBED_INVALID_ARGUMENT, "n_interests is -1");
  args = good;
  args.n_quantiles = -1;
  reject(args, bytes, RESEMBED_INVALID_ARGUMENT, "n_quantiles is -1");
  args = good;
  args.quantiles = nullptr;
  reject(args, bytes, RESEMBED_INVALID_ARGUMENT, "quantiles is null");
  const float beyond[] = {.5f, 1.5f, std::nanf(""), 0};
  args = good;
  args.quantiles = beyond;
  reject(args, bytes, RESEMBED_INVALID_ARGUMENT, "quantiles[1] is 1.5; needs 0 .. 1");
  EXPECT_EQ(resembed_envelope_workspace_size(&good, &place, nullptr), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "envelope: bytes is null; needs a size_t");
  reject(good, bytes - 1, RESEMBED_WORKSPACE_TOO_SMALL, "needs ");
  interest_of[17] = 2;
  reject(good, bytes, RESEMBED_OUT_OF_RANGE,
         "interest_of[17] is 2; needs -1 (left out) .. 1 (n_interests - 1)");
  interest_of[17] = -2;
  reject(good, bytes, RESEMBED_OUT_OF_RANGE, "interest_of[17] is -2");
}

}  // namespace
}  // namespace resembed::testing
