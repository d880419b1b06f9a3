// SPDX-License-Identifier: Apache-2.0
#include "host/train/use.h"

#include <CLI/CLI.hpp>

namespace resembed::train {

namespace {

void AddCommon(CLI::App* command, UseOptions* o, const char* name) {
  command->callback([o, name] { o->command = name; });
  command->add_option("--model", o->model, "HEAD/VARIANT/seedN.safetensors of a run's folder")->required();
  command->add_option(
      "--catalog", o->catalog,
      "Table of items with a header: item, name, and a column group for items without events");
  command->add_option("--catalog-columns", o->catalog_columns, "item=NAME,name=NAME,group=NAME of --catalog");
  command
      ->add_option("--threads", o->threads, "Threads; 0 = every core it may use. Results do not depend on it")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
}

}  // namespace

void AddUseCommands(CLI::App* app, UseOptions* o) {
  app->require_subcommand(0, 1);
  CLI::App* const recommend =
      app->add_subcommand("recommend", "The best items for users, by a trained model");
  AddCommon(recommend, o, "recommend");
  recommend->add_option("--history", o->history, "Events of the users: a file as --data takes it")
      ->required();
  recommend->add_option("--columns", o->columns, "Which column is what: user=NAME,item=NAME,order=NAME");
  recommend->add_option("--top", o->top, "Items for each user")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str();
  recommend->add_flag("--exclude-seen", o->exclude_seen, "Leave out the items of a user's history");
  recommend->add_option("--out", o->out, "File for the table (.tsv); without it stdout");

  CLI::App* const write =
      app->add_subcommand("export", "Item vectors of a trained model, for numpy or a vector index");
  AddCommon(write, o, "export");
  write->add_option("--out", o->out, "Folder for the files")->required();
}

int Use(const UseOptions& options) {
  if (options.command == "recommend") {
    Recommend(options);
  } else {
    Export(options);
  }
  return 0;
}

}  // namespace resembed::train
