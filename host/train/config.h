// SPDX-License-Identifier: Apache-2.0
// What a run was asked to do, and the hyperparameters of one row (head, variant) that follow from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/log.h"

namespace resembed::train {

enum class Head { kMlp, kDot, kDin };
inline const char* HeadName(Head head) {
  return head == Head::kMlp ? "mlp" : head == Head::kDot ? "dot" : "din";
}
// mlp and din rank a candidate by a network of its own; dot retrieves from all items.
inline bool Ranks(Head head) { return head != Head::kDot; }

enum class Preset { kDefault, kPaper, kFull };
inline const char* PresetName(Preset preset) {
  return preset == Preset::kPaper ? "paper" : preset == Preset::kFull ? "full" : "default";
}

// Of the subcommands, which use a model that a run left.
struct UseOptions {
  std::string command;  // "recommend", "export"; empty: train
  std::string model;    // seedN.safetensors
  std::string catalog;  // file of items, names and groups
  std::string catalog_columns;
  std::string out;  // recommend: file, empty = stdout; export: folder
  int threads = 0;  // 0: every core it may use

  std::string history, columns;  // recommend
  int top = 20;
  bool exclude_seen = false;
};

// --sweep: one run for each value of one option.
struct SweepOptions {
  std::string name;                 // empty: no sweep
  std::vector<std::string> values;  // as typed
};

// A negative number or an empty string means: the head's default (see HyperOf).
struct Options {
  std::string data;  // empty: a generated log
  std::string columns;
  std::string catalog;  // names of items, for the report
  std::string catalog_columns;
  std::string out = "resembed-out";
  GeneratorOptions generator;
  std::string save_log;   // file for the generated log; empty: none
  bool log_only = false;  // and nothing more

  int seeds = 1;
  std::string split = "user";  // "user" | "time"
  double time_cut = 0.8;       // share of the events that trains, of a split by time
  uint64_t split_seed = 1;
  double train_fraction = 1.0;
  std::vector<Head> heads = {Head::kMlp, Head::kDot};
  std::vector<std::string> variants;
  Preset preset = Preset::kDefault;
  bool tune = false;
  std::string tuned;  // metrics.json of a run with --tune: its lr and lambda

  int dim = 64;
  int window = 2;
  int neighbors = 8;
  double resolution = 1.0;  // of the assignment of items to centers
  std::string graph;        // folder of resembed-graph to take the graph from; else it is built
  bool graph_two_hop = false;
  bool graph_leave_one_out = false;
  int pretrain_window = 5;  // plain_pretrained: largest reach of a pair
  int targets = 10;         // per training user and epoch
  int epochs = 60;
  int patience = 6;

  double residual_cap = 0;    // norm of a residual row, times the mean norm of central parts; 0 = none
  double residual_ratio = 0;  // median |R| : |central part| that lambda follows; 0 = lambda is fixed
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
  double scale = -1;         // dot, din
  int query_transform = -1;  // dot: 0, 1
  double bias_lr = -1;       // dot

  int threads = 0;       // 0: every core it may use
  double memory_gb = 0;  // 0: what the machine has free
  std::string backend = "cpu";
  std::string dense = "auto";  // of backend cuda: "auto" | "host" | "cublas"
  int device = 0;
  bool resume = false;
  bool fit_all = false;
  int fit_epochs = 0;  // of fit_all; 0: those of the rows with held-out users
  bool report = true;
  int envelope_every = 100;  // steps; 0 = never
  bool protocol = false;     // write protocol.safetensors
  SweepOptions sweep;
  UseOptions use;
  std::string command;  // as typed, for the record
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
  double residual_cap, residual_ratio;  // 0 = none
  std::string optimizer;                // "adam" | "adagrad"
  int negatives;
  double negative_alpha, negative_correction;
  bool query_transform;    // q = A^T h with A learned whole, not only its diagonal
  double dot_scale;        // A starts as dot_scale times the identity
  double attention_scale;  // din: scores of the history are so many times target . item
  double bias_lr;
};
// n_samples: of an epoch. Without --batch a batch is the power of two next below n_samples / 256, from 16 to
// 1024: an epoch then has a few hundred steps on any log, and converges in a similar number of epochs.
Hyper HyperOf(const Options& options, Head head, int64_t n_samples);

// "a,b,,c" -> a, b, c
std::vector<std::string> SplitNames(const std::string& list);

// Parses argv. Returns true to go on; otherwise *exit_code says how to end (0 after --help, 2 for a bad
// value, with the reason printed to stderr).
bool ParseOptions(int argc, char** argv, Options* options, int* exit_code);

}  // namespace resembed::train
