// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "host/train/metrics.h"
#include "host/train/variant.h"

namespace resembed::train {

namespace {

using Json = nlohmann::json;

// Six characters; "-" for null.
std::string Cell(const Json& row, const char* key) {
  const auto found = row.find(key);
  char text[32] = "     -";
  if (found != row.end() && !found->is_null()) {
    const double value = found->is_object() ? found->at("mean").get<double>() : found->get<double>();
    std::snprintf(text, sizeof(text), "%6.3f", value);
  }
  return text;
}

// "+.012 [.004, .020]" of a figure over plain.
std::string Over(const Json& row, const char* figure) {
  const auto over = row.find("over_plain");
  if (over == row.end() || over->is_null() || !over->contains(figure) || (*over)[figure].is_null()) return "";
  const Json& interval = (*over)[figure];
  if (interval["low"].is_null() || interval["high"].is_null()) return "";
  char text[64];
  std::snprintf(text, sizeof(text), "%+.3f [%+.3f, %+.3f]", interval["mean"].get<double>(),
                interval["low"].get<double>(), interval["high"].get<double>());
  return text;
}

void AppendRow(const std::string& name, const Json& row, bool model, std::string* text) {
  char line[320];
  std::snprintf(line, sizeof(line), "  %-18s %s %s %s %s %s", name.c_str(), Cell(row, "auc").c_str(),
                Cell(row, "auc_pop").c_str(), Cell(row, "hr20").c_str(), Cell(row, "hr20_new").c_str(),
                Cell(row, "hr20_repeat").c_str());
  *text += line;
  if (model) {
    std::snprintf(line, sizeof(line), " %s %s %s %7.1f%s %7.0f  %s", Cell(row, "logloss").c_str(),
                  Cell(row, "gap").c_str(), Cell(row, "ratio").c_str(), row["epochs"].get<double>(),
                  row["capped"].get<bool>() ? "*" : " ", row["seconds"]["mean"].get<double>(),
                  Over(row, "auc").c_str());
    *text += line;
  }
  *text += "\n";
}

}  // namespace

std::string FigureTable(const Json& metrics) {
  std::string text;
  bool capped = false;
  for (const auto& [head, rows] : metrics["heads"].items()) {
    text += head +
            "\n                        auc au_pop   hr20    new repeat logloss  gap  ratio  epochs seconds  "
            "auc over plain\n";
    for (const char* name : {"popularity", "covisit", "covisit_seen", "itemknn", "itemknn_seen"}) {
      if (metrics["baselines"].contains(name)) AppendRow(name, metrics["baselines"][name], false, &text);
    }
    for (const Variant& variant : Variants()) {
      if (!rows.contains(variant.name)) continue;
      AppendRow(variant.name, rows[variant.name], true, &text);
      capped = capped || rows[variant.name]["capped"].get<bool>();
    }
  }
  if (capped) text += "  * capped: still improving at the last epoch allowed; supports no claim\n";
  return text;
}

}  // namespace resembed::train
