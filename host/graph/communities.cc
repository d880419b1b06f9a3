// SPDX-License-Identifier: Apache-2.0
#include "host/graph/communities.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

namespace resembed::detail {
namespace {

// Real graphs settle in 10 to 20 passes; the cap only bounds the time of odd ones.
constexpr int kMaxPasses = 100;
// Gains below this share of a node's degree are rounding.
constexpr double kRelativeGain = 1e-12;

// Local moving over one level. community [n_nodes] goes in as the identity. True when a node has moved.
bool MoveNodes(const WeightedGraph& graph, double gamma, int64_t max_items, std::vector<int32_t>* community) {
  const auto n = static_cast<size_t>(graph.n_nodes());
  std::vector<double> degree(n), community_degree(n), weight_to(n, 0.0);
  std::vector<int64_t> community_items = graph.n_items;
  std::vector<char> awake(n, 1);
  std::vector<int32_t> touched;
  double total = 0;  // 2m
  for (size_t node = 0; node < n; ++node) {
    degree[node] = 2 * graph.inner[node];
    for (int64_t e = graph.offsets[node]; e < graph.offsets[node + 1]; ++e) {
      degree[node] += graph.weight[static_cast<size_t>(e)];
    }
    community_degree[node] = degree[node];
    total += degree[node];
  }
  bool ever_moved = false, moved = true;
  for (int pass = 0; pass < kMaxPasses && moved; ++pass) {
    moved = false;
    for (size_t node = 0; node < n; ++node) {
      if (!awake[node]) continue;
      awake[node] = 0;
      const int32_t old = (*community)[node];
      touched.clear();
      for (int64_t e = graph.offsets[node]; e < graph.offsets[node + 1]; ++e) {
        const int32_t other = (*community)[static_cast<size_t>(graph.to[static_cast<size_t>(e)])];
        double& weight = weight_to[static_cast<size_t>(other)];
        if (weight == 0) touched.push_back(other);
        weight += graph.weight[static_cast<size_t>(e)];
      }
      const double pull = gamma * degree[node] / total;
      const auto gain = [&](int32_t c) {
        const double rest = community_degree[static_cast<size_t>(c)] - (c == old ? degree[node] : 0.0);
        return weight_to[static_cast<size_t>(c)] - pull * rest;
      };
      const double stay = gain(old);
      int32_t best = old;
      double best_gain = stay + kRelativeGain * degree[node];
      for (const int32_t c : touched) {
        if (c == old || community_items[static_cast<size_t>(c)] + graph.n_items[node] > max_items) continue;
        const double candidate = gain(c);
        if (candidate > best_gain || (candidate == best_gain && best != old && c < best)) {
          best = c;
          best_gain = candidate;
        }
      }
      for (const int32_t c : touched) weight_to[static_cast<size_t>(c)] = 0;
      if (best == old) continue;
      community_degree[static_cast<size_t>(old)] -= degree[node];
      community_degree[static_cast<size_t>(best)] += degree[node];
      community_items[static_cast<size_t>(old)] -= graph.n_items[node];
      community_items[static_cast<size_t>(best)] += graph.n_items[node];
      (*community)[node] = best;
      for (int64_t e = graph.offsets[node]; e < graph.offsets[node + 1]; ++e) {
        const auto neighbor = static_cast<size_t>(graph.to[static_cast<size_t>(e)]);
        if ((*community)[neighbor] != best) awake[neighbor] = 1;
      }
      moved = ever_moved = true;
    }
  }
  return ever_moved;
}

// Numbers communities 0, 1, ... by their lowest node; returns how many there are.
int32_t Renumber(std::vector<int32_t>* community) {
  std::vector<int32_t> number(community->size(), -1);
  int32_t n = 0;
  for (int32_t& c : *community) {
    int32_t& mine = number[static_cast<size_t>(c)];
    if (mine < 0) mine = n++;
    c = mine;
  }
  return n;
}

// Communities become nodes; the weights between two communities are added up.
WeightedGraph Aggregate(const WeightedGraph& graph, const std::vector<int32_t>& community, int32_t n) {
  const auto n_coarse = static_cast<size_t>(n);
  std::vector<int64_t> begin(n_coarse + 1, 0);
  for (const int32_t c : community) ++begin[static_cast<size_t>(c) + 1];
  for (size_t c = 0; c < n_coarse; ++c) begin[c + 1] += begin[c];
  std::vector<int32_t> members(community.size());
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  for (size_t node = 0; node < community.size(); ++node) {
    members[static_cast<size_t>(next[static_cast<size_t>(community[node])]++)] = static_cast<int32_t>(node);
  }
  WeightedGraph coarse;
  coarse.offsets.assign(1, 0);
  coarse.inner.assign(n_coarse, 0.0);
  coarse.n_items.assign(n_coarse, 0);
  std::vector<double> weight_to(n_coarse, 0.0);
  std::vector<int32_t> touched;
  for (size_t c = 0; c < n_coarse; ++c) {
    touched.clear();
    double inside_twice = 0;
    for (int64_t m = begin[c]; m < begin[c + 1]; ++m) {
      const auto node = static_cast<size_t>(members[static_cast<size_t>(m)]);
      coarse.inner[c] += graph.inner[node];
      coarse.n_items[c] += graph.n_items[node];
      for (int64_t e = graph.offsets[node]; e < graph.offsets[node + 1]; ++e) {
        const double weight = graph.weight[static_cast<size_t>(e)];
        const auto other =
            static_cast<size_t>(community[static_cast<size_t>(graph.to[static_cast<size_t>(e)])]);
        if (other == c) {
          inside_twice += weight;
          continue;
        }
        if (weight_to[other] == 0) touched.push_back(static_cast<int32_t>(other));
        weight_to[other] += weight;
      }
    }
    coarse.inner[c] += inside_twice / 2;
    for (const int32_t other : touched) {
      coarse.to.push_back(other);
      coarse.weight.push_back(weight_to[static_cast<size_t>(other)]);
      weight_to[static_cast<size_t>(other)] = 0;
    }
    coarse.offsets.push_back(static_cast<int64_t>(coarse.to.size()));
  }
  return coarse;
}

std::vector<int32_t> Identity(int32_t n) {
  std::vector<int32_t> community(static_cast<size_t>(n));
  for (int32_t node = 0; node < n; ++node) community[static_cast<size_t>(node)] = node;
  return community;
}

// The state of MergeSmallest: communities of items, and the weight between any two of them.
class Merger {
 public:
  Merger(const WeightedGraph& graph, int64_t max_items, std::vector<int32_t>* community)
      : graph_(graph), max_items_(max_items), community_(*community) {
    const int32_t n = Renumber(community);
    links_.resize(static_cast<size_t>(n));
    members_.resize(static_cast<size_t>(n));
    for (size_t item = 0; item < community_.size(); ++item) {
      const int32_t own = community_[item];
      members_[static_cast<size_t>(own)].push_back(static_cast<int32_t>(item));
      for (int64_t e = graph.offsets[item]; e < graph.offsets[item + 1]; ++e) {
        const int32_t other = community_[static_cast<size_t>(graph.to[static_cast<size_t>(e)])];
        if (other != own) links_[static_cast<size_t>(own)][other] += graph.weight[static_cast<size_t>(e)];
      }
    }
    for (int32_t c = 0; c < n; ++c) by_size_.insert(Key(c));
  }

