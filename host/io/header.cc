// SPDX-License-Identifier: Apache-2.0
#include "host/io/header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace resembed::detail {
namespace {

using Json = nlohmann::ordered_json;

struct FileDtype {
  resembed_dtype dtype;
  const char* name;
  int64_t bytes;
};
constexpr FileDtype kDtypes[] = {
    {RESEMBED_F32, "F32", 4}, {RESEMBED_F16, "F16", 2}, {RESEMBED_BF16, "BF16", 2}, {RESEMBED_I32, "I32", 4},
    {RESEMBED_I64, "I64", 8}, {RESEMBED_U16, "U16", 2}, {RESEMBED_F64, "F64", 8},   {RESEMBED_U8, "U8", 1}};

std::string Quoted(const std::string& name) {
  constexpr size_t kShown = 80;
  return name.size() <= kShown ? "\"" + name + "\"" : "\"" + name.substr(0, kShown) + "...\"";
}

// A JSON integer in [0, 2^63).
bool ReadSize(const Json& value, int64_t* size) {
  if (!value.is_number_unsigned()) return false;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
  *size = static_cast<int64_t>(number);
  return true;
}

resembed_status Malformed(std::string* problem, std::string sentence) {
  *problem = std::move(sentence);
  return RESEMBED_IO_ERROR;
}

resembed_status ReadTensor(const std::string& name, const Json& value, TensorEntry* tensor,
                           std::string* problem) {
  const std::string which = "tensor " + Quoted(name);
  tensor->name = name;
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    return Malformed(problem, which + " has other fields; needs dtype, shape and data_offsets");
  }
  const Json& dtype = value["dtype"];
  if (!dtype.is_string()) return Malformed(problem, which + " has a dtype that is no string; needs one");
  const auto& dtype_name = dtype.get_ref<const std::string&>();
  const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const FileDtype& entry) { return dtype_name == entry.name; });
  if (known == std::end(kDtypes)) {
    *problem = which + " has dtype " + Quoted(dtype_name) + "; needs one of " + FileDtypeNames();
    return RESEMBED_UNSUPPORTED;
  }
  tensor->dtype = known->dtype;

  const Json& shape = value["shape"];
  if (!shape.is_array()) return Malformed(problem, which + " has a shape that is no list; needs sizes");
  if (shape.size() > RESEMBED_MAX_DIMS) {
    *problem = which + " has " + std::to_string(shape.size()) + " dimensions; needs at most " +
               std::to_string(RESEMBED_MAX_DIMS);
    return RESEMBED_UNSUPPORTED;
  }
  for (const Json& size : shape) {
    tensor->shape.push_back(0);
    if (!ReadSize(size, &tensor->shape.back())) {
      return Malformed(problem, which + " has size " + size.dump() + "; needs an integer >= 0");
    }
  }
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !ReadSize(offsets[0], &tensor->begin) ||
      !ReadSize(offsets[1], &tensor->end) || tensor->end < tensor->begin) {
    return Malformed(problem, which + " has bad data_offsets; needs [begin, end], 0 <= begin <= end");
  }
  const int64_t bytes = TensorBytes(tensor->shape, tensor->dtype);
  if (bytes != tensor->end - tensor->begin) {
    return Malformed(problem, which + " has " + std::to_string(tensor->end - tensor->begin) +
                                  " bytes; needs " +
                                  (bytes < 0 ? "a shape whose bytes fit into 63 bits"
                                             : std::to_string(bytes) + " for its shape and dtype"));
  }
  return RESEMBED_OK;
}

resembed_status ReadMetadata(const Json& value, FileHeader* header, std::string* problem) {
  if (!value.is_object()) return Malformed(problem, "__metadata__ is no object; needs string: string pairs");
  for (const auto& item : value.items()) {
    if (!item.value().is_string()) {
      return Malformed(problem, "metadata " + Quoted(item.key()) + " is no string; needs one");
    }
    header->metadata[item.key()] = item.value().get<std::string>();
  }
  return RESEMBED_OK;
}

resembed_status CheckLayout(std::vector<TensorEntry>* tensors, int64_t data_bytes, std::string* problem) {
  std::stable_sort(tensors->begin(), tensors->end(), [](const TensorEntry& a, const TensorEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  int64_t at = 0;
  for (const TensorEntry& tensor : *tensors) {
    if (tensor.begin != at) {
      return Malformed(problem, "tensor " + Quoted(tensor.name) + " begins at byte " +
                                    std::to_string(tensor.begin) + "; needs " + std::to_string(at) +
                                    ", where the one before it ends");
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    return Malformed(problem, "the data section has " + std::to_string(data_bytes) + " bytes; needs " +
                                  std::to_string(at) + ", where the last tensor ends");
  }
  return RESEMBED_OK;
}

}  // namespace

int64_t FileElementBytes(resembed_dtype dtype) {
  for (const FileDtype& entry : kDtypes) {
    if (entry.dtype == dtype) return entry.bytes;
  }
  return 0;
}

std::string FileDtypeNames() {
  std::string names;
  for (const FileDtype& entry : kDtypes) names += (names.empty() ? "" : ", ") + std::string(entry.name);
  return names;
}

int64_t TensorBytes(const std::vector<int64_t>& shape, resembed_dtype dtype) {
  int64_t bytes = FileElementBytes(dtype);
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

bool IsUtf8(const std::string& text) {
  // With this handler invalid bytes change the text instead of throwing.
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::ignore) ==
         Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string WriteHeader(const FileHeader& header) {
  Json json = Json::object();
  if (!header.metadata.empty()) json[kMetadataKey] = header.metadata;
  for (const TensorEntry& tensor : header.tensors) {
    const auto* entry = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const FileDtype& known) { return known.dtype == tensor.dtype; });
    Json& value = json[tensor.name];
    value["dtype"] = entry->name;
    value["shape"] = tensor.shape;
    value["data_offsets"] = {tensor.begin, tensor.end};
  }
  std::string text = json.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

resembed_status ParseHeader(const std::string& text, int64_t data_bytes, FileHeader* header,
                            std::string* problem) {
  if (text.empty() || text.front() != '{')
    return Malformed(problem, "the header has no { in front; needs one");
  // The parser takes a zero byte for the end of its input.
  if (text.find('\0') != std::string::npos)
    return Malformed(problem, "the header has a zero byte; needs none");
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string repeated;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      repeated = parsed.get<std::string>();
    }
    return true;
  };
  const Json json = Json::parse(text, watch, false);
  if (json.is_discarded() || !json.is_object()) {
    return Malformed(problem, "the header is no JSON object; needs valid JSON");
  }
  if (!repeated.empty())
    return Malformed(problem, "key " + Quoted(repeated) + " stands twice; needs unique keys");
  for (const auto& item : json.items()) {
    if (item.key() == kMetadataKey) {
      if (const resembed_status status = ReadMetadata(item.value(), header, problem)) return status;
      continue;
    }
    header->tensors.emplace_back();
    if (const resembed_status status =
            ReadTensor(item.key(), item.value(), &header->tensors.back(), problem)) {
      return status;
    }
  }
  return CheckLayout(&header->tensors, data_bytes, problem);
}

}  // namespace resembed::detail
