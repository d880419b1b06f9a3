// SPDX-License-Identifier: Apache-2.0
// Threads of the CPU backend: the caller's executor, or the library's own pool.
#pragma once

#include <cstdint>
#include <type_traits>

#include "resembed/resembed.h"

namespace resembed::detail {

// Cheap to copy. ParallelFor calls body(index) once for each index in [0, n_tasks), in any order and
// on any thread, and returns when all are done. The body must not throw.
class Executor {
 public:
  // place->executor, or the library's pool (started once, one std::thread per core the process may run on;
  // serial in a forked child, design.md 9.9).
  explicit Executor(const resembed_place& place);

  int width() const { return width_; }

  template <typename Body>
  void ParallelFor(int64_t n_tasks, Body&& body) const {
    if (n_tasks <= 0) return;
    if (n_tasks == 1 || width_ <= 1) {
      for (int64_t task = 0; task < n_tasks; ++task) body(task);
      return;
    }
    using BodyT = std::remove_reference_t<Body>;
    Run(
        n_tasks, [](void* arg, int64_t index) { (*static_cast<BodyT*>(arg))(index); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  void Run(int64_t n_tasks, void (*task)(void*, int64_t), void* arg) const;

  int width_ = 1;
  const resembed_executor* caller_ = nullptr;
};

}  // namespace resembed::detail
