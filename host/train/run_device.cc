// SPDX-License-Identifier: Apache-2.0
#include "host/train/run_device.h"

#include <cstdio>

#include "host/train/dense_device.h"
#include "host/train/log.h"

namespace resembed::train {

std::unique_ptr<Device> OpenDevice(const Options& options, std::string* dense) {
  std::unique_ptr<Device> device = Device::Open(options.device);
  std::string what = "--dense is host";
  if (options.dense != "host") device->UseDense(OpenDeviceMath(device.get(), &what));
  const bool there = device->dense() != nullptr;
  if (!there && options.dense == "cublas") {
    throw Error{"--dense is cublas; needs a cuBLAS that can be loaded (" + what + ")"};
  }
  std::fprintf(stderr, "dense part: on the %s (%s)\n", there ? "GPU" : "host", what.c_str());
  *dense = there ? "cublas" : "host";
  return device;
}

}  // namespace resembed::train
