// SPDX-License-Identifier: Apache-2.0
// Logs to counts, from nothing or on top of stored ones.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unordered_map>

#include "host/graph_tool/tool.h"

namespace resembed::graph_tool {
namespace {

namespace fs = std::filesystem;
using train::Error;

// One line for the terminal, one every 10 % for a file.
class ReadProgress {
 public:
  explicit ReadProgress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}
  void operator()(int64_t bytes, int64_t total, int64_t lines) {
    const int percent = total > 0 ? static_cast<int>(100 * bytes / total) : 100;
    if (quiet_ || percent < last_ + (terminal_ ? 1 : 10)) return;
    last_ = percent;
    std::fprintf(stderr, terminal_ ? "\r\033[Kreading %d %%, %lld lines%s" : "reading %d %%, %lld lines%s",
                 percent, static_cast<long long>(lines), !terminal_ || percent == 100 ? "\n" : "");
    std::fflush(stderr);
  }

 private:
  bool quiet_, terminal_;
  int last_ = -1;
};

train::Log Read(const Options& options) {
  train::ReadOptions read;
  read.columns = options.columns;
  read.keep_times = options.count.session_gap > 0;
  auto progress = std::make_shared<ReadProgress>(options.quiet);
  read.progress = [progress](int64_t bytes, int64_t total, int64_t lines) {
    (*progress)(bytes, total, lines);
  };
  train::Log log = train::ReadLog(options.data, read);
  if (options.count.session_gap > 0 && log.times.empty()) {
    throw Error{options.data + ": has no order column; needs one for --session-gap"};
  }
  Say(options, std::to_string(log.n_events()) + " events, " + std::to_string(log.n_users()) + " users, " +
                   std::to_string(log.n_items()) + " items in " + options.data);
  return log;
}

std::vector<int32_t> UsersThatCount(const train::Log& log, const Options& options) {
  if (options.train_users) return train::SplitUsers(log, options.split_seed, 1.0).train;
  std::vector<int32_t> users(static_cast<size_t>(log.n_users()));
  for (size_t user = 0; user < users.size(); ++user) users[user] = static_cast<int32_t>(user);
  return users;
}

// Before the log is read, which takes a while.
void CheckBackend(const Options& options) {
  if (options.backend != "cuda") return;
  if (resembed_backend_available(RESEMBED_CUDA, options.device) != RESEMBED_OK) {
    throw Error{std::string("--backend is cuda: ") + resembed_last_error_message()};
  }
  if (options.count.max_pair_uses > 0) {
    throw Error{"--max-pair-uses is " + std::to_string(options.count.max_pair_uses) +
                "; needs 0 with --backend cuda"};
  }
}

using Covisit = std::unique_ptr<resembed_covisit, void (*)(resembed_covisit*)>;

// Half of the memory for the buffer, a third of it for counts that wait to go to disk.
Covisit Create(const Options& options, int64_t n_items) {
  const std::vector<uint32_t> weights(static_cast<size_t>(options.count.window),
                                      static_cast<uint32_t>(options.count.pair_value));
  const double bytes = options.memory_gb * 1e9;
  resembed_covisit_options create = {};
  create.struct_size = sizeof(create);
  create.n_items = n_items;
  create.window = options.count.window;
  create.distance_weights = weights.data();
  create.buffer_bytes = static_cast<size_t>(bytes / 2);
  create.spill_folder = options.out.c_str();
  create.spill_bytes = static_cast<size_t>(bytes / 3);
  create.max_sequence_items = options.count.max_user_items;
  create.max_pair_uses = options.count.max_pair_uses;
  create.session_gap = options.count.session_gap;
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CUDA;
  place.device = options.device;
  if (options.backend == "cuda") {
    create.place = &place;
    create.device_bytes = static_cast<size_t>(options.device_memory_gb * 1e9);
  }
  resembed_covisit* raw = nullptr;
  CheckStatus(resembed_covisit_create(&create, &raw));
  return Covisit(raw, resembed_covisit_destroy);
}

struct Tail {
  std::vector<int32_t> items;
  std::vector<int64_t> times;
};
using Tails = std::unordered_map<std::string, Tail>;

// user <tab> item row ... <tab> time ... (times only with a session gap)
Tails ReadTails(const std::string& path, const std::vector<int32_t>& new_row) {
  Tails tails;
  std::ifstream file(path, std::ios::binary);
  std::string line;
  if (!std::getline(file, line)) throw Error{path + ": cannot be read"};
  while (std::getline(file, line)) {
    const size_t first = line.find('\t');
    const size_t second = first == std::string::npos ? first : line.find('\t', first + 1);
    if (second == std::string::npos)
      throw Error{path + ": needs user, items and times; has " + line.substr(0, 80)};
    Tail tail;
    std::istringstream items(line.substr(first + 1, second - first - 1)), times(line.substr(second + 1));
    for (int64_t time; times >> time;) tail.times.push_back(time);
    size_t n_read = 0;
    std::vector<int64_t> kept;
    for (int64_t item; items >> item; ++n_read) {
      if (item < 0 || static_cast<size_t>(item) >= new_row.size())
        throw Error{path + ": item " + std::to_string(item) + " is not in items.tsv"};
      const int32_t row = new_row[static_cast<size_t>(item)];
      if (row < 0) continue;  // removed: its place is as if it had never been
      tail.items.push_back(row);
      if (n_read < tail.times.size()) kept.push_back(tail.times[n_read]);
    }
    tail.times = std::move(kept);
    tails[Unescape(std::string_view(line).substr(0, first))] = std::move(tail);
  }
  return tails;
}

void WriteTails(const Tails& tails, const std::string& path) {
  std::vector<const Tails::value_type*> sorted;
  for (const auto& entry : tails) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  std::string text = "user\titems\ttimes\n";
  for (const auto* entry : sorted) {
    text += Escape(entry->first) + "\t";
    for (const int32_t item : entry->second.items) text += std::to_string(item) + " ";
    text += "\t";
    for (const int64_t time : entry->second.times) text += std::to_string(time) + " ";
    text += "\n";
  }
  WriteText(path, text);
}

// Adds the users' events, each behind her tail, and moves the tails on.
void Add(const train::Log& log, const std::vector<int32_t>& row_of, const Options& options,
         resembed_covisit* counts, Tails* tails) {
  constexpr size_t kBlockEvents = size_t{1} << 20;
  const auto window = static_cast<size_t>(options.count.window);
  std::vector<int32_t> ids;
  std::vector<int64_t> times, offsets = {0}, n_seen;
  const bool timed = options.count.session_gap > 0;
  const auto flush = [&] {
    resembed_covisit_sequences sequences = {};
    sequences.struct_size = sizeof(sequences);
    sequences.ids = ids.data();
    sequences.id_dtype = RESEMBED_I32;
    sequences.offsets = offsets.data();
    sequences.offset_dtype = RESEMBED_I64;
    sequences.n_sequences = static_cast<int64_t>(n_seen.size());
    sequences.times = timed ? times.data() : nullptr;
    sequences.n_seen = n_seen.data();
    CheckStatus(resembed_covisit_add_sequences(counts, &sequences));
    ids.clear();
    times.clear();
    n_seen.clear();
    offsets.assign(1, 0);
  };
  for (const int32_t user : UsersThatCount(log, options)) {
    Tail& tail = (*tails)[log.user_names[static_cast<size_t>(user)]];
    const size_t first = ids.size();
    ids.insert(ids.end(), tail.items.begin(), tail.items.end());
    if (timed) times.insert(times.end(), tail.times.begin(), tail.times.end());
    n_seen.push_back(static_cast<int64_t>(tail.items.size()));
    const auto begin = static_cast<size_t>(log.offsets[static_cast<size_t>(user)]);
    const auto end = static_cast<size_t>(log.offsets[static_cast<size_t>(user) + 1]);
    for (size_t event = begin; event < end; ++event) {
      ids.push_back(row_of[static_cast<size_t>(log.items[event])]);
      if (timed) times.push_back(log.times[event]);
    }
    if (timed && !tail.times.empty() && begin < end && log.times[begin] < tail.times.back()) {
      throw Error{options.data + ": user " + log.user_names[static_cast<size_t>(user)] +
                  " has an event before those already counted; needs later ones"};
    }
    const size_t kept = std::min(window, ids.size() - first);
    tail.items.assign(ids.end() - static_cast<std::ptrdiff_t>(kept), ids.end());
    if (timed) tail.times.assign(times.end() - static_cast<std::ptrdiff_t>(kept), times.end());
    offsets.push_back(static_cast<int64_t>(ids.size()));
    if (ids.size() >= kBlockEvents) flush();
  }
  flush();
}

void Finish(resembed_covisit* counts, const Options& options, const ItemNames& items, const Tails& tails,
            const std::vector<int32_t>& source) {
  int64_t n_pairs = 0;
  CheckStatus(resembed_covisit_n_pairs(counts, &n_pairs));
  Say(options, std::to_string(n_pairs) + " distinct pairs");
  WriteGraph(counts, options, items.size(),
             source);  // reads the old graph, which may lie where the new one will
  const std::string text = CountOptionsText(options.count);
  const char* metadata[] = {"counting", text.c_str()};
  CheckStatus(
      resembed_covisit_save(counts, (fs::path(options.out) / "counts.safetensors").c_str(), metadata, 1));
  WriteItems(items, (fs::path(options.out) / "items.tsv").string());
  WriteTails(tails, (fs::path(options.out) / "tails.tsv").string());
  Say(options, "written to " + options.out);
}

void MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error{path + ": cannot be created (" + error.message() + ")"};
}

}  // namespace

