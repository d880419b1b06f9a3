// SPDX-License-Identifier: Apache-2.0
// Opens and reads safetensors files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "host/io/bytes.h"
#include "host/io/open_file.h"
#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {
namespace {

// Contiguous rows of the file to rows stride_bytes apart, about a megabyte at a time.
int ReadRows(int fd, int64_t offset, char* out, int64_t n_rows, int64_t row_bytes, int64_t stride_bytes) {
  constexpr int64_t kBlockBytes = int64_t{1} << 20;
  const int64_t block_rows = std::min(n_rows, std::max<int64_t>(1, kBlockBytes / row_bytes));
  std::vector<char> block(static_cast<size_t>(block_rows * row_bytes));
  for (int64_t row = 0; row < n_rows; row += block_rows) {
    const int64_t n = std::min(block_rows, n_rows - row);
    if (const int error = ReadAt(fd, offset + row * row_bytes, block.data(), n * row_bytes)) return error;
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(out + (row + i) * stride_bytes, block.data() + i * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
  }
  return 0;
}

resembed_status OpenFailed(const char* path, int error) {
  return Fail(RESEMBED_IO_ERROR, "file_open: path is %s (%s); needs a file that can be read", path,
              std::strerror(error));
}

resembed_status Open(const char* path, resembed_file** result) {
  auto file = std::make_unique<resembed_file>();
  file->path = path;
  file->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (file->fd < 0) return OpenFailed(path, errno);
  struct stat info = {};
  if (fstat(file->fd, &info) != 0) return OpenFailed(path, errno);
  if (!S_ISREG(info.st_mode)) return OpenFailed(path, S_ISDIR(info.st_mode) ? EISDIR : EINVAL);
  const auto file_bytes = static_cast<int64_t>(info.st_size);
  unsigned char length[8] = {};
  if (file_bytes < 8) {
    return Fail(RESEMBED_IO_ERROR, "file_open: %s has %lld bytes; needs at least 8", path,
                static_cast<long long>(file_bytes));
  }
  if (const int error = ReadAt(file->fd, 0, length, 8)) return OpenFailed(path, error);
  uint64_t header_bytes = 0;
  for (int byte = 7; byte >= 0; --byte) header_bytes = header_bytes << 8 | length[byte];
  if (header_bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return Fail(RESEMBED_IO_ERROR, "file_open: %s has a header of %llu bytes; needs at most %lld", path,
                static_cast<unsigned long long>(header_bytes), static_cast<long long>(kMaxHeaderBytes));
  }
  if (header_bytes > static_cast<uint64_t>(file_bytes - 8)) {
    return Fail(RESEMBED_IO_ERROR,
                "file_open: %s has a header of %llu bytes; needs at most the %lld that follow", path,
                static_cast<unsigned long long>(header_bytes), static_cast<long long>(file_bytes - 8));
  }
  std::string text(static_cast<size_t>(header_bytes), '\0');
  if (const int error = ReadAt(file->fd, 8, text.data(), static_cast<int64_t>(header_bytes))) {
    return OpenFailed(path, error);
  }
  file->data_begin = 8 + static_cast<int64_t>(header_bytes);
  std::string problem;
  if (const resembed_status status =
          ParseHeader(text, file_bytes - file->data_begin, &file->header, &problem)) {
    return Fail(status, "file_open: %s: %s", path, problem.c_str());
  }
  *result = file.release();
  return RESEMBED_OK;
}

resembed_status CheckIndex(const char* op, const resembed_file* file, int32_t index) {
  if (index >= 0 && static_cast<size_t>(index) < file->header.tensors.size()) return RESEMBED_OK;
  return Fail(RESEMBED_OUT_OF_RANGE, "%s: index is %d; needs 0 .. n_tensors - 1 (%lld)", op, index,
              static_cast<long long>(file->header.tensors.size()) - 1);
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

using resembed::detail::Fail;

resembed_status resembed_file_open(const char* path, resembed_file** file) {
  if (path == nullptr || file == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_open: %s is null; needs a pointer",
                path == nullptr ? "path" : "file");
  }
  try {
    return resembed::detail::Open(path, file);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY,
                "file_open: %s has a header larger than the memory at hand; needs more", path);
  }
}

resembed_status resembed_file_n_tensors(const resembed_file* file, int32_t* n_tensors) {
  if (file == nullptr || n_tensors == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_n_tensors: %s is null; needs a pointer",
                file == nullptr ? "file" : "n_tensors");
  }
  *n_tensors = static_cast<int32_t>(file->header.tensors.size());
  return RESEMBED_OK;
}

