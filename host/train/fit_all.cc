// SPDX-License-Identifier: Apache-2.0
#include "host/train/fit_all.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "host/train/names.h"
#include "host/train/pretrain.h"
#include "host/train/progress.h"
#include "host/train/saved_model.h"

namespace resembed::train {

namespace {

namespace fs = std::filesystem;

struct Fit {
  RowKey key;
  int epochs;
  double seconds_per_epoch;  // of its rows; 0 = not known
};

Fit ChooseFit(const RunData& run, Head head) {
  const Options& o = *run.options;
  if (o.fit_epochs > 0) return {{head, o.variants[0], 1}, o.fit_epochs, 0};
  Fit best = {};
  double best_valid = -1;
  for (const std::string& variant : o.variants) {
    const std::vector<RowResult>& rows = run.rows.at({head, variant});
    double valid = 0, epochs = 0, seconds = 0, n_epochs = 0;
    for (const RowResult& row : rows) {
      valid += row.state.best_valid / static_cast<double>(rows.size());
      epochs += row.state.best_epoch / static_cast<double>(rows.size());
      seconds += row.state.seconds;
      n_epochs += static_cast<double>(row.state.curve.size());
    }
    if (valid <= best_valid) continue;
    best_valid = valid;
    best = {{head, variant, 1}, static_cast<int>(std::lround(epochs)), seconds / n_epochs};
  }
  return best;
}

// Everything that the split's training users were to the rows, for every user.
struct Everybody {
  explicit Everybody(const RunData& run, int threads) {
    const Options& o = *run.options;
    users.train.resize(static_cast<size_t>(run.log.n_users()));
    std::iota(users.train.begin(), users.train.end(), 0);
    training = MakeTrainingView(run.log, users);
    view = MakeLogView(run.log, training);
    for (const int32_t user : users.train) {
      const size_t u = static_cast<size_t>(user);
      n_samples += std::min<int64_t>(o.targets, run.log.offsets[u + 1] - run.log.offsets[u] - 1);
    }
    if (!o.graph.empty()) {
      graph = run.graph;
      return;
    }
    graph = BuildGraph(run.log, users, o.window, o.neighbors, o.resolution);
    if (o.graph_two_hop) TakeTwoHops(&graph);
    if (o.graph_leave_one_out) graph.own = MakeOwnLists(run.log, users, graph, threads);
  }

  Split users;
  TrainingView training;
  LogView view;
  InterestGraph graph;
  int64_t n_samples = 0;  // of an epoch
};

}  // namespace

bool FitAll(RunData* run, Pool* pool, Device* device, const std::atomic<bool>& stop) {
  const Options& o = *run->options;
  const fs::path out = fs::path(o.out) / kFitAllFolder;
  fs::create_directories(out);
  const Everybody all(*run, pool->width());
  WriteText((out / "items.tsv").string(), ItemsTable(run->log.item_names));
  SaveGraph(all.graph, run->log, (out / "graph.safetensors").string());

  std::vector<Fit> fits;
  std::vector<Progress::Row> rows;
  for (const Head head : o.heads) {
    fits.push_back(ChooseFit(*run, head));
    const Fit& fit = fits.back();
    const double growth = static_cast<double>(all.n_samples) / static_cast<double>(run->n_samples);
    rows.push_back({"every user: " + std::string(HeadName(head)) + " " + fit.key.variant, HeadName(head),
                    fit.key.variant, std::max(fit.seconds_per_epoch * growth, 1e-3), 0.0});
  }
  int most = 0;
  for (const Fit& fit : fits) most = std::max(most, fit.epochs);
  Progress progress(rows, most, 0);
  EnvelopeLog log((out / "envelope.jsonl").string());
  if (!o.resume) log.Clear();
  nlohmann::json models = nlohmann::json::object();
  for (size_t index = 0; index < fits.size(); ++index) {
    const Fit& fit = fits[index];
    Hyper hyper = TunedHyper(HyperOf(o, fit.key.head, run->n_samples), fit.key, run->tuning);
    hyper.epochs = fit.epochs;
    const Variant& variant = *FindVariant(fit.key.variant);
    const std::unique_ptr<Learner> learner =
        MakeLearner(variant, all.graph, all.view, hyper, 1, pool, device);
    if (variant.pretrained) {
      const PretrainTask task = {&all.view,
                                 &all.users.train,
                                 o.dim,
                                 o.pretrain_window,
                                 1,
                                 pool,
                                 device,
                                 &stop,
                                 [&progress](const std::string& text) { progress.Note(text); }};
      Pretrained pretrained;
      if (!Pretrain(task, &pretrained)) return false;
      StartFrom(pretrained, all.view, hyper.init, learner.get());
    }
    // Named after the number of epochs: another number is another fit.
    const std::string current =
        (fs::path(o.out) / "checkpoint" / ("fit_all_" + std::to_string(fit.epochs) + ".safetensors"))
            .string();
    TrainState state;
    if (o.resume && LoadProgress(current, fit.key, learner.get(), &state)) {
      progress.Note("continuing " + fit.key.Name() + " on every user at epoch " +
                    std::to_string(state.epoch));
    }
    RowInstrument instrument(fit.key, hyper, variant, run->sample, o.envelope_every, learner.get(), &state,
                             &log);
    progress.BeginRow(index);
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    auto saved = begin;
    const double seconds_before = state.seconds;
    const int64_t epochs_before = state.epoch - 1;
    TrainTask task = {fit.key.head, &hyper, 1, &all.view, &all.users.train, nullptr, &stop, nullptr, nullptr};
    task.on_step = [&](const TrainState& now, int64_t samples_done, int64_t samples_total) {
      const double share = static_cast<double>(samples_done) / static_cast<double>(samples_total);
      const double here = std::chrono::duration<double>(Clock::now() - begin).count();
      const double done = static_cast<double>(now.epoch - 1 - epochs_before) + share;
      progress.Step(index, now.epoch, share, seconds_before + here,
                    done * static_cast<double>(samples_total) / std::max(here, 1e-9), 0, 0);
      instrument.AfterStep();
    };
    task.on_epoch = [&](const TrainState& now) {
      if (std::chrono::duration<double>(Clock::now() - saved).count() < kCheckpointSeconds) return;
      SaveProgress(current, fit.key, learner.get(), now);
      saved = Clock::now();
    };
    if (!TrainRow(task, learner.get(), &state)) {
      SaveProgress(current, fit.key, learner.get(), state);
      return false;
    }
    SaveModel(out.string(), fit.key, hyper, all.view, all.graph, fit.epochs, learner.get());
    fs::remove(current);
    const std::string model =
        std::string(HeadName(fit.key.head)) + "/" + fit.key.variant + "/seed1.safetensors";
    progress.EndRow(index, fit.epochs, state.seconds,
                    std::to_string(fit.epochs) + " epochs in " + FormatSeconds(state.seconds) +
                        "; no user is left for a test: " + (out / model).string());
    models[HeadName(fit.key.head)] = {{"variant", fit.key.variant}, {"epochs", fit.epochs}, {"file", model}};
  }
  run->fit_all = {{"folder", kFitAllFolder}, {"users", run->log.n_users()}, {"models", models}};
  return true;
}

}  // namespace resembed::train
