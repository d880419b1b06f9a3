// SPDX-License-Identifier: Apache-2.0
// What a graph looks like, and its edges as rows of text.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>

#include "host/graph_tool/replace.h"
#include "host/graph_tool/tool.h"
#include "host/train/read_lines.h"

namespace resembed::graph_tool {
namespace {

namespace fs = std::filesystem;
using train::Error;

std::string GraphPath(const Options& options) {
  return (fs::path(options.state) / "graph.safetensors").string();
}
std::string ItemsPath(const Options& options) { return (fs::path(options.state) / "items.tsv").string(); }

int32_t Degree(const StoredGraph& graph, int64_t item) {
  int32_t n = 0;
  while (n < graph.k && graph.neighbors[static_cast<size_t>(item * graph.k + n)] >= 0) ++n;
  return n;
}

// Smallest value that a share of the sorted ones does not pass.
int64_t Quantile(const std::vector<int64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
}

using Titles = std::map<std::string, std::string>;  // what the second column says of the item in the first

Titles ReadTitles(const std::string& path) {
  Titles titles;
  train::RecordReader reader(path);
  std::vector<std::string_view> fields;
  while (reader.Next(&fields)) {
    if (fields.size() < 2) reader.Fail("has one field; needs an item and its name");
    titles.emplace(fields[0], fields[1]);
  }
  return titles;
}

std::string WithTitle(const std::string& item, const Titles& titles) {
  const auto found = titles.find(item);
  return found == titles.end() ? item : item + "  " + found->second;
}

void PrintNeighbors(const StoredGraph& graph, const ItemNames& items, const Titles& titles,
                    const std::string& name) {
  const int32_t item = items.Find(name);
  if (item < 0) throw Error{"item " + name + " is not in items.tsv"};
  std::printf("\n%s (row %d, center %d)\n", WithTitle(name, titles).c_str(), item,
              graph.center_of[static_cast<size_t>(item)]);
  for (int32_t slot = 0; slot < Degree(graph, item); ++slot) {
    const auto at = static_cast<size_t>(int64_t{item} * graph.k + slot);
    std::printf("  %10lld  %s\n", static_cast<long long>(graph.counts[at]),
                WithTitle(items.Name(graph.neighbors[at]), titles).c_str());
  }
}

int64_t ParseCount(train::RecordReader* reader, std::string_view text) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size()) {
    reader->Fail(
        "the weight \"" + std::string(text.substr(0, 80)) +
        "\" is no whole number; needs one > 0 (scale real weights: a common factor changes nothing)");
  }
  return count;
}

}  // namespace

void Inspect(const Options& options) {
  RestoreFolder(options.state);
  const StoredGraph graph = ReadGraph(GraphPath(options));
  const ItemNames items = ReadItems(ItemsPath(options));
  if (items.size() != graph.n_items)
    throw Error{options.state + ": items.tsv and graph.safetensors differ in length"};
  std::vector<int64_t> out_degree(static_cast<size_t>(graph.k) + 1, 0),
      in_degree(static_cast<size_t>(graph.n_items), 0);
  int64_t n_edges = 0, n_one_way = 0, n_full = 0, n_tied = 0;
  for (int64_t item = 0; item < graph.n_items; ++item) {
    const int32_t degree = Degree(graph, item);
    ++out_degree[static_cast<size_t>(degree)];
    const auto row = static_cast<size_t>(item * graph.k);
    for (int32_t slot = 0; slot < degree; ++slot) {
      const int64_t other = graph.neighbors[row + static_cast<size_t>(slot)];
      ++in_degree[static_cast<size_t>(other)];
      ++n_edges;
      const auto back = graph.neighbors.begin() + other * graph.k;
      if (std::find(back, back + graph.k, static_cast<int32_t>(item)) == back + graph.k) ++n_one_way;
    }
    if (degree == graph.k && graph.k > 1) {
      ++n_full;
      n_tied += graph.counts[row + static_cast<size_t>(graph.k) - 1] ==
                graph.counts[row + static_cast<size_t>(graph.k) - 2];
    }
  }
  std::printf("%lld items, %lld edges, K %d, %lld centers\n", static_cast<long long>(graph.n_items),
              static_cast<long long>(n_edges), graph.k, static_cast<long long>(graph.n_centers));
  std::printf("\nneighbors  items\n");
  for (size_t degree = 0; degree < out_degree.size(); ++degree) {
    if (out_degree[degree] > 0)
      std::printf("%9zu  %lld\n", degree, static_cast<long long>(out_degree[degree]));
  }
  std::sort(in_degree.begin(), in_degree.end());
  std::printf("\nin lists of others: median %lld, 99 %% %lld, most %lld\n",
              static_cast<long long>(Quantile(in_degree, 0.5)),
              static_cast<long long>(Quantile(in_degree, 0.99)),
              static_cast<long long>(Quantile(in_degree, 1)));
  std::printf("one-way edges: %.1f %%\n",
              n_edges > 0 ? 100.0 * static_cast<double>(n_one_way) / static_cast<double>(n_edges) : 0.0);
  std::printf("full lists whose last two counts tie: %.1f %%\n",
              n_full > 0 ? 100.0 * static_cast<double>(n_tied) / static_cast<double>(n_full) : 0.0);
  std::vector<int64_t> sizes(static_cast<size_t>(graph.n_centers), 0);
  int64_t n_cold = 0;
  for (const int32_t center : graph.center_of) {
    if (center >= 0) ++sizes[static_cast<size_t>(center)];
    n_cold += center < 0;
  }
  std::sort(sizes.begin(), sizes.end());
  std::printf("items of a center: median %lld, most %lld; items without one: %lld\n",
              static_cast<long long>(Quantile(sizes, 0.5)), static_cast<long long>(Quantile(sizes, 1)),
              static_cast<long long>(n_cold));
  const Titles titles = options.names.empty() ? Titles() : ReadTitles(options.names);
  for (const std::string& name : options.items) PrintNeighbors(graph, items, titles, name);
}

