// SPDX-License-Identifier: Apache-2.0
#include "host/train/pretrain.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "host/train/model_random.h"

namespace resembed::train {

namespace {

constexpr double kPopularityExponent = 0.75, kFirstScale = 0.1;
constexpr uint64_t kReach = ~uint64_t{0};  // the draw of a center that no negative has

int64_t CentersOfAStep(int64_t n_centers) {
  int64_t n = 16;
  while (n < 256 && 2 * n <= n_centers / 256) n *= 2;
  return n;
}

// A table of 2 n_items rows: u_i is row i, v_i row n_items + i.
class SkipGram {
 public:
  explicit SkipGram(const PretrainTask& task)
      : task_(task),
        log_(*task.view->log),
        hyper_(MakeHyper(task)),
        embedding_(kVariant, graph_, 2 * log_.n_items(), hyper_, task.seed, task.pool, task.device) {
    for (const StateTensor& tensor : embedding_.Weights()) {
      std::fill(tensor.data + log_.n_items() * task.dim, tensor.data + tensor.size(), 0.0f);
    }
    embedding_.WeightsWritten();
    double sum = 0;
    for (const int32_t item : task.view->training->candidates) {
      sum += std::pow(static_cast<double>(task.view->training->popularity[static_cast<size_t>(item)]),
                      kPopularityExponent);
      cumulative_.push_back(sum);
    }
    for (const int32_t user : *task.users) {
      const int64_t begin = log_.offsets[static_cast<size_t>(user)];
      for (int64_t at = begin; at < EndOf(log_, task.view->training->ends, user); ++at) {
        centers_.push_back({user, at});
      }
    }
  }

  bool Train() {
    const int64_t n = static_cast<int64_t>(centers_.size()), n_step = CentersOfAStep(n);
    const int64_t n_steps = (n + n_step - 1) / n_step;
    int64_t step = 0;
    for (int epoch = 1; epoch <= kPretrainEpochs; ++epoch) {
      std::vector<Sample> order = centers_;
      Random random(Draw(task_.seed, Stream::kPretrain, static_cast<uint64_t>(epoch)));
      Shuffle(order, random);
      for (int64_t begin = 0; begin < n; begin += n_step) {
        if (task_.stop->load()) return false;
        const double left = 1.0 - static_cast<double>(step) / static_cast<double>(n_steps * kPretrainEpochs);
        Step(order.data() + begin, std::min(n_step, n - begin), epoch, ++step,
             static_cast<float>(kPretrainLr * left));
        Say(epoch, static_cast<double>(begin) / static_cast<double>(n));
      }
    }
    return true;
  }

  // u, scaled.
  AlignedVector<float> Rows() {
    const int64_t dim = task_.dim;
    const float* u = embedding_.Weights()[0].data;
    AlignedVector<float> rows(static_cast<size_t>(log_.n_items() * dim));
    double sum = 0;
    for (const int32_t item : task_.view->training->candidates) {
      for (int64_t at = item * dim; at < (item + 1) * dim; ++at) {
        rows[static_cast<size_t>(at)] = u[at];
        sum += double{u[at]} * double{u[at]};
      }
    }
    const double n = static_cast<double>(task_.view->training->candidates.size());
    const float scale = static_cast<float>(sum > 0 ? std::sqrt(n / sum) : 0.0);
    for (float& value : rows) value *= scale;
    return rows;
  }

 private:
  static constexpr Variant kVariant = {"skip-gram", RESEMBED_CENTRAL_NONE, true, false, 1, ""};

  static Hyper MakeHyper(const PretrainTask& task) {
    Hyper hyper = {};
    hyper.dim = static_cast<int>(task.dim);
    hyper.optimizer = "adam";
    hyper.init = kFirstScale;
    return hyper;
  }

  void Say(int epoch, double share) {
    const auto now = Clock::now();
    if (std::chrono::duration<double>(now - said_).count() < 5.0) return;
    said_ = now;
    task_.note("pretraining: epoch " + std::to_string(epoch) + " of " + std::to_string(kPretrainEpochs) +
               ", " + std::to_string(std::lround(share * 100)) + " %");
  }

