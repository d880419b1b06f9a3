// SPDX-License-Identifier: Apache-2.0
#include "host/train/pool.h"

namespace resembed::train {

Pool::Pool(int width) : width_(width < 1 ? 1 : width) {
  executor_.struct_size = sizeof(executor_);
  executor_.width = width_;
  executor_.context = this;
  executor_.parallel_for = [](void* context, int64_t n_tasks, void (*task)(void*, int64_t), void* arg) {
    static_cast<Pool*>(context)->Run(n_tasks, task, arg);
  };
  place_.struct_size = sizeof(place_);
  place_.backend = RESEMBED_CPU;
  place_.executor = &executor_;
  for (int worker = 1; worker < width_; ++worker) workers_.emplace_back([this] { Work(); });
}

Pool::~Pool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::Run(int64_t n_tasks, void (*task)(void*, int64_t), void* arg) {
  if (n_tasks <= 1 || width_ == 1) {
    for (int64_t index = 0; index < n_tasks; ++index) task(arg, index);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    task_ = task;
    arg_ = arg;
    n_tasks_ = n_tasks;
    next_.store(0, std::memory_order_relaxed);
    ++job_;
  }
  wake_.notify_all();
  for (int64_t index; (index = next_.fetch_add(1)) < n_tasks;) task(arg, index);
  // A worker that wakes late finds no task left and must not see the next job's half-written fields, so
  // the job is closed under the lock.
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
  n_tasks_ = 0;
}

void Pool::Work() {
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || (job_ != seen && n_tasks_ > 0); });
    if (stop_) return;
    seen = job_;
    void (*task)(void*, int64_t) = task_;
    void* arg = arg_;
    const int64_t n_tasks = n_tasks_;
    ++busy_;
    lock.unlock();
    for (int64_t index; (index = next_.fetch_add(1)) < n_tasks;) task(arg, index);
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace resembed::train