  int64_t n_communities() const { return static_cast<int64_t>(by_size_.size()); }

  void DissolveSmallest() {
    const int32_t smallest = by_size_.begin()->community;
    by_size_.erase(by_size_.begin());
    const int32_t target = Fits(Best(links_[static_cast<size_t>(smallest)], Size(smallest)), Size(smallest));
    if (target >= 0) {
      MergeInto(smallest, target);
    } else {
      Scatter(smallest);
    }
  }

 private:
  struct SizeKey {
    int64_t size;
    int32_t lowest;
    int32_t community;
    bool operator<(const SizeKey& other) const {
      return size != other.size ? size < other.size : lowest > other.lowest;
    }
  };
  using Links = std::unordered_map<int32_t, double>;

  int64_t Size(int32_t c) const { return static_cast<int64_t>(members_[static_cast<size_t>(c)].size()); }
  int32_t Lowest(int32_t c) const { return members_[static_cast<size_t>(c)].front(); }
  SizeKey Key(int32_t c) const { return {Size(c), Lowest(c), c}; }

  // The community of most weight with room for `size` items, or -1.
  int32_t Best(const Links& links, int64_t size) const {
    int32_t best = -1;
    double best_weight = 0;
    for (const auto& [other, weight] : links) {
      if (Size(other) + size > max_items_) continue;
      if (best < 0 || weight > best_weight || (weight == best_weight && Lowest(other) < Lowest(best))) {
        best = other;
        best_weight = weight;
      }
    }
    return best;
  }
  // `preferred`, or the smallest community when that is -1 and it has room.
  int32_t Fits(int32_t preferred, int64_t size) const {
    if (preferred >= 0) return preferred;
    const SizeKey& smallest = *by_size_.begin();
    return smallest.size + size <= max_items_ ? smallest.community : -1;
  }

