// SPDX-License-Identifier: Apache-2.0
#include "host/train/residual_control.h"

#include <algorithm>
#include <cmath>

namespace resembed::train {

namespace {
constexpr double kGain = 0.5, kDamping = 1.0, kRange = 1000;
}  // namespace

bool ControlsResidual(const Hyper& hyper, const Variant& variant) {
  return (hyper.residual_cap > 0 || hyper.residual_ratio > 0) && variant.residual && IsGraphVariant(variant);
}

ResidualRule FirstRule(const Hyper& hyper) {
  ResidualRule rule;
  rule.lambda = hyper.lambda;
  rule.error = -1;  // R starts at zero
  return rule;
}

ResidualRule Follow(const Hyper& hyper, const ResidualRule& rule, double ratio, double central_norm) {
  ResidualRule next = rule;
  if (hyper.residual_cap > 0) next.max_norm = hyper.residual_cap * central_norm;
  if (hyper.residual_ratio > 0) {
    next.error = ratio > 0 ? std::clamp(std::log(ratio / hyper.residual_ratio), -1.0, 1.0) : -1.0;
    const double change = kGain * next.error + kDamping * (next.error - rule.error);
    next.lambda = std::clamp(rule.lambda * std::exp(change), hyper.lambda / kRange, hyper.lambda * kRange);
  }
  return next;
}

}  // namespace resembed::train
