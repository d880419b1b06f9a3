// SPDX-License-Identifier: Apache-2.0
// Reading descriptors whose caller may have compiled against an older (shorter) or newer struct.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace resembed::detail {

// A copy with every field the caller's struct does not reach set to zero.
template <typename T>
T ReadDescriptor(const T* descriptor) {
  T copy;
  std::memset(&copy, 0, sizeof(T));
  if (descriptor != nullptr) {
    std::memcpy(&copy, descriptor, std::min(descriptor->struct_size, sizeof(T)));
    copy.struct_size = sizeof(T);
  }
  return copy;
}

}  // namespace resembed::detail
