// SPDX-License-Identifier: Apache-2.0
// The ranking heads: mlp = [pooled history, candidate, repeat features] -> small MLP -> log-odds; din = the same
// and what the candidate attends to in the history (Zhou et al. 2018, with a softmax of dot products).
#pragma once

#include <memory>
#include <vector>

#include "host/train/model.h"

namespace resembed::train {

// z = W_h^T h + W_e^T e + W_r^T r + W_a^T h_e + b1;  a = relu(z);  c = relu(W_2^T a + b2);  score = w3 . c + b3
// h_e (din alone) = sum_t softmax_t(scale * e . e_t) e_t over the history's items t.
// The first layer is kept in three parts: the history's product serves every candidate, and at evaluation the
// item's product is made once per item.
class MlpNet {
 public:
  static constexpr int64_t kHidden1 = 128, kHidden2 = 64;

  // math: outlives the net.
  MlpNet(int64_t dim, uint64_t seed, bool attends = false, DenseMath* math = &HostMath());

  // One pair a row: histories, positives and negatives [n, dim], repeat features [n, kRepeatFeatures]. Memory
  // of math's device.
  struct Batch {
    int64_t n;
    const float *history, *positive, *negative, *positive_repeat, *negative_repeat;
    float *d_history, *d_positive, *d_negative;  // of the mean loss; written
    // din: what positives and negatives attend to [n, dim], and the gradients of it; else null.
    const float *positive_attended = nullptr, *negative_attended = nullptr;
    float *d_positive_attended = nullptr, *d_negative_attended = nullptr;
  };
  // Mean logistic loss over 2 n samples; fills dense.grad. On the host blocks of pairs are summed in order,
  // so the result does not depend on the number of threads. On a device the batch is one block; waits for its
  // loss.
  double LossAndGradients(const Batch& batch, Pool* pool);

  // For evaluation on the host, as of the last dense.DownloadValue.
  // shift[kHidden1] = W_h^T h
  void HistoryPart(const float* history, float* shift) const;
  // parts[n, kHidden1] = W_e^T e + b1
  void ItemParts(const float* items, int64_t n, float* parts) const;
  // parts[n, kHidden1] = W_a^T e of items of a history: mixed as the items are, they are W_a^T h_e
  void AttendedParts(const float* items, int64_t n, float* parts) const;
  // part[kHidden1] += W_r^T r
  void AddRepeatPart(const float* repeat, float* part) const;
  // scores of n candidates from their item parts (null entries of `rows` are not allowed), in blocks.
  // scratch holds at least n * (kHidden1 + kHidden2) floats.
  void Scores(const float* const* parts, const float* shift, int64_t n, float* scratch, float* scores) const;

  DenseWeights dense;

 private:
  struct Scratch;
  // Pairs [begin, end): their part of the gradient of the weights, and of the sum of losses.
  void Block(const Batch& batch, int64_t begin, int64_t end, float* grad, double* loss, Scratch* scratch);

  DenseMath* math_;
  int64_t dim_;
  int64_t w_history_, w_item_, w_repeat_, b1_, w2_, b2_, w3_, b3_, w_attended_ = -1;  // -1: none
  std::vector<std::shared_ptr<Scratch>> scratch_;
  Mirror<double> loss_;  // of each block
};

class MlpLearner : public Learner {
 public:
  MlpLearner(const Variant& variant, const InterestGraph& graph, const LogView& view, const Hyper& hyper,
             uint64_t seed, Pool* pool, Device* device);
  double Step(const Sample* samples, int64_t n, int64_t epoch, int64_t step, float lr_factor) override;
  std::unique_ptr<Scorer> MakeScorer() override;
  int64_t n_parameters() const override { return embedding_.n_parameters() + net_.dense.n_parameters(); }
  const Embedding& embedding() const override { return embedding_; }
  std::vector<StateTensor> Weights() override;
  std::vector<StateTensor> OptimizerState() override;
  void WeightsWritten() override {
    embedding_.WeightsWritten();
    net_.dense.UploadValue();
  }
  void OptimizerStateWritten() override {
    embedding_.OptimizerStateWritten();
    net_.dense.UploadState();
  }

 private:
  const LogView& view_;
  const Hyper hyper_;
  const uint64_t seed_;
  Pool* pool_;
  DenseMath& math_;
  Embedding embedding_;
  MlpNet net_;
  bool attends() const { return hyper_.head == Head::kDin; }

  Lookup history_, positive_, negative_, positive_attended_, negative_attended_;
  Mirror<float> repeat_;  // [2 n, kRepeatFeatures] of the positives, then of the negatives
};

}  // namespace resembed::train
