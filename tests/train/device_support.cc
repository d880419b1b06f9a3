// SPDX-License-Identifier: Apache-2.0
#include "tests/train/device_support.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>

#include "host/train/run.h"

namespace resembed::train::testing {

Problem::Problem() {
  GeneratorOptions options;
  options.n_users = 90;
  options.n_items = 60;
  options.n_interests = 5;
  options.repeat = 0.3;
  log = GenerateLog(options);
  split = SplitUsers(log, 1, 1.0);
  graph = BuildGraph(log, split, 2, 3, 1.0);
  training = MakeTrainingView(log, split);
  view = MakeLogView(log, training);
  valid = MakeEvalSet(log, training, split.valid, 20, 12);
  partition = MakePartition(log, graph, training);
}
Hyper SmallHyper(Head head, const std::string& optimizer) {
  Options options;
  options.dim = 8;
  options.batch = 16;
  options.negatives = 24;
  options.targets = 2;
  options.epochs = 3;
  options.patience = 9;
  options.optimizer = optimizer;
  Hyper hyper = HyperOf(options, head, 0);
  hyper.history_length = 6;
  return hyper;
}

std::vector<float> Values(const std::vector<StateTensor>& tensors) {
  std::vector<float> values;
  for (const StateTensor& tensor : tensors) {
    values.insert(values.end(), tensor.data, tensor.data + tensor.size());
  }
  return values;
}

size_t Differing(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return a.size() + b.size();
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += std::memcmp(&a[i], &b[i], sizeof(float)) != 0 ? 1 : 0;
  return n;
}

double Farthest(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : 1e9;
  for (size_t i = 0; i < a.size() && most < 1e9; ++i) {
    const double distance = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = distance <= most ? most : distance;  // NaN stays
  }
  return most;
}

Trained::Trained(const Problem& problem, const char* variant, const Hyper& hyper, Device* device, int n_steps)
    : pool(2) {
  learner = MakeLearner(*FindVariant(variant), problem.graph, problem.view, hyper, 5, &pool, device);
  int64_t epoch = 1, begin = 0;
  std::vector<Sample> samples = DrawSamples(problem.log, problem.split.train, hyper.targets, 5, epoch);
  const int64_t sizes[] = {3, 16, 1, 40, 16, 16, 7, 24};
  for (int step = 0; step < n_steps; ++step) {
    const int64_t n = sizes[step % 8];
    if (begin + n > static_cast<int64_t>(samples.size())) {
      samples = DrawSamples(problem.log, problem.split.train, hyper.targets, 5, ++epoch);
      begin = 0;
    }
    loss.push_back(learner->Step(samples.data() + begin, n, epoch, step, 1.0f));
    begin += n;
  }
  weights = Values(learner->Weights());
  state = Values(learner->OptimizerState());
  const Embedding& embedding = learner->embedding();
  items.resize(static_cast<size_t>(embedding.n_items() * embedding.dim()));
  embedding.Materialize(items.data());
  envelope = MeasureEnvelope(embedding, problem.partition);
}

Row::Row(const Problem& problem, Head head, Device* device, const char* variant)
    : hyper(SmallHyper(head, "adam")), pool(1) {
  key = {head, variant, 1};
  learner = MakeLearner(*FindVariant(variant), problem.graph, problem.view, hyper, 1, &pool, device);
}

bool Row::Train(const Problem& problem, int64_t until) {
  std::atomic<bool> stop{false};
  TrainTask task = {key.head,       &hyper, 1,       &problem.view, &problem.split.train,
                    &problem.valid, &stop,  nullptr, nullptr};
  task.on_step = [&](const TrainState& now, int64_t, int64_t) { stop = now.total_steps >= until; };
  return TrainRow(task, learner.get(), &state);
}

std::vector<std::pair<double, double>> Curve(const TrainState& state) {
  std::vector<std::pair<double, double>> curve;
  for (const EpochPoint& point : state.curve) curve.emplace_back(point.train_loss, point.valid);
  return curve;
}

void RunSmall(const std::string& out, const std::vector<std::string>& words) {
  std::vector<std::string> all = {
      "resembed-train", "--users", "150",      "--items", "60",          "--interests", "5", "--dim", "8",
      "--seeds",        "1",       "--epochs", "2",       "--no-report", "--out",       out};
  all.insert(all.end(), words.begin(), words.end());
  std::vector<char*> pointers;
  for (std::string& word : all) pointers.push_back(word.data());
  Options options;
  int exit_code = -1;
  const std::atomic<bool> stop{false};
  ASSERT_TRUE(ParseOptions(static_cast<int>(pointers.size()), pointers.data(), &options, &exit_code));
  ASSERT_EQ(train::Run(options, stop), 0);
}

std::string Said(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.message;
  }
  return "nothing";
}

}  // namespace resembed::train::testing
