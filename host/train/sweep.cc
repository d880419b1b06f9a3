// SPDX-License-Identifier: Apache-2.0
#include "host/train/sweep.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "host/train/names.h"
#include "host/train/run.h"
#include "host/train/variant.h"

namespace resembed::train {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Swept {
  const char* name;
  const char* defaults;
  double low, high;
  bool above_low;  // low itself is no value
  bool whole;
  bool same_graph;  // split, graph and counts do not depend on the value
  void (*set)(Options*, double);
  bool (*matters)(const Variant&);  // else rows of the variant have the same bits with every value
  double (*cost)(double);           // of an epoch, in proportion
};

const Swept kSwept[] = {
    {"lambda", "0,0.0003,0.001,0.003,0.01,0.03", 0, 1e6, false, false, true,
     [](Options* o, double value) { o->lambda = value; },
     [](const Variant& variant) { return variant.penalty; }, [](double) { return 1.0; }},
    {"residual-ratio", "0.03,0.1,0.3", 0, 1e6, true, false, true,
     [](Options* o, double value) { o->residual_ratio = value; },
     [](const Variant& variant) { return variant.residual && IsGraphVariant(variant); },
     [](double) { return 1.0; }},
    {"train-fraction", "0.1,0.2,0.4,0.7,1", 0, 1, true, false, false,
     [](Options* o, double value) { o->train_fraction = value; }, [](const Variant&) { return true; },
     [](double value) { return value; }},
    {"dim", "8,16,32,64,128", 1, 4096, false, true, true,
     [](Options* o, double value) { o->dim = static_cast<int>(value); }, [](const Variant&) { return true; },
     [](double value) { return 40 + value; }},
};

const Swept* Find(const std::string& name) {
  for (const Swept& swept : kSwept) {
    if (name == swept.name) return &swept;
  }
  return nullptr;
}

std::string FolderOf(const SweepOptions& sweep, size_t place) {
  return sweep.name + "=" + sweep.values[place];
}

double ValueOf(const SweepOptions& sweep, size_t place) {
  return std::strtod(sweep.values[place].c_str(), nullptr);
}

// What sweep.json keeps of a row of metrics.json.
Json Picked(const Json& row) {
  Json picked = Json::object();
  for (const char* key :
       {"auc", "auc_pop", "hr20", "hr20_new", "hr20_repeat", "logloss", "gap", "valid", "ratio", "epochs",
        "best_epoch", "capped", "parameters", "over_plain", "over_central"}) {
    if (row.contains(key)) picked[key] = row[key];
  }
  picked["radius"] = row["envelope"]["radius"];
  picked["radius95"] = row["envelope"]["radius95"];
  return picked;
}

// auc of the row, null-safe: "-" where there is none.
std::string Cell(const Json& row, const char* key) {
  if (!row.contains(key) || !row[key].is_object() || !row[key]["mean"].is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f", row[key]["mean"].get<double>());
  return text;
}

std::string Over(const Json& row) {
  if (!row.contains("over_plain") || !row["over_plain"].is_object()) return "";
  const Json& auc = row["over_plain"]["auc"];
  if (!auc.is_object() || !auc["low"].is_number() || !auc["high"].is_number()) return "";
  char text[96];
  std::snprintf(text, sizeof(text), "%+.3f [%+.3f, %+.3f]", auc["mean"].get<double>(),
                auc["low"].get<double>(), auc["high"].get<double>());
  return text;
}

// One table per head, rows grouped by variant.
std::string SweepTable(const Json& sweep) {
  std::string text;
  char line[256];
  for (const Json& head : sweep["heads"]) {
    std::snprintf(line, sizeof(line), "%s\n  %-14s %14s %6s %6s %6s %6s %6s %6s  auc over plain\n",
                  head.get<std::string>().c_str(), "variant", sweep["name"].get<std::string>().c_str(), "auc",
                  "au_pop", "hr20", "gap", "radius", "ratio");
    text += line;
    for (const Json& variant : sweep["variants"]) {
      for (const Json& run : sweep["runs"]) {
        const Json rows = run["heads"].value(head.get<std::string>(), Json::object());
        if (!rows.contains(variant)) continue;
        const Json& row = rows[variant.get<std::string>()];
        std::snprintf(line, sizeof(line), "  %-14s %14s %6s %6s %6s %6s %6s %6s%s %s\n",
                      variant.get<std::string>().c_str(), run["text"].get<std::string>().c_str(),
                      Cell(row, "auc").c_str(), Cell(row, "auc_pop").c_str(), Cell(row, "hr20").c_str(),
                      Cell(row, "gap").c_str(), Cell(row, "radius").c_str(), Cell(row, "ratio").c_str(),
                      row.value("capped", false) ? "*" : " ", Over(row).c_str());
        text += line;
      }
    }
  }
  return text;
}

class Sweeper {
 public:
  Sweeper(const Options& options, const std::atomic<bool>& stop)
      : options_(options), stop_(stop), sweep_(options.sweep), swept_(*Find(options.sweep.name)) {}

  int Do() {
    std::error_code error;
    fs::create_directories(options_.out, error);
    if (error) throw Error{"--out " + options_.out + ": cannot be created (" + error.message() + ")"};
    json_ = {{"name", sweep_.name},     {"values", Json::array()},       {"heads", Json::array()},
             {"seeds", options_.seeds}, {"variants", options_.variants}, {"command", options_.command},
             {"runs", Json::array()}};
    for (size_t place = 0; place < sweep_.values.size(); ++place)
      json_["values"].push_back(ValueOf(sweep_, place));
    for (const Head head : options_.heads) json_["heads"].push_back(HeadName(head));
    share_.progress = [this](const std::vector<Progress::Row>& rows, int expected_epochs) {
      return ShareProgress(rows, expected_epochs);
    };
    share_.take_rows = [this] { TakeRows(); };
    for (place_ = 0; place_ < sweep_.values.size(); ++place_) {
      if (!swept_.same_graph) {
        share_.graph = InterestGraph();
        share_.baselines.clear();
      }
      Options options = options_;
      options.sweep = SweepOptions();
      options.out = (fs::path(options_.out) / FolderOf(sweep_, place_)).string();
      swept_.set(&options, ValueOf(sweep_, place_));
      std::printf("%s\n", FolderOf(sweep_, place_).c_str());
      const int code = RunShared(options, stop_, &share_);
      if (code != 0) {
        json_["interrupted"] = true;
        Write();
        return code;
      }
      AddRun();
      Write();
    }
    std::fputs(SweepTable(json_).c_str(), stdout);
    std::fflush(stdout);
    if (options_.report) std::fprintf(stderr, "%s\n", DrawReport(options_.out).c_str());
    return 0;
  }

 private:
  std::shared_ptr<Progress> ShareProgress(const std::vector<Progress::Row>& rows, int expected_epochs) {
    if (progress_ == nullptr) {
      std::vector<Progress::Row> all;
      for (size_t place = 0; place < sweep_.values.size(); ++place) {
        for (Progress::Row row : rows) {
          row.name = FolderOf(sweep_, place) + " " + row.name;
          if (place > 0 && !swept_.matters(*FindVariant(row.variant))) row.epoch_cost = row.fixed_cost = 0;
          row.epoch_cost *= swept_.cost(ValueOf(sweep_, place)) / swept_.cost(ValueOf(sweep_, 0));
          all.push_back(row);
        }
      }
      progress_ = std::make_shared<Progress>(all, expected_epochs, options_.patience);
    }
    progress_->StartAt(place_ * rows.size());
    return progress_;
  }

  // Where the value does not matter to a variant, its rows are the first value's, bit for bit.
  void TakeRows() const {
    if (place_ == 0) return;
    const fs::path from = fs::path(options_.out) / FolderOf(sweep_, 0);
    const fs::path to = fs::path(options_.out) / FolderOf(sweep_, place_);
    for (const Head head : options_.heads) {
      for (const std::string& variant : options_.variants) {
        if (swept_.matters(*FindVariant(variant))) continue;
        for (int seed = 1; seed <= options_.seeds; ++seed) {
          const RowKey key = {head, variant, seed};
          const fs::path row = fs::path("checkpoint") / (key.Name() + ".safetensors");
          if (!fs::exists(from / row) || fs::exists(to / row)) continue;
          const fs::path model =
              fs::path(HeadName(head)) / variant / ("seed" + std::to_string(seed) + ".safetensors");
          fs::create_directories((to / model).parent_path());
          fs::copy_file(from / model, to / model, fs::copy_options::overwrite_existing);
          EnvelopeLog((to / "envelope.jsonl").string()).Cut(key, -1);  // of an attempt that was cut short
          CopyLines((from / "envelope.jsonl").string(), key, (to / "envelope.jsonl").string());
          fs::copy_file(from / row, to / row);
        }
      }
    }
  }

  void AddRun() {
    Json heads = Json::object();
    for (const auto& [head, rows] : share_.metrics["heads"].items()) {
      for (const auto& [variant, row] : rows.items()) heads[head][variant] = Picked(row);
    }
    json_["source"] = share_.metrics["data"]["source"];
    json_["runs"].push_back({{"value", ValueOf(sweep_, place_)},
                             {"text", sweep_.values[place_]},
                             {"folder", FolderOf(sweep_, place_)},
                             {"heads", heads}});
  }

  void Write() const {
    WriteText((fs::path(options_.out) / "sweep.json").string(),
              json_.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  }

  const Options& options_;
  const std::atomic<bool>& stop_;
  const SweepOptions& sweep_;
  const Swept& swept_;
  size_t place_ = 0;  // of the value that runs
  RunShare share_;
  std::shared_ptr<Progress> progress_;
  Json json_;
};

}  // namespace

std::string SweepDefaults() {
  std::string text;
  for (const Swept& swept : kSwept)
    text += (text.empty() ? "" : "; ") + std::string(swept.name) + "=" + swept.defaults;
  return text;
}

std::string ParseSweep(const std::string& text, SweepOptions* sweep) {
  const size_t end = text.find('=');
  const Swept* swept = Find(text.substr(0, end));
  if (swept == nullptr) return "--sweep is " + text + "; needs one of " + SweepDefaults();
  sweep->name = swept->name;
  sweep->values = SplitNames(end == std::string::npos ? swept->defaults : text.substr(end + 1));
  if (sweep->values.empty()) return "--sweep " + sweep->name + " has no value; needs one or more";
  std::vector<double> seen;
  for (const std::string& word : sweep->values) {
    char* rest = nullptr;
    const double value = std::strtod(word.c_str(), &rest);
    const bool number = *rest == '\0' && std::isfinite(value);
    if (!number || value < swept->low || (swept->above_low && value == swept->low) || value > swept->high ||
        (swept->whole && value != std::floor(value))) {
      char rule[96];
      std::snprintf(rule, sizeof(rule), "a%s number %s %g and at most %g", swept->whole ? " whole" : "",
                    swept->above_low ? "above" : "of at least", swept->low, swept->high);
      return "--sweep " + sweep->name + " has " + word + "; needs " + rule;
    }
    if (std::find(seen.begin(), seen.end(), value) != seen.end()) {
      return "--sweep " + sweep->name + " has " + word + " twice; needs each value once";
    }
    seen.push_back(value);
  }
  return "";
}

int RunSweep(const Options& options, const std::atomic<bool>& stop) {
  try {
    return Sweeper(options, stop).Do();
  } catch (const fs::filesystem_error& error) {
    throw Error{error.what()};
  }
}

}  // namespace resembed::train
