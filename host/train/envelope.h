// SPDX-License-Identifier: Apache-2.0
// How tight interests lie, for the report.
#pragma once

#include <vector>

#include "host/train/graph.h"
#include "host/train/model.h"

namespace resembed::train {

struct EnvelopeFigures {
  // Of each interest with at least kMinItems items: largest and 95 % distance of a member to the members' mean,
  // over the RMS distance of all items to the global mean.
  static constexpr int64_t kMinItems = 5;
  std::vector<double> radius, radius95;
  double ratio;  // median |R| : |central part| over items; NaN without one of the two parts
};
EnvelopeFigures MeasureEnvelope(const Embedding& embedding, const Partition& partition);

double Median(std::vector<double> values);  // lower middle; NaN when empty

}  // namespace resembed::train
