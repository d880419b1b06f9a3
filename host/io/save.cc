// SPDX-License-Identifier: Apache-2.0
// Writes a safetensors file beside its name, then renames it.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "host/descriptor.h"
#include "host/io/bytes.h"
#include "host/io/header.h"
#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {
namespace {

struct SavedTensor {
  TensorEntry entry;
  const char* data;
  int64_t n_rows, row_bytes, stride_bytes;
};

resembed_status CheckTensor(int32_t index, const resembed_tensor* descriptor, SavedTensor* saved) {
  const auto fail = [index](const char* what, const std::string& seen_and_rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "save: tensors[%d].%s is %s", index, what, seen_and_rule.c_str());
  };
  if (descriptor == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "save: tensors[%d] is null; needs a tensor", index);
  }
  const resembed_tensor tensor = ReadDescriptor(descriptor);
  if (tensor.name == nullptr) return fail("name", "null; needs a string");
  saved->entry.name = tensor.name;
  if (saved->entry.name == kMetadataKey)
    return fail("name", "__metadata__; needs another one, that is reserved");
  if (!IsUtf8(saved->entry.name)) return fail("name", "not UTF-8; needs UTF-8");
  saved->entry.dtype = tensor.dtype;
  const int64_t element_bytes = FileElementBytes(tensor.dtype);
  if (element_bytes == 0) {
    return fail("dtype", std::to_string(tensor.dtype) + "; needs one of " + FileDtypeNames());
  }
  if (tensor.n_dims < 0 || tensor.n_dims > RESEMBED_MAX_DIMS) {
    return fail("n_dims",
                std::to_string(tensor.n_dims) + "; needs 0 .. " + std::to_string(RESEMBED_MAX_DIMS));
  }
  saved->entry.shape.assign(tensor.shape, tensor.shape + tensor.n_dims);
  for (const int64_t size : saved->entry.shape) {
    if (size < 0) return fail("shape", "negative (" + std::to_string(size) + "); needs sizes >= 0");
  }
  const int64_t bytes = TensorBytes(saved->entry.shape, tensor.dtype);
  if (bytes < 0) return fail("shape", "too large; needs bytes that fit into 63 bits");
  saved->n_rows = tensor.n_dims == 0 ? 1 : tensor.shape[0];
  const int64_t row_elements = saved->n_rows == 0 ? 0 : bytes / element_bytes / saved->n_rows;
  saved->row_bytes = row_elements * element_bytes;
  if (tensor.row_stride != 0 && tensor.row_stride < row_elements) {
    return fail("row_stride",
                std::to_string(tensor.row_stride) + "; needs 0 or at least " + std::to_string(row_elements));
  }
  saved->stride_bytes = saved->row_bytes;
  if (tensor.row_stride != 0 &&
      __builtin_mul_overflow(tensor.row_stride, element_bytes, &saved->stride_bytes)) {
    return fail("row_stride", std::to_string(tensor.row_stride) + "; needs bytes that fit into 63 bits");
  }
  if (bytes > 0 && tensor.data == nullptr)
    return fail("data", "null; needs " + std::to_string(bytes) + " bytes");
  saved->data = static_cast<const char*>(tensor.data);
  saved->entry.begin = 0;
  saved->entry.end = bytes;
  return RESEMBED_OK;
}

bool WriteTensor(const SavedTensor& tensor, TemporaryFile* file) {
  if (tensor.stride_bytes == tensor.row_bytes)
    return file->Write(tensor.data, tensor.entry.end - tensor.entry.begin);
  // Rows are gathered, so that a call of the system writes about a megabyte.
  constexpr int64_t kBlockBytes = int64_t{1} << 20;
  const int64_t block_rows = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(1, tensor.row_bytes));
  std::vector<char> block(static_cast<size_t>(std::min(block_rows, tensor.n_rows) * tensor.row_bytes));
  for (int64_t row = 0; row < tensor.n_rows; row += block_rows) {
    const int64_t n = std::min(block_rows, tensor.n_rows - row);
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(block.data() + i * tensor.row_bytes, tensor.data + (row + i) * tensor.stride_bytes,
                  static_cast<size_t>(tensor.row_bytes));
    }
    if (!file->Write(block.data(), n * tensor.row_bytes)) return false;
  }
  return true;
}

