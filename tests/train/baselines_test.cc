// SPDX-License-Identifier: Apache-2.0
// Baselines against their definitions in plain loops over a dense matrix.
#include "host/train/baselines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace resembed::train {
namespace {

using Matrix = std::vector<std::vector<double>>;

struct World {
  Log log;
  Split split;
  TrainingView view;
  EvalSet valid, test;
};

World MakeWorld(int64_t n_users = 500) {
  World world;
  GeneratorOptions options;
  options.n_users = n_users;
  options.n_items = 90;
  options.n_interests = 6;
  options.repeat = 0.2;
  world.log = GenerateLog(options);
  world.split = SplitUsers(world.log, 1, 0.3);
  world.view = MakeTrainingView(world.log, world.split);
  world.valid = MakeEvalSet(world.log, world.view, world.split.valid, 2000, 7);
  world.test = MakeEvalSet(world.log, world.view, world.split.test, 2000, 8);
  return world;
}

// Z(i, j): pairs at distance 1..5 in a training user's sequence, both directions, the same item twice is no pair.
Matrix Pairs(const World& world, bool by_distance) {
  const size_t n = static_cast<size_t>(world.log.n_items());
  Matrix z(n, std::vector<double>(n));
  for (const int32_t user : world.split.train) {
    const int64_t begin = world.log.offsets[static_cast<size_t>(user)],
                  end = world.log.offsets[static_cast<size_t>(user) + 1];
    for (int64_t c = begin; c < end; ++c) {
      for (int64_t w = begin; w < end; ++w) {
        const int64_t distance = std::abs(c - w);
        const size_t i = static_cast<size_t>(world.log.items[static_cast<size_t>(c)]);
        const size_t j = static_cast<size_t>(world.log.items[static_cast<size_t>(w)]);
        if (distance >= 1 && distance <= 5 && i != j)
          z[i][j] += by_distance ? 60.0 / static_cast<double>(distance) : 1;
      }
    }
  }
  return z;
}

std::vector<size_t> History(const World& world, const Target& target) {  // the most recent first
  std::vector<size_t> history;
  for (int64_t event = target.position - 1; event >= world.log.offsets[static_cast<size_t>(target.user)];
       --event) {
    history.push_back(static_cast<size_t>(world.log.items[static_cast<size_t>(event)]));
  }
  return history;
}

// Exact scores; with `seen`, (in the history, score) in lexicographic order.
using Score = std::pair<int, double>;
using Scores = std::vector<Score>;

Scores Seen(Scores scores, const std::vector<size_t>& history) {
  for (const size_t item : history) scores[item].first = 1;
  return scores;
}

Scores Covisit(const World& world, const Matrix& z, const std::vector<size_t>& history) {
  Scores scores(static_cast<size_t>(world.log.n_items()));
  for (size_t t = 0; t < std::min<size_t>(5, history.size()); ++t) {
    for (size_t j = 0; j < scores.size(); ++j) scores[j].second += z[history[t]][j];
  }
  return scores;
}

Scores ItemKnn(const World& world, const Matrix& z, const std::vector<size_t>& history, double a, double b) {
  Scores scores(static_cast<size_t>(world.log.n_items()));
  for (size_t t = 0; t < std::min<size_t>(20, history.size()); ++t) {
    double d = 0;
    for (const double value : z[history[t]]) d += value;
    for (size_t j = 0; j < scores.size(); ++j) {
      if (z[history[t]][j] == 0) continue;
      const double popularity = static_cast<double>(world.view.popularity[j]);
      scores[j].second += std::pow(0.6, static_cast<double>(t)) * z[history[t]][j] /
                          (std::pow(d, a) * std::pow(popularity, b));
    }
  }
  return scores;
}

// Equal up to the rounding of single precision.
bool Same(const Score& x, const Score& y) {
  return x.first == y.first && std::abs(x.second - y.second) <= 1e-5 * std::abs(x.second);
}
bool Less(const Score& x, const Score& y) {
  return x.first != y.first ? x.first < y.first : x.second < y.second;
}

double Auc(const Scores& scores, const Target& target, const int32_t* negatives) {
  if (!target.known) return 0;
  double below = 0;
  for (int n = 0; n < 200; ++n) {
    const Score &x = scores[static_cast<size_t>(target.item)], &y = scores[static_cast<size_t>(negatives[n])];
    below += Same(x, y) ? 0.5 : Less(y, x) ? 1 : 0;
  }
  return below / 200;
}

double Hit(const World& world, const Scores& scores, const Target& target) {
  if (!target.known) return 0;
  std::vector<int32_t> order = world.view.candidates;
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const Score &x = scores[static_cast<size_t>(a)], &y = scores[static_cast<size_t>(b)];
    if (x != y) return Less(y, x);
    const int64_t p = world.view.popularity[static_cast<size_t>(a)],
                  q = world.view.popularity[static_cast<size_t>(b)];
    return p != q ? p > q : a < b;
  });
  return std::find(order.begin(), order.begin() + 20, target.item) != order.begin() + 20 ? 1 : 0;
}

