// SPDX-License-Identifier: Apache-2.0
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "host/train/run.h"

extern char** environ;

namespace resembed::train {

namespace {

// Exit status of a program found on PATH or by its path; -1 when it could not be started.
int Execute(const std::vector<std::string>& command, bool quiet) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // The table on stdout is the run's; a report program's words go to stderr.
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  if (quiet) {
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  }
  pid_t child = 0;
  const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (failed != 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

// Beside the program, below its prefix's share/, or in the source tree it was built from.
std::string FindScript() {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  for (const fs::path& path :
       {self.parent_path() / "report.py", self.parent_path() / "../share/resembed/report.py",
        fs::path(RESEMBED_REPORT_SOURCE)}) {
    if (fs::exists(path, error)) return path.string();
  }
  return "";
}

}  // namespace

std::string DrawReport(const std::string& out) {
  const std::string script = FindScript();
  if (script.empty()) return "no report: report.py was not found beside resembed-train";
  for (const char* python : {"/usr/bin/python3", "python3"}) {
    if (Execute({python, "-c", "import numpy, matplotlib"}, true) != 0) continue;
    const int status = Execute({python, script, out}, false);
    if (status == 0) return "report: " + (std::filesystem::path(out) / "report.html").string();
    return "no report: " + script + " ended with status " + std::to_string(status);
  }
  return "no report: no python3 with numpy and matplotlib (Debian: apt-get install python3-numpy "
         "python3-matplotlib); then: python3 " +
         script + " " + out;
}

}  // namespace resembed::train
