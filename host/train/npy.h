// SPDX-License-Identifier: Apache-2.0
// Arrays for numpy.load.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace resembed::train {

// Writes float32 `data` in C order as a .npy file of version 1.0 (numpy/lib/format.py); beside `path`, then renamed.
// Throws Error.
void WriteNpy(const std::string& path, const std::vector<int64_t>& shape, const float* data);

}  // namespace resembed::train
