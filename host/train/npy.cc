// SPDX-License-Identifier: Apache-2.0
#include "host/train/npy.h"

#include <ostream>

#include "host/train/names.h"

namespace resembed::train {

void WriteNpy(const std::string& path, const std::vector<int64_t>& shape, const float* data) {
  const uint16_t one = 1;
  const bool little = *reinterpret_cast<const unsigned char*>(&one) == 1;
  std::string header =
      std::string("{'descr': '") + (little ? "<" : ">") + "f4', 'fortran_order': False, 'shape': (";
  int64_t size = 1;
  for (const int64_t n : shape) {
    header += std::to_string(n) + ",";
    size *= n;
  }
  header += "), }";
  // Magic, version and length take 10 bytes; the data begin on a multiple of 64, the header ends with a line end.
  header.append(63 - (10 + header.size()) % 64, ' ').append("\n");
  WriteFile(path, [&](std::ostream& file) {
    file.write("\x93NUMPY\x01\x00", 8);
    file.put(static_cast<char>(header.size() & 0xFF)).put(static_cast<char>(header.size() >> 8));
    file << header;
    file.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size * 4));
  });
}

}  // namespace resembed::train
