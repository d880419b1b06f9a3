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

EnvelopeMeter::EnvelopeMeter(const Embedding& embedding, const std::vector<int32_t>& interest_of,
                             int64_t n_interests)
    : embedding_(embedding),
      n_interests_(n_interests),
      interest_of_(embedding.device(), HostCopy::kPageable),
      count_(embedding.device(), HostCopy::kPageable),
      radius_(embedding.device(), HostCopy::kPageable),
      radius95_(embedding.device(), HostCopy::kPageable),
      residual_norm_(embedding.device(), HostCopy::kPageable),
      central_norm_(embedding.device(), HostCopy::kPageable),
      ratio_(embedding.device(), HostCopy::kPageable),
      global_(embedding.device(), HostCopy::kPageable),
      workspace_(embedding.device(), HostCopy::kNone) {
  interest_of_.Assign(interest_of.size());
  std::copy(interest_of.begin(), interest_of.end(), interest_of_.host());
  interest_of_.Upload(interest_of_.size());
  count_.Assign(static_cast<size_t>(n_interests));
  for (Mirror<float>* figure : {&radius_, &radius95_, &residual_norm_, &central_norm_, &ratio_}) {
    figure->Assign(static_cast<size_t>(n_interests));
  }
  global_.Assign(4);
}

void EnvelopeMeter::Measure() {
  const float quantile = 0.95f;
  resembed_envelope_args args = {};
  args.struct_size = sizeof(args);
  args.table = &embedding_.table();
  args.interest_of = interest_of_.device();
  args.n_interests = n_interests_;
  args.quantiles = &quantile;
  args.n_quantiles = 1;
  args.count = count_.device();
  args.radius = radius_.device();
  args.radius_quantiles = radius95_.device();
  args.residual_norm = residual_norm_.device();
  args.central_norm = central_norm_.device();
  args.ratio = ratio_.device();
  args.global = global_.device();
  size_t bytes = 0;
  CheckStatus(resembed_envelope_workspace_size(&args, embedding_.place(), &bytes));
  workspace_.Reserve(bytes);
  CheckStatus(resembed_envelope(&args, workspace_.device(), workspace_.size(), embedding_.place()));
  count_.Download(count_.size());
  for (Mirror<float>* figure : {&radius_, &radius95_, &residual_norm_, &central_norm_, &ratio_, &global_}) {
    figure->Download(figure->size());
  }
  if (embedding_.device() != nullptr) embedding_.device()->Wait();
}

EnvelopeFigures MeasureEnvelope(const Embedding& embedding, const Partition& partition) {
  EnvelopeFigures figures;
  figures.ratio = std::numeric_limits<double>::quiet_NaN();
  if (partition.n_interests == 0) return figures;
  EnvelopeMeter meter(embedding, partition.interest_of, partition.n_interests);
  meter.Measure();
  for (int64_t interest = 0; interest < partition.n_interests; ++interest) {
    if (meter.count()[interest] < EnvelopeFigures::kMinItems || !(meter.spread() > 0)) continue;
    figures.radius.push_back(static_cast<double>(meter.radius()[interest] / meter.spread()));
    figures.radius95.push_back(static_cast<double>(meter.radius95()[interest] / meter.spread()));
  }
  if (meter.has_both_parts()) figures.ratio = static_cast<double>(meter.median_ratio());
  return figures;
}

}  // namespace resembed::train