resembed_status Save(const std::string& path, std::vector<SavedTensor> tensors, FileHeader header) {
  // Wide elements first: with a header of 8n bytes every tensor is aligned to its element.
  std::stable_sort(tensors.begin(), tensors.end(), [](const SavedTensor& a, const SavedTensor& b) {
    return FileElementBytes(a.entry.dtype) > FileElementBytes(b.entry.dtype);
  });
  int64_t at = 0;
  for (SavedTensor& tensor : tensors) {
    tensor.entry.begin = at;
    if (__builtin_add_overflow(at, tensor.entry.end, &at)) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "save: tensors is too large; needs bytes that fit into 63 bits");
    }
    tensor.entry.end = at;
    header.tensors.push_back(tensor.entry);
  }
  const std::string text = WriteHeader(header);
  if (static_cast<int64_t>(text.size()) > kMaxHeaderBytes) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "save: names and metadata take %zu bytes; needs at most %lld",
                text.size(), static_cast<long long>(kMaxHeaderBytes));
  }
  TemporaryFile file(path);
  bool ok = file.ok();
  unsigned char length[8];
  for (size_t byte = 0; byte < 8; ++byte)
    length[byte] = static_cast<unsigned char>(uint64_t{text.size()} >> 8 * byte);
  ok = ok && file.Write(length, 8) && file.Write(text.data(), static_cast<int64_t>(text.size()));
  for (const SavedTensor& tensor : tensors) ok = ok && WriteTensor(tensor, &file);
  if (!ok || !file.RenameTo(path)) {
    const int error = errno;
    return Fail(RESEMBED_IO_ERROR, "save: path is %s (%s); needs a place that can be written", path.c_str(),
                std::strerror(error));
  }
  return RESEMBED_OK;
}

resembed_status CheckAndSave(const char* path, const resembed_tensor* const* tensors, int32_t n_tensors,
                             const char* const* metadata, int32_t n_metadata) {
  std::vector<SavedTensor> saved(static_cast<size_t>(n_tensors));
  std::set<std::string> names;
  for (int32_t index = 0; index < n_tensors; ++index) {
    SavedTensor& tensor = saved[static_cast<size_t>(index)];
    RESEMBED_RETURN_IF_ERROR(CheckTensor(index, tensors[index], &tensor));
    if (!names.insert(tensor.entry.name).second) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "save: tensors[%d].name is \"%s\" again; needs unique names",
                  index, tensor.entry.name.c_str());
    }
  }
  FileHeader header;
  for (int32_t pair = 0; pair < n_metadata; ++pair) {
    for (int32_t side = 0; side < 2; ++side) {
      const char* text = metadata[2 * pair + side];
      if (text == nullptr || !IsUtf8(text)) {
        return Fail(RESEMBED_INVALID_ARGUMENT, "save: metadata[%d] is %s; needs a UTF-8 string",
                    2 * pair + side, text == nullptr ? "null" : "not UTF-8");
      }
    }
    if (!header.metadata.emplace(metadata[2 * pair], metadata[2 * pair + 1]).second) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "save: metadata[%d] is \"%s\" again; needs unique keys",
                  2 * pair, metadata[2 * pair]);
    }
  }
  return Save(path, std::move(saved), std::move(header));
}

}  // namespace
}  // namespace resembed::detail

extern "C" resembed_status resembed_save(const char* path, const resembed_tensor* const* tensors,
                                         int32_t n_tensors, const char* const* metadata, int32_t n_metadata) {
  using resembed::detail::Fail;
  if (path == nullptr || (tensors == nullptr && n_tensors > 0) || (metadata == nullptr && n_metadata > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "save: %s is null; needs a pointer",
                path == nullptr                       ? "path"
                : tensors == nullptr && n_tensors > 0 ? "tensors"
                                                      : "metadata");
  }
  if (n_tensors < 0 || n_metadata < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "save: %s is %d; needs >= 0",
                n_tensors < 0 ? "n_tensors" : "n_metadata", n_tensors < 0 ? n_tensors : n_metadata);
  }
  try {
    return resembed::detail::CheckAndSave(path, tensors, n_tensors, metadata, n_metadata);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "save: n_tensors is %d; needs memory for the header and a row",
                n_tensors);
  }
}
