// SPDX-License-Identifier: Apache-2.0
// --fit-all: after the rows that hold users out, one model of each head that learns from every user.
#pragma once

#include <atomic>
#include <string>

#include "host/train/metrics.h"

namespace resembed::train {

inline constexpr char kFitAllFolder[] = "fit_all";

// For each head the variant best on validation (mean over seeds; the first of equals) is trained once more, with
// seed 1, on every user of the log, for as many epochs as its rows were best after (mean over seeds, rounded);
// graph, popularity and biases are those of every user, the hyperparameters those of the rows. With
// options.fit_epochs no row has been trained: it is that many epochs of the one variant of the options.
// Writes OUT/fit_all/: HEAD/VARIANT/seed1.safetensors, graph.safetensors, items.tsv; fills run->fit_all
// (SCHEMA.md). False when `stop` was set; with options.resume a later call goes on. Throws Error.
bool FitAll(RunData* run, Pool* pool, Device* device, const std::atomic<bool>& stop);

}  // namespace resembed::train
