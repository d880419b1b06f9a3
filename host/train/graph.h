// SPDX-License-Identifier: Apache-2.0
// The interest graph of the training users, and the partition by which envelope radii are reported.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/count_pairs.h"
#include "host/train/eval.h"
#include "host/train/log.h"
#include "host/train/own_lists.h"

namespace resembed::train {

// Lies in a folder of resembed-graph while its files are being replaced.
inline constexpr char kReplacingFile[] = "replacing.txt";

struct InterestGraph {
  int32_t window = -1, k = 0;      // window -1: the graph does not say
  std::vector<int32_t> neighbors;  // [n_items, k], -1 ends a list
  std::vector<int64_t> counts;     // [n_items, k]
  std::vector<float> gcn;          // [n_items, k]
  std::vector<int32_t> center_of;  // [n_items], -1 = none
  int64_t n_centers = 0;
  int64_t n_pairs = -1;  // distinct pairs that were counted; -1: the graph does not say
  double seconds = 0;
  bool two_hop = false;
  OwnLists own;  // empty: everybody sees the same lists
};
InterestGraph BuildGraph(const Log& log, const Split& split, int window, int k, double resolution,
                         const PairBudget& budget = {});
// Puts the k largest weights of two GCN hops, and their items, in the place of the lists; they have no counts.
void TakeTwoHops(InterestGraph* graph);
// graph.safetensors of resembed-graph, made from the same log. Throws Error.
InterestGraph LoadGraph(const Log& log, const std::string& path);
// Of what a model sees of the graph: neighbors, GCN weights, centers.
uint64_t HashGraph(const InterestGraph& graph);
// Without the users' own lists; two-hop lists without counts.
void SaveGraph(const InterestGraph& graph, const Log& log, const std::string& path);

// Groups of items for the envelope: the true interests of a generated log, else the graph's centers. Items
// that training users never touched are left out (-1).
struct Partition {
  std::vector<int32_t> interest_of;
  int64_t n_interests = 0;
  bool generated = false;
};
Partition MakePartition(const Log& log, const InterestGraph& graph, const TrainingView& view);

}  // namespace resembed::train
