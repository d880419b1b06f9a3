// SPDX-License-Identifier: Apache-2.0
#include "host/executor.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace resembed::detail {
namespace {

// Rounds of waiting awake before a thread sleeps: some 20 to 50 microseconds. Waking a sleeping thread costs
// as much as a small loop, and the loops of one operation follow each other closely.
constexpr int kSpins = 1000;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Cores this process may run on: fewer than the machine's under taskset, numactl or a container's cpuset, where a thread
// too many would wait awake on a core that another one needs.
int Cores() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::thread::hardware_concurrency());  // 0 where it cannot be told
}

// One parallel loop: threads take indices from `next` until none is left. It lives on its caller's stack.
struct Loop {
  void (*task)(void*, int64_t);
  void* arg;
  int64_t n_tasks;
  std::atomic<int64_t> next{0};
  std::atomic<int> workers{0};  // pool threads inside this loop; raised only while the loop is open

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
      posted_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load(std::memory_order_acquire) > 0) wake_.notify_all();
    loop.Work();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      open_.erase(std::find(open_.begin(), open_.end(), &loop));
    }
    for (int spin = 0; spin < kSpins; ++spin) {
      if (loop.workers.load(std::memory_order_acquire) == 0) return;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&loop] { return loop.workers.load(std::memory_order_acquire) == 0; });
  }

 private:
  Pool() : width_(std::max(Cores(), 1)) {
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
    int64_t seen = 0;
    while (true) {
      Loop* loop = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        loop = Pick();
        seen = posted_.load(std::memory_order_relaxed);
        if (loop != nullptr) loop->workers.fetch_add(1, std::memory_order_relaxed);
      }
      if (loop == nullptr) {
        Wait(seen);
        continue;
      }
      loop->Work();
      // The loop's caller may return as soon as it sees 0: `loop` is not touched after this.
      if (loop->workers.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_all();
      }
    }
  }

  // Returns when a loop was posted after number `seen`: awake for a while, then asleep.
  void Wait(int64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (posted_.load(std::memory_order_acquire) != seen) return;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1, std::memory_order_acq_rel);
    wake_.wait(lock, [this, seen] { return posted_.load(std::memory_order_acquire) != seen; });
    sleeping_.fetch_sub(1, std::memory_order_acq_rel);
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
  std::atomic<int64_t> posted_{0};  // loops so far; raised with the mutex held
  std::atomic<int> sleeping_{0};    // workers asleep; raised with the mutex held
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