  // The pairs of each center stand one after the other, from first_pair_[center].
  void FillPairs(const Sample* centers, int64_t n, int epoch) {
    const TrainingView& training = *task_.view->training;
    const int32_t n_items = static_cast<int32_t>(log_.n_items());
    center_.ids.clear(), context_.ids.clear(), negative_.ids.clear();
    first_pair_.assign(1, 0);
    for (const Sample* center = centers; center < centers + n; ++center) {
      const auto draw = [&](uint64_t what) {
        return Draw(task_.seed, Stream::kPretrain, static_cast<uint64_t>(epoch),
                    static_cast<uint64_t>(center->position), what);
      };
      const int64_t first = log_.offsets[static_cast<size_t>(center->user)];
      const int64_t end = EndOf(log_, training.ends, center->user);
      const int64_t reach = 1 + BelowOf(draw(kReach), task_.window);
      const int32_t item = log_.items[static_cast<size_t>(center->position)];
      center_.ids.push_back(item);
      uint64_t n_drawn = 0;
      for (int64_t at = std::max(first, center->position - reach);
           at < std::min(end, center->position + reach + 1); ++at) {
        const int32_t other = log_.items[static_cast<size_t>(at)];
        if (other == item) continue;
        context_.ids.push_back(n_items + other);
        for (int k = 0; k < kPretrainNegatives; ++k) {
          const double where = cumulative_.back() * UnitOf(draw(n_drawn++));
          const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, where);
          negative_.ids.push_back(n_items +
                                  training.candidates[static_cast<size_t>(found - cumulative_.begin())]);
        }
      }
      first_pair_.push_back(static_cast<int64_t>(context_.ids.size()));
    }
  }

  void Step(const Sample* centers, int64_t n, int epoch, int64_t step, float lr) {
    FillPairs(centers, n, epoch);
    if (context_.ids.empty()) return;
    const std::vector<Lookup*> lookups = {&center_, &context_, &negative_};
    embedding_.Forward(lookups);
    const float inv = 1.0f / static_cast<float>(context_.ids.size());
    task_.pool->ParallelFor(n, [&](int64_t center) {
      const int64_t dim = task_.dim;
      const float* u = center_.output.data() + center * dim;
      float* d_u = center_.grad.data() + center * dim;
      std::fill_n(d_u, dim, 0.0f);
      // du += g v, dv = g u with g the derivative by u . v
      const auto add = [&](const Lookup& lookup, int64_t row, float target, bool counts) {
        const float* v = lookup.output.data() + row * dim;
        float* d_v = lookup.grad.data() + row * dim;
        float dot = 0;
        for (int64_t col = 0; col < dim; ++col) dot += u[col] * v[col];
        const float g = counts ? inv * (1.0f / (1.0f + std::exp(-dot)) - target) : 0.0f;
        for (int64_t col = 0; col < dim; ++col) {
          d_u[col] += g * v[col];
          d_v[col] = g * u[col];
        }
      };
      for (int64_t pair = first_pair_[static_cast<size_t>(center)];
           pair < first_pair_[static_cast<size_t>(center) + 1]; ++pair) {
        add(context_, pair, 1.0f, true);
        const int32_t context = context_.ids[static_cast<size_t>(pair)];
        for (int64_t row = pair * kPretrainNegatives; row < (pair + 1) * kPretrainNegatives; ++row) {
          add(negative_, row, 0.0f, negative_.ids[static_cast<size_t>(row)] != context);
        }
      }
    });
    embedding_.BackwardStep(lookups, step, lr);
  }

  using Clock = std::chrono::steady_clock;
  const PretrainTask& task_;
  Clock::time_point said_ = Clock::now();
  const Log& log_;
  const Hyper hyper_;
  const InterestGraph graph_;
  Embedding embedding_;
  std::vector<double> cumulative_;  // of popularity^.75 over the candidates
  std::vector<Sample> centers_;
  Lookup center_, context_, negative_;
  std::vector<int64_t> first_pair_;
};

}  // namespace

bool Pretrain(const PretrainTask& task, Pretrained* result) {
  const auto begin = std::chrono::steady_clock::now();
  SkipGram model(task);
  if (!model.Train()) return false;
  result->rows = model.Rows();
  result->seed = task.seed;
  result->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return true;
}

double PretrainSeconds(const TrainingView& view, int window, int64_t dim) {
  double n_events = 0;
  for (const int64_t popularity : view.popularity) n_events += static_cast<double>(popularity);
  const double n_rows = n_events * (window + 1) * (1 + kPretrainNegatives);
  return kPretrainEpochs * n_rows * static_cast<double>(dim) * sizeof(float) * 2e-9;
}

void StartFrom(const Pretrained& pretrained, const LogView& view, double init, Learner* learner) {
  const bool has_center = learner->embedding().table().central != nullptr;
  for (const StateTensor& tensor : learner->Weights()) {
    if (tensor.name != (has_center ? "central" : "residual")) continue;
    for (const int32_t item : view.training->candidates) {
      for (int64_t at = item * tensor.cols; at < (item + 1) * tensor.cols; ++at) {
        tensor.data[at] = static_cast<float>(init) * pretrained.rows[static_cast<size_t>(at)];
      }
    }
  }
  learner->WeightsWritten();
}

}  // namespace resembed::train
