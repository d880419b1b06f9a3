// SPDX-License-Identifier: Apache-2.0
// What is done with a model that a run left: resembed-train recommend, resembed-train export.
#pragma once

#include "host/train/config.h"

namespace CLI {
class App;
}

namespace resembed::train {

// The two subcommands; options->command says which one was called.
void AddUseCommands(CLI::App* app, UseOptions* options);

// What the subcommand says. 0, or throws Error.
int Use(const UseOptions& options);

// For every user of a history file the best items, best first: user, rank from 1, item, score[, name]. Users are in
// the file's order. Scores and the order of ties are those of the evaluation (eval.h): the items listed are ranked by
// score, then popularity, then row.
void Recommend(const UseOptions& options);

// Item embeddings and what inner products need as .npy files, items in row order as items.tsv (SCHEMA.md).
void Export(const UseOptions& options);

}  // namespace resembed::train
