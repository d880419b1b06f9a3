// SPDX-License-Identifier: Apache-2.0
#include "host/graph_tool/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <utility>

namespace resembed::graph_tool {

ReadProgress::ReadProgress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}

void ReadProgress::operator()(int64_t bytes, int64_t total, int64_t lines) {
  const int percent = total > 0 ? static_cast<int>(100 * bytes / total) : 100;
  if (quiet_ || percent < last_ + (terminal_ ? 1 : 10)) return;
  last_ = percent;
  std::fprintf(stderr, terminal_ ? "\r\033[Kreading %d %%, %lld lines%s" : "reading %d %%, %lld lines%s",
               percent, static_cast<long long>(lines), !terminal_ || percent == 100 ? "\n" : "");
  std::fflush(stderr);
}

Stage::Stage(const Options& options, std::string name, int64_t total, std::string unit)
    : name_(std::move(name)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(options.quiet),
      terminal_(isatty(STDERR_FILENO) != 0),
      exceptions_(std::uncaught_exceptions()) {
  if (quiet_) return;
  if (terminal_) Show(false);
  watcher_ = std::thread([this] { Watch(); });
}

Stage::~Stage() {
  if (quiet_) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  wake_.notify_one();
  watcher_.join();
  if (std::uncaught_exceptions() == exceptions_) {
    Show(true);
  } else if (terminal_) {
    std::fputs("\n", stderr);
  }
}

void Stage::Show(bool last) const {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  char text[160];
  if (total_ > 0) {
    const auto done = static_cast<double>(last ? total_ : done_.load(std::memory_order_relaxed));
    std::snprintf(text, sizeof(text), "%s %d %%, %.0f %s/s, %.1f s", name_.c_str(),
                  static_cast<int>(100 * done / static_cast<double>(total_)), done / std::max(seconds, 1e-9),
                  unit_.c_str(), seconds);
  } else {
    std::snprintf(text, sizeof(text), "%s%s %.1f s", name_.c_str(), last ? "," : " ...", seconds);
  }
  std::fprintf(stderr, terminal_ ? "\r\033[K%s%s" : "%s%s", text, !terminal_ || last ? "\n" : "");
  std::fflush(stderr);
}

void Stage::Watch() {
  const auto interval = std::chrono::milliseconds(terminal_ ? 200 : 5000);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, interval, [this] { return over_; })) Show(false);
}

}  // namespace resembed::graph_tool
