// SPDX-License-Identifier: Apache-2.0
// The weights of a head's dense part, and their Adam.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/dense_math.h"
#include "host/train/device.h"

namespace resembed::train {

// Weights of the dense part of a head: one flat array, so that optimizer and files need no structure. value
// and grad are where `math` computes; host copies are those of the last Download.
struct DenseWeights {
  struct Block {
    std::string name;
    int64_t offset, rows, cols;
  };
  explicit DenseWeights(DenseMath* math);

  std::vector<Block> blocks;
  Mirror<float> value, grad, m, v;

  // Appends a [rows, cols] block and returns its offset, a multiple of 16 floats. All blocks come before
  // Allocate.
  int64_t Add(const std::string& name, int64_t rows, int64_t cols);
  // Zeros everywhere.
  void Allocate();
  // Fills a block with N(0, scale^2) drawn from `seed`, on the host.
  void FillNormal(const std::string& name, float scale, uint64_t seed);
  int64_t n_parameters() const;  // without the padding between blocks
  void AdamStep(int64_t step, float lr);

  void DownloadValue();  // waits
  void DownloadState();  // waits
  void UploadValue() { value.Upload(value.size()); }
  void UploadState();

 private:
  DenseMath* math_;
  int64_t size_ = 0;
};

}  // namespace resembed::train
