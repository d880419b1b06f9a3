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

// resembed_envelope of one embedding for one grouping of its items, as often as asked for: memory is taken once.
class EnvelopeMeter {
 public:
  // interest_of [n_items], below n_interests; -1 = left out. The embedding must outlive this.
  EnvelopeMeter(const Embedding& embedding, const std::vector<int32_t>& interest_of, int64_t n_interests);
  void Measure();  // the tables as they are now; waits for the device

  bool has_both_parts() const {
    return embedding_.table().residual != nullptr && embedding_.table().central != nullptr;
  }
  int64_t n_interests() const { return n_interests_; }
  // Of the last Measure, one number for each interest.
  const int64_t* count() { return count_.host(); }
  const float* radius() { return radius_.host(); }
  const float* radius95() { return radius95_.host(); }
  const float* residual_norm() { return residual_norm_.host(); }  // mean |R|
  const float* central_norm() { return central_norm_.host(); }    // mean |central part|
  const float* ratio() { return ratio_.host(); }                  // median |R| : |central part|
  // Over all grouped items.
  float spread() { return global_.host()[0]; }  // RMS distance to the global mean
  float mean_residual_norm() { return global_.host()[1]; }
  float mean_central_norm() { return global_.host()[2]; }
  float median_ratio() { return global_.host()[3]; }

 private:
  const Embedding& embedding_;
  const int64_t n_interests_;
  Mirror<int32_t> interest_of_;
  Mirror<int64_t> count_;
  Mirror<float> radius_, radius95_, residual_norm_, central_norm_, ratio_, global_;
  Mirror<uint8_t> workspace_;
};

}  // namespace resembed::train
