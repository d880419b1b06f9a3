// SPDX-License-Identifier: Apache-2.0
// Small trainings to compare, on the CPU or on a device (emulated, or a GPU).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/train/checkpoint.h"
#include "host/train/envelope.h"
#include "host/train/model.h"
#include "host/train/train_loop.h"

namespace resembed::train::testing {

struct Problem {
  Problem();
  Problem(const Problem&) = delete;

  Log log;
  Split split;
  InterestGraph graph;
  TrainingView training;
  LogView view;
  EvalSet valid;
  Partition partition;
};

Hyper SmallHyper(Head head, const std::string& optimizer);

std::vector<float> Values(const std::vector<StateTensor>& tensors);
// The number of differing elements; bits, so that NaN and -0 count.
size_t Differing(const std::vector<float>& a, const std::vector<float>& b);
// The largest distance of two elements; NaN where one is.
double Farthest(const std::vector<float>& a, const std::vector<float>& b);

// What a row of `variant` looks like after steps of changing sizes, so that buffers grow and shrink.
struct Trained {
  Trained(const Problem& problem, const char* variant, const Hyper& hyper, Device* device, int n_steps = 8);
  Pool pool;
  std::unique_ptr<Learner> learner;
  std::vector<double> loss;
  std::vector<float> weights, state, items;
  EnvelopeFigures envelope;
};

// Epochs with their evaluations; stopped before some step, saved, and continued by another learner.
struct Row {
  Row(const Problem& problem, Head head, Device* device, const char* variant = "avg");
  bool Train(const Problem& problem, int64_t until);
  const Hyper hyper;
  Pool pool;
  RowKey key;
  std::unique_ptr<Learner> learner;
  TrainState state;
};
std::vector<std::pair<double, double>> Curve(const TrainState& state);

// A whole run of a small log with these words besides, into `out`; what it throws is the caller's.
void RunSmall(const std::string& out, const std::vector<std::string>& words);

// The message of the Error that body throws, or "nothing".
std::string Said(const std::function<void()>& body);

}  // namespace resembed::train::testing
