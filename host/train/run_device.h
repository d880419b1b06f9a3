// SPDX-License-Identifier: Apache-2.0
// The GPU of a run.
#pragma once

#include <memory>
#include <string>

#include "host/train/config.h"
#include "host/train/device.h"

namespace resembed::train {

// Of --backend cuda: the GPU --device, with the heads' dense part where --dense says. *dense: "cublas" or
// "host"; says on stderr which, and why. Throws Error where there is no such GPU, or --dense cublas finds no
// library.
std::unique_ptr<Device> OpenDevice(const Options& options, std::string* dense);

}  // namespace resembed::train
