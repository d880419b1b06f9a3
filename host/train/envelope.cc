// SPDX-License-Identifier: Apache-2.0
#include "host/train/envelope.h"

#include <algorithm>
#include <limits>

namespace resembed::train {

double Median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

EnvelopeFigures MeasureEnvelope(const Embedding& embedding, const Partition& partition, Pool* pool) {
  const size_t n = static_cast<size_t>(partition.n_interests);
  EnvelopeFigures figures;
  figures.ratio = std::numeric_limits<double>::quiet_NaN();
  if (n == 0) return figures;
  std::vector<int64_t> count(n);
  std::vector<float> radius(n), radius95(n);
  float global[4] = {0, 0, 0, 0};
  const float quantile = 0.95f;
  resembed_envelope_args args = {};
  args.struct_size = sizeof(args);
  args.table = &embedding.table();
  args.interest_of = partition.interest_of.data();
  args.n_interests = partition.n_interests;
  args.quantiles = &quantile;
  args.n_quantiles = 1;
  args.count = count.data();
  args.radius = radius.data();
  args.radius_quantiles = radius95.data();
  args.global = global;
  size_t bytes = 0;
  CheckStatus(resembed_envelope_workspace_size(&args, pool->place(), &bytes));
  AlignedVector<uint8_t> workspace(bytes);
  CheckStatus(resembed_envelope(&args, workspace.data(), bytes, pool->place()));
  for (size_t interest = 0; interest < n; ++interest) {
    if (count[interest] < EnvelopeFigures::kMinItems || !(global[0] > 0)) continue;
    figures.radius.push_back(static_cast<double>(radius[interest] / global[0]));
    figures.radius95.push_back(static_cast<double>(radius95[interest] / global[0]));
  }
  if (embedding.table().residual != nullptr && embedding.table().central != nullptr) {
    figures.ratio = static_cast<double>(global[3]);
  }
  return figures;
}

}  // namespace resembed::train
