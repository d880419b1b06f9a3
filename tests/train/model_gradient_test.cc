// SPDX-License-Identifier: Apache-2.0
// The hand-written backward passes of the heads against central differences of their own losses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "host/train/dot.h"
#include "host/train/mlp.h"
#include "host/train/model_random.h"

namespace resembed::train {
namespace {

AlignedVector<float> Random(int64_t n, uint64_t seed, float scale = 1.0f) {
  AlignedVector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = scale * static_cast<float>(
                            NormalOf(Draw(seed, Stream::kInit, i, 0), Draw(seed, Stream::kInit, i, 1)));
  }
  return values;
}

// Moves all of `values` along a random direction; the slope of the loss must be grad . direction. fp32 losses
// of about 1 leave an error of 1e-7 / step = 1e-4 in a slope.
void ExpectSlope(const char* what, const FloatView& values, const AlignedVector<float>& grad,
                 const std::function<double()>& loss) {
  for (uint64_t trial = 0; trial < 4; ++trial) {
    const AlignedVector<float> direction = Random(static_cast<int64_t>(values.size()), 77 + trial);
    double expected = 0, norm = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      expected += static_cast<double>(grad[i]) * static_cast<double>(direction[i]);
      norm += static_cast<double>(direction[i]) * static_cast<double>(direction[i]);
    }
    const AlignedVector<float> start(values.begin(), values.end());
    const float step = static_cast<float>(2e-3 / std::sqrt(norm));
    const auto at = [&](float by) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = start[i] + by * direction[i];
      return loss();
    };
    const double slope = (at(step) - at(-step)) / (2.0 * static_cast<double>(step));
    std::copy(start.begin(), start.end(), values.begin());
    EXPECT_NEAR(slope / std::sqrt(norm), expected / std::sqrt(norm),
                2e-4 + 0.02 * std::abs(expected) / std::sqrt(norm))
        << what << " trial " << trial;
  }
}

FloatView View(AlignedVector<float>* values) { return {values->data(), values->size()}; }
FloatView View(Mirror<float>* values) { return {values->host(), values->size()}; }

AlignedVector<float> Grad(DenseWeights* weights) {
  const FloatView grad = View(&weights->grad);
  return {grad.begin(), grad.end()};
}

double Norm(const AlignedVector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum);
}

TEST(MlpNet, GradientsAreTheSlopesOfTheLoss) {
  constexpr int64_t kN = 150, kDim = 6;  // three blocks, the last one short
  Pool pool(2);
  MlpNet net(kDim, 3);
  AlignedVector<float> history = Random(kN * kDim, 1), positive = Random(kN * kDim, 2),
                       negative = Random(kN * kDim, 4);
  const AlignedVector<float> repeat = Random(2 * kN * kRepeatFeatures, 5, 0.5f);
  AlignedVector<float> d_history(history.size()), d_positive(history.size()), d_negative(history.size());
  const auto loss = [&] {
    const MlpNet::Batch batch = {kN,
                                 history.data(),
                                 positive.data(),
                                 negative.data(),
                                 repeat.data(),
                                 repeat.data() + kN * kRepeatFeatures,
                                 d_history.data(),
                                 d_positive.data(),
                                 d_negative.data()};
    return net.LossAndGradients(batch, &pool);
  };
  EXPECT_GT(loss(), 0.1);
  const AlignedVector<float> dense = Grad(&net.dense), h = d_history, p = d_positive, n = d_negative;
  for (const auto* grad : {&dense, &h, &p, &n}) EXPECT_GT(Norm(*grad), 1e-3);
  ExpectSlope("dense", View(&net.dense.value), dense, loss);
  ExpectSlope("history", View(&history), h, loss);
  ExpectSlope("positive", View(&positive), p, loss);
  ExpectSlope("negative", View(&negative), n, loss);
}

TEST(MlpNet, GradientsOfWhatIsAttendedToAreTheSlopesOfTheLoss) {
  constexpr int64_t kN = 150, kDim = 6;
  Pool pool(2);
  MlpNet net(kDim, 3, true);
  const AlignedVector<float> inputs = Random(3 * kN * kDim, 1),
                             repeat = Random(2 * kN * kRepeatFeatures, 5, 0.5f);
  AlignedVector<float> attended[2] = {Random(kN * kDim, 6), Random(kN * kDim, 7)};
  AlignedVector<float> d_inputs(inputs.size()), d_attended[2] = {attended[0], attended[1]};
  const auto loss = [&] {
    const float* in = inputs.data();
    float* d = d_inputs.data();
    MlpNet::Batch batch = {kN,
                           in,
                           in + kN * kDim,
                           in + 2 * kN * kDim,
                           repeat.data(),
                           repeat.data() + kN * kRepeatFeatures,
                           d,
                           d + kN * kDim,
                           d + 2 * kN * kDim};
    batch.positive_attended = attended[0].data();
    batch.negative_attended = attended[1].data();
    batch.d_positive_attended = d_attended[0].data();
    batch.d_negative_attended = d_attended[1].data();
    return net.LossAndGradients(batch, &pool);
  };
  EXPECT_GT(loss(), 0.1);
  const AlignedVector<float> dense = Grad(&net.dense), positive = d_attended[0], negative = d_attended[1];
  for (const auto* grad : {&positive, &negative}) EXPECT_GT(Norm(*grad), 1e-3);
  ExpectSlope("dense", View(&net.dense.value), dense, loss);
  ExpectSlope("positive", View(&attended[0]), positive, loss);
  ExpectSlope("negative", View(&attended[1]), negative, loss);
}

