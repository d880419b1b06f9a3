// SPDX-License-Identifier: Apache-2.0
// What of a user's events the next day needs.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace resembed::graph_tool {

struct Tail {
  std::vector<int32_t> items;
  std::vector<int64_t> times;  // empty without a session gap
  bool waits = false;          // all her events: too few so far for a training user, so none is counted yet
};
using Tails = std::unordered_map<std::string, Tail>;  // by user

// Items in the rows that new_row gives them; -1: the item is gone. Throws train::Error.
Tails ReadTails(const std::string& path, const std::vector<int32_t>& new_row);
// To `path`, sorted by user. Throws train::Error.
void WriteTails(const Tails& tails, const std::string& path);

}  // namespace resembed::graph_tool
