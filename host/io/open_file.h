// SPDX-License-Identifier: Apache-2.0
// An open safetensors file: the header in memory, the data where they are.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <string>

#include "host/io/header.h"
#include "resembed/resembed.h"

struct resembed_file {
  resembed_file() = default;
  ~resembed_file() {
    if (fd >= 0) close(fd);
  }
  resembed_file(const resembed_file&) = delete;
  resembed_file& operator=(const resembed_file&) = delete;

  int fd = -1;
  int64_t data_begin = 0;  // byte in the file where the data section starts
  std::string path;
  resembed::detail::FileHeader header;
};
