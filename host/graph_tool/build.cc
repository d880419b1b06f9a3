// SPDX-License-Identifier: Apache-2.0
// Logs to counts, from nothing or on top of stored ones.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "host/graph_tool/progress.h"
#include "host/graph_tool/replace.h"
#include "host/graph_tool/tails.h"
#include "host/graph_tool/tool.h"

namespace resembed::graph_tool {
namespace {

namespace fs = std::filesystem;
using train::Error;

train::Log Read(const Options& options) {
  train::ReadOptions read;
  read.columns = options.columns;
  read.memory_bytes = static_cast<size_t>(options.memory_gb * 1e9);
  read.scratch = options.out;
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

// Adds the users' events, each behind her tail, and moves the tails on. A training user's events wait in her
// tail until there are as many as the split asks for.
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
  Stage stage(options, "counting", log.n_events(), "events");
  for (size_t user = 0; user < static_cast<size_t>(log.n_users()); ++user) {
    const std::string& name = log.user_names[user];
    if (options.count.train_users && !train::HashesToTraining(name, options.count.split_seed)) continue;
    const auto begin = static_cast<size_t>(log.offsets[user]),
               end = static_cast<size_t>(log.offsets[user + 1]);
    const auto [at, is_new] = tails->try_emplace(name);
    Tail& tail = at->second;
    if (is_new) tail.waits = options.count.train_users;
    if (timed && !tail.times.empty() && begin < end && log.times[begin] < tail.times.back()) {
      throw Error{options.data + ": user " + name +
                  " has an event before those already counted; needs later ones"};
    }
    const size_t first = ids.size(), n_before = tail.waits ? 0 : tail.items.size();
    ids.insert(ids.end(), tail.items.begin(), tail.items.end());
    if (timed) times.insert(times.end(), tail.times.begin(), tail.times.end());
    for (size_t event = begin; event < end; ++event) {
      ids.push_back(row_of[static_cast<size_t>(log.items[event])]);
      if (timed) times.push_back(log.times[event]);
    }
    const size_t length = ids.size() - first;
    tail.waits = tail.waits && static_cast<int64_t>(length) < train::kMinEvents;
    const size_t kept = tail.waits ? length : std::min(window, length);
    tail.items.assign(ids.end() - static_cast<std::ptrdiff_t>(kept), ids.end());
    if (timed) tail.times.assign(times.end() - static_cast<std::ptrdiff_t>(kept), times.end());
    if (tail.waits) {
      ids.resize(first);
      if (timed) times.resize(first);
    } else {
      n_seen.push_back(static_cast<int64_t>(n_before));
      offsets.push_back(static_cast<int64_t>(ids.size()));
    }
    if (ids.size() >= kBlockEvents) flush();
    stage.Done(static_cast<int64_t>(end));
  }
  flush();
}

// Writes the folder's files, all or none.
void Finish(resembed_covisit* counts, const Options& options, const ItemNames& items, const Tails& tails,
            const std::vector<int32_t>& source, Replacement* folder) {
  int64_t n_pairs = 0;
  {
    const Stage stage(options, "merging counts");
    CheckStatus(resembed_covisit_n_pairs(counts, &n_pairs));
  }
  Say(options, std::to_string(n_pairs) + " distinct pairs");
  WriteGraph(counts, options, items.size(), n_pairs, source, folder->Path("graph.safetensors"));
  {
    const Stage stage(options, "writing");
    const std::string text = CountOptionsText(options.count);
    const char* metadata[] = {"counting", text.c_str()};
    CheckStatus(resembed_covisit_save(counts, folder->Path("counts.safetensors").c_str(), metadata, 1));
    WriteItems(items, folder->Path("items.tsv"));
    WriteTails(tails, folder->Path("tails.tsv"));
    folder->Finish();
  }
  Say(options, "written to " + options.out);
}

// An update counts the users that the build did.
void CheckUsers(const Options& given, const CountOptions& stored) {
  if (!given.count.train_users) return;
  if (!stored.train_users) {
    throw Error{"--train-users is given; " + given.state + " was built of all users; needs the same users"};
  }
  if (given.count.split_seed != stored.split_seed) {
    throw Error{"--split-seed is " + std::to_string(given.count.split_seed) + "; " + given.state +
                " was built with " + std::to_string(stored.split_seed) + "; needs the same users"};
  }
}

}  // namespace

void Build(const Options& options) {
  CheckBackend(options);
  Replacement folder(options.out);
  const train::Log log = Read(options);
  const ItemNames items(log.item_names);
  std::vector<int32_t> row_of(static_cast<size_t>(log.n_items()));
  for (size_t item = 0; item < row_of.size(); ++item) row_of[item] = static_cast<int32_t>(item);
  const Covisit counts = Create(options, items.size());
  Tails tails;
  Add(log, row_of, options, counts.get(), &tails);
  Finish(counts.get(), options, items, tails, {}, &folder);
}

void Update(Options options) {
  if (options.out.empty()) options.out = options.state;
  CheckBackend(options);
  Replacement folder(options.out);
  std::error_code ignored;
  if (!fs::equivalent(options.state, options.out, ignored)) RestoreFolder(options.state);
  const fs::path state(options.state);
  const std::string stored = (state / "counts.safetensors").string();
  resembed_file* file = nullptr;
  CheckStatus(resembed_file_open(stored.c_str(), &file));
  const char* counting = nullptr;
  CheckStatus(resembed_file_metadata(file, "counting", &counting));
  const CountOptions counted = ParseCountOptions(counting == nullptr ? "" : counting);
  resembed_file_close(file);
  CheckUsers(options, counted);
  options.count = counted;
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
  {
    const Stage stage(options, "stored counts");
    CheckStatus(resembed_covisit_add_file(counts.get(), stored.c_str(), &from));
  }
  Tails tails = ReadTails((state / "tails.tsv").string(), new_row);
  Add(log, row_of, options, counts.get(), &tails);
  Finish(counts.get(), options, items, tails, source, &folder);
}

std::string CountOptionsText(const CountOptions& options) {
  return nlohmann::ordered_json{{"window", options.window},
                                {"pair_value", options.pair_value},
                                {"max_user_items", options.max_user_items},
                                {"max_pair_uses", options.max_pair_uses},
                                {"session_gap", options.session_gap},
                                {"train_users", options.train_users},
                                {"split_seed", options.split_seed}}
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
  if (!json.contains("train_users"))  // counts of before that was kept may be of either
    throw Error{"counts.safetensors: does not say whose events it counts; needs a new build"};
  options.train_users = json.value("train_users", options.train_users);
  options.split_seed = json.value("split_seed", options.split_seed);
  return options;
}

void CheckStatus(int32_t status) {
  if (status != RESEMBED_OK) throw Error{resembed_last_error_message()};
}

void Say(const Options& options, const std::string& text) {
  if (!options.quiet) std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace resembed::graph_tool
