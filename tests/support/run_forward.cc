// SPDX-License-Identifier: Apache-2.0
#include "tests/support/run_forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "host/cpu/row_ops.h"
#include "tests/oracle/forward.h"

namespace resembed::testing {

ForwardResult RunForward(GradientProblem* problem, const resembed_place& place,
                         const ForwardOptions& options) {
  ForwardResult result;
  const int64_t element = detail::ElementBytes(options.output_dtype);
  std::vector<Guarded> outputs, argmax, attention;
  std::vector<int64_t> rows, strides;
  for (const auto& data : problem->features) {
    resembed_feature& feature = data->descriptor;
    const int64_t dim = problem->tables[static_cast<size_t>(feature.table)]->descriptor.dim;
    rows.push_back(feature.pooling == RESEMBED_POOLING_NONE ? feature.n_ids : feature.n_bags);
    strides.push_back(dim + options.extra_stride);
    outputs.emplace_back(static_cast<size_t>(rows.back() * strides.back() * element));
    const bool save = feature.pooling == RESEMBED_POOLING_MAX && options.saved_argmax;
    argmax.emplace_back(save ? static_cast<size_t>(rows.back() * dim) * 4 : 0);
    const bool keep = feature.pooling == RESEMBED_POOLING_ATTENTION && options.saved_attention;
    attention.emplace_back(keep ? static_cast<size_t>(feature.n_ids) * 4 : 0);
  }
  for (size_t index = 0; index < outputs.size(); ++index) {
    resembed_feature& feature = problem->features[index]->descriptor;
    feature.output = outputs[index].data();
    feature.output_stride = strides[index];
    feature.output_dtype = options.output_dtype;
    feature.saved_argmax = argmax[index].size() > 0 ? static_cast<int32_t*>(argmax[index].data()) : nullptr;
    feature.saved_attention =
        attention[index].size() > 0 ? static_cast<float*>(attention[index].data()) : nullptr;
  }
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = problem->table_list();
  args.features = problem->feature_list();
  args.n_features = problem->n_features();
  args.bounds = options.bounds;
  args.bad_ids = options.bad_ids;
  args.plan = options.plan;
  args.expected_unique = options.expected_unique;
  size_t bytes = 0;
  result.status = resembed_forward_workspace_size(&args, &place, &bytes);
  result.workspace_bytes = bytes;
  if (result.status == RESEMBED_OK) {
    Guarded workspace(bytes);
    result.status = resembed_forward(&args, workspace.data(), workspace.size(), &place);
    EXPECT_TRUE(workspace.Intact()) << "the workspace was written past its end";
  }
  if (result.status != RESEMBED_OK) result.message = resembed_last_error_message();
  for (size_t index = 0; index < outputs.size(); ++index) {
    resembed_feature& feature = problem->features[index]->descriptor;
    const int64_t dim = problem->tables[static_cast<size_t>(feature.table)]->descriptor.dim;
    const auto* first = static_cast<const unsigned char*>(outputs[index].data());
    EXPECT_TRUE(outputs[index].Intact() && argmax[index].Intact() && attention[index].Intact())
        << "an output was written past its end";
    FeatureOutput out;
    for (int64_t row = 0; row < rows[index]; ++row) {
      const unsigned char* row_bytes = first + row * strides[index] * element;
      out.bytes.insert(out.bytes.end(), row_bytes, row_bytes + dim * element);
      const bool gap = std::all_of(row_bytes + dim * element, row_bytes + strides[index] * element,
                                   [](unsigned char byte) { return byte == 0xff; });
      EXPECT_TRUE(gap) << "the gap after row " << row << " of feature " << index << " was written";
    }
    result.untouched = result.untouched && std::all_of(out.bytes.begin(), out.bytes.end(),
                                                       [](unsigned char byte) { return byte == 0xff; });
    out.values = Decode(out.bytes.data(), options.output_dtype, rows[index] * dim);
    const auto* saved = static_cast<const int32_t*>(argmax[index].data());
    out.argmax.assign(saved, saved + argmax[index].size() / 4);
    const auto* kept = static_cast<const float*>(attention[index].data());
    out.attention.assign(kept, kept + attention[index].size() / 4);
    result.features.push_back(std::move(out));
    feature.output = nullptr;
    feature.saved_attention = nullptr;
    feature.saved_argmax = nullptr;
  }
  return result;
}

bool SameBits(const ForwardResult& a, const ForwardResult& b) {
  return a.status == b.status && a.features == b.features;
}

void ExpectMatchesOracle(GradientProblem* problem, const ForwardResult& result, resembed_dtype output_dtype) {
  ASSERT_EQ(result.status, RESEMBED_OK) << result.message;
  const std::vector<OracleTable> tables = problem->OracleTables();
  const std::vector<OracleFeature> features = problem->OracleFeatures();
  for (size_t index = 0; index < features.size(); ++index) {
    const OracleTable& table = tables[static_cast<size_t>(features[index].table)];
    const OracleOutput want = OracleForwardBounded(table, features[index]);
    const FeatureOutput& got = result.features[index];
    ASSERT_EQ(got.values.size(), want.rows.size() * static_cast<size_t>(table.dim));
    for (size_t at = 0; at < got.values.size(); ++at) {
      const size_t row = at / static_cast<size_t>(table.dim), col = at % static_cast<size_t>(table.dim);
      const Bounded& sum = want.rows[row][col];
      ASSERT_LE(std::fabs(got.values[at] - sum.value), OutputTolerance(sum, output_dtype))
          << "feature " << index << " row " << row << " column " << col << ": " << got.values[at]
          << ", oracle " << sum.value;
      if (got.argmax.empty()) continue;
      // Where rounding may change the winner, the position must hold a value as large.
      const int32_t position = got.argmax[at];
      ASSERT_EQ(position < 0, want.argmax[row][col] < 0);
      if (position < 0) continue;
      const auto id = features[index].ids[static_cast<size_t>(features[index].offsets[row] + position)];
      ASSERT_GE(OracleItem(table, id)[col].value, sum.value - 2 * sum.error);
    }
  }
}

}  // namespace resembed::testing
