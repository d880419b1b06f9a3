// SPDX-License-Identifier: Apache-2.0
// resembed-graph: a folder with an interest graph, kept up to date.
//
//   counts.safetensors   all pair counts (docs/graph.md), and the options they were counted with
//   items.tsv            row <tab> item
//   tails.tsv            each user's last `window` items, so that tomorrow goes on from them; of a training user
//                        with fewer events than the split asks for, those events
//   graph.safetensors    neighbors, counts, gcn_weights [n_items, k], center_of [n_items]; after an update
//                        also source [n_items] and center_source [n_centers]: the old row of each new one,
//                        -1 = new
//
// They are replaced together (replace.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/log.h"
#include "host/train/names.h"
#include "resembed/resembed.h"

namespace resembed::graph_tool {

using train::Escape;
using train::ItemNames;
using train::ReadItems;
using train::Unescape;
using train::WriteItems;
using train::WriteText;

// Kept in counts.safetensors: an update has to count as the build did.
struct CountOptions {
  int32_t window = 2;
  int64_t pair_value = 1;  // what one visit of a pair counts
  int64_t max_user_items = 0;
  int32_t max_pair_uses = 0;
  int64_t session_gap = 0;
  bool train_users = false;  // only users that resembed-train's split with this seed trains on
  uint64_t split_seed = 1;
};

// Kept in graph.safetensors; an update may name others.
struct ListOptions {
  int32_t neighbors = 8;
  int64_t min_count = 0;
  double popularity = 0;
  int64_t self_loop = 0;
  std::string symmetry;  // "", "mutual" or "union"
  bool two_hop = false;
  double resolution = 1;
  int64_t max_center_items = 0, max_centers = 0;
  bool cold_center = false;
};

struct Options {
  std::string data, columns, out, state, edges, remove, names;
  std::vector<std::string> items;  // to look at
  CountOptions count;
  ListOptions list;
  std::vector<std::string> named;  // options of ListOptions on the command line
  double decay = 0;                // 0: none was given, old counts stay
  double memory_gb = 1;            // for counts
  std::string backend = "cpu";
  int32_t device = 0;
  double device_memory_gb = 4;
  bool quiet = false;
};

// Each throws train::Error.
void Build(const Options& options);
void Update(Options options);
void Inspect(const Options& options);
void Import(const Options& options);
void Export(const Options& options);

// The graph of `counts` to `path`: lists, weights, centers. `source` (may be empty) and the graph in
// options.state say where rows come from. n_pairs: distinct pairs behind the lists.
void WriteGraph(resembed_covisit* counts, const Options& options, int64_t n_items, int64_t n_pairs,
                const std::vector<int32_t>& source, const std::string& path);
// Lists without counts behind them: n_pairs -1.
void WriteLists(const Options& options, int64_t n_items, int64_t n_pairs, std::vector<int32_t> neighbors,
                std::vector<int64_t> counts, const std::vector<int32_t>& source, const std::string& path);

struct StoredGraph {
  int64_t n_items = 0, n_centers = 0;
  int32_t k = 0;
  std::vector<int32_t> neighbors, center_of;
  std::vector<int64_t> counts;
  ListOptions list;
};
StoredGraph ReadGraph(const std::string& path);

std::string CountOptionsText(const CountOptions& options);
CountOptions ParseCountOptions(const std::string& text);

void CheckStatus(int32_t status);                           // throws train::Error with the library's sentence
void Say(const Options& options, const std::string& text);  // a line on stderr

}  // namespace resembed::graph_tool
