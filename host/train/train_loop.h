// SPDX-License-Identifier: Apache-2.0
// Trains one row until its validation figure has not improved for a while, and keeps the best epoch.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "host/train/eval.h"
#include "host/train/model.h"

namespace resembed::train {

struct EpochPoint {
  int epoch;
  double train_loss, valid, seconds;  // seconds since the row began, interruptions left out
};

// Where a row stands: everything but the tensors. Steps are a function of (seed, epoch, step), so this and
// the tensors are all that an interrupted row needs.
struct TrainState {
  int epoch = 1;     // being trained, from 1
  int64_t step = 0;  // next step inside the epoch
  int64_t total_steps = 0;
  double loss_sum = 0;  // over the samples of the epoch so far
  int best_epoch = 0;   // 0: none yet
  double best_valid = 0;
  double seconds = 0;
  double step_seconds = 0;  // of them in steps
  ResidualRule residual;    // where --residual-cap or --residual-ratio moves it
  int64_t looks = 0;        // at the envelope (row_instrument.h)
  double look_seconds = 0;
  bool finished = false;
  bool capped = false;
  std::vector<EpochPoint> curve;
  std::vector<AlignedVector<float>> best;  // Weights() of the best epoch
};

struct TrainTask {
  Head head;
  const Hyper* hyper;
  uint64_t seed;
  const LogView* view;
  const std::vector<int32_t>* users;
  const EvalSet* valid;           // null: hyper->epochs epochs, and the last one is kept
  const std::atomic<bool>* stop;  // asked for between steps
  // Called after every step with its number of samples; and after each epoch.
  std::function<void(const TrainState&, int64_t samples_done, int64_t samples_total)> on_step;
  std::function<void(const TrainState&)> on_epoch;
};

// Goes on from *state until the row is finished (then the learner holds the best epoch's weights) or
// stopped; true when finished.
bool TrainRow(const TrainTask& task, Learner* learner, TrainState* state);

}  // namespace resembed::train
