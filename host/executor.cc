// SPDX-License-Identifier: Apache-2.0
#include "host/executor.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace resembed::detail {
namespace {

// One parallel loop: threads take indices from `next` until none is left.
struct Loop {
  void (*task)(void*, int64_t);
  void* arg;
  int64_t n_tasks;
  std::atomic<int64_t> next{0};
  int workers = 0;  // pool threads inside this loop; guarded by the pool's mutex

  void Work() {
    for (int64_t index = next.fetch_add(1, std::memory_order_relaxed); index < n_tasks;
         index = next.fetch_add(1, std::memory_order_relaxed)) {
      task(arg, index);
    }
  }
};

// The library's one static: worker threads that live as long as the process. The calling thread works
// too, so a loop finishes even when every worker serves another caller.
class Pool {
 public:
  static Pool& Get() {
    static Pool* pool = new Pool;  // never destroyed: threads may outlive static destructors
    return *pool;
  }

  int width() const { return forked_.load(std::memory_order_relaxed) ? 1 : width_; }

  void Run(int64_t n_tasks, void (*task)(void*, int64_t), void* arg) {
    Loop loop{task, arg, n_tasks};
    {
      std::lock_guard<std::mutex> lock(mutex_);
      open_.push_back(&loop);
    }
    wake_.notify_all();
    loop.Work();
    std::unique_lock<std::mutex> lock(mutex_);
    for (size_t slot = 0; slot < open_.size(); ++slot) {
      if (open_[slot] == &loop) {
        open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(slot));
        break;
      }
    }
    done_.wait(lock, [&loop] { return loop.workers == 0; });
  }

 private:
  Pool() : width_(static_cast<int>(std::thread::hardware_concurrency())) {
    if (width_ < 1) width_ = 1;
    pthread_atfork(nullptr, nullptr, [] { Pool::Get().forked_ = true; });
    open_.reserve(64);
    for (int worker = 1; worker < width_; ++worker) {
      try {
        std::thread([this] { Serve(); }).detach();
      } catch (...) {
        width_ = worker;  // fewer threads than cores: the callers' own threads still finish every loop
        break;
      }
    }
  }

  void Serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return Pick() != nullptr; });
      Loop* loop = Pick();
      ++loop->workers;
      lock.unlock();
      loop->Work();
      lock.lock();
      if (--loop->workers == 0) done_.notify_all();
    }
  }

  // The oldest loop that still has indices; called with the mutex held.
  Loop* Pick() const {
    for (Loop* loop : open_) {
      if (loop->next.load(std::memory_order_relaxed) < loop->n_tasks) return loop;
    }
    return nullptr;
  }

  int width_;
  std::atomic<bool> forked_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<Loop*> open_;
};

}  // namespace

Executor::Executor(const resembed_place& place) {
  if (place.executor != nullptr) {
    caller_ = place.executor;
    width_ = caller_->width < 1 ? 1 : caller_->width;
  } else {
    width_ = Pool::Get().width();
  }
}

void Executor::Run(int64_t n_tasks, void (*task)(void*, int64_t), void* arg) const {
  if (caller_ != nullptr) {
    caller_->parallel_for(caller_->context, n_tasks, task, arg);
  } else {
    Pool::Get().Run(n_tasks, task, arg);
  }
}

}  // namespace resembed::detail
