// SPDX-License-Identifier: Apache-2.0
#include "host/train/dense_weights.h"

#include <cmath>

#include "host/train/model_random.h"

namespace resembed::train {

DenseWeights::DenseWeights(DenseMath* math)
    : value(math->device(), HostCopy::kPageable),
      grad(math->device(), HostCopy::kPageable),
      m(math->device(), HostCopy::kPageable),
      v(math->device(), HostCopy::kPageable),
      math_(math) {}

int64_t DenseWeights::Add(const std::string& name, int64_t rows, int64_t cols) {
  blocks.push_back({name, size_, rows, cols});
  size_ += (rows * cols + 15) / 16 * 16;
  return blocks.back().offset;
}

void DenseWeights::Allocate() {
  for (Mirror<float>* array : {&value, &grad, &m, &v}) {
    array->Assign(static_cast<size_t>(size_));
    array->Upload(array->size());
  }
}

void DenseWeights::FillNormal(const std::string& name, float scale, uint64_t seed) {
  for (size_t block = 0; block < blocks.size(); ++block) {
    if (blocks[block].name != name) continue;
    for (int64_t i = 0; i < blocks[block].rows * blocks[block].cols; ++i) {
      const uint64_t at = static_cast<uint64_t>(i);
      value.host()[blocks[block].offset + i] =
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

void DenseWeights::AdamStep(int64_t step, float lr) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
  const float c1 = static_cast<float>(1.0 - std::pow(kBeta1, static_cast<double>(step)));
  const float c2 = static_cast<float>(1.0 - std::pow(kBeta2, static_cast<double>(step)));
  math_->Adam(value.device(), m.device(), v.device(), grad.device(), size_, lr, static_cast<float>(kBeta1),
              static_cast<float>(kBeta2), 1e-8f, c1, c2);
}

void DenseWeights::DownloadValue() {
  value.Download(value.size());
  if (math_->device() != nullptr) math_->device()->Wait();
}

void DenseWeights::DownloadState() {
  m.Download(m.size());
  v.Download(v.size());
  if (math_->device() != nullptr) math_->device()->Wait();
}

void DenseWeights::UploadState() {
  m.Upload(m.size());
  v.Upload(v.size());
}

}  // namespace resembed::train
