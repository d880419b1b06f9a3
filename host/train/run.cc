// SPDX-License-Identifier: Apache-2.0
#include "host/train/run.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "host/train/figures.h"
#include "host/train/fit_all.h"
#include "host/train/memory.h"
#include "host/train/metrics.h"
#include "host/train/names.h"
#include "host/train/parallel.h"
#include "host/train/progress.h"
#include "host/train/protocol.h"
#include "host/train/run_device.h"
#include "host/train/saved_model.h"
#include "host/train/sweep.h"

namespace resembed::train {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kMaxValidUsers = 2000;
// Users whose next item is ranked among all items: at most 2,000, so many that 2e9 scores do, at least 200.
int64_t RankedUsers(int64_t n_items) { return std::clamp<int64_t>(int64_t{2000000000} / n_items, 200, 2000); }
// The evaluation sets' own seeds: fixed, so that every run with one split ranks the same negatives.
constexpr uint64_t kEvalSeed = 12;
constexpr int kExpectedEpochs = 20;  // of a row, until rows have been measured

// What must be the same for --resume to mean anything. Heads, variants and seeds may grow.
Json Fingerprint(const RunData& run) {
  const Options& o = *run.options;
  uint64_t hash = 1469598103934665603u;
  const auto mix = [&hash](int64_t value) { hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211u; };
  for (const int64_t offset : run.log.offsets) mix(offset);
  for (const int32_t item : run.log.items) mix(item);
  for (const int64_t end : run.split.train_ends) mix(end);
  for (const int64_t end : run.split.valid_ends) mix(end);
  return {{"log", std::to_string(hash)},
          {"events", run.log.n_events()},
          {"split", o.split},
          {"time_cut", o.split == "time" ? o.time_cut : 0.0},
          {"tune", o.tune},
          {"content of --tuned", o.tuned.empty() ? "" : std::to_string(run.tuned_hash)},
          {"split_seed", o.split_seed},
          {"train_fraction", o.train_fraction},
          {"window", o.window},
          {"neighbors", o.neighbors},
          {"resolution", o.resolution},
          {"pretrain_window", o.pretrain_window},
          {"content of --graph", o.graph.empty() ? "" : std::to_string(HashGraph(run.graph))},
          {"graph_two_hop", o.graph_two_hop},
          {"graph_leave_one_out", o.graph_leave_one_out},
          {"envelope_every", o.residual_cap > 0 || o.residual_ratio > 0 ? o.envelope_every : 0},
          {"mlp", HyperJson(HyperOf(o, Head::kMlp, run.n_samples))},
          {"dot", HyperJson(HyperOf(o, Head::kDot, run.n_samples))},
          {"din", HyperJson(HyperOf(o, Head::kDin, run.n_samples))}};
}

std::string FirstDifference(const Json& before, const Json& now, const std::string& where) {
  for (const auto& [key, value] : now.items()) {
    if (!before.contains(key)) return where + key + " was not recorded";
    if (value.is_object()) {
      const std::string inner = FirstDifference(before[key], value, where + key + " ");
      if (!inner.empty()) return inner;
    } else if (before[key] != value) {
      return where + key + " is " + value.dump() + ", was " + before[key].dump();
    }
  }
  return "";
}

class Runner {
 public:
  // share: of a sweep's runs, else null.
  Runner(const Options& options, const std::atomic<bool>& stop, RunShare* share)
      : options_(options),
        stop_(stop),
        share_(share),
        pool_(ThreadsOf(options.threads)),
        envelope_log_((fs::path(options.out) / "envelope.jsonl").string()) {
    if (options.backend == "cuda") device_ = OpenDevice(options, &run_.dense);
    run_.options = &options;
    memory_ = options.memory_gb > 0 ? static_cast<int64_t>(options.memory_gb * 1e9) : AvailableBytes();
    run_.threads = pool_.width();
    out_ = options.out;
  }

