// SPDX-License-Identifier: Apache-2.0
// One line on stderr: where the run is, how fast, and how long it still takes.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace resembed::train {

class Progress {
 public:
  // Seconds each row is expected to take, in the order they run, from a cost model; measured rows correct it.
  struct Row {
    std::string name;
    std::string group;  // rows of a group share their correction (the head)
    std::string variant;
    double epoch_cost;  // seconds of one epoch by the model
    double fixed_cost;  // of the row's evaluation
    bool done = false;
  };
  Progress(std::vector<Row> rows, int expected_epochs, int patience);

  void StartAt(size_t row) { first_ = row; }  // the row that the functions below call 0
  void Note(const std::string& text);         // a line of its own
  void BeginRow(size_t row);
  // seconds: of the row so far. share: of the current epoch that is done.
  void Step(size_t row, int epoch, double share, double seconds, double samples_per_second, double valid,
            int best_epoch);
  void EndRow(size_t row, int epochs, double seconds, const std::string& result);
  void SkipRow(size_t row) { rows_[first_ + row].done = true; }
  double SecondsLeft() const;

 private:
  double Correction(const std::string& group) const;
  void Line(const std::string& text, bool last);

  struct Measured {
    double expected = 0, actual = 0, epochs = 0, rows = 0;
  };
  std::vector<Row> rows_;
  int expected_epochs_, patience_;
  std::vector<std::pair<std::string, Measured>> measured_;
  size_t first_ = 0;
  size_t current_ = static_cast<size_t>(-1);
  double current_left_ = 0, current_expected_ = 0, current_actual_ = 0;
  bool terminal_;
  bool open_line_ = false;
  std::chrono::steady_clock::time_point last_line_;
};

std::string FormatSeconds(double seconds);  // "4m 05s"

}  // namespace resembed::train
