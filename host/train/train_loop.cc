// SPDX-License-Identifier: Apache-2.0
#include "host/train/train_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace resembed::train {

namespace {

// Better at the four decimals that are reported. Under a falling learning rate a figure creeps up by single
// pairs for as long as it is given.
bool Improves(double valid, double best) { return std::round(valid * 1e4) > std::round(best * 1e4); }

double Validate(const TrainTask& task, Learner* learner) {
  const std::unique_ptr<Scorer> scorer = learner->MakeScorer();
  const bool ranks = Ranks(task.head);
  const Figures figures = Evaluate(*scorer, *task.valid, *task.view->training, ranks ? kAuc : kHr20);
  const double value = ranks ? figures.Auc() : figures.Hr20();
  return std::isfinite(value) ? value : 0.0;
}

void KeepBest(Learner* learner, TrainState* state) {
  const std::vector<StateTensor> weights = learner->Weights();
  state->best.resize(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    state->best[i].assign(weights[i].data, weights[i].data + weights[i].size());
  }
}

void Restore(const TrainState& state, Learner* learner) {
  const std::vector<StateTensor> weights = learner->Weights();
  for (size_t i = 0; i < weights.size(); ++i) {
    std::copy(state.best[i].begin(), state.best[i].end(), weights[i].data);
  }
  learner->WeightsWritten();
}

}  // namespace

bool TrainRow(const TrainTask& task, Learner* learner, TrainState* state) {
  using Clock = std::chrono::steady_clock;
  const Hyper& hyper = *task.hyper;
  auto last = Clock::now();
  const auto tick = [&] {
    const auto now = Clock::now();
    state->seconds += std::chrono::duration<double>(now - last).count();
    last = now;
  };
  while (!state->finished) {
    const std::vector<Sample> samples = DrawSamples(*task.view->log, *task.users, hyper.targets, task.seed,
                                                    state->epoch, task.view->training->ends);
    const int64_t n = static_cast<int64_t>(samples.size());
    const int64_t n_steps = (n + hyper.batch - 1) / hyper.batch;
    const float lr_factor = static_cast<float>(std::pow(1.0 - hyper.lr_decay, state->epoch - 1));
    while (state->step < n_steps) {
      if (task.stop->load()) {
        tick();
        return false;
      }
      const int64_t begin = state->step * hyper.batch, count = std::min<int64_t>(hyper.batch, n - begin);
      const auto step_began = Clock::now();
      state->loss_sum +=
          static_cast<double>(count) *
          learner->Step(samples.data() + begin, count, state->epoch, state->total_steps, lr_factor);
      state->step_seconds += std::chrono::duration<double>(Clock::now() - step_began).count();
      ++state->step;
      ++state->total_steps;
      if (task.on_step) task.on_step(*state, begin + count, n);
    }
    const bool judged = task.valid != nullptr;
    const double valid = judged ? Validate(task, learner) : 0.0;
    tick();
    state->curve.push_back(
        {state->epoch, n > 0 ? state->loss_sum / static_cast<double>(n) : 0.0, valid, state->seconds});
    if (!judged || state->best_epoch == 0 || Improves(valid, state->best_valid)) {
      state->best_epoch = state->epoch;
      state->best_valid = valid;
      KeepBest(learner, state);
    }
    const bool patient = state->epoch - state->best_epoch < hyper.patience;
    state->finished = !patient || state->epoch >= hyper.epochs;
    state->capped = judged && patient && state->finished;
    if (!state->finished) {
      ++state->epoch;
      state->step = 0;
      state->loss_sum = 0;
    }
    if (task.on_epoch) task.on_epoch(*state);
  }
  Restore(*state, learner);
  tick();
  return true;
}

}  // namespace resembed::train