  int Do() {
    std::error_code error;
    fs::create_directories(out_ / "checkpoint", error);
    if (error) throw Error{"--out " + out_.string() + ": cannot be created (" + error.message() + ")"};
    Prepare();
    PlanRows();
    PrepareOutput();
    if (stop_) return Stopped();
    if (options_.fit_epochs > 0) return FitAll(&run_, &pool_, device_.get(), stop_) ? 0 : Stopped();
    Note("baselines by counting");
    if (share_ != nullptr) run_.baselines = share_->baselines;
    if (run_.baselines.empty()) CountBaselines();
    for (size_t row = 0; row < keys_.size(); ++row) {
      if (!DoRow(row)) return Stopped();
    }
    if (options_.fit_all && !FitAll(&run_, &pool_, device_.get(), stop_)) return Stopped();
    const Json metrics = WriteResults();
    if (share_ != nullptr) share_->metrics = metrics;
    std::fputs(FigureTable(metrics).c_str(), stdout);
    std::fflush(stdout);
    if (options_.report) Note(DrawReport(out_.string()));
    Note("results: " + (out_ / "metrics.json").string() + ", after " + FormatSeconds(Seconds()));
    return 0;
  }

  // What the next run of a sweep need not do again.
  void Leave() {
    if (share_ == nullptr) return;
    share_->log = std::move(run_.log);
    share_->graph = std::move(run_.graph);
    share_->baselines = std::move(run_.baselines);
  }

 private:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  void Note(const std::string& text) {
    if (progress_ != nullptr)
      progress_->Note(text);
    else
      std::fprintf(stderr, "%s\n", text.c_str());
  }

  void CountBaselines() {
    int64_t n_pairs_left_out = 0;
    run_.baselines = RunBaselines(run_.log, run_.split, run_.view, run_.valid, run_.test, pool_.width(),
                                  Budget(), &n_pairs_left_out);
    if (n_pairs_left_out == 0) return;
    Note("covisit and itemknn are left out: their " + std::to_string(n_pairs_left_out) +
         " pairs do not fit into --memory");
  }

  // For counting pairs: half of what is left.
  PairBudget Budget() const {
    if (memory_ == 0) return {};
    return {std::max<int64_t>((memory_ - ResidentBytes()) / 2, 1), (out_ / "checkpoint").string()};
  }

