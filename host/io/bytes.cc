// SPDX-License-Identifier: Apache-2.0
#include "host/io/bytes.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace resembed::detail {
namespace {

constexpr int64_t kMostAtOnce = int64_t{1} << 30;  // Linux moves at most 2 GiB in a call

}  // namespace

int ReadAt(int fd, int64_t offset, void* data, int64_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = pread(fd, at, static_cast<size_t>(std::min(bytes, kMostAtOnce)), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    at += n;
    offset += n;
    bytes -= n;
  }
  return 0;
}

int WriteAll(int fd, const void* data, int64_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = write(fd, at, static_cast<size_t>(std::min(bytes, kMostAtOnce)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    at += n;
    bytes -= n;
  }
  return 0;
}

TemporaryFile::TemporaryFile(const std::string& beside) {
  // O_EXCL and the process number keep two writers of one path apart; 0666 leaves the mode to the umask.
  for (int attempt = 0; attempt < 1000 && fd_ < 0; ++attempt) {
    path_ = beside + ".tmp-" + std::to_string(getpid()) + "-" + std::to_string(attempt);
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) return;
  }
}

TemporaryFile::~TemporaryFile() {
  if (fd_ >= 0) close(fd_);
  if (fd_ >= 0 || created_) unlink(path_.c_str());
}

bool TemporaryFile::Write(const void* data, int64_t bytes) {
  const int error = WriteAll(fd_, data, bytes);
  if (error != 0) errno = error;
  return error == 0;
}

bool TemporaryFile::RenameTo(const std::string& path) {
  const int fd = fd_;
  fd_ = -1;
  created_ = true;
  if (close(fd) != 0 || std::rename(path_.c_str(), path.c_str()) != 0) return false;
  created_ = false;
  return true;
}

}  // namespace resembed::detail
