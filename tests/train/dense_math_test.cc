// SPDX-License-Identifier: Apache-2.0
// Every function of the heads' arithmetic on a device beside the host's, at sizes that fill no block and no piece.
#include "host/train/dense_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/train/dense_fixture.h"

namespace resembed::train {
namespace {

using DenseFunctions = testing::DenseOnDevice;

// The same elements for both; the device's end where the array does.
template <typename T>
class Both {
 public:
  Both(Device* device, std::vector<T> values)
      : host_(std::move(values)), copy_(device, HostCopy::kPageable), device_(device) {
    copy_.Assign(host_.size());
    std::copy(host_.begin(), host_.end(), copy_.host());
    copy_.Upload(host_.size());
  }
  T* host() { return host_.data(); }
  T* device() { return copy_.device(); }
  // Every element within `most` of the host's; 0: in all bits.
  void Expect(const char* what, double most = 0) {
    copy_.Download(host_.size());
    device_->Wait();
    for (size_t i = 0; i < host_.size(); ++i) {
      if (most == 0) {
        ASSERT_EQ(std::memcmp(copy_.host() + i, &host_[i], sizeof(T)), 0) << what << " at " << i;
      } else {
        ASSERT_NEAR(copy_.host()[i], host_[i], most) << what << " at " << i;
      }
    }
  }

 private:
  std::vector<T> host_;
  Mirror<T> copy_;
  Device* device_;
};

class Random {
 public:
  explicit Random(Device* device) : device_(device) {}
  Both<float> Floats(int64_t n, float scale = 1) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = scale * std::normal_distribution<float>()(engine_);
    return {device_, values};
  }
  Both<int32_t> Ids(int64_t n, int32_t below) {
    std::vector<int32_t> values(static_cast<size_t>(n));
    for (int32_t& value : values) value = std::uniform_int_distribution<int32_t>(0, below - 1)(engine_);
    return {device_, values};
  }