  void Prepare() {
    if (!options_.catalog.empty()) run_.catalog = ReadCatalog(options_.catalog, options_.catalog_columns);
    const bool built = share_ != nullptr && share_->graph.k > 0;
    if (share_ != nullptr && share_->log.n_events() > 0) {
      run_.log = std::move(share_->log);
    } else if (options_.data.empty()) {
      run_.log = GenerateLog(options_.generator);
      if (!options_.save_log.empty()) WriteLog(run_.log, options_.save_log);
    } else {
      ReadOptions read;
      read.columns = options_.columns;
      read.keep_times = options_.split == "time";
      read.memory_bytes = static_cast<size_t>(memory_ / 2);  // the rest for names and the log itself
      read.scratch = (out_ / "checkpoint").string();
      auto last = std::chrono::steady_clock::now();
      read.progress = [&](int64_t bytes, int64_t total, int64_t lines) {
        const auto now = std::chrono::steady_clock::now();
        if (std::chrono::duration<double>(now - last).count() < 2.0) return;
        last = now;
        std::fprintf(stderr, "reading: %lld lines, %lld %%\n", static_cast<long long>(lines),
                     static_cast<long long>(total > 0 ? bytes * 100 / total : 0));
      };
      run_.log = ReadLog(options_.data, read);
    }
    const Log& log = run_.log;
    run_.split = options_.split == "time"
                     ? SplitByTime(log, options_.time_cut, options_.split_seed, options_.train_fraction)
                     : SplitUsers(log, options_.split_seed, options_.train_fraction);
    const Split& split = run_.split;
    run_.view = MakeTrainingView(log, split);
    view_ = MakeLogView(log, run_.view);
    const int64_t ranked = RankedUsers(log.n_items());
    run_.valid = MakeEvalSet(log, run_.view, SampleUsers(log, split.valid, kMaxValidUsers, kEvalSeed), ranked,
                             kEvalSeed, split.valid_ends);
    run_.test = MakeEvalSet(log, run_.view, split.test, ranked, kEvalSeed + 1, split.test_ends);
    run_.trained = MakeEvalSet(log, run_.view, SampleUsers(log, split.train, kMaxValidUsers, kEvalSeed), 1,
                               kEvalSeed + 2, split.train_ends);
    std::fprintf(
        stderr, "%s: %lld users, %lld items, %lld events; %zu users to train, %zu to validate, %zu to test\n",
        log.source.c_str(), static_cast<long long>(log.n_users()), static_cast<long long>(log.n_items()),
        static_cast<long long>(log.n_events()), split.train.size(), split.valid.size(), split.test.size());
    for (const int32_t user : split.train) {
      const int64_t begin = log.offsets[static_cast<size_t>(user)];
      run_.n_samples += std::min<int64_t>(options_.targets, EndOf(log, split.train_ends, user) - begin - 1);
    }
    if (built) {
      run_.graph = std::move(share_->graph);
    } else if (options_.graph.empty()) {
      run_.graph = BuildGraph(log, split, options_.window, options_.neighbors, options_.resolution, Budget());
    } else {
      const fs::path folder = options_.graph;
      if (fs::exists(folder / kReplacingFile)) {
        throw Error{options_.graph +
                    ": resembed-graph was stopped while it replaced the graph; needs resembed-graph " +
                    "inspect --state " + options_.graph + ", which puts the old one back"};
      }
      std::ifstream items(folder / "items.tsv", std::ios::binary);
      if (std::string(std::istreambuf_iterator<char>(items), {}) != ItemsTable(log.item_names)) {
        throw Error{(folder / "items.tsv").string() + ": needs the items of the log, in its order"};
      }
      run_.graph = LoadGraph(log, (folder / "graph.safetensors").string());
    }
    if (options_.graph_two_hop && !built) TakeTwoHops(&run_.graph);
    if (options_.graph_leave_one_out && !built) {
      run_.graph.own = MakeOwnLists(log, split, run_.graph, pool_.width());
      Note("leave one out: " + std::to_string(run_.graph.own.items.size()) +
           " lists of training users differ");
    }
    run_.partition = MakePartition(log, run_.graph, run_.view);
    run_.picture_items = PickPictureItems(run_.partition, run_.view);
    const int64_t n_pairs = run_.graph.n_pairs;
    std::fprintf(stderr, "interest graph: %s pairs, %lld centers, %s\n",
                 n_pairs < 0 ? "an unknown number of" : std::to_string(n_pairs).c_str(),
                 static_cast<long long>(run_.graph.n_centers),
                 options_.graph.empty() ? FormatSeconds(run_.graph.seconds).c_str() : "given");
  }

