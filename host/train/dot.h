// SPDX-License-Identifier: Apache-2.0
// The retrieval head: pooled history . item + bias + repeat features' linear term; softmax over negatives that
// the whole batch shares.
#pragma once

#include <memory>
#include <vector>

#include "host/train/item_bias.h"
#include "host/train/model.h"

namespace resembed::train {

//   q_u = A^T h_u (A starts as a multiple of the identity)
//   score(u, i) = q_u . e_i + b_i + w . r_ui
// Negatives m = 1..M are drawn from Q(i) ~ popularity^alpha with replacement; the training logit of every
// item is score - correction * log Q(i); a negative that is the row's target is masked.
class DotNet {
 public:
  // math: outlives the net.
  DotNet(int64_t dim, bool transform, float scale, DenseMath* math = &HostMath());

  // Memory of math's device.
  struct Batch {
    int64_t n, n_negatives;
    const float *history, *target, *negative;    // [n, dim], [n, dim], [n_negatives, dim]
    const float *target_shift, *negative_shift;  // [n], [n_negatives]: b_i - correction * log Q(i)
    const int32_t *target_ids, *negative_ids;
    const float* target_repeat;                // [n, kRepeatFeatures]
    const SeenNegative* seen;                  // those of row i: [seen_begin[i], seen_begin[i + 1])
    const int32_t* seen_begin;                 // [n + 1]
    float *d_history, *d_target, *d_negative;  // of the mean loss; written
    float *d_target_shift, *d_negative_shift;
  };
  static constexpr int64_t kBlock = 32;  // samples; part of the numerics
  // Mean of -log softmax; fills dense.grad. On the host the same bits for any number of threads; on a device
  // the batch is one block. Waits for its loss.
  double LossAndGradients(const Batch& batch, Pool* pool);

  // For evaluation on the host, as of the last dense.DownloadValue.
  void Query(const float* history, int64_t n, float* query) const {
    Query(&HostMath(), dense.value.host(), history, n, query);
  }
  const float* repeat_weights() const { return dense.value.host() + w_repeat_; }

  DenseWeights dense;

 private:
  struct Scratch;
  void Query(DenseMath* math, const float* weights, const float* history, int64_t n, float* query) const;
  // Samples [begin, end): their part of the gradient of the weights, and of the sum of losses.
  void Block(const Batch& batch, int64_t begin, int64_t end, float* grad, double* loss, Scratch* scratch);

  DenseMath* math_;
  int64_t dim_;
  bool transform_;  // A is learned whole; otherwise only its scale
  int64_t w_repeat_, w_query_;
  Mirror<float> query_, probability_;  // [n, dim], [n, n_negatives]
  std::vector<std::shared_ptr<Scratch>> scratch_;
  Mirror<double> loss_;  // of each block
};

class DotLearner : public Learner {
 public:
  DotLearner(const Variant& variant, const InterestGraph& graph, const LogView& view, const Hyper& hyper,
             uint64_t seed, Pool* pool, Device* device);
  double Step(const Sample* samples, int64_t n, int64_t epoch, int64_t step, float lr_factor) override;
  std::unique_ptr<Scorer> MakeScorer() override;
  int64_t n_parameters() const override {
    return embedding_.n_parameters() + net_.dense.n_parameters() + static_cast<int64_t>(bias_.value.size());
  }
  const Embedding& embedding() const override { return embedding_; }
  std::vector<StateTensor> Weights() override;
  std::vector<StateTensor> OptimizerState() override;
  void WeightsWritten() override;
  void OptimizerStateWritten() override;

 private:
  void FindSeen(const Sample* samples, int64_t n);

  const LogView& view_;
  const Hyper hyper_;
  const uint64_t seed_;
  Pool* pool_;
  DenseMath& math_;
  Embedding embedding_;
  DotNet net_;
  ItemBias bias_;                                      // correction: of log Q
  std::vector<double> cumulative_;                     // over candidates, of Q
  std::vector<int32_t> first_column_;                  // [n_items] first negative that is the item, -1 = none
  std::vector<int32_t> next_column_;                   // [n_negatives]
  std::vector<RepeatIndex> repeat_;                    // one per slot of FindSeen
  std::vector<std::vector<SeenNegative>> seen_lists_;  // one per block of kBlock samples
  Mirror<SeenNegative> seen_;
  Mirror<int32_t> seen_begin_;
  Mirror<float> target_repeat_;
  Lookup history_, target_, negative_;
};

}  // namespace resembed::train
