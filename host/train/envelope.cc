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

EnvelopeFigures MeasureEnvelope(const Embedding& embedding, const Partition& partition) {
  const size_t n = static_cast<size_t>(partition.n_interests);
  EnvelopeFigures figures;
  figures.ratio = std::numeric_limits<double>::quiet_NaN();
  if (n == 0) return figures;
  Device* device = embedding.device();
  Mirror<int32_t> interest_of(device, HostCopy::kPageable);
  Mirror<int64_t> count(device, HostCopy::kPageable);
  Mirror<float> radius(device, HostCopy::kPageable), radius95(device, HostCopy::kPageable),
      global(device, HostCopy::kPageable);
  interest_of.Assign(partition.interest_of.size());
  std::copy(partition.interest_of.begin(), partition.interest_of.end(), interest_of.host());
  interest_of.Upload(interest_of.size());
  count.Assign(n);
  radius.Assign(n);
  radius95.Assign(n);
  global.Assign(4);
  const float quantile = 0.95f;
  resembed_envelope_args args = {};
  args.struct_size = sizeof(args);
  args.table = &embedding.table();
  args.interest_of = interest_of.device();
  args.n_interests = partition.n_interests;
  args.quantiles = &quantile;
  args.n_quantiles = 1;
  args.count = count.device();
  args.radius = radius.device();
  args.radius_quantiles = radius95.device();
  args.global = global.device();
  size_t bytes = 0;
  CheckStatus(resembed_envelope_workspace_size(&args, embedding.place(), &bytes));
  Mirror<uint8_t> workspace(device, HostCopy::kNone);
  workspace.Assign(bytes);
  CheckStatus(resembed_envelope(&args, workspace.device(), bytes, embedding.place()));
  count.Download(n);
  radius.Download(n);
  radius95.Download(n);
  global.Download(4);
  if (device != nullptr) device->Wait();
  const float spread = global.host()[0];
  for (size_t interest = 0; interest < n; ++interest) {
    if (count.host()[interest] < EnvelopeFigures::kMinItems || !(spread > 0)) continue;
    figures.radius.push_back(static_cast<double>(radius.host()[interest] / spread));
    figures.radius95.push_back(static_cast<double>(radius95.host()[interest] / spread));
  }
  if (embedding.table().residual != nullptr && embedding.table().central != nullptr) {
    figures.ratio = static_cast<double>(global.host()[3]);
  }
  return figures;
}

}  // namespace resembed::train
