// SPDX-License-Identifier: Apache-2.0
// Names in tab-separated files: tabs, line ends and backslashes are escaped.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace resembed::train {

std::string Escape(std::string_view name);
std::string Unescape(std::string_view text);

// Items by row, and back.
class ItemNames {
 public:
  ItemNames() = default;
  explicit ItemNames(std::vector<std::string> names);

  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  const std::vector<std::string>& all() const { return names_; }
  const std::string& Name(int64_t row) const { return names_[static_cast<size_t>(row)]; }
  int32_t Find(const std::string& name) const;  // -1: none
  int32_t FindOrAdd(const std::string& name);

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string, int32_t> rows_;
};

// items.tsv: "row <tab> item" lines below a header; rows 0, 1, 2, ... Throws Error.
ItemNames ReadItems(const std::string& path);
std::string ItemsTable(const std::vector<std::string>& names);
void WriteItems(const ItemNames& items, const std::string& path);

// Writes beside `path`, then renames. Throws Error.
void WriteFile(const std::string& path, const std::function<void(std::ostream&)>& write);
void WriteText(const std::string& path, const std::string& text);

}  // namespace resembed::train
