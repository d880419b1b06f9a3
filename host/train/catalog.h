// SPDX-License-Identifier: Apache-2.0
// What a user says about items: names, and groups by content.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace resembed::train {

struct Catalog {
  std::vector<std::string> items;   // [n] as in the log
  std::vector<std::string> names;   // [n] or empty; "" = none
  std::vector<std::string> groups;  // [n] or empty; "" = none
  std::unordered_map<std::string, size_t> row_of;

  // "" for an item without a name, or that is not here.
  const std::string& NameOf(const std::string& item) const;
};

// A table with a header: .tsv or .csv, plain or .gz. The first column is the item; the one called `group`, if any, its
// group; the one called `name`, else the second one that is not the group, its name. Throws Error: a line without an
// item, an item twice.
Catalog ReadCatalog(const std::string& path);

}  // namespace resembed::train
