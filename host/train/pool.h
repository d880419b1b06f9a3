// SPDX-License-Identifier: Apache-2.0
// Threads of the trainer, lent to the library's operations as an executor.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::train {

// Which thread runs a task is left to chance; results must depend on the task's index only.
class Pool {
 public:
  explicit Pool(int width);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int width() const { return width_; }
  // The CPU, with these threads.
  const resembed_place* place() const { return &place_; }

  // body(index) once for each index in [0, n_tasks). Not nested; called from one thread at a time.
  template <typename Body>
  void ParallelFor(int64_t n_tasks, Body&& body) {
    using BodyT = std::remove_reference_t<Body>;
    Run(
        n_tasks, [](void* arg, int64_t index) { (*static_cast<BodyT*>(arg))(index); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  void Run(int64_t n_tasks, void (*task)(void*, int64_t), void* arg);

 private:
  void Work();

  int width_;
  resembed_executor executor_ = {};
  resembed_place place_ = {};
  std::vector<std::thread> workers_;

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  uint64_t job_ = 0;  // number of the current job; guarded by mutex_, as are the next five
  bool stop_ = false;
  void (*task_)(void*, int64_t) = nullptr;
  void* arg_ = nullptr;
  int64_t n_tasks_ = 0;
  int busy_ = 0;  // workers inside the current job
  std::atomic<int64_t> next_{0};
};

}  // namespace resembed::train
