// SPDX-License-Identifier: Apache-2.0
#include "tests/train/end_to_end_support.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

extern char** environ;

namespace resembed::train::testing {

namespace fs = std::filesystem;

Folder::Folder(const std::string& name)
    : path_(fs::temp_directory_path() / ("resembed_" + name + "_" + std::to_string(getpid()))) {
  fs::remove_all(path_);
  fs::create_directories(path_);
}

Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Outcome Train(const std::vector<std::string>& arguments, int stop_after_ms, const std::string& out) {
  const Folder folder("streams");
  const std::string out_path = folder / "out", err_path = folder / "err";
  std::vector<std::string> command = {RESEMBED_TRAIN};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : command) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, out_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int failed = posix_spawn(&child, command[0].c_str(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return {-1, "", "could not start " + command[0]};
  int status = 0;
  pid_t ended = 0;
  if (stop_after_ms >= 0) {
    while (!fs::exists(fs::path(out) / "graph.safetensors") &&
           (ended = waitpid(child, &status, WNOHANG)) == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(stop_after_ms));
    if (ended == 0) kill(child, SIGINT);
  }
  if (ended == 0) waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, ReadFile(out_path), ReadFile(err_path)};
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

nlohmann::json ReadJson(const std::string& path) {
  return nlohmann::json::parse(ReadFile(path), nullptr, false);
}

nlohmann::json WithoutTimes(nlohmann::json json) {
  if (json.is_object()) {
    for (const char* key : {"seconds", "cost_share", "samples_per_second", "peak_memory_gb", "command",
                            "threads", "backend", "dense"}) {
      json.erase(key);
    }
  }
  if (json.is_structured()) {
    for (auto& value : json) value = WithoutTimes(value);
  }
  return json;
}

std::vector<std::string> SmallLog() {
  return {"--users", "400", "--items", "120", "--interests", "8", "--dim", "8", "--no-report"};
}

}  // namespace resembed::train::testing
