// SPDX-License-Identifier: Apache-2.0
#include "host/train/dense.h"

#include <cmath>

#include "host/train/model_random.h"

namespace resembed::train {

namespace baseline {
const DenseOps& Ops();
}
#ifdef RESEMBED_DENSE_X86
namespace avx2 {
const DenseOps& Ops();
}
namespace avx512 {
const DenseOps& Ops();
}
#endif

const DenseOps& Dense() {
  static const DenseOps& ops = []() -> const DenseOps& {
#ifdef RESEMBED_DENSE_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
      return avx512::Ops();
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::Ops();
#endif
    return baseline::Ops();
  }();
  return ops;
}

int64_t DenseWeights::Add(const std::string& name, int64_t rows, int64_t cols) {
  const int64_t offset = static_cast<int64_t>(value.size());
  blocks.push_back({name, offset, rows, cols});
  const size_t end = static_cast<size_t>(offset + (rows * cols + 15) / 16 * 16);
  value.resize(end, 0.0f);
  grad.resize(end, 0.0f);
  m.resize(end, 0.0f);
  v.resize(end, 0.0f);
  return offset;
}

void DenseWeights::FillNormal(const std::string& name, float scale, uint64_t seed) {
  for (size_t block = 0; block < blocks.size(); ++block) {
    if (blocks[block].name != name) continue;
    for (int64_t i = 0; i < blocks[block].rows * blocks[block].cols; ++i) {
      const uint64_t at = static_cast<uint64_t>(i);
      value[static_cast<size_t>(blocks[block].offset + i)] =
          scale * static_cast<float>(NormalOf(Draw(seed, Stream::kInit, 1000 + block, at, 0),
                                              Draw(seed, Stream::kInit, 1000 + block, at, 1)));
    }
  }
}

int64_t DenseWeights::n_parameters() const {
  int64_t n = 0;
  for (const Block& block : blocks) n += block.rows * block.cols;
  return n;
}

void DenseWeights::AdamStep(int64_t step, float lr, float weight_decay) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
  const float c1 = static_cast<float>(1.0 - std::pow(kBeta1, static_cast<double>(step)));
  const float c2 = static_cast<float>(1.0 - std::pow(kBeta2, static_cast<double>(step)));
  if (weight_decay > 0) {
    for (size_t i = 0; i < value.size(); ++i) grad[i] += weight_decay * value[i];
  }
  Dense().adam(value.data(), m.data(), v.data(), grad.data(), static_cast<int64_t>(value.size()), lr,
               static_cast<float>(kBeta1), static_cast<float>(kBeta2), 1e-8f, c1, c2);
}

}  // namespace resembed::train
