// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <unordered_map>

#include "host/train/cold.h"
#include "host/train/names.h"
#include "host/train/parallel.h"
#include "host/train/saved_model.h"
#include "host/train/use.h"

namespace resembed::train {

namespace {

constexpr int64_t kBlockScores = int64_t{1} << 22;  // alive at a time
constexpr int64_t kMaxBlockUsers = 256;

// Numbers the items of a history as the model does. Events of items that the model does not know stay, as in the
// evaluation: they count as events between others, and for nothing else. All of them get one row of zeros, the last.
void TakeRows(SavedModel* model, Log* log) {
  std::unordered_map<std::string, int32_t> row_of;
  for (size_t row = 0; row < model->item_names.size(); ++row) {
    row_of.emplace(model->item_names[row], static_cast<int32_t>(row));
  }
  const int32_t unknown = static_cast<int32_t>(model->n_items());
  std::vector<int32_t> rows;
  int64_t n_unknown = 0;
  bool any_unknown = false;
  for (const std::string& name : log->item_names) {
    const auto found = row_of.find(name);
    any_unknown = any_unknown || found == row_of.end();
    rows.push_back(found == row_of.end() ? unknown : found->second);
  }
  for (int32_t& item : log->items) {
    item = rows[static_cast<size_t>(item)];
    n_unknown += item == unknown || model->in_history[static_cast<size_t>(item)] == 0 ? 1 : 0;
  }
  if (n_unknown > 0) {
    std::fprintf(
        stderr, "%s: %lld of %lld events have items that the model did not learn; they are skipped\n",
        log->source.c_str(), static_cast<long long>(n_unknown), static_cast<long long>(log->n_events()));
  }
  if (any_unknown) AppendItem("", model);
  log->item_names = model->item_names;
}

class Table {
 public:
  explicit Table(const std::string& path) : path_(path) {
    if (path.empty()) return;
    file_ = std::fopen((path + ".part").c_str(), "wb");
    if (file_ == nullptr) throw Error{path + ": cannot be written"};
  }
  ~Table() {
    if (file_ == stdout) return;
    std::fclose(file_);
    std::error_code ignored;  // there is none after Finish
    std::filesystem::remove(path_ + ".part", ignored);
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  void Write(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size()) Fail();
  }
  void Finish() {
    if (std::fflush(file_) != 0) Fail();
    std::error_code error;
    if (file_ != stdout) std::filesystem::rename(path_ + ".part", path_, error);
    if (error) Fail();
  }

 private:
  [[noreturn]] void Fail() const {
    throw Error{(path_.empty() ? "the standard output" : path_) + ": cannot be written"};
  }

  std::string path_;
  FILE* file_ = stdout;
};

class Ranker {
 public:
  Ranker(const SavedModel& model, const Catalog& catalog, const Log& log, const UseOptions& options)
      : model_(model), catalog_(catalog), log_(log), options_(options) {
    for (int64_t row = 0; row < model.n_items(); ++row) {
      if (model.listed[static_cast<size_t>(row)] != 0) listed_.push_back(static_cast<int32_t>(row));
    }
  }

  // Lines of one user. scores: of every item.
  std::string Lines(int32_t user, const float* scores) const {
    std::vector<int32_t> items = listed_;
    if (options_.exclude_seen) {
      std::vector<int32_t> seen(log_.items.begin() + log_.offsets[static_cast<size_t>(user)],
                                log_.items.begin() + log_.offsets[static_cast<size_t>(user) + 1]);
      std::sort(seen.begin(), seen.end());
      items.clear();
      std::set_difference(listed_.begin(), listed_.end(), seen.begin(), seen.end(),
                          std::back_inserter(items));
    }
    const auto n = std::min(items.size(), static_cast<size_t>(options_.top));
    std::partial_sort(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(n), items.end(),
                      [&](int32_t a, int32_t b) {
                        if (scores[a] != scores[b]) return scores[a] > scores[b];
                        const int64_t used_a = model_.popularity[static_cast<size_t>(a)],
                                      used_b = model_.popularity[static_cast<size_t>(b)];
                        return used_a != used_b ? used_a > used_b : a < b;
                      });
    const std::string name = Escape(log_.user_names[static_cast<size_t>(user)]);
    std::string lines;
    for (size_t rank = 0; rank < n; ++rank) {
      const std::string& item = model_.item_names[static_cast<size_t>(items[rank])];
      char score[32];
      std::snprintf(score, sizeof(score), "%.9g", static_cast<double>(scores[items[rank]]));
      lines += name + "\t" + std::to_string(rank + 1) + "\t" + Escape(item) + "\t" + score;
      if (!catalog_.names.empty()) lines += "\t" + Escape(catalog_.NameOf(item));
      lines += "\n";
    }
    return lines;
  }

 private:
  const SavedModel& model_;
  const Catalog& catalog_;
  const Log& log_;
  const UseOptions& options_;
  std::vector<int32_t> listed_;  // increasing
};

}  // namespace

void Recommend(const UseOptions& options) {
  Pool pool(ThreadsOf(options.threads));
  Catalog catalog;
  SavedModel model = LoadForUse(options, &pool, &catalog);
  ReadOptions read;
  read.columns = options.columns;
  Log log = ReadLog(options.history, read);
  TakeRows(&model, &log);

  TrainingView training;
  training.popularity = model.popularity;
  for (int64_t row = 0; row < model.n_items(); ++row) {
    if (model.popularity[static_cast<size_t>(row)] > 0)
      training.candidates.push_back(static_cast<int32_t>(row));
  }
  LogView view = MakeLogView(log, training);
  view.known = model.in_history;
  const std::unique_ptr<Learner> learner = MakeScoringLearner(model, view, &pool);
  const std::unique_ptr<Scorer> scorer = learner->MakeScorer();
  AlignedVector<float>().swap(model.items);

  const Ranker ranker(model, catalog, log, options);
  Table table(options.out);
  table.Write(catalog.names.empty() ? "user\trank\titem\tscore\n" : "user\trank\titem\tscore\tname\n");
  const int64_t n_block = std::clamp<int64_t>(kBlockScores / model.n_items(), 1, kMaxBlockUsers);
  std::vector<float> scores;
  std::vector<Target> targets;
  std::vector<std::string> lines;
  for (int64_t begin = 0; begin < log.n_users(); begin += n_block) {
    targets.clear();
    for (int64_t user = begin; user < std::min(log.n_users(), begin + n_block); ++user) {
      targets.push_back(
          {static_cast<int32_t>(user), log.offsets[static_cast<size_t>(user) + 1], 0, true, false});
    }
    const int64_t n_targets = static_cast<int64_t>(targets.size());
    scores.resize(static_cast<size_t>(n_targets * model.n_items()));
    scorer->ScoreAll(targets, scores.data());
    lines.assign(targets.size(), "");
    pool.ParallelFor(n_targets, [&](int64_t t) {
      lines[static_cast<size_t>(t)] =
          ranker.Lines(targets[static_cast<size_t>(t)].user, scores.data() + t * model.n_items());
    });
    for (const std::string& text : lines) table.Write(text);
  }
  table.Finish();
}

}  // namespace resembed::train
