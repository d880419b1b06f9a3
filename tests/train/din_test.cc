// SPDX-License-Identifier: Apache-2.0
// Target attention in the ranking head: what is trained is what is evaluated, and gradients reach the query.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "host/train/mlp.h"

namespace resembed::train {
namespace {

struct Problem {
  Log log;
  Split split;
  TrainingView training;
  LogView view;
  InterestGraph graph;
};

// Users over few items, so that a negative is known.
void Fill(int64_t n_items, Problem* problem) {
  Log& log = problem->log;
  log.offsets = {0};
  for (int32_t user = 0; user < 12; ++user) {
    for (int32_t event = 0; event < 4 + user % 5; ++event) {
      log.items.push_back(static_cast<int32_t>((user * 7 + event * event * 3 + event) % n_items));
    }
    log.offsets.push_back(log.n_events());
    log.user_names.push_back("u" + std::to_string(user));
    problem->split.train.push_back(user);
  }
  for (int64_t item = 0; item < n_items; ++item) log.item_names.push_back("i" + std::to_string(item));
  problem->training = MakeTrainingView(log, problem->split);
  problem->view = MakeLogView(log, problem->training);
  problem->graph = BuildGraph(log, problem->split, 2, 3, 1.0);
}

Hyper HyperOfDin(int dim) {
  Options options;
  options.dim = dim;
  options.scale = 3.0;
  return HyperOf(options, Head::kDin, 100);
}

double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

TEST(Din, TrainingAndEvaluationScoreAlike) {
  Problem problem;
  Fill(2, &problem);  // the negative of an item is the other one
  Pool pool(2);
  const Hyper hyper = HyperOfDin(16);
  EXPECT_EQ(hyper.attention_scale, 3.0);
  for (const char* name : {"plain", "avg", "att", "assign"}) {
    SCOPED_TRACE(name);
    const auto learner = MakeLearner(*FindVariant(name), problem.graph, problem.view, hyper, 5, &pool);
    const std::vector<Sample> samples = DrawSamples(problem.log, problem.split.train, 3, 5, 1);
    const auto n = static_cast<int64_t>(samples.size());
    for (int64_t step = 0; step < 20; ++step) learner->Step(samples.data(), n, 1, step, 5.0f);
    std::vector<Target> targets;
    std::vector<int32_t> candidates;
    for (const Sample& sample : samples) {
      const int32_t item = problem.log.items[static_cast<size_t>(sample.position)];
      targets.push_back({sample.user, sample.position, item, true, false});
      candidates.insert(candidates.end(), {item, 1 - item});
    }
    std::vector<float> scores(candidates.size()), all(candidates.size());
    const auto scorer = learner->MakeScorer();
    scorer->Score(targets, candidates, 2, scores.data());
    scorer->ScoreAll(targets, all.data());
    double expected = 0;
    for (size_t s = 0; s < samples.size(); ++s) {
      expected += Softplus(-double{scores[2 * s]}) + Softplus(double{scores[2 * s + 1]});
      EXPECT_EQ(all[2 * s + static_cast<size_t>(targets[s].item)], scores[2 * s]);
    }
    EXPECT_NEAR(learner->Step(samples.data(), n, 1, 20, 1.0f), expected / static_cast<double>(2 * n), 1e-5);
  }
}

TEST(Din, GradientsReachTheItemsAndTheQuery) {
  Problem problem;
  Fill(9, &problem);
  Pool pool(2);
  constexpr int64_t kDim = 7;
  const Hyper hyper = HyperOfDin(kDim);
  Embedding embedding(*FindVariant("avg"), problem.graph, 9, hyper, 3, &pool);
  Lookup history, target, attended;
  target.ids = {4, 0, 8};
  history.ids = {1, 2, 2, 4, 0};
  history.offsets = {0, 3, 3, 5};  // the second bag is empty
  history.weights.assign(history.ids.size(), 1.0f);
  attended.ids = history.ids;
  attended.offsets = history.offsets;
  attended.query = &target;
  const std::vector<Lookup*> lookups = {&history, &target, &attended};
  std::vector<double> weights(3 * kDim);  // loss = weights . attended
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(1.0 + static_cast<double>(i));

  AlignedVector<float> items(9 * kDim);
  embedding.Materialize(items.data());
  const auto attend = [&](const std::vector<double>& query, size_t b) {
    std::vector<double> p, y(kDim, 0.0);
    double sum = 0;
    for (int64_t t = history.offsets[b]; t < history.offsets[b + 1]; ++t) {
      double score = 0;
      for (size_t col = 0; col < kDim; ++col) {
        score +=
            query[col] * double{items[static_cast<size_t>(history.ids[static_cast<size_t>(t)]) * kDim + col]};
      }
      p.push_back(std::exp(hyper.attention_scale * score));
      sum += p.back();
    }
    for (size_t t = 0; t < p.size(); ++t) {
      const size_t item = static_cast<size_t>(history.ids[static_cast<size_t>(history.offsets[b]) + t]);
      for (size_t col = 0; col < kDim; ++col) y[col] += p[t] / sum * double{items[item * kDim + col]};
    }
    return y;
  };

  embedding.Forward(lookups);
  std::fill(history.grad.begin(), history.grad.end(), 0.0f);
  std::fill(target.grad.begin(), target.grad.end(), 0.25f);
  for (size_t i = 0; i < weights.size(); ++i) attended.grad[i] = static_cast<float>(weights[i]);
  const std::vector<float> outputs(attended.output.begin(), attended.output.end());
  embedding.BackwardStep(lookups, 1, 0.01f);

  for (size_t b = 0; b < 3; ++b) {
    std::vector<double> query(kDim);
    for (size_t col = 0; col < kDim; ++col)
      query[col] = double{items[static_cast<size_t>(target.ids[b]) * kDim + col]};
    const std::vector<double> y = attend(query, b);
    for (size_t col = 0; col < kDim; ++col) {
      EXPECT_NEAR(outputs[b * kDim + col], y[col], 1e-5);
      double slope = 0;
      for (const double by : {1e-5, -1e-5}) {
        std::vector<double> moved = query;
        moved[col] += by;
        const std::vector<double> at = attend(moved, b);
        for (size_t k = 0; k < kDim; ++k) slope += at[k] * weights[b * kDim + k] / (2 * by);
      }
      EXPECT_NEAR(target.grad[b * kDim + col], 0.25 + slope, 1e-4) << "bag " << b << " column " << col;
    }
  }
}

}  // namespace
}  // namespace resembed::train
