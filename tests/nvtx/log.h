// SPDX-License-Identifier: Apache-2.0
// What tests/nvtx/injection.cc wrote down.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::testing {

inline std::vector<std::string> Lines(const std::string& first_word) {
  std::vector<std::string> lines;
  std::ifstream log(std::getenv("RESEMBED_NVTX_LOG"));
  for (std::string line; std::getline(log, line);) {
    if (line.rfind(first_word, 0) == 0) lines.push_back(line);
  }
  return lines;
}

// Lines that `call` adds; the last range has to be closed.
template <typename Call>
std::vector<std::string> Ranges(const Call& call) {
  const size_t before = Lines("p").size();
  EXPECT_EQ(call(), RESEMBED_OK) << resembed_last_error_message();
  const std::vector<std::string> all = Lines("p");
  return {all.begin() + static_cast<std::ptrdiff_t>(before), all.end()};
}

}  // namespace resembed::testing
