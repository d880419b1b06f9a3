// SPDX-License-Identifier: Apache-2.0
#include "host/train/tensor_file.h"

#include "host/train/graph.h"

namespace resembed::train {

void TensorWriter::Add(const std::string& name, resembed_dtype dtype, const void* data, int64_t rows,
                       int64_t cols) {
  names_.push_back(std::make_unique<std::string>(name));
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  tensor.name = names_.back()->c_str();
  tensor.dtype = dtype;
  tensor.n_dims = cols > 0 ? 2 : 1;
  tensor.shape[0] = rows;
  tensor.shape[1] = cols;
  tensor.data = data;
  tensors_.push_back(tensor);
}

void TensorWriter::Save(const std::string& path,
                        const std::vector<std::pair<std::string, std::string>>& metadata) const {
  std::vector<const resembed_tensor*> pointers;
  for (const resembed_tensor& tensor : tensors_) pointers.push_back(&tensor);
  std::vector<const char*> strings;
  for (const auto& [key, value] : metadata) {
    strings.push_back(key.c_str());
    strings.push_back(value.c_str());
  }
  CheckStatus(resembed_save(path.c_str(), pointers.data(), static_cast<int32_t>(pointers.size()),
                            strings.data(), static_cast<int32_t>(metadata.size())));
}

TensorReader::TensorReader(const std::string& path) : path_(path), file_(nullptr, resembed_file_close) {
  resembed_file* raw = nullptr;
  CheckStatus(resembed_file_open(path.c_str(), &raw));
  file_.reset(raw);
}

std::string TensorReader::Metadata(const char* key) const {
  const char* value = nullptr;
  CheckStatus(resembed_file_metadata(file_.get(), key, &value));
  return value == nullptr ? "" : value;
}

std::vector<resembed_tensor> TensorReader::Tensors() const {
  int32_t n_tensors = 0;
  CheckStatus(resembed_file_n_tensors(file_.get(), &n_tensors));
  std::vector<resembed_tensor> tensors(static_cast<size_t>(n_tensors));
  for (int32_t index = 0; index < n_tensors; ++index) {
    resembed_tensor& tensor = tensors[static_cast<size_t>(index)];
    tensor.struct_size = sizeof(tensor);
    CheckStatus(resembed_file_tensor(file_.get(), index, &tensor));
  }
  return tensors;
}

int64_t TensorReader::Size(const std::string& name) const {
  int32_t index = -1;
  CheckStatus(resembed_file_find(file_.get(), name.c_str(), &index));
  if (index < 0) return -1;
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  CheckStatus(resembed_file_tensor(file_.get(), index, &tensor));
  int64_t size = 1;
  for (int32_t d = 0; d < tensor.n_dims; ++d) size *= tensor.shape[d];
  return size;
}

void TensorReader::ReadAs(const std::string& name, resembed_dtype dtype, void* data, int64_t size) const {
  if (Size(name) != size) {
    throw Error{path_ + ": tensor " + name + " has " + std::to_string(Size(name)) + " values; needs " +
                std::to_string(size)};
  }
  if (size == 0) return;
  int32_t index = -1;
  CheckStatus(resembed_file_find(file_.get(), name.c_str(), &index));
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  CheckStatus(resembed_file_tensor(file_.get(), index, &tensor));
  if (tensor.dtype != dtype) {
    throw Error{path_ + ": tensor " + name + " has another type; needs " +
                (dtype == RESEMBED_F32   ? "float32"
                 : dtype == RESEMBED_I32 ? "int32"
                                         : "int64")};
  }
  const size_t element = dtype == RESEMBED_I64 ? 8 : 4;
  CheckStatus(resembed_file_read(file_.get(), index, data, 0, static_cast<size_t>(size) * element));
}

}  // namespace resembed::train