  // Rows in the order they run, with a cost model in seconds: rates of one core of about 3 GHz, corrected by
  // measurement as soon as a row is done.
  void PlanRows() {
    const int64_t samples = run_.n_samples;
    const int64_t taken = ResidentBytes();
    std::vector<Progress::Row> rows;
    for (int seed = 1; seed <= options_.seeds; ++seed) {
      for (const Head head : options_.heads) {
        const Hyper hyper = HyperOf(options_, head, run_.n_samples);
        for (const std::string& name : options_.variants) {
          const Variant& variant = *FindVariant(name);
          if (memory_ > 0 && seed == 1) {
            CheckMemory(MemoryOf(variant, run_.log.n_items(), run_.graph.n_centers, hyper), taken, memory_,
                        name + " under " + HeadName(head));
          }
          const double dim = static_cast<double>(hyper.dim * variant.dim_factor);
          const double n = static_cast<double>(samples), threads = pool_.width();
          const double slots = variant.form == RESEMBED_CENTRAL_NONE         ? 1
                               : variant.form == RESEMBED_CENTRAL_ASSIGNMENT ? 2
                                                                             : 1 + run_.graph.k;
          const double lookups = head == Head::kDin ? 22
                                 : head == Head::kMlp
                                     ? 12
                                     : 11 + static_cast<double>(hyper.negatives) / hyper.batch;
          const double dense = Ranks(head) ? 3 * (3 * dim * 128 + 2 * 128 * 64) * 2
                                           : 3.0 * dim * hyper.negatives * 2 + 12.0 * hyper.negatives;
          const double evaluation = Ranks(head)
                                        ? static_cast<double>(run_.valid.targets.size()) * 201 * 8192 * 2
                                        : static_cast<double>(run_.valid.ranked.size()) *
                                              static_cast<double>(run_.log.n_items()) * dim * 4;
          const double ranks = static_cast<double>(run_.test.ranked.size()) *
                               static_cast<double>(run_.log.n_items()) * (Ranks(head) ? 16384 : 2 * dim);
          Progress::Row row;
          row.name = std::string(HeadName(head)) + " " + name +
                     (options_.seeds > 1 ? " seed " + std::to_string(seed) : "");
          row.group = HeadName(head);
          row.variant = name;
          row.epoch_cost =
              (n * lookups * slots * dim * 4 * 2e-9 + n * dense / 4e10 + evaluation / 4e10 + n * 2e-6) /
              threads;
          row.fixed_cost = ranks / 4e10 / threads + 0.2;
          if (variant.pretrained) {
            row.fixed_cost += PretrainSeconds(run_.view, options_.pretrain_window, options_.dim) / threads;
          }
          rows.push_back(row);
          keys_.push_back({head, name, seed});
        }
      }
    }
    if (!options_.tuned.empty()) run_.tuned_hash = ReadTuned(options_, run_.n_samples, &run_.tuning);
    if (options_.tune) PlanTuning(options_, run_.n_samples, &keys_, &rows, &run_.tuning);
    const int expected = std::min(kExpectedEpochs, options_.epochs);
    progress_ = share_ != nullptr ? share_->progress(rows, expected)
                                  : std::make_shared<Progress>(rows, expected, options_.patience);
    Note(std::to_string(keys_.size()) + " rows to train, " + std::to_string(samples) + " samples an epoch, " +
         std::to_string(pool_.width()) + " threads; about " + FormatSeconds(progress_->SecondsLeft()));
  }

  fs::path CurrentPath() const { return out_ / "checkpoint" / "current.safetensors"; }
  fs::path RowPath(const RowKey& key) const { return out_ / "checkpoint" / (key.Name() + ".safetensors"); }

  void PrepareOutput() {
    const fs::path settings = out_ / "checkpoint" / "settings.json";
    const Json now = Fingerprint(run_);
    if (options_.resume && fs::exists(settings)) {
      std::ifstream file(settings);
      const Json before = Json::parse(file, nullptr, false);
      if (before.is_discarded()) throw Error{settings.string() + ": damaged; start without --resume"};
      const std::string difference = FirstDifference(before, now, "");
      if (!difference.empty()) {
        throw Error{"--resume: " + difference + " when " + out_.string() +
                    " was started; needs the same settings"};
      }
    } else {
      if (options_.resume) Note("--resume: nothing to continue in " + out_.string() + "; starting");
      for (const fs::directory_entry& entry : fs::directory_iterator(out_ / "checkpoint")) {
        if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
      }
      WriteText(settings.string(), now.dump(1));
    }
    if (!options_.resume || options_.envelope_every == 0) envelope_log_.Clear();
    if (options_.envelope_every > 0) {
      run_.sample =
          SampleEnvelope(run_.partition, EnvelopeItems(HyperOf(options_, options_.heads[0], run_.n_samples)));
    }
    if ((options_.residual_cap > 0 || options_.residual_ratio > 0) && run_.sample.interests.empty()) {
      throw Error{"--residual-cap and --residual-ratio: no interest has " +
                  std::to_string(EnvelopeFigures::kMinItems) + " items in training; needs one to measure"};
    }
    WriteText((out_ / "items.tsv").string(), ItemsTable(run_.log.item_names));
    SaveGraph(run_.graph, run_.log, (out_ / "graph.safetensors").string());
    if (share_ != nullptr) share_->take_rows();
    if (options_.protocol) SaveProtocol(run_, (out_ / "protocol.safetensors").string());
  }