TEST(MlpNet, EvaluationScoresAreThoseOfTraining) {
  constexpr int64_t kDim = 5;
  Pool pool(1);
  MlpNet net(kDim, 3);
  const AlignedVector<float> history = Random(kDim, 1), items = Random(2 * kDim, 2);
  const AlignedVector<float> repeat = Random(2 * kRepeatFeatures, 5);
  AlignedVector<float> unused(3 * kDim), parts(2 * MlpNet::kHidden1), shift(MlpNet::kHidden1), scores(2);
  const MlpNet::Batch batch = {1,
                               history.data(),
                               items.data(),
                               items.data() + kDim,
                               repeat.data(),
                               repeat.data() + kRepeatFeatures,
                               unused.data(),
                               unused.data() + kDim,
                               unused.data() + 2 * kDim};
  const double loss = net.LossAndGradients(batch, &pool);
  net.HistoryPart(history.data(), shift.data());
  net.ItemParts(items.data(), 2, parts.data());
  net.AddRepeatPart(repeat.data(), parts.data());
  net.AddRepeatPart(repeat.data() + kRepeatFeatures, parts.data() + MlpNet::kHidden1);
  const float* rows[] = {parts.data(), parts.data() + MlpNet::kHidden1};
  AlignedVector<float> scratch(2 * (MlpNet::kHidden1 + MlpNet::kHidden2));
  net.Scores(rows, shift.data(), 2, scratch.data(), scores.data());
  const double expected = 0.5 * (std::log1p(std::exp(-static_cast<double>(scores[0]))) +
                                 std::log1p(std::exp(static_cast<double>(scores[1]))));
  EXPECT_NEAR(loss, expected, 1e-5);
}

class DotGradient : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Query, DotGradient, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "matrix" : "diagonal"; });

TEST_P(DotGradient, GradientsAreTheSlopesOfTheLoss) {
  constexpr int64_t kN = 70, kM = 130, kDim = 6;  // three blocks of samples, three stripes of negatives
  Pool pool(2);
  DotNet net(kDim, GetParam(), 0.7f);
  AlignedVector<float> history = Random(kN * kDim, 1), target = Random(kN * kDim, 2),
                       negative = Random(kM * kDim, 4);
  AlignedVector<float> target_shift = Random(kN, 6), negative_shift = Random(kM, 7);
  for (int64_t f = 0; f < kRepeatFeatures; ++f) net.dense.value.host()[f] = 0.1f * static_cast<float>(f);
  const AlignedVector<float> repeat = Random(kN * kRepeatFeatures, 8);
  std::vector<int32_t> target_ids(kN), negative_ids(kM);
  for (int64_t i = 0; i < kN; ++i) target_ids[static_cast<size_t>(i)] = static_cast<int32_t>(i);
  for (int64_t i = 0; i < kM; ++i) negative_ids[static_cast<size_t>(i)] = static_cast<int32_t>(2 * i);
  std::vector<SeenNegative> seen;
  std::vector<int32_t> seen_begin(1, 0);
  for (int32_t row = 0; row < kN; ++row) {
    for (int32_t column = row % 7; row % 3 == 0 && column < kM; column += 41) {
      seen.push_back({column, {}});
      RepeatFeatures(1 + row % 3, 1 + column, 200, seen.back().features);
    }
    seen_begin.push_back(static_cast<int32_t>(seen.size()));
  }
  AlignedVector<float> d_history(history.size()), d_target(target.size()), d_negative(negative.size()),
      d_target_shift(kN), d_negative_shift(kM);
  const auto loss = [&] {
    const DotNet::Batch batch = {kN,
                                 kM,
                                 history.data(),
                                 target.data(),
                                 negative.data(),
                                 target_shift.data(),
                                 negative_shift.data(),
                                 target_ids.data(),
                                 negative_ids.data(),
                                 repeat.data(),
                                 seen.data(),
                                 seen_begin.data(),
                                 d_history.data(),
                                 d_target.data(),
                                 d_negative.data(),
                                 d_target_shift.data(),
                                 d_negative_shift.data()};
    return net.LossAndGradients(batch, &pool);
  };
  EXPECT_GT(loss(), 1.0);
  const AlignedVector<float> dense = Grad(&net.dense), h = d_history, t = d_target, n = d_negative,
                             ts = d_target_shift, ns = d_negative_shift;
  for (const auto* grad : {&dense, &h, &t, &n, &ts, &ns}) EXPECT_GT(Norm(*grad), 1e-3);
  ExpectSlope("dense", View(&net.dense.value), dense, loss);
  ExpectSlope("history", View(&history), h, loss);
  ExpectSlope("target", View(&target), t, loss);
  ExpectSlope("negative", View(&negative), n, loss);
  ExpectSlope("target shift", View(&target_shift), ts, loss);
  ExpectSlope("negative shift", View(&negative_shift), ns, loss);
}

TEST(DotNet, ANegativeThatIsTheTargetIsMasked) {
  Pool pool(1);
  DotNet net(2, false, 1.0f);
  const float history[] = {1, 0}, target[] = {2, 0}, negative[] = {2, 0, 1, 0}, shift[] = {0, 0},
              repeat[10] = {};
  const int32_t target_id = 4, negative_ids[] = {4, 9};
  const SeenNegative seen = {};
  const int32_t seen_begin[] = {0, 0};
  float d_history[2], d_target[2], d_negative[4], d_target_shift[1], d_negative_shift[2];
  const double loss = net.LossAndGradients(
      {1, 2, history, target, negative, shift, shift, &target_id, negative_ids, repeat, &seen, seen_begin,
       d_history, d_target, d_negative, d_target_shift, d_negative_shift},
      &pool);
  EXPECT_NEAR(loss, std::log1p(std::exp(-1.0)), 1e-6);
  EXPECT_EQ(d_negative_shift[0], 0.0f);
  EXPECT_GT(d_negative_shift[1], 0.1f);
}

}  // namespace
}  // namespace resembed::train
