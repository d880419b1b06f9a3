// SPDX-License-Identifier: Apache-2.0
#include "host/train/catalog.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "host/train/log.h"
#include "host/train/read_lines.h"

namespace resembed::train {

namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

size_t FindColumn(const std::vector<std::string_view>& header, std::string_view wanted) {
  for (size_t column = 0; column < header.size(); ++column) {
    const bool same =
        std::equal(header[column].begin(), header[column].end(), wanted.begin(), wanted.end(),
                   [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
    if (same) return column;
  }
  return kNone;
}

}  // namespace

const std::string& Catalog::NameOf(const std::string& item) const {
  static const std::string none;
  const auto found = row_of.find(item);
  return found == row_of.end() || names.empty() ? none : names[found->second];
}

Catalog ReadCatalog(const std::string& path) {
  RecordReader reader(path);
  std::vector<std::string_view> fields;
  if (!reader.Next(&fields))
    throw Error{path + ": the file is empty; needs a header and lines of item and name"};
  const size_t group = FindColumn(fields, "group");
  size_t name = FindColumn(fields, "name");
  for (size_t column = 1; name == kNone && column < fields.size(); ++column) {
    if (column != group) name = column;
  }
  if (group == 0 || name == 0)
    reader.Fail("the first column is called a group or a name; needs the item there");
  if (group == kNone && name == kNone) reader.Fail("has one column; needs item and name, or item and group");
  Catalog catalog;
  const auto field = [&](size_t column) {
    return column < fields.size() ? std::string(fields[column]) : std::string();
  };
  while (reader.Next(&fields)) {
    if (fields[0].empty()) reader.Fail("the item is empty");
    if (!catalog.row_of.emplace(fields[0], catalog.items.size()).second) {
      reader.Fail("item \"" + std::string(fields[0]) + "\" is named twice; needs each item once");
    }
    catalog.items.emplace_back(fields[0]);
    if (name != kNone) catalog.names.push_back(field(name));
    if (group != kNone) catalog.groups.push_back(field(group));
  }
  if (catalog.items.empty()) throw Error{path + ": no items; the file holds only its header"};
  return catalog;
}

}  // namespace resembed::train
