// SPDX-License-Identifier: Apache-2.0
// How far a long piece of work is, on stderr.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "host/graph_tool/tool.h"

namespace resembed::graph_tool {

// One line for the terminal, one every 10 % for a file.
class ReadProgress {
 public:
  explicit ReadProgress(bool quiet);
  void operator()(int64_t bytes, int64_t total, int64_t lines);

 private:
  bool quiet_, terminal_;
  int last_ = -1;
};

// From its making to its end. A terminal has one line that is written again five times a second, a file gets a
// line every five seconds; both get one at the end, which is left out where an exception is what ends it.
class Stage {
 public:
  // total > 0: `unit`s to do, shown as share and rate. Else the work is one call, and only its time is known.
  Stage(const Options& options, std::string name, int64_t total = 0, std::string unit = "");
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  void Done(int64_t n) { done_.store(n, std::memory_order_relaxed); }  // so far

 private:
  void Show(bool last) const;
  void Watch();

  const std::string name_, unit_;
  const int64_t total_;
  const bool quiet_, terminal_;
  const int exceptions_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool over_ = false;
  std::thread watcher_;
};

}  // namespace resembed::graph_tool
