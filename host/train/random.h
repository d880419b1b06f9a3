// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same on every platform: SplitMix64 (Steele et al. 2014), own distributions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/common/host_device.h"

namespace resembed::train {

// SplitMix64's output function: a bijection of 64 bits that passes avalanche tests.
RESEMBED_HOST_DEVICE constexpr uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// FNV-1a over the bytes, then mixed with `seed`: depends on the name alone, never on the order of the file.
uint64_t HashName(const std::string& name, uint64_t seed);

class Random {
 public:
  // Streams of different (seed, stream) are independent.
  explicit Random(uint64_t seed, uint64_t stream = 0)
      : state_(MixBits(seed + kGamma) ^ MixBits(~stream * kGamma)) {}

  uint64_t Next() { return MixBits(state_ += kGamma); }
  // 53 bits in [0, 1).
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // Unbiased in [0, n), n >= 1 (Lemire 2019).
  int64_t Below(int64_t n);
  // Knuth's product of uniforms; mean up to about 500.
  int32_t Poisson(double mean);

 private:
  static constexpr uint64_t kGamma = 0x9E3779B97F4A7C15u;
  uint64_t state_;
};

template <class T>
void Shuffle(std::vector<T>& values, Random& random) {
  for (int64_t n = static_cast<int64_t>(values.size()); n > 1; --n) {
    std::swap(values[static_cast<size_t>(n - 1)], values[static_cast<size_t>(random.Below(n))]);
  }
}

// Draws index i with probability weight[i] / sum. Weights are rounded to 2^-32 of the largest one, so that the
// last bit of a libm's pow cannot move a draw; a positive weight stays positive.
class WeightedDraw {
 public:
  explicit WeightedDraw(const std::vector<double>& weights);
  int64_t Draw(Random& random) const;

 private:
  std::vector<int64_t> cumulative_;  // [n] inclusive sums
};

// weights[i] = (i + 1)^-exponent
std::vector<double> ZipfWeights(int64_t n, double exponent);

}  // namespace resembed::train