 private:
  Device* device_;
  std::mt19937 engine_{7};
};

TEST_F(DenseFunctions, ProductsAreTheHosts) {
  Random random(device_.get());
  struct Size {
    int64_t m, n, k, more;  // leading dimensions are so much larger
  };
  for (const auto& [m, n, k, more] :
       {Size{1, 1, 1, 0}, Size{3, 5, 7, 2}, Size{70, 1, 130, 1}, Size{1, 33, 9, 0}, Size{65, 34, 8, 5}}) {
    for (const bool accumulate : {false, true}) {
      const auto check = [&](const char* what, auto product, int64_t rows_a, int64_t cols_a, int64_t rows_b,
                             int64_t cols_b) {
        const int64_t lda = cols_a + more, ldb = cols_b + more, ldc = n + more;
        Both<float> a = random.Floats((rows_a - 1) * lda + cols_a),
                    b = random.Floats((rows_b - 1) * ldb + cols_b), c = random.Floats((m - 1) * ldc + n);
        (HostMath().*product)(m, n, k, a.host(), lda, b.host(), ldb, c.host(), ldc, accumulate);
        (device_->dense()->*product)(m, n, k, a.device(), lda, b.device(), ldb, c.device(), ldc, accumulate);
        c.Expect(what, 1e-4);
      };
      check("nn", &DenseMath::GemmNn, m, k, k, n);
      check("tn", &DenseMath::GemmTn, k, m, k, n);
      check("nt", &DenseMath::GemmNt, m, k, n, k);
    }
  }
}

TEST_F(DenseFunctions, OfElementsAndColumnsAreTheHosts) {
  Random random(device_.get());
  DenseMath &host = HostMath(), &device = *device_->dense();
  for (const int64_t rows : {1, 64, 131}) {
    for (const int64_t cols : {1, 10, 129}) {
      const int64_t n = rows * cols, ldx = cols + 3, shifts = (rows + 1) / 2;
      Both<float> a = random.Floats(n), b = random.Floats(n), row = random.Floats(cols), y = random.Floats(n),
                  shift = random.Floats(shifts * cols), wide = random.Floats((rows - 1) * ldx + cols),
                  sums = random.Floats(cols), dots = random.Floats(cols);
      const auto both = [&](auto call) {
        call(host, [](auto& x) { return x.host(); });
        call(device, [](auto& x) { return x.device(); });
      };
      both([&](DenseMath& math, auto at) {
        math.Copy(n, at(a), at(y));
        math.Add(n, at(y), at(b), at(y));
        math.AddRow(rows, cols, at(row), at(y));
        math.AddRelu(rows, cols, at(shift), shifts, at(y));
        math.ReluBackward(n, at(y), at(b));
        math.ScaleColumns(rows, cols, at(row), at(y), at(a));
        math.ColumnSums(rows, cols, at(wide), ldx, at(sums));
        math.ColumnDots(rows, cols, at(a), at(b), at(dots));
        math.Drop(Dropout(12345, .3f), n - 1, at(y));
      });
      a.Expect("scaled");
      b.Expect("relu");
      y.Expect("dropped");
      sums.Expect("sums", 1e-4);
      dots.Expect("dots", 1e-3);
    }
  }
}

TEST_F(DenseFunctions, OptimizersAreTheHosts) {
  Random random(device_.get());
  DenseMath &host = HostMath(), &device = *device_->dense();
  constexpr int64_t kN = 301, kItems = 40;
  Both<float> value = random.Floats(kN), m = random.Floats(kN), grad = random.Floats(kN),
              v(device_.get(), std::vector<float>(kN, .25f));
  host.Adam(value.host(), m.host(), v.host(), grad.host(), kN, .01f, .9f, .999f, 1e-8f, .1f, .001f);
  device.Adam(value.device(), m.device(), v.device(), grad.device(), kN, .01f, .9f, .999f, 1e-8f, .1f, .001f);
  value.Expect("Adam", 1e-6);
  m.Expect("m", 1e-6);
  v.Expect("v", 1e-6);

  Both<float> bias = random.Floats(kItems), less = random.Floats(kItems), shifts = random.Floats(kN),
              state(device_.get(), std::vector<float>(kItems, .5f));
  Both<int32_t> ids = random.Ids(kN, kItems), begin(device_.get(), {0, 2, 3, 60}),
                places = random.Ids(60, kN), items(device_.get(), {39, 0, 7});
  host.BiasShifts(kN, ids.host(), bias.host(), less.host(), shifts.host());
  device.BiasShifts(kN, ids.device(), bias.device(), less.device(), shifts.device());
  shifts.Expect("shifts");
  host.StepBiases(
      {3, items.host(), begin.host(), places.host(), grad.host(), .1f, bias.host(), state.host()});
  device.StepBiases({3, items.device(), begin.device(), places.device(), grad.device(), .1f, bias.device(),
                     state.device()});
  bias.Expect("bias");
  state.Expect("state");
}

TEST_F(DenseFunctions, TheLogisticLossIsTheHosts) {
  Random random(device_.get());
  for (const int64_t n : {1, 9, 150}) {
    constexpr int64_t kCols = 37;
    Both<float> c = random.Floats(n * kCols), w3 = random.Floats(kCols), b3 = random.Floats(1),
                d_c = random.Floats(n * kCols), g_w3 = random.Floats(kCols), g_b3 = random.Floats(1),
                g_b2 = random.Floats(kCols);
    Both<double> loss(device_.get(), {0.0});
    HostMath().Logistic({n / 2, n, kCols, 0.5f, c.host(), w3.host(), b3.host(), d_c.host(), g_w3.host(),
                         g_b3.host(), g_b2.host(), loss.host()});
    device_->dense()->Logistic({n / 2, n, kCols, 0.5f, c.device(), w3.device(), b3.device(), d_c.device(),
                                g_w3.device(), g_b3.device(), g_b2.device(), loss.device()});
    EXPECT_GT(*loss.host(), 0.0);
    loss.Expect("loss", 1e-3);
    d_c.Expect("d_c", 1e-5);
    g_w3.Expect("g_w3", 1e-3);
    g_b3.Expect("g_b3", 1e-3);
    g_b2.Expect("g_b2", 1e-3);
  }
}

TEST_F(DenseFunctions, TheSoftmaxIsTheHosts) {
  Random random(device_.get());
  for (const int64_t n : {1, 70}) {
    constexpr int64_t kM = 140, kDim = 130;
    Both<float> query = random.Floats(n * kDim, .1f), target = random.Floats(n * kDim),
                target_shift = random.Floats(n), negative_shift = random.Floats(kM),
                repeat_weight = random.Floats(kRepeatFeatures),
                target_repeat = random.Floats(n * kRepeatFeatures), probability = random.Floats(n * kM),
                d_target_shift = random.Floats(n), d_target = random.Floats(n * kDim),
                d_query = random.Floats(n * kDim), g_repeat = random.Floats(kRepeatFeatures);
    Both<int32_t> target_ids = random.Ids(n, 30), negative_ids = random.Ids(kM, 30);
    std::vector<SeenNegative> entries;
    std::vector<int32_t> begins = {0};
    for (int64_t row = 0; row < n; ++row) {
      for (int32_t column = static_cast<int32_t>(row) % 5; row % 3 == 0 && column < kM; column += 9) {
        entries.push_back({column, {}});
        for (float& feature : entries.back().features) feature = .01f * static_cast<float>(row + column);
      }
      begins.push_back(static_cast<int32_t>(entries.size()));
    }
    Both<SeenNegative> seen(device_.get(), entries);
    Both<int32_t> seen_begin(device_.get(), begins);
    Both<double> loss(device_.get(), {0.0});
    const auto call = [&](DenseMath& math, auto at) {
      math.Softmax({n,
                    kM,
                    kDim,
                    0.5f,
                    at(query),
                    at(target),
                    at(target_shift),
                    at(negative_shift),
                    at(target_ids),
                    at(negative_ids),
                    at(repeat_weight),
                    at(target_repeat),
                    at(seen),
                    at(seen_begin),
                    at(probability),
                    at(d_target_shift),
                    at(d_target),
                    at(d_query),
                    at(g_repeat),
                    at(loss)});
    };
    call(HostMath(), [](auto& x) { return x.host(); });
    call(*device_->dense(), [](auto& x) { return x.device(); });
    EXPECT_GT(*loss.host(), 0.1);
    loss.Expect("loss", 1e-2);
    probability.Expect("probability", 1e-4);
    d_target_shift.Expect("d_target_shift", 1e-4);
    d_target.Expect("d_target", 1e-4);
    d_query.Expect("d_query", 1e-4);
    g_repeat.Expect("g_repeat", 1e-2);
  }
}

}  // namespace
}  // namespace resembed::train
