// SPDX-License-Identifier: Apache-2.0
// What a head trains with where the options say nothing.
#include "host/train/config.h"

namespace resembed::train {

namespace {

Hyper Defaults(Head head) {
  Hyper h = {};
  h.head = head;
  h.history_length = 20;
  h.history_decay = 0.6;
  h.normalize_history = true;
  h.repeat_features = true;
  h.optimizer = "adam";
  h.init = 1.0;
  if (Ranks(head)) {
    h.attention_scale = 4.0;
    h.lambda = 0.003;
    h.lr = 0.004;
    h.dense_lr = 0.002;
    h.lr_decay = 0.12;
    h.dropout = 0.0;
  } else {
    h.lambda = 0.002;
    h.lr = 0.002;
    h.dense_lr = 0.005;
    h.lr_decay = 0.12;
    h.dropout = 0.2;
    h.negatives = 512;
    h.negative_alpha = 0.5;
    h.negative_correction = 0.25;
    h.dot_scale = 4.0;
    h.bias_lr = 0.05;
  }
  return h;
}

int AutoBatch(int64_t n_samples) {
  int batch = 16;
  while (batch < 1024 && 2 * batch <= n_samples / 256) batch *= 2;
  return batch;
}

}  // namespace

Hyper HyperOf(const Options& o, Head head, int64_t n_samples) {
  Hyper h = Defaults(head);
  h.dim = o.dim;
  h.targets = o.targets;
  h.epochs = o.epochs;
  h.patience = o.patience;
  if (o.preset == Preset::kPaper) {
    h.history_length = 50;
    h.history_decay = 1.0;
    h.normalize_history = false;
    h.repeat_features = false;
  }
  const auto take = [](double given, double* value) {
    if (given >= 0) *value = given;
  };
  take(o.lambda, &h.lambda);
  take(o.residual_cap, &h.residual_cap);
  take(o.residual_ratio, &h.residual_ratio);
  take(o.lr, &h.lr);
  take(o.dense_lr, &h.dense_lr);
  take(o.lr_decay, &h.lr_decay);
  take(o.init, &h.init);
  take(o.dropout, &h.dropout);
  take(o.negative_alpha, &h.negative_alpha);
  take(o.negative_correction, &h.negative_correction);
  take(o.scale, head == Head::kDin ? &h.attention_scale : &h.dot_scale);
  take(o.bias_lr, &h.bias_lr);
  h.batch = o.batch > 0 ? o.batch : AutoBatch(n_samples);
  if (o.negatives > 0) h.negatives = o.negatives;
  if (o.query_transform >= 0) h.query_transform = o.query_transform != 0;
  if (!o.optimizer.empty()) h.optimizer = o.optimizer;
  return h;
}

}  // namespace resembed::train