void Build(const Options& options) {
  CheckBackend(options);
  MakeFolder(options.out);
  const train::Log log = Read(options);
  const ItemNames items(log.item_names);
  std::vector<int32_t> row_of(static_cast<size_t>(log.n_items()));
  for (size_t item = 0; item < row_of.size(); ++item) row_of[item] = static_cast<int32_t>(item);
  const Covisit counts = Create(options, items.size());
  Tails tails;
  Add(log, row_of, options, counts.get(), &tails);
  Finish(counts.get(), options, items, tails, {});
}

void Update(Options options) {
  if (options.out.empty()) options.out = options.state;
  CheckBackend(options);
  MakeFolder(options.out);
  const fs::path state(options.state);
  const std::string stored = (state / "counts.safetensors").string();
  resembed_file* file = nullptr;
  CheckStatus(resembed_file_open(stored.c_str(), &file));
  const char* counting = nullptr;
  CheckStatus(resembed_file_metadata(file, "counting", &counting));
  options.count = ParseCountOptions(counting == nullptr ? "" : counting);
  resembed_file_close(file);
  CheckBackend(options);

  const ItemNames old_items = ReadItems((state / "items.tsv").string());
  std::vector<char> removed(static_cast<size_t>(old_items.size()), 0);
  if (!options.remove.empty()) {
    std::ifstream names(options.remove, std::ios::binary);
    if (!names) throw Error{options.remove + ": cannot be read"};
    for (std::string line; std::getline(names, line);) {
      const int32_t row = old_items.Find(Unescape(line));
      if (row < 0) throw Error{options.remove + ": " + line + " is no item of " + options.state};
      removed[static_cast<size_t>(row)] = 1;
    }
  }
  ItemNames items;
  std::vector<int32_t> new_row(removed.size(), -1), source;
  for (size_t row = 0; row < removed.size(); ++row) {
    if (removed[row]) continue;
    new_row[row] = items.FindOrAdd(old_items.Name(static_cast<int64_t>(row)));
    source.push_back(static_cast<int32_t>(row));
  }
  const train::Log log = Read(options);
  std::vector<int32_t> row_of;
  for (const std::string& name : log.item_names) row_of.push_back(items.FindOrAdd(name));
  Say(options, std::to_string(items.size() - static_cast<int64_t>(source.size())) + " new items, " +
                   std::to_string(std::count(removed.begin(), removed.end(), 1)) + " removed");
  source.resize(static_cast<size_t>(items.size()), -1);

  const Covisit counts = Create(options, items.size());
  resembed_covisit_file_options from = {};
  from.struct_size = sizeof(from);
  from.decay = options.decay;
  const bool renumbered = std::count(removed.begin(), removed.end(), 1) > 0;
  from.item_map = renumbered ? new_row.data() : nullptr;
  from.n_map = renumbered ? old_items.size() : 0;
  CheckStatus(resembed_covisit_add_file(counts.get(), stored.c_str(), &from));
  Tails tails = ReadTails((state / "tails.tsv").string(), new_row);
  Add(log, row_of, options, counts.get(), &tails);
  Finish(counts.get(), options, items, tails, source);
}

std::string CountOptionsText(const CountOptions& options) {
  return nlohmann::ordered_json{{"window", options.window},
                                {"pair_value", options.pair_value},
                                {"max_user_items", options.max_user_items},
                                {"max_pair_uses", options.max_pair_uses},
                                {"session_gap", options.session_gap}}
      .dump();
}

CountOptions ParseCountOptions(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  CountOptions options;
  if (!json.is_object())
    throw Error{"counts.safetensors: does not say how it was counted; needs one of this command"};
  options.window = json.value("window", options.window);
  options.pair_value = json.value("pair_value", options.pair_value);
  options.max_user_items = json.value("max_user_items", options.max_user_items);
  options.max_pair_uses = json.value("max_pair_uses", options.max_pair_uses);
  options.session_gap = json.value("session_gap", options.session_gap);
  return options;
}

void CheckStatus(int32_t status) {
  if (status != RESEMBED_OK) throw Error{resembed_last_error_message()};
}

void Say(const Options& options, const std::string& text) {
  if (!options.quiet) std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace resembed::graph_tool
