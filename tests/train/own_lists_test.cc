// SPDX-License-Identifier: Apache-2.0
// Leave one out in training: each training user's samples see the graph without her own clicks.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "host/train/model.h"

namespace resembed::train {
namespace {

constexpr int kWindow = 2, kNeighbors = 3;
constexpr int64_t kDim = 8;

struct Problem {
  Log log;
  Split split;
  InterestGraph graph;
};

Problem MakeProblem() {
  GeneratorOptions options;
  options.n_users = 60;
  options.n_items = 40;
  options.n_interests = 5;
  options.repeat = 0.3;
  Problem problem;
  problem.log = GenerateLog(options);
  problem.split = SplitUsers(problem.log, 1, 1.0);
  problem.graph = BuildGraph(problem.log, problem.split, kWindow, kNeighbors, 1.0);
  return problem;
}

InterestGraph Without(const Problem& problem, int32_t user) {
  Split split = problem.split;
  split.train.erase(std::find(split.train.begin(), split.train.end(), user));
  return BuildGraph(problem.log, split, kWindow, kNeighbors, 1.0);
}

std::vector<int32_t> List(const std::vector<int32_t>& lists, int64_t row) {
  const auto begin = lists.begin() + static_cast<std::ptrdiff_t>(row * kNeighbors);
  return {begin, begin + kNeighbors};
}

TEST(OwnLists, AreThoseOfTheGraphWithoutTheUser) {
  const Problem problem = MakeProblem();
  const OwnLists own = MakeOwnLists(problem.log, problem.split, problem.graph, 2);
  EXPECT_GT(own.items.size(), problem.split.train.size());
  for (const int32_t user : problem.split.train) {
    const InterestGraph without = Without(problem, user);
    for (int32_t item = 0; item < problem.log.n_items(); ++item) {
      const int32_t row = own.RowOf(user, item);
      ASSERT_EQ(List(own.neighbors, row), List(without.neighbors, item))
          << "user " << user << " item " << item;
      ASSERT_EQ(row == item, List(own.neighbors, row) == List(problem.graph.neighbors, item));
    }
  }
  for (const int32_t user : problem.split.valid) {
    for (int32_t item = 0; item < problem.log.n_items(); ++item) ASSERT_EQ(own.RowOf(user, item), item);
  }
}

TEST(OwnLists, DoNotDependOnThreads) {
  const Problem problem = MakeProblem();
  const OwnLists one = MakeOwnLists(problem.log, problem.split, problem.graph, 1);
  const OwnLists many = MakeOwnLists(problem.log, problem.split, problem.graph, 4);
  EXPECT_EQ(one.items, many.items);
  EXPECT_EQ(one.neighbors, many.neighbors);
  EXPECT_EQ(one.offsets, many.offsets);
}

// One step of one table pair on a bag of all of the user's items and a sequence lookup of her last one.
struct StepOf {
  StepOf(const char* variant, const InterestGraph& graph, const Log& log, int32_t user, bool shared) {
    Hyper hyper = {};
    hyper.dim = static_cast<int>(kDim);
    hyper.init = 1;
    hyper.lambda = 0.01;
    hyper.optimizer = "adagrad";  // smooth in the gradient, where Adam's first step is its sign
    Embedding embedding(*FindVariant(variant), graph, log.n_items(), hyper, 7, &pool);
    const auto begin = log.items.begin() + log.offsets[static_cast<size_t>(user)];
    const auto end = log.items.begin() + log.offsets[static_cast<size_t>(user) + 1];
    Lookup history, target;
    history.ids.assign(begin, end);
    history.offsets = {0, static_cast<int64_t>(history.ids.size())};
    for (size_t at = 0; at < history.ids.size(); ++at)
      history.weights.push_back(1.0f / static_cast<float>(at + 1));
    target.ids = {*(end - 1)};
    target.shared = shared;
    const Sample sample = {user, log.offsets[static_cast<size_t>(user) + 1] - 1};
    const std::vector<Lookup*> lookups = {&history, &target};
    embedding.Forward(lookups, &sample);
    for (const Lookup* lookup : lookups)
      output.insert(output.end(), lookup->output.begin(), lookup->output.end());
    for (Lookup* lookup : lookups) {
      for (size_t at = 0; at < lookup->grad.size(); ++at)
        lookup->grad[at] = 0.1f + 0.01f * static_cast<float>(at);
    }
    embedding.BackwardStep(lookups, 1, 0.5f);
    for (const StateTensor& tensor : embedding.Weights()) {
      weights.insert(weights.end(), tensor.data, tensor.data + tensor.size());
    }
  }
  Pool pool{1};
  std::vector<float> output, weights;
};

double Farthest(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : 1e9;
  for (size_t at = 0; at < std::min(a.size(), b.size()); ++at) {
    most = std::max(most, std::abs(static_cast<double>(a[at]) - static_cast<double>(b[at])));
  }
  return most;
}

class OwnListsModel : public ::testing::TestWithParam<const char*> {};

TEST_P(OwnListsModel, StepsAsWithTheGraphWithoutTheUser) {
  Problem problem = MakeProblem();
  problem.graph.own = MakeOwnLists(problem.log, problem.split, problem.graph, 1);
  InterestGraph everybody = problem.graph;
  everybody.own = {};
  int n_differ = 0;
  for (const int32_t user : problem.split.train) {
    const StepOf with(GetParam(), problem.graph, problem.log, user, false);
    const StepOf wanted(GetParam(), Without(problem, user), problem.log, user, false);
    ASSERT_LT(Farthest(with.output, wanted.output), 1e-5) << "user " << user;
    ASSERT_LT(Farthest(with.weights, wanted.weights), 1e-4) << "user " << user;
    n_differ += Farthest(with.output, StepOf(GetParam(), everybody, problem.log, user, false).output) > 1e-2;
  }
  EXPECT_GT(n_differ, 10);
}

TEST_P(OwnListsModel, SharedLookupsSeeTheListsOfEverybody) {
  Problem problem = MakeProblem();
  InterestGraph everybody = problem.graph;
  problem.graph.own = MakeOwnLists(problem.log, problem.split, problem.graph, 1);
  for (const int32_t user : problem.split.train) {
    const StepOf with(GetParam(), problem.graph, problem.log, user, true);
    const StepOf wanted(GetParam(), everybody, problem.log, user, true);
    const std::vector<float> target(with.output.end() - kDim, with.output.end());
    ASSERT_LT(Farthest(target, {wanted.output.end() - kDim, wanted.output.end()}), 1e-5) << "user " << user;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, OwnListsModel, ::testing::Values("avg", "central"));

}  // namespace
}  // namespace resembed::train
