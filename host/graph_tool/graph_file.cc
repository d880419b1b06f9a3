// SPDX-License-Identifier: Apache-2.0
// Counts to lists, weights and centers in graph.safetensors, and back.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "host/graph_tool/progress.h"
#include "host/graph_tool/tool.h"

namespace resembed::graph_tool {
namespace {

namespace fs = std::filesystem;
using train::Error;

resembed_tensor Tensor(const char* name, resembed_dtype dtype, int64_t rows, int64_t columns,
                       const void* data) {
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.n_dims = columns > 0 ? 2 : 1;
  tensor.shape[0] = rows;
  tensor.shape[1] = columns;
  tensor.data = data;
  return tensor;
}

std::string ListOptionsText(const ListOptions& options) {
  return nlohmann::ordered_json{
      {"neighbors", options.neighbors},     {"min_count", options.min_count},
      {"popularity", options.popularity},   {"self_loop", options.self_loop},
      {"symmetry", options.symmetry},       {"two_hop", options.two_hop},
      {"resolution", options.resolution},   {"max_center_items", options.max_center_items},
      {"max_centers", options.max_centers}, {"cold_center", options.cold_center}}
      .dump();
}

ListOptions ParseListOptions(const std::string& text) {
  ListOptions options;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return options;
  options.neighbors = json.value("neighbors", options.neighbors);
  options.min_count = json.value("min_count", options.min_count);
  options.popularity = json.value("popularity", options.popularity);
  options.self_loop = json.value("self_loop", options.self_loop);
  options.symmetry = json.value("symmetry", options.symmetry);
  options.two_hop = json.value("two_hop", options.two_hop);
  options.resolution = json.value("resolution", options.resolution);
  options.max_center_items = json.value("max_center_items", options.max_center_items);
  options.max_centers = json.value("max_centers", options.max_centers);
  options.cold_center = json.value("cold_center", options.cold_center);
  return options;
}

// What the command line does not name stays as the old graph has it.
ListOptions Merge(const Options& options, const ListOptions& old) {
  ListOptions merged = old;
  for (const std::string& name : options.named) {
    if (name == "--neighbors") merged.neighbors = options.list.neighbors;
    if (name == "--min-count") merged.min_count = options.list.min_count;
    if (name == "--popularity") merged.popularity = options.list.popularity;
    if (name == "--self-loop") merged.self_loop = options.list.self_loop;
    if (name == "--symmetrize") merged.symmetry = options.list.symmetry;
    if (name == "--two-hop") merged.two_hop = options.list.two_hop;
    if (name == "--resolution") merged.resolution = options.list.resolution;
    if (name == "--max-center-items") merged.max_center_items = options.list.max_center_items;
    if (name == "--max-centers") merged.max_centers = options.list.max_centers;
    if (name == "--cold-center") merged.cold_center = options.list.cold_center;
  }
  return merged;
}

// Old center of each item of the new numbering.
std::vector<int32_t> OldCenters(const StoredGraph& old, const std::vector<int32_t>& source) {
  std::vector<int32_t> centers(source.size(), -1);
  for (size_t row = 0; row < source.size(); ++row) {
    if (source[row] >= 0) centers[row] = old.center_of.at(static_cast<size_t>(source[row]));
  }
  return centers;
}

template <typename T>
std::vector<T> ReadTensor(resembed_file* file, const char* name, resembed_dtype dtype, int64_t rows,
                          int64_t columns) {
  int32_t index = -1;
  CheckStatus(resembed_file_find(file, name, &index));
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  if (index >= 0) CheckStatus(resembed_file_tensor(file, index, &tensor));
  const bool right = index >= 0 && tensor.dtype == dtype && tensor.n_dims == (columns > 0 ? 2 : 1) &&
                     tensor.shape[0] == rows && (columns == 0 || tensor.shape[1] == columns);
  if (!right) throw Error{std::string("graph.safetensors: needs the tensor ") + name};
  std::vector<T> data(static_cast<size_t>(rows * std::max<int64_t>(1, columns)));
  CheckStatus(resembed_file_read(file, index, data.data(), 0, data.size() * sizeof(T)));
  return data;
}

}  // namespace

StoredGraph ReadGraph(const std::string& path) {
  resembed_file* raw = nullptr;
  CheckStatus(resembed_file_open(path.c_str(), &raw));
  const std::unique_ptr<resembed_file, void (*)(resembed_file*)> file(raw, resembed_file_close);
  int32_t index = -1;
  CheckStatus(resembed_file_find(raw, "neighbors", &index));
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  if (index >= 0) CheckStatus(resembed_file_tensor(raw, index, &tensor));
  if (index < 0 || tensor.n_dims != 2) throw Error{path + ": has no neighbors [n_items, k]"};
  StoredGraph graph;
  graph.n_items = tensor.shape[0];
  graph.k = static_cast<int32_t>(tensor.shape[1]);
  graph.neighbors = ReadTensor<int32_t>(raw, "neighbors", RESEMBED_I32, graph.n_items, graph.k);
  graph.counts = ReadTensor<int64_t>(raw, "counts", RESEMBED_I64, graph.n_items, graph.k);
  graph.center_of = ReadTensor<int32_t>(raw, "center_of", RESEMBED_I32, graph.n_items, 0);
  for (const int32_t center : graph.center_of)
    graph.n_centers = std::max<int64_t>(graph.n_centers, center + 1);
  const char* options = nullptr;
  CheckStatus(resembed_file_metadata(raw, "options", &options));
  if (options != nullptr) graph.list = ParseListOptions(options);
  return graph;
}

void WriteGraph(resembed_covisit* counts, const Options& given, int64_t n_items, int64_t n_pairs,
                const std::vector<int32_t>& source, const std::string& path) {
  Options options = given;
  const std::string old = (fs::path(options.state) / "graph.safetensors").string();
  if (!source.empty()) options.list = Merge(given, ReadGraph(old).list);
  const ListOptions& list = options.list;
  resembed_graph_options graph = {};
  graph.struct_size = sizeof(graph);
  graph.k = list.neighbors;
  graph.min_count = list.min_count;
  graph.popularity = list.popularity;
  graph.self_loop = list.self_loop;
  std::vector<int32_t> neighbors(static_cast<size_t>(n_items * list.neighbors));
  std::vector<int64_t> values(neighbors.size());
  {
    const Stage stage(options, "lists of " + std::to_string(n_items) + " items");
    CheckStatus(resembed_covisit_graph(counts, &graph, neighbors.data(), values.data()));
  }
  WriteLists(options, n_items, n_pairs, std::move(neighbors), std::move(values), source, path);
}

void WriteLists(const Options& options, int64_t n_items, int64_t n_pairs, std::vector<int32_t> neighbors,
                std::vector<int64_t> counts, const std::vector<int32_t>& source, const std::string& path) {
  const ListOptions& list = options.list;
  const int32_t k = list.neighbors;
  if (!list.symmetry.empty()) {
    std::vector<int32_t> symmetric(neighbors.size());
    std::vector<int64_t> values(counts.size());
    int64_t n_cut = 0;
    CheckStatus(
        resembed_graph_symmetrize(neighbors.data(), counts.data(), n_items, k,
                                  list.symmetry == "mutual" ? RESEMBED_GRAPH_MUTUAL : RESEMBED_GRAPH_UNION, k,
                                  symmetric.data(), values.data(), &n_cut));
    if (n_cut > 0)
      Say(options,
          std::to_string(n_cut) + " edges of the union did not fit into " + std::to_string(k) + " neighbors");
    neighbors.swap(symmetric);
    counts.swap(values);
  }
  std::vector<float> gcn(neighbors.size());
  CheckStatus(
      resembed_graph_weights(neighbors.data(), counts.data(), n_items, k, RESEMBED_GRAPH_GCN, gcn.data()));
  resembed_graph_assign_options assign = {};
  assign.struct_size = sizeof(assign);
  assign.max_center_items = list.max_center_items;
  assign.max_centers = list.max_centers;
  assign.resolution = static_cast<float>(list.resolution);
  assign.cold_center = list.cold_center ? 1 : 0;
  std::vector<int32_t> center_of(static_cast<size_t>(n_items));
  int64_t n_centers = 0;
  {
    const Stage stage(options, "centers of " + std::to_string(n_items) + " items");
    CheckStatus(resembed_graph_assign(neighbors.data(), counts.data(), n_items, k, &assign, center_of.data(),
                                      &n_centers));
  }
  Say(options, std::to_string(n_centers) + " centers");

  std::vector<resembed_tensor> tensors = {Tensor("neighbors", RESEMBED_I32, n_items, k, neighbors.data()),
                                          Tensor("counts", RESEMBED_I64, n_items, k, counts.data()),
                                          Tensor("gcn_weights", RESEMBED_F32, n_items, k, gcn.data()),
                                          Tensor("center_of", RESEMBED_I32, n_items, 0, center_of.data())};
  std::vector<int32_t> two_hop, center_source;
  std::vector<float> two_hop_weights;
  if (list.two_hop) {
    two_hop.resize(neighbors.size());
    two_hop_weights.resize(neighbors.size());
    const Stage stage(options, "two hops");
    CheckStatus(resembed_graph_two_hop(neighbors.data(), gcn.data(), n_items, k, 0, k, two_hop.data(),
                                       two_hop_weights.data()));
    tensors.push_back(Tensor("two_hop_neighbors", RESEMBED_I32, n_items, k, two_hop.data()));
    tensors.push_back(Tensor("two_hop_weights", RESEMBED_F32, n_items, k, two_hop_weights.data()));
  }
  if (!source.empty()) {
    const StoredGraph old = ReadGraph((fs::path(options.state) / "graph.safetensors").string());
    center_source.resize(static_cast<size_t>(n_centers));
    const std::vector<int32_t> old_centers = OldCenters(old, source);
    CheckStatus(resembed_graph_match_centers(old_centers.data(), old.n_centers, center_of.data(), n_centers,
                                             n_items, center_source.data()));
    tensors.push_back(Tensor("source", RESEMBED_I32, n_items, 0, source.data()));
    tensors.push_back(Tensor("center_source", RESEMBED_I32, n_centers, 0, center_source.data()));
  }
  std::vector<const resembed_tensor*> pointers;
  pointers.reserve(tensors.size());
  for (const resembed_tensor& tensor : tensors) pointers.push_back(&tensor);
  const std::string text = ListOptionsText(list), centers = std::to_string(n_centers),
                    window = std::to_string(options.count.window), pairs = std::to_string(n_pairs);
  // An imported graph is of unknown window and pairs.
  const char* metadata[] = {"options", text.c_str(),   "centers", centers.c_str(),
                            "window",  window.c_str(), "pairs",   pairs.c_str()};
  CheckStatus(resembed_save(path.c_str(), pointers.data(), static_cast<int32_t>(pointers.size()), metadata,
                            n_pairs < 0 ? 2 : 4));
}

}  // namespace resembed::graph_tool
