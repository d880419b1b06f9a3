// SPDX-License-Identifier: Apache-2.0
#include "host/train/eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "host/train/random.h"

namespace resembed::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Scores from a table [n_users, n_items]; NaN and ties are the table's business.
class TableScorer final : public Scorer {
 public:
  TableScorer(int64_t n_items, std::vector<float> table, bool likelihood = false)
      : n_items_(n_items), table_(std::move(table)), likelihood_(likelihood) {}
  float At(int32_t user, int64_t item) const { return table_[static_cast<size_t>(user * n_items_ + item)]; }
  void Score(const std::vector<Target>& targets, const std::vector<int32_t>& items, int64_t n_candidates,
             float* scores) override {
    for (size_t i = 0; i < items.size(); ++i) {
      scores[i] = At(targets[i / static_cast<size_t>(n_candidates)].user, items[i]);
    }
  }
  void ScoreAll(const std::vector<Target>& targets, float* scores) override {
    for (const Target& target : targets) {
      for (int64_t item = 0; item < n_items_; ++item) *scores++ = At(target.user, item);
    }
  }
  bool HasLikelihood() const override { return likelihood_; }

 private:
  int64_t n_items_;
  std::vector<float> table_;
  bool likelihood_;
};

struct World {
  Log log;
  Split split;
  TrainingView view;
};

World MakeWorld() {
  World world;
  GeneratorOptions options;
  options.n_users = 900;
  options.n_items = 160;
  options.n_interests = 8;
  options.mean_periods = 1.5;
  world.log = GenerateLog(options);
  world.split = SplitUsers(world.log, 1, 0.2);
  world.view = MakeTrainingView(world.log, world.split);
  return world;
}

// Few distinct values, so that ties are common.
TableScorer CoarseScorer(const World& world, bool likelihood = false) {
  Random random(5);
  std::vector<float> table(static_cast<size_t>(world.log.n_users() * world.log.n_items()));
  for (float& score : table) score = static_cast<float>(random.Below(12)) - 5.0f;
  return TableScorer(world.log.n_items(), table, likelihood);
}

TEST(TrainingView, CountsTrainingUsersOnly) {
  const World world = MakeWorld();
  std::vector<int64_t> popularity(static_cast<size_t>(world.log.n_items()));
  for (const int32_t user : world.split.train) {
    for (int64_t event = world.log.offsets[static_cast<size_t>(user)];
         event < world.log.offsets[static_cast<size_t>(user) + 1]; ++event) {
      ++popularity[static_cast<size_t>(world.log.items[static_cast<size_t>(event)])];
    }
  }
  EXPECT_EQ(world.view.popularity, popularity);
  EXPECT_TRUE(std::is_sorted(world.view.candidates.begin(), world.view.candidates.end()));
  for (int32_t item = 0; item < world.log.n_items(); ++item) {
    const bool is_candidate =
        std::binary_search(world.view.candidates.begin(), world.view.candidates.end(), item);
    EXPECT_EQ(is_candidate, popularity[static_cast<size_t>(item)] > 0);
  }
}

