// SPDX-License-Identifier: Apache-2.0
// A whole run: log, graph, baselines, every row, files. Throws Error for what a user can act on.
#pragma once

#include <atomic>
#include <string>

#include "host/train/config.h"

namespace resembed::train {

inline constexpr int kExitInterrupted = 130;

// 0 when everything was done, kExitInterrupted when `stop` was set; then --resume continues.
int Run(const Options& options, const std::atomic<bool>& stop);

// A file as a whole or not at all. Throws Error.
void WriteText(const std::string& path, const std::string& text);

// Draws OUT/report.html with the first Python that has numpy and matplotlib; a sentence when there is none.
std::string DrawReport(const std::string& out);

}  // namespace resembed::train
