// SPDX-License-Identifier: Apache-2.0
// Named regions of one caller-owned block. The same walk counts (base null) and carves, so the size query
// and the operation cannot disagree.
#pragma once

#include <cstddef>
#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail {

class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

  // A region of `count` elements, aligned to 64 bytes; null while counting.
  template <typename T>
  T* Take(int64_t count) {
    T* region = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    const size_t bytes = static_cast<size_t>(count < 0 ? 0 : count) * sizeof(T);
    used_ += (bytes + RESEMBED_WORKSPACE_ALIGNMENT - 1) / RESEMBED_WORKSPACE_ALIGNMENT *
             RESEMBED_WORKSPACE_ALIGNMENT;
    return region;
  }

  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace resembed::detail
