// SPDX-License-Identifier: Apache-2.0
// The heads' arithmetic on a GPU: products by cuBLAS (fp32, no TF32, no atomics), everything else by kernels.
#pragma once

#include <memory>
#include <string>

#include "host/train/dense_math.h"
#include "host/train/device.h"

namespace resembed::train {

// For the thread and the stream of `device`, which it must not outlive: Device::UseDense. *what: the library
// and its version; or, of null, why there is none: no cuBLAS, or a trainer built without it. Throws Error for
// what cuBLAS itself refuses. most_blocks bounds the grids; results do not depend on it.
std::unique_ptr<DenseMath> OpenDeviceMath(Device* device, std::string* what, int64_t most_blocks = 4096);

}  // namespace resembed::train
