// SPDX-License-Identifier: Apache-2.0
// A made problem in device memory, and forward over it through the public call.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "host/cpu/row_ops.h"
#include "tests/cuda/support/device_buffer.h"
#include "tests/support/gradient_problem.h"
#include "tests/support/run_forward.h"

namespace resembed::testing {

class DeviceProblem {
 public:
  explicit DeviceProblem(const GradientProblem& problem) {
    for (const auto& data : problem.tables) {
      tables.push_back(data->descriptor);
      resembed_table& table = tables.back();
      table.residual = const_cast<void*>(Upload(table.residual, data->residual));
      table.central = const_cast<void*>(Upload(table.central, data->central));
      table.residual_row_of = Upload(table.residual_row_of, data->residual_row_of);
      table.neighbors = Upload(table.neighbors, data->neighbors);
      table.neighbor_weights = Upload(table.neighbor_weights, data->neighbor_weights);
      table.center_of = table.center_of_dtype == RESEMBED_U16 ? Upload(table.center_of, data->centers16)
                                                              : Upload(table.center_of, data->centers32);
    }
    for (const auto& data : problem.features) {
      features.push_back(data->descriptor);
      resembed_feature& feature = features.back();
      feature.ids = Upload(feature.ids, data->id_bytes);
      feature.offsets = Upload(feature.offsets, data->offset_bytes);
      feature.weights = Upload(feature.weights, data->weights);
      feature.query = Upload(feature.query, data->query);
    }
    for (const resembed_table& table : tables) table_pointers_.push_back(&table);
    for (const resembed_feature& feature : features) feature_pointers_.push_back(&feature);
    list_ = {};
    list_.struct_size = sizeof(list_);
    list_.tables = table_pointers_.data();
    list_.n_tables = static_cast<int32_t>(tables.size());
  }
  DeviceProblem(const DeviceProblem&) = delete;
  DeviceProblem& operator=(const DeviceProblem&) = delete;

  resembed_forward_args Args() const {
    resembed_forward_args args = {};
    args.struct_size = sizeof(args);
    args.tables = &list_;
    args.features = feature_pointers_.data();
    args.n_features = static_cast<int32_t>(features.size());
    return args;
  }

  std::vector<resembed_table> tables;
  std::vector<resembed_feature> features;

 private:
  // The place in device memory of `pointer`, which lies in `owner`.
  template <typename T, typename Element>
  const T* Upload(const T* pointer, const std::vector<Element>& owner) {
    if (pointer == nullptr) return nullptr;
    const auto* first = reinterpret_cast<const char*>(owner.data());
    buffers_.emplace_back(first, owner.size() * sizeof(Element));
    return reinterpret_cast<const T*>(static_cast<const char*>(buffers_.back().data()) +
                                      (reinterpret_cast<const char*>(pointer) - first));
  }

