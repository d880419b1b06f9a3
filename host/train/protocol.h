// SPDX-License-Identifier: Apache-2.0
// The protocol of a run as a file, for models that are trained elsewhere and compared with this run's rows.
#pragma once

#include <string>

#include "host/train/metrics.h"

namespace resembed::train {

// Log, split, evaluation sets and hyperparameters as safetensors (SCHEMA.md). Throws Error.
void SaveProtocol(const RunData& run, const std::string& path);

}  // namespace resembed::train