template <class Score1>
void ExpectFigures(const World& world, const BaselineRow& row, const char* name, const Score1& score) {
  double auc = 0, auc_pop = 0, hits = 0;
  for (size_t t = 0; t < world.test.targets.size(); ++t) {
    const Target& target = world.test.targets[t];
    const Scores scores = score(History(world, target));
    auc += Auc(scores, target, world.test.uniform.data() + 200 * t);
    auc_pop += Auc(scores, target, world.test.popular.data() + 200 * t);
    hits += Hit(world, scores, target);
  }
  const double n = static_cast<double>(world.test.targets.size());
  EXPECT_NEAR(row.figures.Auc(), auc / n, 2e-4) << name;
  EXPECT_NEAR(row.figures.AucPop(), auc_pop / n, 2e-4) << name;
  EXPECT_NEAR(row.figures.Hr20(), hits / n, 1e-9) << name;
}

void ExpectDefinitions(const World& world) {
  const auto rows = RunBaselines(world.log, world.split, world.view, world.valid, world.test);
  ASSERT_EQ(rows.size(), 5u);
  const Matrix counts = Pairs(world, false), weighted = Pairs(world, true);
  ExpectFigures(world, rows.at("popularity"), "popularity", [&](const std::vector<size_t>&) {
    Scores scores;
    for (const int64_t popularity : world.view.popularity)
      scores.push_back({0, static_cast<double>(popularity)});
    return scores;
  });
  ExpectFigures(world, rows.at("covisit"), "covisit",
                [&](const auto& history) { return Covisit(world, counts, history); });
  ExpectFigures(world, rows.at("covisit_seen"), "covisit_seen",
                [&](const auto& history) { return Seen(Covisit(world, counts, history), history); });
  const BaselineRow& knn = rows.at("itemknn");
  ExpectFigures(world, knn, "itemknn",
                [&](const auto& history) { return ItemKnn(world, weighted, history, knn.a, knn.b); });
  const BaselineRow& seen = rows.at("itemknn_seen");
  ExpectFigures(world, seen, "itemknn_seen", [&](const auto& history) {
    return Seen(ItemKnn(world, weighted, history, seen.a, seen.b), history);
  });
}

TEST(Baselines, AgreeWithTheirDefinitions) { ExpectDefinitions(MakeWorld()); }

// A task of scores scores one target after another in the same scratch.
TEST(Baselines, AgreeWithTheirDefinitionsForMoreTargetsThanTasks) {
  const World world = MakeWorld(1500);
  ASSERT_GT(world.test.targets.size(), 2 * 64u);
  ExpectDefinitions(world);
}

TEST(Baselines, ItemKnnTakesTheExponentsBestOnValidation) {
  const World world = MakeWorld();
  const auto rows = RunBaselines(world.log, world.split, world.view, world.valid, world.test);
  const Matrix z = Pairs(world, true);
  std::map<std::pair<double, double>, double> auc;
  double best = 0;
  for (const double a : {0.0, 0.3, 0.5}) {
    for (const double b : {0.0, 0.3, 0.5}) {
      double sum = 0;
      for (size_t t = 0; t < world.valid.targets.size(); ++t) {
        const Target& target = world.valid.targets[t];
        sum += Auc(ItemKnn(world, z, History(world, target), a, b), target,
                   world.valid.uniform.data() + 200 * t);
      }
      auc[{a, b}] = sum / static_cast<double>(world.valid.targets.size());
      best = std::max(best, auc[{a, b}]);
    }
  }
  const BaselineRow& row = rows.at("itemknn");
  ASSERT_EQ(auc.count({row.a, row.b}), 1u);
  EXPECT_NEAR((auc[{row.a, row.b}]), best, 2e-4);
  EXPECT_NEAR(row.valid_auc, best, 2e-4);
  EXPECT_GT(row.valid_hr20, 0);
  EXPECT_GT(best - (auc[{0.0, 0.0}]), 1e-3);  // the choice matters on this log
}

TEST(Baselines, DoNotDependOnTheNumberOfThreads) {
  const World world = MakeWorld();
  const auto one = RunBaselines(world.log, world.split, world.view, world.valid, world.test, 1);
  const auto three = RunBaselines(world.log, world.split, world.view, world.valid, world.test, 3);
  for (const auto& [name, row] : one) {
    EXPECT_EQ(row.figures.auc, three.at(name).figures.auc) << name;
    EXPECT_EQ(row.figures.auc_pop, three.at(name).figures.auc_pop) << name;
    EXPECT_EQ(row.figures.hr20, three.at(name).figures.hr20) << name;
    EXPECT_EQ(row.a, three.at(name).a);
  }
}

TEST(Baselines, KeepToTheBudgetOrLeavePairsOut) {
  const World world = MakeWorld();
  const auto all = RunBaselines(world.log, world.split, world.view, world.valid, world.test);
  int64_t n_left_out = 0;
  const auto within = [&](int64_t bytes) {
    return RunBaselines(world.log, world.split, world.view, world.valid, world.test, 2,
                        {bytes, ::testing::TempDir()}, &n_left_out);
  };
  const auto spilled = within(int64_t{4} << 20);
  EXPECT_EQ(n_left_out, 0);
  for (const auto& [name, row] : all) EXPECT_EQ(row.figures.auc, spilled.at(name).figures.auc) << name;
  const auto few = within(32);
  EXPECT_GT(n_left_out, 1);
  EXPECT_EQ(few.size(), 1u);
  EXPECT_EQ(few.at("popularity").figures.auc, all.at("popularity").figures.auc);
}

}  // namespace
}  // namespace resembed::train
