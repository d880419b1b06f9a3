// SPDX-License-Identifier: Apache-2.0
#include "host/train/pretrain.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "host/train/random.h"

namespace resembed::train {
namespace {

constexpr int64_t kItems = 41, kDim = 8;

// 200 users of 12 events, each among the 10 items of one of four groups; nobody touches the last item. What lies
// behind the ends are items of all groups.
struct Groups {
  Groups() {
    Random random(3, 1);
    log.offsets = {0};
    for (int64_t item = 0; item < kItems; ++item) log.item_names.push_back("i" + std::to_string(item));
    for (int32_t user = 0; user < 200; ++user) {
      for (int event = 0; event < 12; ++event)
        log.items.push_back(static_cast<int32_t>(user % 4 * 10 + random.Below(10)));
      split.train_ends.push_back(static_cast<int64_t>(log.items.size()));
      for (int event = 0; event < 12; ++event)
        log.items.push_back(static_cast<int32_t>(random.Below(kItems)));
      log.offsets.push_back(static_cast<int64_t>(log.items.size()));
      log.user_names.push_back("u" + std::to_string(user));
      split.train.push_back(user);
    }
    training = MakeTrainingView(log, split);
    view = MakeLogView(log, training);
  }
  bool Run(int n_threads, bool stopped, Pretrained* result) const {
    Pool pool(n_threads);
    const std::atomic<bool> stop{stopped};
    return Pretrain({&view, &split.train, kDim, 3, 5, &pool, nullptr, &stop, [](const std::string&) {}},
                    result);
  }
  Log log;
  Split split;
  TrainingView training;
  LogView view;
};

double Dot(const Pretrained& pretrained, int64_t a, int64_t b) {
  double sum = 0;
  for (int64_t col = 0; col < kDim; ++col) {
    sum += double{pretrained.rows[static_cast<size_t>(a * kDim + col)]} *
           double{pretrained.rows[static_cast<size_t>(b * kDim + col)]};
  }
  return sum;
}

TEST(Pretrain, ItemsOfOneGroupLieTogether) {
  const Groups groups;
  Pretrained one, three;
  ASSERT_TRUE(groups.Run(1, false, &one));
  ASSERT_TRUE(groups.Run(3, false, &three));
  ASSERT_EQ(one.rows.size(), static_cast<size_t>(kItems * kDim));
  EXPECT_EQ(std::memcmp(one.rows.data(), three.rows.data(), one.rows.size() * sizeof(float)), 0);
  double same = 0, other = 0, squares = 0;
  for (int64_t a = 0; a < 40; ++a) {
    squares += Dot(one, a, a);
    for (int64_t b = 0; b < a; ++b) {
      const double cosine = Dot(one, a, b) / std::sqrt(Dot(one, a, a) * Dot(one, b, b));
      (a / 10 == b / 10 ? same : other) += cosine;
    }
  }
  EXPECT_NEAR(squares / 40, 1, 1e-5);
  EXPECT_GT(same / (4 * 45), 0.7);
  EXPECT_LT(other / (780 - 4 * 45), 0.3);
  EXPECT_EQ(Dot(one, 40, 40), 0);
  Pretrained none;
  EXPECT_FALSE(groups.Run(1, true, &none));
  EXPECT_TRUE(none.rows.empty());
}

TEST(Pretrain, ATableStartsFromTheRowsWhereTrainingTouchedTheItem) {
  const Groups groups;
  Pretrained pretrained;
  ASSERT_TRUE(groups.Run(2, false, &pretrained));
  Hyper hyper = {};
  hyper.head = Head::kMlp;
  hyper.dim = static_cast<int>(kDim);
  hyper.init = 2.0;
  hyper.optimizer = "adam";
  Pool pool(1);
  const InterestGraph graph = BuildGraph(groups.log, groups.split, 2, 3, 1.0);
  for (const char* name : {"plain_pretrained", "avg_pretrained", "central_pretrained"}) {
    SCOPED_TRACE(name);
    const Variant& variant = *FindVariant(name);
    const auto learner = MakeLearner(variant, graph, groups.view, hyper, 1, &pool);
    const auto find = [&learner](const char* wanted) {
      for (const StateTensor& tensor : learner->Weights()) {
        if (tensor.name == wanted) return std::vector<float>(tensor.data, tensor.data + tensor.size());
      }
      return std::vector<float>();
    };
    const char* started = IsGraphVariant(variant) ? "central" : "residual";
    const std::vector<float> before = find(started);
    ASSERT_EQ(before.size(), static_cast<size_t>(kItems * kDim));
    StartFrom(pretrained, groups.view, hyper.init, learner.get());
    const std::vector<float> after = find(started);
    for (size_t at = 0; at < before.size(); ++at) {
      const bool touched = at < static_cast<size_t>(40 * kDim);
      EXPECT_EQ(after[at], touched ? 2.0f * pretrained.rows[at] : before[at]) << at;
    }
    if (!IsGraphVariant(variant)) continue;
    for (const float value : find("residual")) EXPECT_EQ(value, 0.0f);  // R starts at 0 as ever
  }
}

}  // namespace
}  // namespace resembed::train