resembed_status resembed_file_tensor(const resembed_file* file, int32_t index, resembed_tensor* tensor) {
  if (file == nullptr || tensor == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_tensor: %s is null; needs a pointer",
                file == nullptr ? "file" : "tensor");
  }
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckIndex("file_tensor", file, index));
  if (tensor->struct_size < sizeof(size_t)) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "file_tensor: tensor.struct_size is %zu; needs sizeof(resembed_tensor)", tensor->struct_size);
  }
  const resembed::detail::TensorEntry& entry = file->header.tensors[static_cast<size_t>(index)];
  resembed_tensor out = {};
  out.struct_size = tensor->struct_size;
  out.name = entry.name.c_str();
  out.dtype = entry.dtype;
  out.n_dims = static_cast<int32_t>(entry.shape.size());
  std::copy(entry.shape.begin(), entry.shape.end(), out.shape);
  std::memcpy(tensor, &out, std::min(tensor->struct_size, sizeof(out)));
  return RESEMBED_OK;
}

resembed_status resembed_file_find(const resembed_file* file, const char* name, int32_t* index) {
  if (file == nullptr || name == nullptr || index == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_find: %s is null; needs a pointer",
                file == nullptr   ? "file"
                : name == nullptr ? "name"
                                  : "index");
  }
  *index = -1;
  for (size_t at = 0; at < file->header.tensors.size() && *index < 0; ++at) {
    if (file->header.tensors[at].name == name) *index = static_cast<int32_t>(at);
  }
  return RESEMBED_OK;
}

resembed_status resembed_file_read(const resembed_file* file, int32_t index, void* data, int64_t row_stride,
                                   size_t bytes) {
  if (file == nullptr) return Fail(RESEMBED_INVALID_ARGUMENT, "file_read: file is null; needs a pointer");
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckIndex("file_read", file, index));
  const resembed::detail::TensorEntry& entry = file->header.tensors[static_cast<size_t>(index)];
  const int64_t tensor_bytes = entry.end - entry.begin;
  if (tensor_bytes == 0) return RESEMBED_OK;
  const int64_t element_bytes = resembed::detail::FileElementBytes(entry.dtype);
  const int64_t n_rows = entry.shape.empty() ? 1 : entry.shape[0];
  const int64_t row_bytes = tensor_bytes / n_rows;
  if (data == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_read: data is null; needs %lld bytes",
                static_cast<long long>(tensor_bytes));
  }
  if (row_stride != 0 && row_stride < row_bytes / element_bytes) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_read: row_stride is %lld; needs 0 or at least %lld",
                static_cast<long long>(row_stride), static_cast<long long>(row_bytes / element_bytes));
  }
  int64_t stride_bytes = row_bytes, needed = 0;
  if ((row_stride != 0 && __builtin_mul_overflow(row_stride, element_bytes, &stride_bytes)) ||
      __builtin_mul_overflow(stride_bytes, n_rows - 1, &needed) ||
      __builtin_add_overflow(needed, row_bytes, &needed)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_read: row_stride is %lld; needs bytes that fit into 63 bits",
                static_cast<long long>(row_stride));
  }
  if (bytes < static_cast<size_t>(needed)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_read: bytes is %zu; needs at least %lld", bytes,
                static_cast<long long>(needed));
  }
  char* out = static_cast<char*>(data);
  const int64_t first_byte = file->data_begin + entry.begin;
  int error = 0;
  try {
    error = stride_bytes == row_bytes
                ? resembed::detail::ReadAt(file->fd, first_byte, out, tensor_bytes)
                : resembed::detail::ReadRows(file->fd, first_byte, out, n_rows, row_bytes, stride_bytes);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "file_read: row_stride is %lld; needs memory for a block of rows",
                static_cast<long long>(row_stride));
  }
  if (error != 0) {
    return Fail(RESEMBED_IO_ERROR, "file_read: %s is unreadable (%s); needs the %lld bytes of \"%s\"",
                file->path.c_str(), std::strerror(error), static_cast<long long>(tensor_bytes),
                entry.name.c_str());
  }
  return RESEMBED_OK;
}

resembed_status resembed_file_metadata(const resembed_file* file, const char* key, const char** value) {
  if (file == nullptr || key == nullptr || value == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "file_metadata: %s is null; needs a pointer",
                file == nullptr  ? "file"
                : key == nullptr ? "key"
                                 : "value");
  }
  try {
    const auto found = file->header.metadata.find(key);
    *value = found == file->header.metadata.end() ? nullptr : found->second.c_str();
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "file_metadata: key is too long; needs memory for a copy");
  }
  return RESEMBED_OK;
}

void resembed_file_close(resembed_file* file) { delete file; }

}  // extern "C"