TEST(MakeEvalSet, TargetsAreLastEventsAndNegativesAreOtherCandidates) {
  const World world = MakeWorld();
  const EvalSet set = MakeEvalSet(world.log, world.view, world.split.test, 40, 3);
  ASSERT_EQ(set.targets.size(), world.split.test.size());
  ASSERT_EQ(set.uniform.size(), 200 * set.targets.size());
  ASSERT_EQ(set.popular.size(), 200 * set.targets.size());
  EXPECT_EQ(set.ranked.size(), 40u);
  EXPECT_TRUE(std::is_sorted(set.ranked.begin(), set.ranked.end()));
  int n_repeat = 0;
  for (size_t t = 0; t < set.targets.size(); ++t) {
    const Target& target = set.targets[t];
    const size_t user = static_cast<size_t>(target.user);
    EXPECT_EQ(target.position, world.log.offsets[user + 1] - 1);
    EXPECT_EQ(target.item, world.log.items[static_cast<size_t>(target.position)]);
    EXPECT_EQ(target.known, world.view.popularity[static_cast<size_t>(target.item)] > 0);
    bool repeat = false;
    for (int64_t event = world.log.offsets[user]; event < target.position; ++event) {
      repeat = repeat || world.log.items[static_cast<size_t>(event)] == target.item;
    }
    EXPECT_EQ(target.repeat, repeat);
    n_repeat += repeat ? 1 : 0;
    for (const auto* negatives : {&set.uniform, &set.popular}) {
      for (size_t n = 200 * t; n < 200 * (t + 1); ++n) {
        ASSERT_NE((*negatives)[n], target.item);
        ASSERT_GT(world.view.popularity[static_cast<size_t>((*negatives)[n])], 0);
      }
    }
  }
  EXPECT_GT(n_repeat, 0);
}

TEST(MakeEvalSet, PopularNegativesFollowPopularity) {
  const World world = MakeWorld();
  const EvalSet set = MakeEvalSet(world.log, world.view, world.split.test, 40, 3);
  const int64_t n_events =
      std::accumulate(world.view.popularity.begin(), world.view.popularity.end(), int64_t{0});
  const auto top = std::max_element(world.view.popularity.begin(), world.view.popularity.end()) -
                   world.view.popularity.begin();
  const auto share = [&](const std::vector<int32_t>& items) {
    return static_cast<double>(std::count(items.begin(), items.end(), static_cast<int32_t>(top))) /
           static_cast<double>(items.size());
  };
  EXPECT_NEAR(
      share(set.popular),
      static_cast<double>(world.view.popularity[static_cast<size_t>(top)]) / static_cast<double>(n_events),
      0.01);
  EXPECT_NEAR(share(set.uniform), 1.0 / static_cast<double>(world.view.candidates.size()), 0.004);
}

TEST(MakeEvalSet, IsTheSameForTheSameSeed) {
  const World world = MakeWorld();
  const EvalSet a = MakeEvalSet(world.log, world.view, world.split.test, 40, 3);
  const EvalSet b = MakeEvalSet(world.log, world.view, world.split.test, 40, 3);
  const EvalSet c = MakeEvalSet(world.log, world.view, world.split.test, 40, 4);
  EXPECT_EQ(a.uniform, b.uniform);
  EXPECT_EQ(a.popular, b.popular);
  EXPECT_EQ(a.ranked, b.ranked);
  EXPECT_NE(a.uniform, c.uniform);
  EXPECT_NE(a.ranked, c.ranked);
}

TEST(MakeEvalSet, RejectsASingleCandidate) {
  World world = MakeWorld();
  world.view.candidates.resize(1);
  try {
    MakeEvalSet(world.log, world.view, world.split.test, 40, 3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message, HasSubstr("training users touched 1 item; needs at least 2"));
  }
}

