// SPDX-License-Identifier: Apache-2.0
#include "host/train/graph.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "resembed/resembed.h"

namespace resembed::train {

InterestGraph BuildGraph(const Log& log, const Split& split, int window, int k, double resolution,
                         const PairBudget& budget) {
  const auto start = std::chrono::steady_clock::now();
  InterestGraph graph;
  graph.window = window;
  graph.k = k;
  const CovisitPointer covisit = CountPairs(log, split, window, nullptr, budget);
  const size_t cells = static_cast<size_t>(log.n_items()) * static_cast<size_t>(k);
  graph.neighbors.resize(cells);
  graph.counts.resize(cells);
  graph.gcn.resize(cells);
  graph.center_of.resize(static_cast<size_t>(log.n_items()));
  CheckStatus(resembed_covisit_n_pairs(covisit.get(), &graph.n_pairs));
  CheckStatus(resembed_covisit_top_k(covisit.get(), k, graph.neighbors.data(), graph.counts.data()));
  CheckStatus(resembed_graph_weights(graph.neighbors.data(), graph.counts.data(), log.n_items(), k,
                                     RESEMBED_GRAPH_GCN, graph.gcn.data()));
  resembed_graph_assign_options assign = {};
  assign.struct_size = sizeof(assign);
  assign.resolution = static_cast<float>(resolution);
  CheckStatus(resembed_graph_assign(graph.neighbors.data(), graph.counts.data(), log.n_items(), k, &assign,
                                    graph.center_of.data(), &graph.n_centers));
  graph.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return graph;
}

void TakeTwoHops(InterestGraph* graph) {
  std::vector<int32_t> neighbors(graph->neighbors.size());
  std::vector<float> weights(neighbors.size());
  CheckStatus(resembed_graph_two_hop(graph->neighbors.data(), graph->gcn.data(),
                                     static_cast<int64_t>(graph->center_of.size()), graph->k, 0, graph->k,
                                     neighbors.data(), weights.data()));
  graph->neighbors = std::move(neighbors);
  graph->gcn = std::move(weights);
  graph->counts.clear();
  graph->two_hop = true;
}

namespace {

template <typename T>
std::vector<T> ReadTensor(resembed_file* file, const std::string& path, const char* name,
                          resembed_dtype dtype, int64_t rows, int64_t columns) {
  int32_t index = -1;
  CheckStatus(resembed_file_find(file, name, &index));
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  if (index >= 0) CheckStatus(resembed_file_tensor(file, index, &tensor));
  if (index < 0 || tensor.dtype != dtype || tensor.n_dims != (columns > 0 ? 2 : 1) ||
      tensor.shape[0] != rows || (columns > 0 && tensor.shape[1] != columns)) {
    throw Error{path + ": needs the tensor " + name + " for the " + std::to_string(rows) +
                " items of the log"};
  }
  std::vector<T> data(static_cast<size_t>(rows * std::max<int64_t>(1, columns)));
  CheckStatus(resembed_file_read(file, index, data.data(), 0, data.size() * sizeof(T)));
  return data;
}

// A number in the metadata; -1 where the file has none.
int64_t ReadNumber(resembed_file* file, const std::string& path, const char* key) {
  const char* text = nullptr;
  CheckStatus(resembed_file_metadata(file, key, &text));
  if (text == nullptr) return -1;
  char* end = nullptr;
  errno = 0;
  const int64_t number = std::strtoll(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || number < 0)
    throw Error{path + ": " + key + " is \"" + text + "\"; needs a number >= 0"};
  return number;
}

}  // namespace

InterestGraph LoadGraph(const Log& log, const std::string& path) {
  resembed_file* raw = nullptr;
  CheckStatus(resembed_file_open(path.c_str(), &raw));
  const std::unique_ptr<resembed_file, void (*)(resembed_file*)> file(raw, resembed_file_close);
  int32_t index = -1;
  CheckStatus(resembed_file_find(raw, "neighbors", &index));
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  if (index >= 0) CheckStatus(resembed_file_tensor(raw, index, &tensor));
  if (index < 0 || tensor.n_dims != 2 || tensor.shape[1] < 1 || tensor.shape[1] > RESEMBED_MAX_NEIGHBORS) {
    throw Error{path + ": needs the tensor neighbors [n_items, 1 .. 64]"};
  }
  InterestGraph graph;
  graph.window = static_cast<int32_t>(std::min<int64_t>(ReadNumber(raw, path, "window"), INT32_MAX));
  graph.n_pairs = ReadNumber(raw, path, "pairs");
  graph.k = static_cast<int>(tensor.shape[1]);
  graph.neighbors = ReadTensor<int32_t>(raw, path, "neighbors", RESEMBED_I32, log.n_items(), graph.k);
  graph.counts = ReadTensor<int64_t>(raw, path, "counts", RESEMBED_I64, log.n_items(), graph.k);
  graph.gcn = ReadTensor<float>(raw, path, "gcn_weights", RESEMBED_F32, log.n_items(), graph.k);
  graph.center_of = ReadTensor<int32_t>(raw, path, "center_of", RESEMBED_I32, log.n_items(), 0);
  std::vector<float> weights(graph.gcn.size());  // for the check of the lists
  CheckStatus(resembed_graph_weights(graph.neighbors.data(), graph.counts.data(), log.n_items(), graph.k,
                                     RESEMBED_GRAPH_GCN, weights.data()));
  for (const int32_t center : graph.center_of) {
    if (center < -1 || center >= log.n_items())
      throw Error{path + ": center_of has " + std::to_string(center)};
    graph.n_centers = std::max<int64_t>(graph.n_centers, center + 1);
  }
  return graph;
}

uint64_t HashGraph(const InterestGraph& graph) {
  uint64_t hash = 1469598103934665603u;
  const auto mix = [&hash](uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
  mix(static_cast<uint64_t>(graph.k));
  for (const int32_t neighbor : graph.neighbors) mix(static_cast<uint32_t>(neighbor));
  for (const float weight : graph.gcn) {
    uint32_t bits;
    std::memcpy(&bits, &weight, sizeof(bits));
    mix(bits);
  }
  for (const int32_t center : graph.center_of) mix(static_cast<uint32_t>(center));
  return hash;
}

void SaveGraph(const InterestGraph& graph, const Log& log, const std::string& path) {
  const auto tensor = [](const char* name, resembed_dtype dtype, int64_t rows, int64_t cols,
                         const void* data) {
    resembed_tensor t = {};
    t.struct_size = sizeof(t);
    t.name = name;
    t.dtype = dtype;
    t.n_dims = cols > 0 ? 2 : 1;
    t.shape[0] = rows;
    t.shape[1] = cols;
    t.data = data;
    return t;
  };
  const resembed_tensor tensors[] = {
      tensor("neighbors", RESEMBED_I32, log.n_items(), graph.k, graph.neighbors.data()),
      tensor("gcn_weights", RESEMBED_F32, log.n_items(), graph.k, graph.gcn.data()),
      tensor("center_of", RESEMBED_I32, log.n_items(), 0, graph.center_of.data()),
      tensor("counts", RESEMBED_I64, log.n_items(), graph.k, graph.counts.data()),
  };
  const resembed_tensor* pointers[] = {&tensors[0], &tensors[1], &tensors[2], &tensors[3]};
  std::vector<std::pair<const char*, std::string>> facts = {{"neighbors", std::to_string(graph.k)},
                                                            {"centers", std::to_string(graph.n_centers)}};
  if (graph.window >= 0) facts.emplace_back("window", std::to_string(graph.window));
  if (graph.n_pairs >= 0) facts.emplace_back("pairs", std::to_string(graph.n_pairs));
  if (graph.two_hop) facts.emplace_back("two_hop", "1");
  std::vector<const char*> metadata;
  for (const auto& [key, value] : facts) {
    metadata.push_back(key);
    metadata.push_back(value.c_str());
  }
  CheckStatus(resembed_save(path.c_str(), pointers, graph.two_hop ? 3 : 4, metadata.data(),
                            static_cast<int32_t>(facts.size())));
}

Partition MakePartition(const Log& log, const InterestGraph& graph, const TrainingView& view) {
  Partition partition;
  partition.generated = !log.interest_of.empty();
  const std::vector<int32_t>& source = partition.generated ? log.interest_of : graph.center_of;
  partition.interest_of.assign(source.size(), -1);
  for (const int32_t item : view.candidates) {
    partition.interest_of[static_cast<size_t>(item)] = source[static_cast<size_t>(item)];
    partition.n_interests = std::max<int64_t>(partition.n_interests, source[static_cast<size_t>(item)] + 1);
  }
  return partition;
}

}  // namespace resembed::train
