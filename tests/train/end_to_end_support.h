// SPDX-License-Identifier: Apache-2.0
// Runs resembed-train as a user does: a program with arguments, files and an exit code.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace resembed::train::testing {

// An empty folder, removed with the object.
class Folder {
 public:
  explicit Folder(const std::string& name);
  ~Folder();
  std::string operator/(const std::string& file) const { return (path_ / file).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int exit_code;  // 128 + signal when killed
  std::string out, err;
};
// stop_after_ms >= 0: SIGINT so long after the run has begun to train.
Outcome Train(const std::vector<std::string>& arguments, int stop_after_ms = -1, const std::string& out = "");

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& text);
nlohmann::json ReadJson(const std::string& path);
// Without what may differ between equal runs: seconds and shares of them, memory, command, threads, backend,
// dense.
nlohmann::json WithoutTimes(nlohmann::json json);

// A log that trains in a second or two.
std::vector<std::string> SmallLog();

}  // namespace resembed::train::testing
