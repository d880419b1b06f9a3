// SPDX-License-Identifier: Apache-2.0
#include "host/graph_tool/replace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "host/train/graph.h"
#include "host/train/log.h"
#include "host/train/names.h"

namespace resembed::graph_tool {
namespace {

namespace fs = std::filesystem;
using train::Error;
using train::WriteText;

fs::path Mark(const std::string& folder) { return fs::path(folder) / train::kReplacingFile; }

std::string MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error{path + ": cannot be created (" + error.message() + ")"};
  return path;
}

void Rename(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) throw Error{to.string() + ": cannot be written (" + error.message() + ")"};
}

void Remove(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) throw Error{path.string() + ": cannot be removed (" + error.message() + ")"};
}

// Renames that come later must not reach the disk before what they rename, nor in another order.
void Sync(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool ok =
      fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);  // EINVAL: no such thing for this file system
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!ok) throw Error{path + ": cannot be written (" + std::strerror(error) + ")"};
}

// The caller has the lock.
void PutBack(const std::string& folder) {
  const fs::path at(folder);
  std::ifstream mark(Mark(folder));
  std::vector<std::string> names;
  for (std::string what, name; mark >> what >> name; names.push_back(name)) {
    std::error_code ignored;
    if (fs::exists(at / (name + ".old"), ignored)) {
      Rename(at / (name + ".old"), at / name);
    } else if (what == "adds") {
      Remove(at / name);
    }
  }
  for (const std::string& name : names) Remove(at / (name + ".new"));
  Sync(folder);
  Remove(Mark(folder));
}

bool IsMarked(const std::string& folder) {
  std::error_code ignored;
  return fs::exists(Mark(folder), ignored);
}

}  // namespace

FolderLock::FolderLock(const std::string& folder, bool wait)
    : fd_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  int failed;
  do {
    failed = fd_ < 0 ? 0 : flock(fd_, LOCK_EX | (wait ? 0 : LOCK_NB));
  } while (failed != 0 && errno == EINTR);
  if (failed == 0 || errno != EWOULDBLOCK) return;  // else the file system has no locks
  close(fd_);
  throw Error{folder + ": another resembed-graph writes there; needs one at a time"};
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) close(fd_);
}

Replacement::Replacement(std::string folder) : folder_(MakeFolder(folder)), lock_(folder_, false) {
  if (IsMarked(folder_)) PutBack(folder_);
}

std::string Replacement::Path(const std::string& name) {
  names_.push_back(name);
  const std::string file = name + ".new";
  std::vector<fs::path> left;  // by writers that were stopped: of ours, or of what wrote beside it
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().compare(0, file.size(), file) == 0) left.push_back(entry.path());
  }
  for (const fs::path& path : left) Remove(path);
  return (fs::path(folder_) / file).string();
}

void Replacement::Finish() {
  const fs::path at(folder_);
  std::string mark;
  for (const std::string& name : names_) {
    Sync((at / (name + ".new")).string());
    Remove(at / (name + ".old"));  // of a writer stopped at its last lines: not what to put back
    mark += (fs::exists(at / name) ? "replaces " : "adds ") + name + "\n";
  }
  WriteText(Mark(folder_).string(), mark);
  Sync(Mark(folder_).string());
  Sync(folder_);
  try {
    for (const std::string& name : names_) {
      if (fs::exists(at / name)) Rename(at / name, at / (name + ".old"));
      Rename(at / (name + ".new"), at / name);
    }
    Sync(folder_);
    Remove(Mark(folder_));
  } catch (const Error&) {
    try {
      PutBack(folder_);
    } catch (const Error&) {  // the mark stays for the next one
    }
    throw;
  }
  for (const std::string& name : names_) {
    std::error_code ignored;
    fs::remove(at / (name + ".old"), ignored);
  }
}

void RestoreFolder(const std::string& folder) {
  if (!IsMarked(folder)) return;
  const FolderLock lock(folder, true);
  if (IsMarked(folder)) PutBack(folder);  // else its writer was not stopped, and is done now
}

}  // namespace resembed::graph_tool