  std::deque<DeviceBuffer> buffers_;
  std::vector<const resembed_table*> table_pointers_;
  std::vector<const resembed_feature*> feature_pointers_;
  resembed_tables list_;
};

// How forward is called once everything is in place.
using ForwardCall =
    std::function<resembed_status(const resembed_forward_args&, void*, size_t, const resembed_place&)>;

inline resembed_status PublicForward(const resembed_forward_args& args, void* workspace, size_t bytes,
                                     const resembed_place& place) {
#ifdef RESEMBED_EMULATED
  const emulator::OperationScope scope("forward");
#endif
  return resembed_forward(&args, workspace, bytes, &place);
}

// As RunForward, on the device. `options.bad_ids` is host memory and gets the record of the device.
inline ForwardResult RunOnDevice(DeviceProblem* problem, const ForwardOptions& options = {},
                                 const ForwardCall& call = PublicForward) {
  const Stream stream;
  ForwardResult result;
  const int64_t element = detail::ElementBytes(options.output_dtype);
  std::deque<DeviceBuffer> outputs, argmax, attention;
  std::vector<int64_t> rows, strides;
  for (resembed_feature& feature : problem->features) {
    const int64_t dim = problem->tables[static_cast<size_t>(feature.table)].dim;
    rows.push_back(feature.pooling == RESEMBED_POOLING_NONE ? feature.n_ids : feature.n_bags);
    strides.push_back(dim + options.extra_stride);
    outputs.emplace_back(static_cast<size_t>(rows.back() * strides.back() * element));
    const bool save = feature.pooling == RESEMBED_POOLING_MAX && options.saved_argmax;
    argmax.emplace_back(save ? static_cast<size_t>(rows.back() * dim) * 4 : 0);
    const bool keep = feature.pooling == RESEMBED_POOLING_ATTENTION && options.saved_attention;
    attention.emplace_back(keep ? static_cast<size_t>(feature.n_ids) * 4 : 0);
    feature.saved_attention = keep ? static_cast<float*>(attention.back().data()) : nullptr;
    feature.output = outputs.back().data();
    feature.output_stride = strides.back();
    feature.output_dtype = options.output_dtype;
    feature.saved_argmax = save ? static_cast<int32_t*>(argmax.back().data()) : nullptr;
  }
  DeviceBuffer record(sizeof(resembed_bad_ids));
  resembed_forward_args args = problem->Args();
  args.bounds = options.bounds;
  args.bad_ids = options.bad_ids == nullptr ? nullptr : static_cast<resembed_bad_ids*>(record.data());
  const resembed_place place = CudaPlace(stream.get());
  size_t bytes = 0;
  result.status = resembed_forward_workspace_size(&args, &place, &bytes);
  result.workspace_bytes = bytes;
  DeviceBuffer workspace(bytes);
  if (result.status == RESEMBED_OK) result.status = call(args, workspace.data(), bytes, place);
  if (result.status != RESEMBED_OK) result.message = resembed_last_error_message();
  EXPECT_TRUE(workspace.Download(stream)) << "the workspace was written past its end";
  EXPECT_TRUE(record.Download(stream));
  if (options.bad_ids != nullptr) std::memcpy(options.bad_ids, record.host(), sizeof(resembed_bad_ids));
  for (size_t index = 0; index < outputs.size(); ++index) {
    const int64_t dim = problem->tables[static_cast<size_t>(problem->features[index].table)].dim;
    EXPECT_TRUE(outputs[index].Download(stream) && argmax[index].Download(stream) &&
                attention[index].Download(stream))
        << "an output was written past its end";
    FeatureOutput out;
    bool gaps = true;
    for (int64_t row = 0; row < rows[index]; ++row) {
      const unsigned char* first = outputs[index].host() + row * strides[index] * element;
      const unsigned char* last = first + dim * element;
      out.bytes.insert(out.bytes.end(), first, last);
      gaps = gaps && std::all_of(last, first + strides[index] * element,
                                 [](unsigned char byte) { return byte == 0xff; });
    }
    EXPECT_TRUE(gaps) << "the gap between rows of feature " << index << " was written";
    result.untouched = result.untouched && std::all_of(out.bytes.begin(), out.bytes.end(),
                                                       [](unsigned char byte) { return byte == 0xff; });
    out.values = Decode(out.bytes.data(), options.output_dtype, rows[index] * dim);
    out.argmax.resize(argmax[index].size() / 4);
    if (!out.argmax.empty()) std::memcpy(out.argmax.data(), argmax[index].host(), argmax[index].size());
    out.attention.resize(attention[index].size() / 4);
    if (!out.attention.empty()) {
      std::memcpy(out.attention.data(), attention[index].host(), attention[index].size());
    }
    result.features.push_back(std::move(out));
  }
  return result;
}

// The first feature, byte and pair of values where two results differ; empty when none does.
inline std::string FirstDifference(const ForwardResult& got, const ForwardResult& want) {
  if (got.status != want.status) return "status " + std::to_string(got.status) + ": " + got.message;
  for (size_t index = 0; index < want.features.size(); ++index) {
    const FeatureOutput &a = got.features[index], &b = want.features[index];
    if (a.bytes.size() != b.bytes.size()) return "sizes differ";
    const size_t n = b.values.size(), element = n == 0 ? 1 : b.bytes.size() / n;
    for (size_t at = 0; at < n; ++at) {
      if (std::memcmp(a.bytes.data() + at * element, b.bytes.data() + at * element, element) != 0) {
        return "feature " + std::to_string(index) + " element " + std::to_string(at) + ": " +
               std::to_string(a.values[at]) + ", wanted " + std::to_string(b.values[at]);
      }
    }
    for (size_t at = 0; at < b.argmax.size(); ++at) {
      if (a.argmax[at] != b.argmax[at]) {
        return "feature " + std::to_string(index) + " argmax " + std::to_string(at) + ": " +
               std::to_string(a.argmax[at]) + ", wanted " + std::to_string(b.argmax[at]);
      }
    }
  }
  return "";
}

inline std::vector<int64_t> OffsetsOf(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets = {0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + length);
  return offsets;
}

inline bool UsesExp(const GradientProblem& problem) {
  for (const auto& table : problem.tables) {
    if (table->spec.form == RESEMBED_CENTRAL_ATTENTION) return true;
  }
  for (const auto& feature : problem.features) {
    if (feature->spec.pooling == RESEMBED_POOLING_ATTENTION) return true;
  }
  return false;
}

// On the device: the bits of the CPU backend, or with attention the oracle's bound.
inline void ExpectSameAsCpu(GradientProblem* problem, const ForwardOptions& options = {}) {
  DeviceProblem device(*problem);
  const ForwardResult got = RunOnDevice(&device, options);
  if (UsesExp(*problem)) {
    ExpectMatchesOracle(problem, got, options.output_dtype);
  } else {
    EXPECT_EQ(FirstDifference(got, RunForward(problem, PlaceOf(nullptr), options)), "");
  }
}

}  // namespace resembed::testing