  void Forget(int32_t gone) {
    for (const auto& link : links_[static_cast<size_t>(gone)])
      links_[static_cast<size_t>(link.first)].erase(gone);
    Links().swap(links_[static_cast<size_t>(gone)]);
    std::vector<int32_t>().swap(members_[static_cast<size_t>(gone)]);
  }
  void Link(int32_t a, int32_t b, double weight) {
    links_[static_cast<size_t>(a)][b] += weight;
    links_[static_cast<size_t>(b)][a] += weight;
  }

  void MergeInto(int32_t gone, int32_t target) {
    by_size_.erase(Key(target));
    for (const auto& [other, weight] : links_[static_cast<size_t>(gone)]) {
      if (other != target) Link(target, other, weight);
    }
    std::vector<int32_t>& items = members_[static_cast<size_t>(target)];
    for (const int32_t item : members_[static_cast<size_t>(gone)]) {
      community_[static_cast<size_t>(item)] = target;
      items.push_back(item);
    }
    // Only the lowest item has its place.
    std::swap(items.front(), *std::min_element(items.begin(), items.end()));
    Forget(gone);
    by_size_.insert(Key(target));
  }

  void Scatter(int32_t gone) {
    std::vector<int32_t> items = members_[static_cast<size_t>(gone)];
    std::sort(items.begin(), items.end());
    for (const int32_t item : items) {
      Links links;
      const auto row = static_cast<size_t>(item);
      for (int64_t e = graph_.offsets[row]; e < graph_.offsets[row + 1]; ++e) {
        const int32_t other = community_[static_cast<size_t>(graph_.to[static_cast<size_t>(e)])];
        if (other != gone) links[other] += graph_.weight[static_cast<size_t>(e)];
      }
      const int32_t target = Fits(Best(links, 1), 1);
      by_size_.erase(Key(target));
      community_[row] = target;
      std::vector<int32_t>& members = members_[static_cast<size_t>(target)];
      members.push_back(item);
      if (members.back() < members.front()) std::swap(members.back(), members.front());
      for (const auto& [other, weight] : links) {
        if (other != target) Link(target, other, weight);
      }
      by_size_.insert(Key(target));
    }
    Forget(gone);
  }

  const WeightedGraph& graph_;
  const int64_t max_items_;
  std::vector<int32_t>& community_;
  std::vector<Links> links_;                   // [communities] weight to each other community
  std::vector<std::vector<int32_t>> members_;  // [communities] lowest item first
  std::set<SizeKey> by_size_;
};

}  // namespace

std::vector<int32_t> Louvain(const WeightedGraph& items, double gamma, int64_t max_items) {
  std::vector<int32_t> community = Identity(items.n_nodes());
  WeightedGraph coarse;
  const WeightedGraph* level = &items;
  while (true) {
    std::vector<int32_t> of_node = Identity(level->n_nodes());
    if (!MoveNodes(*level, gamma, max_items, &of_node)) return community;
    const int32_t n = Renumber(&of_node);
    for (int32_t& c : community) c = of_node[static_cast<size_t>(c)];
    if (n == level->n_nodes()) return community;
    coarse = Aggregate(*level, of_node, n);
    level = &coarse;
  }
}

void MergeSmallest(const WeightedGraph& items, int64_t max_communities, int64_t max_items,
                   std::vector<int32_t>* community) {
  Merger merger(items, max_items, community);
  while (merger.n_communities() > max_communities) merger.DissolveSmallest();
}

}  // namespace resembed::detail
