// SPDX-License-Identifier: Apache-2.0
// Skewed ids.
#pragma once

#include <cstdint>
#include <vector>

namespace resembed::bench {

// splitmix64 (Steele, Lea, Flood 2014): a stream per seed, cheap to start anywhere.
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double NextUnit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)

 private:
  uint64_t state_;
};

// Ranks 0 .. n-1 with probability proportional to (rank + 1)^-alpha, alpha > 0, by rejection-inversion
// (Hoermann and Derflinger 1996): constant time and memory for any n.
class ZipfRanks {
 public:
  ZipfRanks(int64_t n, double alpha);
  int64_t Draw(RandomStream& random) const;

 private:
  double Integral(double x) const;  // of t^-alpha from 1 to x
  double InverseIntegral(double y) const;

  int64_t n_;
  double alpha_;
  double first_, last_;  // integral at 1.5 minus 1, and at n + 0.5
  double squeeze_;
};

// Ids over [0, n): uniform for alpha 0, else Zipf ranks laid over the ids in a random order, so that hot rows
// are not neighbors in memory.
class IdSource {
 public:
  IdSource(int64_t n, double alpha, uint64_t seed);
  // The same ids for the same stream number, whatever was drawn before.
  void Fill(uint64_t stream, int64_t count, int32_t* ids) const;

 private:
  int64_t n_;
  double alpha_;
  uint64_t seed_;
  ZipfRanks ranks_;
  std::vector<int32_t> id_of_rank_;
};

}  // namespace resembed::bench
