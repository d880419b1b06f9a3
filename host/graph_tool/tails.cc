// SPDX-License-Identifier: Apache-2.0
#include "host/graph_tool/tails.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "host/train/log.h"
#include "host/train/names.h"

namespace resembed::graph_tool {

using train::Error;
using train::Escape;
using train::Unescape;
using train::WriteText;

// user <tab> item row ... <tab> time ... (times only with a session gap) [<tab> waits]
Tails ReadTails(const std::string& path, const std::vector<int32_t>& new_row) {
  Tails tails;
  std::ifstream file(path, std::ios::binary);
  std::string line;
  if (!std::getline(file, line)) throw Error{path + ": cannot be read"};
  while (std::getline(file, line)) {
    const size_t first = line.find('\t');
    const size_t second = first == std::string::npos ? first : line.find('\t', first + 1);
    if (second == std::string::npos)
      throw Error{path + ": needs user, items and times; has " + line.substr(0, 80)};
    const size_t third = std::min(line.find('\t', second + 1), line.size());
    Tail tail;
    tail.waits = third < line.size();
    std::istringstream items(line.substr(first + 1, second - first - 1)),
        times(line.substr(second + 1, third - second - 1));
    for (int64_t time; times >> time;) tail.times.push_back(time);
    size_t n_read = 0;
    std::vector<int64_t> kept;
    for (int64_t item; items >> item; ++n_read) {
      if (item < 0 || static_cast<size_t>(item) >= new_row.size())
        throw Error{path + ": item " + std::to_string(item) + " is not in items.tsv"};
      const int32_t row = new_row[static_cast<size_t>(item)];
      if (row < 0) continue;  // removed: its place is as if it had never been
      tail.items.push_back(row);
      if (n_read < tail.times.size()) kept.push_back(tail.times[n_read]);
    }
    tail.times = std::move(kept);
    tails[Unescape(std::string_view(line).substr(0, first))] = std::move(tail);
  }
  return tails;
}

void WriteTails(const Tails& tails, const std::string& path) {
  std::vector<const Tails::value_type*> sorted;
  for (const auto& entry : tails) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  std::string text = "user\titems\ttimes\n";
  for (const auto* entry : sorted) {
    text += Escape(entry->first) + "\t";
    for (const int32_t item : entry->second.items) text += std::to_string(item) + " ";
    text += "\t";
    for (const int64_t time : entry->second.times) text += std::to_string(time) + " ";
    text += entry->second.waits ? "\twaits\n" : "\n";
  }
  WriteText(path, text);
}

}  // namespace resembed::graph_tool
