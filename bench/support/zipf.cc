// SPDX-License-Identifier: Apache-2.0
#include "bench/support/zipf.h"

#include <cmath>
#include <numeric>
#include <utility>

namespace resembed::bench {

ZipfRanks::ZipfRanks(int64_t n, double alpha) : n_(n), alpha_(alpha) {
  first_ = Integral(1.5) - 1;
  last_ = Integral(static_cast<double>(n) + 0.5);
  squeeze_ = 2 - InverseIntegral(Integral(2.5) - std::pow(2.0, -alpha));
}

double ZipfRanks::Integral(double x) const {
  const double log_x = std::log(x), t = (1 - alpha_) * log_x;
  // (x^(1-alpha) - 1) / (1 - alpha), log x at alpha 1
  return std::abs(t) < 1e-12 ? log_x : std::expm1(t) / t * log_x;
}

double ZipfRanks::InverseIntegral(double y) const {
  const double t = y * (1 - alpha_);
  return std::abs(t) < 1e-12 ? std::exp(y) : std::exp(std::log1p(t) / t * y);
}

int64_t ZipfRanks::Draw(RandomStream& random) const {
  while (true) {
    const double u = last_ + random.NextUnit() * (first_ - last_);
    const double x = InverseIntegral(u);
    double k = std::floor(x + 0.5);
    if (k < 1) k = 1;
    if (k > static_cast<double>(n_)) k = static_cast<double>(n_);
    if (k - x <= squeeze_ || u >= Integral(k + 0.5) - std::exp(-alpha_ * std::log(k))) {
      return static_cast<int64_t>(k) - 1;
    }
  }
}

IdSource::IdSource(int64_t n, double alpha, uint64_t seed)
    : n_(n), alpha_(alpha), seed_(seed), ranks_(n, alpha > 0 ? alpha : 1) {
  if (alpha <= 0) return;
  id_of_rank_.resize(static_cast<size_t>(n));
  std::iota(id_of_rank_.begin(), id_of_rank_.end(), 0);
  RandomStream random(seed);
  for (size_t last = id_of_rank_.size(); last > 1; --last) {
    std::swap(id_of_rank_[last - 1], id_of_rank_[random.Next() % last]);
  }
}

void IdSource::Fill(uint64_t stream, int64_t count, int32_t* ids) const {
  RandomStream random(RandomStream(seed_ ^ (stream + 1) * 0xd1342543de82ef95u).Next());
  for (int64_t i = 0; i < count; ++i) {
    ids[i] = alpha_ <= 0 ? static_cast<int32_t>(random.Next() % static_cast<uint64_t>(n_))
                         : id_of_rank_[static_cast<size_t>(ranks_.Draw(random))];
  }
}

}  // namespace resembed::bench
