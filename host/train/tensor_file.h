// SPDX-License-Identifier: Apache-2.0
// Safetensors files of the trainer: float and integer tensors with string metadata.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::train {

// What is added must live until Save.
class TensorWriter {
 public:
  // cols 0: a vector.
  void Add(const std::string& name, const float* data, int64_t rows, int64_t cols) {
    Add(name, RESEMBED_F32, data, rows, cols);
  }
  void Add(const std::string& name, const std::vector<int64_t>& values) {
    Add(name, RESEMBED_I64, values.data(), static_cast<int64_t>(values.size()), 0);
  }
  // Beside `path`, then renamed. Throws Error.
  void Save(const std::string& path, const std::vector<std::pair<std::string, std::string>>& metadata) const;

 private:
  void Add(const std::string& name, resembed_dtype dtype, const void* data, int64_t rows, int64_t cols);

  std::vector<resembed_tensor> tensors_;
  std::vector<std::unique_ptr<std::string>> names_;
};

class TensorReader {
 public:
  explicit TensorReader(const std::string& path);  // throws Error

  std::string Metadata(const char* key) const;   // "": none
  std::vector<resembed_tensor> Tensors() const;  // without data; names live as long as this
  int64_t Size(const std::string& name) const;   // elements; -1: no such tensor
  // Throws Error when the tensor has another size or type.
  void Read(const std::string& name, float* data, int64_t size) const {
    ReadAs(name, RESEMBED_F32, data, size);
  }
  template <typename T>
  std::vector<T> Vector(const std::string& name) const {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, int32_t> || std::is_same_v<T, int64_t>);
    const int64_t size = Size(name);
    std::vector<T> values(static_cast<size_t>(size > 0 ? size : 0));
    const resembed_dtype dtype = std::is_same_v<T, float>     ? RESEMBED_F32
                                 : std::is_same_v<T, int32_t> ? RESEMBED_I32
                                                              : RESEMBED_I64;
    if (size > 0) ReadAs(name, dtype, values.data(), size);
    return values;
  }

 private:
  void ReadAs(const std::string& name, resembed_dtype dtype, void* data, int64_t size) const;

  std::string path_;
  std::unique_ptr<resembed_file, void (*)(resembed_file*)> file_;
};

}  // namespace resembed::train