  bool DoRow(size_t index) {
    const RowKey& key = keys_[index];
    if (NotNeeded(key, run_.tuning)) {
      progress_->SkipRow(index);
      return true;
    }
    RowResult result;
    if (LoadRow(RowPath(key).string(), &result)) {
      Report(index, result, " (kept)");
      Keep(key, std::move(result));
      return true;
    }
    const Hyper hyper = TunedHyper(HyperOf(options_, key.head, run_.n_samples), key, run_.tuning);
    const Variant& variant = *FindVariant(key.variant);
    const uint64_t seed = static_cast<uint64_t>(key.seed);
    const std::unique_ptr<Learner> learner =
        MakeLearner(variant, run_.graph, view_, hyper, seed, &pool_, device_.get());
    TrainState& state = result.state;
    if (variant.pretrained) {
      const PretrainTask task = {&view_,
                                 &run_.split.train,
                                 options_.dim,
                                 options_.pretrain_window,
                                 seed,
                                 &pool_,
                                 device_.get(),
                                 &stop_,
                                 [this](const std::string& text) { Note(text); }};
      if (!FindPretrained(task, out_ / "checkpoint", &pretrained_)) return false;
      StartFrom(pretrained_, view_, hyper.init, learner.get());
      state.seconds = result.pretrain_seconds = pretrained_.seconds;
    }
    if (options_.resume && LoadProgress(CurrentPath().string(), key, learner.get(), &state)) {
      Note("continuing " + key.Name() + " at epoch " + std::to_string(state.epoch));
    }
    RowInstrument instrument(key, hyper, variant, run_.sample, options_.envelope_every, learner.get(), &state,
                             &envelope_log_);
    progress_->BeginRow(index);
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    auto saved = begin;
    const double seconds_before = state.seconds - result.pretrain_seconds;  // of its epochs
    int64_t done_here = 0, last_done = -1;
    TrainTask task = {key.head,    &hyper, seed,    &view_, &run_.split.train,
                      &run_.valid, &stop_, nullptr, nullptr};
    task.on_step = [&](const TrainState& now, int64_t samples_done, int64_t samples_total) {
      done_here += last_done < 0 || samples_done < last_done ? std::min<int64_t>(samples_done, hyper.batch)
                                                             : samples_done - last_done;
      last_done = samples_done;
      const double here = std::chrono::duration<double>(Clock::now() - begin).count();
      progress_->Step(index, now.epoch,
                      static_cast<double>(samples_done) / static_cast<double>(samples_total),
                      seconds_before + here, static_cast<double>(done_here) / std::max(here, 1e-9),
                      now.best_valid, now.best_epoch);
      instrument.AfterStep();
    };
    task.on_epoch = [&](const TrainState& now) {
      if (std::chrono::duration<double>(Clock::now() - saved).count() < kCheckpointSeconds) return;
      SaveProgress(CurrentPath().string(), key, learner.get(), now);
      saved = Clock::now();
    };
    const bool finished = TrainRow(task, learner.get(), &state);
    if (!finished) {
      SaveProgress(CurrentPath().string(), key, learner.get(), state);
      return false;
    }
    state.best.clear();
    if (key.point >= 0) {
      result.valid_auc = Evaluate(*learner->MakeScorer(), run_.valid, run_.view, kAuc).Auc();
    } else {
      Measure(learner.get(), &result);
      SaveModel(out_.string(), key, hyper, view_, run_.graph, state.best_epoch, learner.get());
    }
    SaveRow(RowPath(key).string(), result);
    fs::remove(CurrentPath());
    Report(index, result, "");
    Keep(key, std::move(result));
    return true;
  }

