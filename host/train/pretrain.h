// SPDX-License-Identifier: Apache-2.0
// Item vectors learned from sequences alone, for a plain table to start from.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "host/train/model.h"

namespace resembed::train {

// Rows of unit root mean square norm over the items that training users touched; zeros elsewhere.
struct Pretrained {
  AlignedVector<float> rows;  // [n_items, dim]
  double seconds = 0;
  uint64_t seed = 0;  // seeds count from 1
};

struct PretrainTask {
  const LogView* view;
  const std::vector<int32_t>* users;  // their events before view->training->ends
  int64_t dim;
  int window;
  uint64_t seed;
  Pool* pool;
  Device* device;  // null = the CPU
  const std::atomic<bool>* stop;
  std::function<void(const std::string& text)> note;  // where it stands, every few seconds
};

// Skip-gram with negative sampling (Mikolov et al. 2013) on the users' sequences. For a center i, a context j at most
// 1..window events away (the reach is drawn anew for each center) and kPretrainNegatives items drawn from
// popularity^.75,
//   loss = -ln s(u_i . v_j) - sum_n ln s(-u_i . v_n),   s(x) = 1 / (1 + exp(-x)),
// averaged over the pairs of a step. The rows are u. No pair has i = j, and a negative that is the context counts
// nothing. kPretrainEpochs epochs of lazy Adam, its rate falling from kPretrainLr to nothing. The same for any number
// of threads. False when stopped; then nothing is kept.
inline constexpr int kPretrainNegatives = 5, kPretrainEpochs = 5;
inline constexpr double kPretrainLr = 0.01;
bool Pretrain(const PretrainTask& task, Pretrained* result);

// What it takes on one core of about 3 GHz, roughly: for the progress.
double PretrainSeconds(const TrainingView& view, int window, int64_t dim);

// Rows of C become `init` times the pretrained ones, where training touched the item; without a central part those of
// R. For a central part of one row an item.
void StartFrom(const Pretrained& pretrained, const LogView& view, double init, Learner* learner);

}  // namespace resembed::train