TEST(Evaluate, AgreesWithPlainLoops) {
  const World world = MakeWorld();
  const EvalSet set = MakeEvalSet(world.log, world.view, world.split.test, 60, 3);
  TableScorer scorer = CoarseScorer(world, true);
  const Figures figures = Evaluate(scorer, set, world.view, kAllFigures);
  int n_unknown = 0;
  for (size_t t = 0; t < set.targets.size(); ++t) {
    const Target& target = set.targets[t];
    double auc = 0, auc_pop = 0;
    for (size_t n = 200 * t; n < 200 * (t + 1); ++n) {
      const float score = scorer.At(target.user, target.item);
      const float uniform = scorer.At(target.user, set.uniform[n]),
                  popular = scorer.At(target.user, set.popular[n]);
      auc += score > uniform ? 1 : score == uniform ? 0.5 : 0;
      auc_pop += score > popular ? 1 : score == popular ? 0.5 : 0;
    }
    n_unknown += target.known ? 0 : 1;
    EXPECT_FLOAT_EQ(figures.auc[t], target.known ? static_cast<float>(auc / 200) : 0.0f);
    EXPECT_FLOAT_EQ(figures.auc_pop[t], target.known ? static_cast<float>(auc_pop / 200) : 0.0f);
    const double positive = 1 / (1 + std::exp(-scorer.At(target.user, target.item)));
    const double negative = 1 / (1 + std::exp(-scorer.At(target.user, set.uniform[200 * t])));
    const double loss = -0.5 * (std::log(positive) + std::log(1 - negative));
    EXPECT_NEAR(figures.logloss[t], target.known ? loss : std::log(2.0), 1e-5);
  }
  EXPECT_GT(n_unknown, 0);
  for (size_t r = 0; r < set.ranked.size(); ++r) {
    const Target& target = set.targets[static_cast<size_t>(set.ranked[r])];
    std::vector<int32_t> order = world.view.candidates;
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      const float x = scorer.At(target.user, a), y = scorer.At(target.user, b);
      if (x != y) return x > y;
      const int64_t p = world.view.popularity[static_cast<size_t>(a)],
                    q = world.view.popularity[static_cast<size_t>(b)];
      return p != q ? p > q : a < b;
    });
    const bool hit = std::find(order.begin(), order.begin() + 20, target.item) != order.begin() + 20;
    EXPECT_EQ(figures.hr20[r], hit ? 1.0f : 0.0f);
    EXPECT_EQ(figures.ranked_repeat[r], target.repeat);
  }
  EXPECT_GT(figures.Hr20(), 0);
}

TEST(Evaluate, ComputesOnlyWhatIsAskedFor) {
  const World world = MakeWorld();
  const EvalSet set = MakeEvalSet(world.log, world.view, world.split.test, 60, 3);
  TableScorer scorer = CoarseScorer(world);
  const Figures all = Evaluate(scorer, set, world.view, kAllFigures);
  EXPECT_TRUE(all.logloss.empty());  // no likelihood
  EXPECT_TRUE(std::isnan(all.LogLoss()));
  const Figures popular = Evaluate(scorer, set, world.view, kAucPop);
  EXPECT_TRUE(popular.auc.empty());
  EXPECT_TRUE(popular.hr20.empty());
  EXPECT_EQ(popular.auc_pop, all.auc_pop);
  const Figures uniform = Evaluate(scorer, set, world.view, kAuc);
  EXPECT_TRUE(uniform.auc_pop.empty());
  EXPECT_EQ(uniform.auc, all.auc);
}

TEST(Evaluate, NaNNeverGains) {
  const World world = MakeWorld();
  const EvalSet set = MakeEvalSet(world.log, world.view, world.split.test, 60, 3);
  const size_t n = static_cast<size_t>(world.log.n_users() * world.log.n_items());
  TableScorer scorer(world.log.n_items(), std::vector<float>(n, std::numeric_limits<float>::quiet_NaN()));
  const Figures figures = Evaluate(scorer, set, world.view, kAllFigures);
  EXPECT_EQ(figures.Auc(), 0);
  EXPECT_EQ(figures.AucPop(), 0);
  EXPECT_EQ(figures.Hr20(), 0);
}

TEST(Figures, SplitHitsIntoNewAndRepeat) {
  Figures figures;
  figures.hr20 = {1, 0, 0, 1, 1};
  figures.ranked_repeat = {true, true, false, false, false};
  EXPECT_DOUBLE_EQ(figures.Hr20(), 0.6);
  EXPECT_DOUBLE_EQ(figures.Hr20Repeat(), 0.5);
  EXPECT_NEAR(figures.Hr20New(), 2.0 / 3, 1e-12);
  figures.ranked_repeat.assign(5, false);
  EXPECT_TRUE(std::isnan(figures.Hr20Repeat()));
}

}  // namespace
}  // namespace resembed::train
