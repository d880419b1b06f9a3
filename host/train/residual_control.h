// SPDX-License-Identifier: Apache-2.0
// Keeping the residual small beside the central part: a cap on its norm, and a penalty that follows a target ratio.
// Both read the envelope every N steps (row_instrument.h) and so depend on nothing but the run's own numbers.
#pragma once

#include "host/train/config.h"
#include "host/train/variant.h"

namespace resembed::train {

// What the optimizer of R is told, as it stands now. Belongs to the state of a row.
struct ResidualRule {
  double lambda = 0;
  double max_norm = 0;  // of a residual row after its update; 0 = none
  double error = 0;     // of the ratio when it was last measured, see Follow
};

// --residual-cap and --residual-ratio say something about variants with R and C; others ignore them.
bool ControlsResidual(const Hyper& hyper, const Variant& variant);
ResidualRule FirstRule(const Hyper& hyper);

// The rule for the next N steps. ratio: median |R[i]| : |central part of i|; central_norm: mean |central part|.
//   max_norm = residual_cap * central_norm
//   e        = ln(ratio / residual_ratio), at most 1 in size
//   ln lambda += kGain e + kDamping (e - e of the last time)
// lambda stays within kRange times its start on either side. A ratio above the target raises lambda; one that rises
// towards the target raises it before it gets there.
ResidualRule Follow(const Hyper& hyper, const ResidualRule& rule, double ratio, double central_norm);

}  // namespace resembed::train
