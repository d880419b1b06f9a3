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

// A table with a header: .tsv or .csv, plain or .gz. columns: "item=sku,name=title,group=family", each of which may be
// left out. Then the item is the first column; the name the one called name, title or description, else the first that
// is neither item nor group; the group the one called group or category, or there is none. Throws Error: a column that
// is not there, a line without an item, an item twice.
Catalog ReadCatalog(const std::string& path, const std::string& columns);

}  // namespace resembed::train
