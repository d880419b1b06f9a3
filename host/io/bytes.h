// SPDX-License-Identifier: Apache-2.0
// Whole reads and writes, and files that appear under their name at once or not at all.
#pragma once

#include <cstdint>
#include <string>

namespace resembed::detail {

// Zero, or the errno of the failure; EIO where the file ends early.
int ReadAt(int fd, int64_t offset, void* data, int64_t bytes);
int WriteAll(int fd, const void* data, int64_t bytes);

// A file beside `path` that is removed unless it has been renamed to it.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& beside);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  bool ok() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  // False with errno set.
  bool Write(const void* data, int64_t bytes);
  bool RenameTo(const std::string& path);

 private:
  std::string path_;
  int fd_ = -1;
  bool created_ = false;
};

}  // namespace resembed::detail
