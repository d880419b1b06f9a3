// SPDX-License-Identifier: Apache-2.0
// resembed-graph: exit 0 done, 1 the run failed, 2 a bad option.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "host/graph_tool/tool.h"

namespace {

using resembed::graph_tool::Options;

void AddLists(CLI::App* app, Options* o) {
  const std::string group = "Graph";
  auto& list = o->list;
  app->add_option("--neighbors", list.neighbors, "Neighbors K of an item")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(group);
  app->add_option("--min-count", list.min_count, "Smaller counts make no neighbor")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  app->add_option("--popularity", list.popularity,
                  "Choose neighbors by count / (row sum of the neighbor)^this")
      ->check(CLI::Range(0.0, 1.0))
      ->group(group);
  app->add_option("--self-loop", list.self_loop,
                  "Each item is its own first neighbor with this count; -1: the largest")
      ->check(CLI::Range(int64_t{-1}, INT64_MAX))
      ->group(group);
  app->add_option("--symmetrize", list.symmetry, "mutual: edges of both lists; union: of either, cut at K")
      ->check(CLI::IsMember({"mutual", "union"}))
      ->group(group);
  app->add_flag("--two-hop", list.two_hop, "Also the K largest weights of two GCN hops")->group(group);
  app->add_option("--resolution", list.resolution, "Of the centers; larger = more of them")
      ->check(CLI::Range(0.01, 1000.0))
      ->capture_default_str()
      ->group(group);
  app->add_option("--max-center-items", list.max_center_items, "Most items of a center; 0 = no limit")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  app->add_option("--max-centers", list.max_centers, "Most centers; 0 = no limit")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  app->add_flag("--cold-center", list.cold_center, "Items without a neighbor share a center of their own")
      ->group(group);
}

void AddCounting(CLI::App* app, Options* o) {
  const std::string group = "Counting (kept for updates)";
  app->add_option("--window", o->count.window, "Radius of the co-visit window")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group(group);
  app->add_option("--pair-value", o->count.pair_value,
                  "What one visit of a pair counts; e.g. 1000 where counts decay")
      ->check(CLI::Range(int64_t{1}, int64_t{4294967295}))
      ->capture_default_str()
      ->group(group);
  app->add_option("--max-user-items", o->count.max_user_items,
                  "Only the last so many events of a user count; 0 = all")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  app->add_option("--max-pair-uses", o->count.max_pair_uses,
                  "A user counts one pair at most so often; 0 = no limit")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
  app->add_option("--session-gap", o->count.session_gap,
                  "Cut a user's events where the order grows by more; 0 = never")
      ->check(CLI::NonNegativeNumber)
      ->group(group);
}

void AddLog(CLI::App* app, Options* o) {
  app->add_option("--data", o->data, "Log to read: .tsv or .csv, plain or .gz")->required();
  app->add_option("--columns", o->columns, "Which column is what: user=NAME,item=NAME,order=NAME");
  app->add_option("--memory", o->memory_gb,
                  "GB for sorting the log, then for pair counts; what is beyond goes to files in --out")
      ->check(CLI::Range(0.001, 100000.0))
      ->capture_default_str();
  app->add_option("--backend", o->backend, "Where pairs are counted and lists made; the files are the same")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app->add_option("--device", o->device, "Number of the GPU")
      ->check(CLI::Range(0, 1023))
      ->capture_default_str();
  app->add_option("--device-memory", o->device_memory_gb, "GB of its memory for counts and lists")
      ->check(CLI::Range(0.001, 100000.0))
      ->capture_default_str();
  CLI::Option* train_users =
      app->add_flag("--train-users", o->count.train_users,
                    "Count only the training users of resembed-train's split (kept for updates)");
  app->add_option("--split-seed", o->count.split_seed, "Seed of that split")
      ->capture_default_str()
      ->needs(train_users);
}

// To the library 0 means no decay; who writes 0 here means that nothing of the old counts be kept.
std::string IsDecay(std::string& text) {
  double factor = 0;
  if (CLI::detail::lexical_cast(text, factor) && factor > 0 && factor <= 1) return "";
  return "is " + text + "; needs a factor > 0 and at most 1, or to be left out";
}

}  // namespace

int main(int argc, char** argv) {
  namespace tool = resembed::graph_tool;
  Options options;
  CLI::App app("Interest graphs from behavior logs", "resembed-graph");
  app.require_subcommand(1);
  app.add_flag("--quiet", options.quiet, "No progress");
  CLI::App* build = app.add_subcommand("build", "A graph from a log");
  AddLog(build, &options);
  build->add_option("--out", options.out, "Folder for the graph")->required();
  AddCounting(build, &options);
  AddLists(build, &options);

  CLI::App* update = app.add_subcommand("update", "Another day on top of stored counts");
  AddLog(update, &options);
  update->add_option("--state", options.state, "Folder of the graph so far")->required();
  update->add_option("--out", options.out, "Folder for the new one; without it --state is replaced");
  update
      ->add_option("--decay", options.decay, "Factor for the old counts, rounded down; without it they stay")
      ->check(CLI::Validator(IsDecay, "FLOAT in (0, 1]"));
  update->add_option("--remove", options.remove, "File of items that are gone, one a line");
  AddLists(update, &options);

  CLI::App* inspect = app.add_subcommand("inspect", "Degrees, ties, centers, neighbors of items");
  inspect->add_option("--state", options.state, "Folder of the graph")->required();
  inspect->add_option("--item", options.items, "Show the neighbors of this item (may be repeated)");
  inspect->add_option("--names", options.names,
                      "File of item and name to show with it: .tsv or .csv, plain or .gz");

  CLI::App* write = app.add_subcommand("export", "Rows of item, neighbor, weight");
  write->add_option("--state", options.state, "Folder of the graph")->required();
  write->add_option("--edges", options.edges, "File to write (.tsv)")->required();

  CLI::App* read =
      app.add_subcommand("import", "A graph made elsewhere, from rows of item, neighbor, weight");
  read->add_option("--edges", options.edges, "File to read: .tsv or .csv, plain or .gz")->required();
  read->add_option("--items", options.items, "items.tsv whose rows to keep")->expected(1);
  read->add_option("--out", options.out, "Folder for the graph")->required();
  AddLists(read, &options);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  for (const CLI::App* command : app.get_subcommands()) {
    for (const CLI::Option* option : command->get_options()) {
      if (option->count() > 0) options.named.push_back(option->get_name());
    }
  }
  try {
    if (build->parsed()) tool::Build(options);
    if (update->parsed()) tool::Update(options);
    if (inspect->parsed()) tool::Inspect(options);
    if (write->parsed()) tool::Export(options);
    if (read->parsed()) tool::Import(options);
    return 0;
  } catch (const resembed::train::Error& error) {
    std::fprintf(stderr, "resembed-graph: %s\n", error.message.c_str());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "resembed-graph: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "resembed-graph: %s\n", error.what());
  }
  return 1;
}
