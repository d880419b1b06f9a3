// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include "host/train/config.h"
#include "host/train/sweep.h"
#include "host/train/use.h"
#include "host/train/variant.h"

namespace resembed::train {

namespace {

void AddRunOptions(CLI::App* app, Options* o, std::string* variants, std::string* head, std::string* preset) {
  app->add_option("--data", o->data, "Log to read: .tsv or .csv, plain or .gz; without it a log is generated")
      ->group("Data");
  app->add_option("--columns", o->columns, "Which column is what: user=NAME,item=NAME,order=NAME")
      ->group("Data");
  app->add_option("--split", o->split,
                  "user: 80/10/10 of the users; time: one cut in time, targets lie after what trains")
      ->check(CLI::IsMember({"user", "time"}))
      ->capture_default_str()
      ->group("Data");
  app->add_option("--time-cut", o->time_cut,
                  "Share of the events that trains with --split time; half of the rest validates, then tests")
      ->check(CLI::Range(0.01, 0.99))
      ->capture_default_str()
      ->group("Data");
  app->add_option(
         "--catalog", o->catalog,
         "Table of items with a header: item, name (.tsv or .csv, plain or .gz); names in the report")
      ->group("Data");
  app->add_option("--catalog-columns", o->catalog_columns,
                  "Which column of --catalog is what: item=NAME,name=NAME,group=NAME")
      ->group("Data");
  app->add_option("--split-seed", o->split_seed, "Seed of the split of users 80/10/10")
      ->capture_default_str()
      ->group("Data");
  app->add_option("--train-fraction", o->train_fraction, "Share of the training users to keep")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group("Data");

  app->add_option("--out", o->out, "Folder for results")->capture_default_str()->group("Run");
  app->add_option("--seeds", o->seeds, "Runs of every row, with seeds 1..N of initialization and sampling")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group("Run");
  app->add_option(
         "--head", *head,
         "mlp (ranking), dot (retrieval), both; din (mlp with target attention over the history), all")
      ->check(CLI::IsMember({"mlp", "dot", "din", "both", "all"}))
      ->capture_default_str()
      ->group("Run");
  std::string all;
  for (const Variant& variant : Variants()) all += (all.empty() ? "" : ",") + std::string(variant.name);
  app->add_option("--variants", *variants, "Some of " + all + "; all that are not pretrained by default")
      ->group("Run");
  app->add_flag(
         "--tune", o->tune,
         "Choose lr, then lambda of every variant on validation, from the same values (docs/concepts.md)")
      ->group("Run");
  app->add_option("--tuned", o->tuned, "metrics.json of a run with --tune: take the lr and lambda it chose")
      ->check(CLI::ExistingFile)
      ->group("Run");
  app->add_option("--threads", o->threads, "Threads; 0 = every core it may use. Results do not depend on it")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str()
      ->group("Run");
  app->add_option(
         "--memory", o->memory_gb,
         "GB to use at most: a larger log is sorted in files of --out, a row that needs more is refused; "
         "0 = what the machine has free")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group("Run");
  app->add_option("--backend", o->backend, "Where tables and optimizer state live: cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str()
      ->group("Run");
  app->add_option(
         "--dense", o->dense,
         "Where --backend cuda computes the heads' dense part: cublas, on the GPU; host; auto = cublas where "
         "the library is found (libcublas.so, or the file that RESEMBED_CUBLAS names)")
      ->check(CLI::IsMember({"auto", "host", "cublas"}))
      ->capture_default_str()
      ->group("Run");
  app->add_option("--device", o->device, "Number of the GPU")
      ->check(CLI::Range(0, 1023))
      ->capture_default_str()
      ->group("Run");
  app->add_flag("--fit-all", o->fit_all,
                "Then train each head's variant best on validation on every user, into OUT/fit_all")
      ->group("Run");
  app->add_option("--fit-epochs", o->fit_epochs,
                  "--fit-all for so many epochs at once: no user is held out, nothing is measured")
      ->check(CLI::Range(1, 100000))
      ->group("Run");
  app->add_flag("--resume", o->resume, "Continue an interrupted run in --out")->group("Run");
  app->add_flag("!--no-report", o->report, "Do not draw report.html")->group("Run");
  app->add_option("--envelope-every", o->envelope_every,
                  "Steps between two measurements of the envelope (envelope.jsonl); 0 = never")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str()
      ->group("Run");
  app->add_flag("--protocol", o->protocol,
                "Write log, split and evaluation sets to protocol.safetensors, for models trained elsewhere")
      ->group("Run");
  app->add_option(
         "--preset", *preset,
         "default; paper: history = plain sum of 50 events, no repeat features; full: every variant, "
         "--tune")
      ->check(CLI::IsMember({"default", "paper", "full"}))
      ->capture_default_str()
      ->group("Run");
}

void AddModelOptions(CLI::App* app, Options* o) {
  const std::string group = "Model";
  app->add_option("--dim", o->dim, "Columns of R and C")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->group(group);
  app->add_option("--window", o->window, "Radius of the co-visit window of the interest graph")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group(group);
  app->add_option("--neighbors", o->neighbors, "Neighbors K of an item")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(group);
  app->add_option("--graph", o->graph,
                  "Folder of resembed-graph (built from this log with --train-users) to take the graph from")
      ->group(group);
  app->add_flag("--graph-two-hop", o->graph_two_hop,
                "Lists and gcn weights of two hops, cut at K, in the place of the graph's own")
      ->group(group);
  app->add_flag("--graph-leave-one-out", o->graph_leave_one_out,
                "A training sample sees the graph without its user's clicks (central and avg)")
      ->group(group);
  app->add_option("--resolution", o->resolution,
                  "Of the assignment of items to centers; larger = more centers")
      ->check(CLI::Range(0.01, 1000.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--lambda", o->lambda, "Penalty lambda/2 |R|^2 on touched rows (default by head)")
      ->check(CLI::NonNegativeNumber)
      ->group(group);

  app->add_option("--residual-cap", o->residual_cap,
                  "Most that |R[i]| may be, times the mean norm of central parts (variants with both parts)")
      ->check(CLI::PositiveNumber)
      ->group(group);
  app->add_option("--residual-ratio", o->residual_ratio,
                  "Median |R| : |central part| to hold by adjusting lambda (variants with both parts)")
      ->check(CLI::PositiveNumber)
      ->group(group);

  const std::string training = "Training (defaults by head: see docs/concepts.md)";
  app->add_option("--epochs", o->epochs, "Most epochs of a row; a row that gets there is marked capped")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(training);
  app->add_option("--patience", o->patience, "Epochs without a better validation figure before a row ends")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(training);
  app->add_option("--pretrain-window", o->pretrain_window,
                  "plain_pretrained: largest distance of a skip-gram pair")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group(training);
  app->add_option("--targets", o->targets, "Targets of a training user in an epoch")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(training);
  app->add_option("--batch", o->batch, "Samples of a step (default: an epoch has some 300 steps)")
      ->check(CLI::Range(1, 1 << 20))
      ->group(training);
  app->add_option("--optimizer", o->optimizer, "Of the tables: adam (lazy) or adagrad (row-wise)")
      ->check(CLI::IsMember({"adam", "adagrad"}))
      ->group(training);
  app->add_option("--lr", o->lr, "Learning rate of the tables")->check(CLI::PositiveNumber)->group(training);
  app->add_option("--dense-lr", o->dense_lr, "Learning rate of the head (Adam)")
      ->check(CLI::PositiveNumber)
      ->group(training);
  app->add_option("--lr-decay", o->lr_decay, "Rates shrink by this share each epoch")
      ->check(CLI::Range(0.0, 0.99))
      ->group(training);
  app->add_option("--init", o->init, "Tables start as N(0, init^2 / dim)")
      ->check(CLI::PositiveNumber)
      ->group(training);
  app->add_option("--dropout", o->dropout, "Share of embedding columns dropped in training")
      ->check(CLI::Range(0.0, 0.9))
      ->group(training);
  app->add_option("--negatives", o->negatives, "dot: negatives shared by a batch")
      ->check(CLI::Range(1, 1 << 20))
      ->group(training);
  app->add_option("--negative-alpha", o->negative_alpha, "dot: negatives are drawn from popularity^alpha")
      ->check(CLI::Range(0.0, 2.0))
      ->group(training);
  app->add_option("--negative-correction", o->negative_correction, "dot: share of log Q taken off the logits")
      ->check(CLI::Range(0.0, 2.0))
      ->group(training);
  app->add_option("--scale", o->scale,
                  "dot: first scale of the product; din: scale of the attention's scores")
      ->check(CLI::PositiveNumber)
      ->group(training);
  app->add_option("--query-transform", o->query_transform, "dot: 1 = a learned matrix on the pooled history")
      ->check(CLI::Range(0, 1))
      ->group(training);
  app->add_option("--bias-lr", o->bias_lr, "dot: learning rate of item biases (Adagrad)")
      ->check(CLI::PositiveNumber)
      ->group(training);
}

void AddGeneratorOptions(CLI::App* app, Options* o) {
  GeneratorOptions* g = &o->generator;
  const std::string group = "Generated log (without --data)";
  app->add_option("--users", g->n_users, "Users")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str()
      ->group(group);
  app->add_option("--items", g->n_items, "Items")
      ->check(CLI::Range(1, 1000000000))
      ->capture_default_str()
      ->group(group);
  app->add_option("--interests", g->n_interests, "Interests")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str()
      ->group(group);
  app->add_option("--period", g->period, "Clicks of one interest period")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(group);
  app->add_option("--mean-periods", g->mean_periods, "Mean periods of a user")
      ->check(CLI::Range(1.0, 400.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--zipf", g->zipf, "Skew of popularity inside an interest")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--interest-zipf", g->interest_zipf, "Skew of the interests' sizes")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--overlap", g->overlap, "Share of clicks from a neighboring interest")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--noise", g->noise, "Share of clicks drawn from the whole catalogue")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--repeat", g->repeat, "Share of clicks that repeat an earlier click")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--stay", g->stay, "Chance that the next interest is one the user had before")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--save-log", o->save_log, "File to write the generated log to: .tsv or .tsv.gz")
      ->group(group);
  app->add_flag("--log-only", o->log_only, "End when --save-log is written")->group(group);
  app->add_option("--log-seed", g->seed, "Seed of the generated log")->capture_default_str()->group(group);
}

}  // namespace

std::vector<std::string> SplitNames(const std::string& list) {
  std::vector<std::string> names;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) names.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

bool ParseOptions(int argc, char** argv, Options* options, int* exit_code) {
  CLI::App app{
      "Trains residual embeddings from a behavior log and compares them with plain tables and with counts.",
      "resembed-train"};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  std::string variants, head = "both", preset = "default", sweep;
  AddRunOptions(&app, options, &variants, &head, &preset);
  app.add_option(
         "--sweep", sweep,
         "A run for each value of an option, of plain,plain_l2,central,avg by default: NAME[=V1,V2,..]; " +
             SweepDefaults())
      ->group("Run");
  AddModelOptions(&app, options);
  AddGeneratorOptions(&app, options);
  AddUseCommands(&app, &options->use);
  const auto fail = [&](const std::string& reason) {
    std::fprintf(stderr, "resembed-train: %s\n", reason.c_str());
    *exit_code = 2;
    return false;
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    *exit_code = 0;
    return false;
  } catch (const CLI::ParseError& error) {
    return fail(std::string(error.what()) + " (see --help)");
  }
  if (!options->use.command.empty()) {
    for (const CLI::Option* option : app.get_options()) {
      if (option->count() == 0) continue;
      return fail(option->get_name() + " is given before " + options->use.command + "; needs to follow it");
    }
    return true;
  }
  if (options->train_fraction <= 0) return fail("--train-fraction is 0; needs more than 0 and at most 1");
  if (head == "all") options->heads.push_back(Head::kDin);
  for (const Head one : {Head::kMlp, Head::kDot, Head::kDin}) {
    if (head == HeadName(one)) options->heads = {one};
  }
  if (preset == "paper") options->preset = Preset::kPaper;
  if (preset == "full") options->preset = Preset::kFull;
  options->tune = options->tune || options->preset == Preset::kFull;
  options->generator.keep_times = options->split == "time";
  if (options->split == "time") {
    for (const char* name : {"--graph", "--protocol", "--split-seed"}) {
      if (app.count(name) > 0)
        return fail(std::string(name) + " is given with --split time; needs --split user");
    }
  } else if (app.count("--time-cut") > 0) {
    return fail("--time-cut is given; needs --split time");
  }
  if (app.count("--sweep") > 0) {
    const std::string reason = ParseSweep(sweep, &options->sweep);
    if (!reason.empty()) return fail(reason);
    const std::string& name = options->sweep.name;
    if (app.count("--" + name) > 0)
      return fail("--" + name + " is given with --sweep " + name + "; needs one of them");
    if (name == "train-fraction" && !options->graph.empty()) {
      return fail("--graph is given with --sweep train-fraction; needs one of them");
    }
    if (options->tune && name == "lambda")
      return fail("--tune is given with --sweep lambda; needs one of them");
    if (options->fit_all) return fail("--fit-all is given with --sweep; needs one of them");
    if (app.count("--variants") == 0) variants = "plain,plain_l2,central,avg";
  }
  options->variants = SplitNames(variants);
  if (app.count("--variants") > 0 && options->variants.empty())
    return fail("--variants is empty; needs a name");
  std::string names;
  for (const Variant& variant : Variants()) {
    names += (names.empty() ? "" : ", ") + std::string(variant.name);
    if (!variants.empty()) continue;
    if (!variant.pretrained || options->preset == Preset::kFull) options->variants.push_back(variant.name);
  }
  for (size_t i = 0; i < options->variants.size(); ++i) {
    const std::string& name = options->variants[i];
    if (FindVariant(name) == nullptr) return fail("--variants has " + name + "; needs some of " + names);
    if (std::find(options->variants.begin(), options->variants.begin() + static_cast<std::ptrdiff_t>(i),
                  name) != options->variants.begin() + static_cast<std::ptrdiff_t>(i)) {
      return fail("--variants has " + name + " twice; needs each name once");
    }
  }
  if (options->data.empty()) {
    const GeneratorOptions& g = options->generator;
    if (!options->columns.empty()) return fail("--columns is given; needs --data");
    if (g.n_items < 2 * g.n_interests) {
      return fail("--items is " + std::to_string(g.n_items) + "; needs at least two for each of the " +
                  std::to_string(g.n_interests) + " interests");
    }
  }
  if (!options->data.empty() && !options->save_log.empty()) {
    return fail("--save-log is given with --data; needs a generated log");
  }
  if (options->log_only && options->save_log.empty()) return fail("--log-only is given; needs --save-log");
  if (!options->graph.empty()) {
    for (const char* name : {"--window", "--neighbors", "--resolution"}) {
      if (app.count(name) == 0) continue;
      return fail(std::string(name) +
                  " is given with --graph; needs one of them (resembed-graph build takes " + name + ")");
    }
  }
  if (options->graph_leave_one_out) {
    if (!options->graph.empty())
      return fail("--graph-leave-one-out is given with --graph; needs one of them");
    if (options->graph_two_hop) {
      return fail("--graph-leave-one-out is given with --graph-two-hop; needs one of them");
    }
    if (std::count(options->heads.begin(), options->heads.end(), Head::kDin) > 0) {
      return fail("--graph-leave-one-out is given with --head " + head + "; needs mlp, dot or both");
    }
    for (const std::string& name : options->variants) {
      const resembed_central_form form = FindVariant(name)->form;
      if (form == RESEMBED_CENTRAL_NONE || form == RESEMBED_CENTRAL_UNIFORM) continue;
      return fail("--graph-leave-one-out is given and --variants has " + name +
                  "; needs some of plain, plain_l2, plain_2x, central, avg");
    }
  }
  const bool follows = options->residual_ratio > 0 || options->sweep.name == "residual-ratio";
  if ((follows || options->residual_cap > 0) && options->envelope_every == 0) {
    return fail(std::string(follows ? "--residual-ratio" : "--residual-cap") +
                " is given with --envelope-every 0; needs 1 or more");
  }
  if (follows && (options->lambda == 0 || options->sweep.name == "lambda")) {
    return fail(
        "--residual-ratio adjusts lambda; needs a --lambda above 0 to start from, and no --sweep lambda");
  }
  if (app.count("--device") > 0 && options->backend != "cuda") {
    return fail("--device is given; needs --backend cuda");
  }
  if (app.count("--dense") > 0 && options->backend != "cuda") {
    return fail("--dense is given; needs --backend cuda");
  }
  if (options->catalog.empty() && !options->catalog_columns.empty()) {
    return fail("--catalog-columns is given; needs --catalog");
  }
  if (options->fit_epochs > 0 && (!options->fit_all || options->variants.size() != 1)) {
    return fail("--fit-epochs is given; needs --fit-all and one name in --variants");
  }
  if (options->tune && !options->tuned.empty())
    return fail("--tuned is given with --tune; needs one of them");
  if (options->fit_epochs > 0 && options->tune) {
    return fail("--fit-epochs is given with --tune; needs one of them");
  }
  if (options->fit_all && options->train_fraction < 1) {
    return fail("--fit-all is given with --train-fraction; needs one of them");
  }
  if (options->out.empty()) return fail("--out is empty; needs a folder");
  for (int i = 0; i < argc; ++i) options->command += (i > 0 ? " " : "") + std::string(argv[i]);
  return true;
}

}  // namespace resembed::train
