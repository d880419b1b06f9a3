// SPDX-License-Identifier: Apache-2.0
// What a run was asked to do, and the hyperparameters of one row (head, variant) that follow from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/log.h"

namespace resembed::train {

enum class Head { kMlp, kDot };
inline const char* HeadName(Head head) { return head == Head::kMlp ? "mlp" : "dot"; }

enum class Preset { kDefault, kPaper };

// Of the subcommands, which use a model that a run left.
struct UseOptions {
  std::string command;  // "recommend", "export"; empty: train
  std::string model;    // seedN.safetensors
  std::string catalog;  // file of items, names and groups
  std::string catalog_columns;
  std::string out;  // recommend: file, empty = stdout; export: folder
  int threads = 0;  // 0: all of the machine

  std::string history, columns;  // recommend
  int top = 20;
  bool exclude_seen = false;
};

// A negative number or an empty string means: the head's default (see HyperOf).
struct Options {
  std::string data;  // empty: a generated log
  std::string columns;
  std::string catalog;  // names of items, for the report
  std::string catalog_columns;
  std::string out = "resembed-out";
  GeneratorOptions generator;

  int seeds = 1;
  uint64_t split_seed = 1;
  double train_fraction = 1.0;
  std::vector<Head> heads = {Head::kMlp, Head::kDot};
  std::vector<std::string> variants;
  Preset preset = Preset::kDefault;

  int dim = 64;
  int window = 2;
  int neighbors = 8;
  double resolution = 1.0;  // of the assignment of items to centers
  std::string graph;        // folder of resembed-graph to take the graph from; else it is built
  bool graph_two_hop = false;
  bool graph_leave_one_out = false;
  int targets = 10;  // per training user and epoch
  int epochs = 60;
  int patience = 6;

  double lambda = -1;
  double lr = -1;
  double dense_lr = -1;
  double lr_decay = -1;  // lr shrinks by this share each epoch
  double init = -1;
  double dropout = -1;
  int batch = -1;
  std::string optimizer;
  int negatives = -1;          // dot
  double negative_alpha = -1;  // dot
  double negative_correction = -1;
  double scale = -1;         // dot
  int query_transform = -1;  // dot: 0, 1
  double bias_lr = -1;       // dot

  int threads = 0;  // 0: all of the machine
  std::string backend = "cpu";
  int device = 0;
  bool resume = false;
  bool fit_all = false;
  int fit_epochs = 0;  // of fit_all; 0: those of the rows with held-out users
  bool report = true;
  bool protocol = false;  // write protocol.safetensors
  std::string command;    // as typed, for the record
  UseOptions use;
};

struct Hyper {
  Head head;
  int dim;
  int history_length;
  double history_decay;    // weight of the j-th last event; 1 = plain sum
  bool normalize_history;  // weights sum to 1
  bool repeat_features;
  int targets, epochs, patience, batch;
  double lambda, lr, dense_lr, lr_decay, init, dropout;
  std::string optimizer;  // "adam" | "adagrad"
  int negatives;
  double negative_alpha, negative_correction;
  bool query_transform;  // q = A^T h with A learned whole, not only its diagonal
  double dot_scale;      // A starts as dot_scale times the identity
  double bias_lr;
};
// n_samples: of an epoch. Without --batch a batch is the power of two next below n_samples / 256, from 16 to
// 1024: an epoch then has a few hundred steps on any log, and converges in a similar number of epochs.
Hyper HyperOf(const Options& options, Head head, int64_t n_samples);

// Parses argv. Returns true to go on; otherwise *exit_code says how to end (0 after --help, 2 for a bad
// value, with the reason printed to stderr).
bool ParseOptions(int argc, char** argv, Options* options, int* exit_code);

}  // namespace resembed::train