void Export(const Options& options) {
  RestoreFolder(options.state);
  const StoredGraph graph = ReadGraph(GraphPath(options));
  const ItemNames items = ReadItems(ItemsPath(options));
  if (items.size() != graph.n_items)
    throw Error{options.state + ": items.tsv and graph.safetensors differ in length"};
  std::string text = "item\tneighbor\tweight\n";
  for (int64_t item = 0; item < graph.n_items; ++item) {
    for (int32_t slot = 0; slot < Degree(graph, item); ++slot) {
      const auto at = static_cast<size_t>(item * graph.k + slot);
      text += Escape(items.Name(item)) + "\t" + Escape(items.Name(graph.neighbors[at])) + "\t" +
              std::to_string(graph.counts[at]) + "\n";
    }
  }
  WriteText(options.edges, text);
}

void Import(const Options& options) {
  Replacement folder(options.out);
  // Rows of a known items file stay; other items are numbered in order of first appearance.
  ItemNames items;
  if (!options.items.empty()) items = ReadItems(options.items.front());
  const bool fixed = !options.items.empty();
  train::RecordReader reader(options.edges);
  std::vector<std::string_view> fields;
  std::vector<int32_t> from, to;
  std::vector<int64_t> counts;
  for (bool first = true; reader.Next(&fields); first = false) {
    if (fields.size() < 3)
      reader.Fail("has " + std::to_string(fields.size()) + " fields; needs item, neighbor, weight");
    if (first && fields[0] == "item" && fields[1] == "neighbor") continue;
    int32_t rows[2];
    for (size_t side = 0; side < 2; ++side) {
      const std::string name = Unescape(fields[side]);
      rows[side] = fixed ? items.Find(name) : items.FindOrAdd(name);
      if (rows[side] < 0) reader.Fail("item " + name + " is not in " + options.items.front());
    }
    from.push_back(rows[0]);
    to.push_back(rows[1]);
    counts.push_back(ParseCount(&reader, fields[2]));
  }
  if (from.empty()) throw Error{options.edges + ": no edges; needs lines of item, neighbor and weight"};
  std::vector<int32_t> neighbors(static_cast<size_t>(items.size() * options.list.neighbors));
  std::vector<int64_t> values(neighbors.size());
  CheckStatus(resembed_graph_from_edges(from.data(), to.data(), counts.data(),
                                        static_cast<int64_t>(from.size()), items.size(),
                                        options.list.neighbors, neighbors.data(), values.data()));
  WriteLists(options, items.size(), -1, std::move(neighbors), std::move(values), {},
             folder.Path("graph.safetensors"));
  WriteItems(items, folder.Path("items.tsv"));
  folder.Finish();
}

}  // namespace resembed::graph_tool