  void Keep(const RowKey& key, RowResult&& result) {
    if (key.point < 0) return run_.rows[{key.head, key.variant}].push_back(std::move(result));
    const std::string chosen = FilePoint(key, result, &run_.tuning);
    if (!chosen.empty()) Note(chosen);
  }

  void Measure(Learner* learner, RowResult* result) {
    const std::unique_ptr<Scorer> scorer = learner->MakeScorer();
    result->test = Evaluate(*scorer, run_.test, run_.view, kAllFigures);
    result->gap = Evaluate(*scorer, run_.trained, run_.view, kAuc).Auc() - result->test.Auc();
    result->parameters = learner->n_parameters();
    const Embedding& embedding = learner->embedding();
    result->dim = embedding.dim();
    result->envelope = MeasureEnvelope(embedding, run_.partition);
    AlignedVector<float> items(static_cast<size_t>(embedding.n_items() * embedding.dim()));
    embedding.Materialize(items.data());
    for (const int32_t item : run_.picture_items) {
      const auto row = items.begin() + static_cast<std::ptrdiff_t>(item * embedding.dim());
      result->picture.insert(result->picture.end(), row, row + static_cast<std::ptrdiff_t>(embedding.dim()));
    }
  }

  void Report(size_t index, const RowResult& result, const char* suffix) {
    char text[200], figures[80];
    if (keys_[index].point >= 0)
      std::snprintf(figures, sizeof(figures), "validation auc %.4f", result.valid_auc);
    else
      std::snprintf(figures, sizeof(figures), "auc %.4f auc_pop %.4f hr20 %.4f", result.test.Auc(),
                    result.test.AucPop(), result.test.Hr20());
    std::snprintf(text, sizeof(text), "%zu epochs (best %d)%s in %s: %s%s", result.state.curve.size(),
                  result.state.best_epoch, result.state.capped ? " CAPPED" : "",
                  FormatSeconds(result.state.seconds).c_str(), figures, suffix);
    progress_->EndRow(index, static_cast<int>(result.state.curve.size()), result.state.seconds, text);
  }

  Json WriteResults() {
    const Json metrics = MetricsJson(run_);
    // Names of items and columns are bytes of the log; what is not UTF-8 is replaced.
    const auto dump = [](const Json& json, int indent) {
      return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
    };
    WriteText((out_ / "metrics.json").string(), dump(metrics, 1));
    WriteText((out_ / "curves.json").string(), dump(CurvesJson(run_), -1));
    WriteText((out_ / "picture.json").string(), dump(PictureJson(run_), -1));
    return metrics;
  }

  int Stopped() {
    run_.interrupted = true;
    for (auto row = run_.rows.begin(); row != run_.rows.end();) {
      row = row->second.empty() ? run_.rows.erase(row) : std::next(row);
    }
    if (!run_.baselines.empty()) WriteResults();
    Note("stopped after " + FormatSeconds(Seconds()) + "; the same command with --resume continues");
    return kExitInterrupted;
  }

  const Options& options_;
  const std::atomic<bool>& stop_;
  RunShare* share_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  Pool pool_;
  int64_t memory_ = 0;              // bytes to use at most; 0 = unknown
  std::unique_ptr<Device> device_;  // of the tables; null = the CPU
  fs::path out_;
  RunData run_;
  LogView view_;
  EnvelopeLog envelope_log_;
  std::vector<RowKey> keys_;
  Pretrained pretrained_;
  std::shared_ptr<Progress> progress_;
};

}  // namespace

int Run(const Options& options, const std::atomic<bool>& stop) { return RunShared(options, stop, nullptr); }

int RunShared(const Options& options, const std::atomic<bool>& stop, RunShare* share) {
  try {
    Runner runner(options, stop, share);
    const int code = runner.Do();
    runner.Leave();
    return code;
  } catch (const fs::filesystem_error& error) {
    throw Error{error.what()};
  }
}

}  // namespace resembed::train
