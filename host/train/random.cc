// SPDX-License-Identifier: Apache-2.0
#include "host/train/random.h"

#include <algorithm>
#include <cmath>

namespace resembed::train {

uint64_t HashName(const std::string& name, uint64_t seed) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return MixBits(hash ^ MixBits(seed + 0x9E3779B97F4A7C15u));
}

int64_t Random::Below(int64_t n) {
  const uint64_t range = static_cast<uint64_t>(n);
  const uint64_t reject = (0 - range) % range;  // 2^64 mod n
  for (;;) {
    const auto product = static_cast<unsigned __int128>(Next()) * range;
    if (static_cast<uint64_t>(product) >= reject) return static_cast<int64_t>(product >> 64);
  }
}

int32_t Random::Poisson(double mean) {
  const double limit = std::exp(-mean);
  int32_t count = 0;
  for (double product = Uniform(); product > limit; product *= Uniform()) ++count;
  return count;
}

WeightedDraw::WeightedDraw(const std::vector<double>& weights) {
  const double largest = *std::max_element(weights.begin(), weights.end());
  int64_t sum = 0;
  cumulative_.reserve(weights.size());
  for (const double weight : weights) {
    if (weight > 0) sum += std::max<int64_t>(1, std::llround(weight / largest * 0x1p32));
    cumulative_.push_back(sum);
  }
}

int64_t WeightedDraw::Draw(Random& random) const {
  const int64_t at = random.Below(cumulative_.back());
  return std::upper_bound(cumulative_.begin(), cumulative_.end(), at) - cumulative_.begin();
}

std::vector<double> ZipfWeights(int64_t n, double exponent) {
  std::vector<double> weights(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    weights[static_cast<size_t>(i)] = std::pow(static_cast<double>(i + 1), -exponent);
  }
  return weights;
}

}  // namespace resembed::train
