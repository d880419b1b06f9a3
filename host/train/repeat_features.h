// SPDX-License-Identifier: Apache-2.0
// Features of a candidate that lies in the user's full history; zero when it does not. For host code and
// kernels.
#pragma once

#include <cstdint>

namespace resembed::train {

//   [0, 8)  which of d = 1, 2, 3-4, 5-8, 9-16, 17-64, 65-256, more: d = events since the candidate's last
//   8       log of how often;    9  log of the share of the history that it is, over 4
inline constexpr int kRepeatFeatures = 10;
void RepeatFeatures(int64_t count, int64_t distance, int64_t history, float* features);

}  // namespace resembed::train
