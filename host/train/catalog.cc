// SPDX-License-Identifier: Apache-2.0
#include "host/train/catalog.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>

#include "host/train/log.h"
#include "host/train/read_lines.h"

namespace resembed::train {

namespace {

using Header = std::vector<std::string_view>;

constexpr size_t kNone = static_cast<size_t>(-1);
constexpr char kRule[] = "needs item=NAME,name=NAME,group=NAME (each may be left out)";

// The first column called one of `names`, in their order; upper and lower case are the same.
size_t FindColumn(const Header& header, const std::vector<std::string_view>& names) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  for (const std::string_view name : names) {
    for (size_t column = 0; column < header.size(); ++column) {
      if (std::equal(header[column].begin(), header[column].end(), name.begin(), name.end(),
                     [&](char a, char b) { return lower(a) == lower(b); })) {
        return column;
      }
    }
  }
  return kNone;
}

struct CatalogColumns {
  size_t item, name, group;
};

CatalogColumns FindColumns(const Header& header, const std::string& option) {
  std::map<std::string, size_t> given;
  for (size_t begin = 0; begin < option.size();) {
    const size_t end = std::min(option.find(',', begin), option.size());
    const std::string part = option.substr(begin, end - begin), role = part.substr(0, part.find('='));
    if ((role != "item" && role != "name" && role != "group") || role.size() + 1 >= part.size() ||
        given.count(role) > 0) {
      throw Error{"--catalog-columns is \"" + option + "\"; " + kRule};
    }
    const std::string name = part.substr(role.size() + 1);
    given[role] = FindColumn(header, {name});
    if (given[role] == kNone) throw Error{"no column is called \"" + name + "\" (--catalog-columns)"};
    begin = end + 1;
  }
  CatalogColumns at = {0, kNone, kNone};
  if (given.count("item") > 0) at.item = given["item"];
  at.group = given.count("group") > 0 ? given["group"] : FindColumn(header, {"group", "category"});
  at.name = given.count("name") > 0 ? given["name"] : FindColumn(header, {"name", "title", "description"});
  for (size_t column = 0; at.name == kNone && column < header.size(); ++column) {
    if (column != at.item && column != at.group) at.name = column;
  }
  if (at.item == at.name || at.item == at.group || (at.name == at.group && at.name != kNone)) {
    throw Error{"one column is item and name or group; " + std::string(kRule) + " in --catalog-columns"};
  }
  if (at.name == kNone && at.group == kNone)
    throw Error{"has one column; needs item and name, or item and group"};
  return at;
}

}  // namespace

const std::string& Catalog::NameOf(const std::string& item) const {
  static const std::string none;
  const auto found = row_of.find(item);
  return found == row_of.end() || names.empty() ? none : names[found->second];
}

Catalog ReadCatalog(const std::string& path, const std::string& columns) {
  RecordReader reader(path);
  Header fields;
  if (!reader.Next(&fields))
    throw Error{path + ": the file is empty; needs a header and lines of item and name"};
  CatalogColumns at = {};
  try {
    at = FindColumns(fields, columns);
  } catch (const Error& error) {
    reader.Fail(error.message);
  }
  Catalog catalog;
  const auto field = [&](size_t column) {
    return column < fields.size() ? std::string(fields[column]) : std::string();
  };
  while (reader.Next(&fields)) {
    const std::string item = field(at.item);
    if (item.empty()) reader.Fail("the item is empty");
    if (!catalog.row_of.emplace(item, catalog.items.size()).second) {
      reader.Fail("item \"" + item + "\" is named twice; needs each item once");
    }
    catalog.items.push_back(item);
    if (at.name != kNone) catalog.names.push_back(field(at.name));
    if (at.group != kNone) catalog.groups.push_back(field(at.group));
  }
  if (catalog.items.empty()) throw Error{path + ": no items; the file holds only its header"};
  return catalog;
}

}  // namespace resembed::train
