// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file.
//
//   u64 little endian N | N bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...,
//   "__metadata__": {string: string}} padded with spaces | data, offsets counted from its start
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::detail {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are written as they lie in memory");

// The limit of the format's reference implementation.
constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr const char* kMetadataKey = "__metadata__";

struct TensorEntry {
  std::string name;
  resembed_dtype dtype;
  std::vector<int64_t> shape;
  int64_t begin, end;  // bytes in the data section
};

struct FileHeader {
  std::vector<TensorEntry> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

int64_t FileElementBytes(resembed_dtype dtype);
// "F32, F16, ...": the names of the format for the types this library has.
std::string FileDtypeNames();

// Bytes of a tensor, or -1 where that is negative or does not fit into int64_t.
int64_t TensorBytes(const std::vector<int64_t>& shape, resembed_dtype dtype);

// The JSON text, padded so that the data start on a multiple of 8. Names and metadata are valid UTF-8. May
// throw std::bad_alloc.
std::string WriteHeader(const FileHeader& header);
bool IsUtf8(const std::string& text);

// Reads and checks a header against the size of the data section: known types, offsets without holes or
// overlap, nothing said twice. `problem` becomes "<what> is <seen>; needs <rule>". May throw std::bad_alloc.
resembed_status ParseHeader(const std::string& text, int64_t data_bytes, FileHeader* header,
                            std::string* problem);

}  // namespace resembed::detail
