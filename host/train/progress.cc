// SPDX-License-Identifier: Apache-2.0
#include "host/train/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace resembed::train {

std::string FormatSeconds(double seconds) {
  const long total = std::lround(std::max(0.0, seconds));
  char text[48];
  if (total >= 3600) {
    std::snprintf(text, sizeof(text), "%ldh %02ldm", total / 3600, total / 60 % 60);
  } else if (total >= 60) {
    std::snprintf(text, sizeof(text), "%ldm %02lds", total / 60, total % 60);
  } else {
    std::snprintf(text, sizeof(text), "%lds", total);
  }
  return text;
}

Progress::Progress(std::vector<Row> rows, int expected_epochs, int patience)
    : rows_(std::move(rows)),
      expected_epochs_(expected_epochs),
      patience_(patience),
      terminal_(isatty(STDERR_FILENO) != 0),
      last_line_(std::chrono::steady_clock::now()) {}

// Measured over expected seconds of the group's finished rows and of the current one; else of any row.
double Progress::Correction(const std::string& group) const {
  double expected = 0, actual = 0, all_expected = 0, all_actual = 0;
  for (const auto& [name, measured] : measured_) {
    all_expected += measured.expected;
    all_actual += measured.actual;
    if (name != group) continue;
    expected += measured.expected;
    actual += measured.actual;
  }
  if (current_ < rows_.size() && current_expected_ > 0) {
    all_expected += current_expected_;
    all_actual += current_actual_;
    if (rows_[current_].group == group) {
      expected += current_expected_;
      actual += current_actual_;
    }
  }
  if (expected > 0) return actual / expected;
  return all_expected > 0 ? all_actual / all_expected : 1.0;
}

double Progress::SecondsLeft() const {
  double left = current_left_;
  for (size_t row = 0; row < rows_.size(); ++row) {
    if (rows_[row].done || row == current_) continue;
    double epochs = 0, n = 0;
    for (const auto& [name, measured] : measured_) {
      if (name != rows_[row].group) continue;
      epochs += measured.epochs;
      n += measured.rows;
    }
    const double expected = n > 0 ? epochs / n : expected_epochs_;
    left += Correction(rows_[row].group) * (expected * rows_[row].epoch_cost + rows_[row].fixed_cost);
  }
  return left;
}

void Progress::Line(const std::string& text, bool last) {
  std::fprintf(stderr, terminal_ ? "\r\033[K%s%s" : "%s%s", text.c_str(), last || !terminal_ ? "\n" : "");
  std::fflush(stderr);
  open_line_ = terminal_ && !last;
  last_line_ = std::chrono::steady_clock::now();
}

void Progress::Note(const std::string& text) {
  if (open_line_) std::fputs("\r\033[K", stderr);
  open_line_ = false;
  std::fprintf(stderr, "%s\n", text.c_str());
  std::fflush(stderr);
}

void Progress::BeginRow(size_t row) {
  row += first_;
  current_ = row;
  current_expected_ = current_actual_ = 0;
  current_left_ =
      Correction(rows_[row].group) * (expected_epochs_ * rows_[row].epoch_cost + rows_[row].fixed_cost);
}

void Progress::Step(size_t row, int epoch, double share, double seconds, double samples_per_second,
                    double valid, int best_epoch) {
  row += first_;
  const double done = epoch - 1 + share;
  if (done > 0.1) {
    current_expected_ = done * rows_[row].epoch_cost;
    current_actual_ = seconds;
  }
  const double per_epoch = done > 0.1 ? seconds / done : Correction(rows_[row].group) * rows_[row].epoch_cost;
  // A row ends `patience` epochs after its best one; until then the prior says how long it improves.
  const double until = std::max<double>(best_epoch + patience_, std::max<double>(expected_epochs_, epoch));
  current_left_ = std::max(0.0, until - done) * per_epoch + rows_[row].fixed_cost;
  const double since = std::chrono::duration<double>(std::chrono::steady_clock::now() - last_line_).count();
  if (since < (terminal_ ? 0.2 : 5.0)) return;
  char text[256];
  if (best_epoch > 0) {
    std::snprintf(text, sizeof(text),
                  "[%zu/%zu] %s  epoch %d  %.0f samples/s  best %.4f at epoch %d  left %s", row + 1,
                  rows_.size(), rows_[row].name.c_str(), epoch, samples_per_second, valid, best_epoch,
                  FormatSeconds(SecondsLeft()).c_str());
  } else {
    std::snprintf(text, sizeof(text), "[%zu/%zu] %s  epoch %d  %.0f samples/s  left %s", row + 1,
                  rows_.size(), rows_[row].name.c_str(), epoch, samples_per_second,
                  FormatSeconds(SecondsLeft()).c_str());
  }
  Line(text, false);
}

void Progress::EndRow(size_t row, int epochs, double seconds, const std::string& result) {
  row += first_;
  rows_[row].done = true;
  current_ = static_cast<size_t>(-1);
  current_left_ = 0;
  auto found = std::find_if(measured_.begin(), measured_.end(),
                            [&](const auto& entry) { return entry.first == rows_[row].group; });
  if (found == measured_.end()) found = measured_.insert(measured_.end(), {rows_[row].group, Measured{}});
  found->second.expected += epochs * rows_[row].epoch_cost + rows_[row].fixed_cost;
  found->second.actual += seconds;
  found->second.epochs += epochs;
  found->second.rows += 1;
  char text[320];
  std::snprintf(text, sizeof(text), "[%zu/%zu] %s  %s  left %s", row + 1, rows_.size(),
                rows_[row].name.c_str(), result.c_str(), FormatSeconds(SecondsLeft()).c_str());
  Line(text, true);
}

}  // namespace resembed::train
