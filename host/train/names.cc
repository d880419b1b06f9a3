// SPDX-License-Identifier: Apache-2.0
#include "host/train/names.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include "host/train/log.h"
#include "host/train/read_lines.h"

namespace resembed::train {

std::string Escape(std::string_view name) {
  std::string text;
  for (const char c : name) {
    switch (c) {
      case '\t':
        text += "\\t";
        break;
      case '\n':
        text += "\\n";
        break;
      case '\r':
        text += "\\r";
        break;
      case '\\':
        text += "\\\\";
        break;
      default:
        text += c;
    }
  }
  return text;
}

std::string Unescape(std::string_view text) {
  std::string name;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\\' || at + 1 == text.size()) {
      name += text[at];
      continue;
    }
    const char c = text[++at];
    name += c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c;
  }
  return name;
}

ItemNames::ItemNames(std::vector<std::string> names) : names_(std::move(names)) {
  for (size_t row = 0; row < names_.size(); ++row) {
    if (!rows_.emplace(names_[row], static_cast<int32_t>(row)).second) {
      throw Error{"item \"" + names_[row] + "\" is named twice; needs each item once"};
    }
  }
}

int32_t ItemNames::Find(const std::string& name) const {
  const auto found = rows_.find(name);
  return found == rows_.end() ? -1 : found->second;
}

int32_t ItemNames::FindOrAdd(const std::string& name) {
  const auto [at, is_new] = rows_.emplace(name, static_cast<int32_t>(names_.size()));
  if (is_new) names_.push_back(name);
  return at->second;
}

ItemNames ReadItems(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  if (!std::getline(file, line))
    throw Error{path + ": cannot be read, or is empty; needs lines of row and item"};
  std::vector<std::string> names;
  while (std::getline(file, line)) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos || line.substr(0, tab) != std::to_string(names.size())) {
      throw Error{path + ":" + std::to_string(names.size() + 2) + ": needs row " +
                  std::to_string(names.size()) + ", a tab and the item"};
    }
    names.push_back(Unescape(std::string_view(line).substr(tab + 1)));
  }
  return ItemNames(std::move(names));
}

std::string ItemsTable(const std::vector<std::string>& names) {
  std::string text = "row\titem\n";
  for (size_t row = 0; row < names.size(); ++row) {
    text += std::to_string(row) + "\t" + Escape(names[row]) + "\n";
  }
  return text;
}

void WriteItems(const ItemNames& items, const std::string& path) { WriteText(path, ItemsTable(items.all())); }

void WriteFile(const std::string& path, const std::function<void(std::ostream&)>& write) {
  const std::string partial = path + ".part";
  {
    std::ofstream file(partial, std::ios::binary);
    write(file);
    file.close();
    if (!file) throw Error{path + ": cannot be written"};
  }
  std::error_code error;
  std::filesystem::rename(partial, path, error);
  if (error) throw Error{path + ": cannot be written (" + error.message() + ")"};
}

void WriteText(const std::string& path, const std::string& text) {
  WriteFile(path, [&text](std::ostream& file) { file << text; });
}

}  // namespace resembed::train
