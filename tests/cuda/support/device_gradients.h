// SPDX-License-Identifier: Apache-2.0
// Backward on the device through the public call, as tests/support does it on the CPU.
#pragma once

#include <memory>

#include "tests/cuda/support/device_plan.h"

namespace resembed::testing {

// One gradient in device memory.
struct DeviceGrad {
  DeviceBuffer rows, ids, count;
  resembed_grad grad;
  int64_t dim;
  DeviceGrad(resembed_grad_layout layout, int64_t n_rows, int64_t width)
      : rows(static_cast<size_t>(n_rows * width) * 4),
        ids(static_cast<size_t>(n_rows) * 8),
        count(8),
        dim(width) {
    grad = {};
    grad.struct_size = sizeof(grad);
    grad.layout = layout;
    grad.rows = static_cast<float*>(rows.data());
    grad.row_ids = static_cast<int64_t*>(ids.data());
    grad.n_rows = static_cast<int64_t*>(count.data());
    grad.capacity = n_rows;
  }
  int64_t Count() const {
    int64_t n = -7;
    std::memcpy(&n, count.host(), 8);
    return n;
  }
  Compressed Read(const Stream& stream) {
    EXPECT_TRUE(rows.Download(stream) && ids.Download(stream) && count.Download(stream))
        << "a gradient was written past its end";
    Compressed out;
    const bool dense = grad.layout == RESEMBED_GRAD_DENSE;
    const int64_t n = dense ? grad.capacity : Count();
    EXPECT_TRUE(n >= 0 && n <= grad.capacity);
    if (n < 0 || n > grad.capacity) return out;
    if (!dense) {
      out.ids.resize(static_cast<size_t>(n));
      if (n > 0) std::memcpy(out.ids.data(), ids.host(), static_cast<size_t>(n) * 8);
    }
    out.rows.resize(static_cast<size_t>(n * dim));
    if (n > 0) std::memcpy(out.rows.data(), rows.host(), out.rows.size() * 4);
    return out;
  }
};

// The output gradients of a problem on the device.
struct DeviceOutputGrads {
  DeviceOutputGrads(const GradientProblem& problem, const Asked& asked) {
    for (const auto& feature : problem.features) {
      rows.emplace_back(feature->grad_bytes.data(), feature->grad_bytes.size());
      weights.emplace_back(static_cast<size_t>(feature->descriptor.n_ids) * 4);
      grads.push_back(feature->grad);
      grads.back().grad_output = rows.back().data();
      if (asked.sample_weights && HasSampleWeights(feature->spec.pooling)) {
        grads.back().grad_weights = static_cast<float*>(weights.back().data());
      }
      const int64_t dim = problem.tables[static_cast<size_t>(feature->spec.table)]->spec.dim;
      queries.emplace_back(static_cast<size_t>(feature->descriptor.n_bags * dim) * 4);
      scores.emplace_back(static_cast<size_t>(feature->descriptor.n_ids) * 4);
      if (feature->spec.pooling != RESEMBED_POOLING_ATTENTION) continue;
      if (asked.queries) grads.back().grad_query = static_cast<float*>(queries.back().data());
      if (asked.scores) grads.back().grad_scores = static_cast<float*>(scores.back().data());
    }
    for (size_t index = 0; index < grads.size(); ++index) {
      list.push_back(problem.grad_list()[index] == nullptr ? nullptr : &grads[index]);
    }
  }
  DeviceOutputGrads(const DeviceOutputGrads&) = delete;
  std::deque<DeviceBuffer> rows, weights, queries, scores;
  std::vector<resembed_feature_grad> grads;
  std::vector<const resembed_feature_grad*> list;
};

// Max needs the positions of the maxima: those that forward on the CPU saved, when the test wants them given.
struct SavedArgmax {
  SavedArgmax(GradientProblem* problem, DeviceProblem* device) {
    const ForwardResult forward = RunForward(problem, PlaceOf(nullptr));
    EXPECT_EQ(forward.status, RESEMBED_OK) << forward.message;
    for (size_t index = 0; index < problem->features.size(); ++index) {
      if (problem->features[index]->spec.pooling != RESEMBED_POOLING_MAX) continue;
      const std::vector<int32_t>& argmax = forward.features[index].argmax;
      buffers.emplace_back(argmax.data(), argmax.size() * 4);
      device->features[index].saved_argmax = static_cast<int32_t*>(buffers.back().data());
    }
  }
  std::deque<DeviceBuffer> buffers;
};

inline Grads RunBackwardOnDevice(const GradientProblem& problem, const DeviceProblem& device,
                                 const Asked& asked = {}, const PlanOptions& options = {}) {
  const Stream stream;
  Grads out;
  DevicePlan plan(device, stream, options);
  EXPECT_EQ(plan.status, RESEMBED_OK) << plan.message;
  if (plan.status != RESEMBED_OK) return out;
  const bool dense = asked.layout == RESEMBED_GRAD_DENSE;
  std::deque<DeviceGrad> residual, central;
  std::deque<DeviceBuffer> neighbor_weights;
  std::vector<resembed_table_grad> table_grads;
  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const resembed_table& table = device.tables[static_cast<size_t>(index)];
    resembed_plan_table view = {};
    view.struct_size = sizeof(view);
    EXPECT_EQ(resembed_plan_view(&plan.header, index, &view), RESEMBED_OK) << resembed_last_error_message();
    const int64_t residual_rows = table.residual_row_of != nullptr ? table.residual_rows : table.n_items;
    residual.emplace_back(asked.layout, dense ? residual_rows : view.max_unique, table.dim);
    central.emplace_back(asked.layout, dense ? table.central_rows : view.max_unique_central, table.dim);
    neighbor_weights.emplace_back(static_cast<size_t>(view.max_unique * table.n_neighbors) * 4);
    resembed_table_grad grad = {};
    grad.struct_size = sizeof(grad);
    if (asked.residual && table.residual != nullptr) grad.residual = &residual.back().grad;
    if (asked.central && table.form != RESEMBED_CENTRAL_NONE) grad.central = &central.back().grad;
    if (asked.neighbor_weights && table.form == RESEMBED_CENTRAL_STORED) {
      grad.neighbor_weights = static_cast<float*>(neighbor_weights.back().data());
    }
    table_grads.push_back(grad);
  }
  std::vector<const resembed_table_grad*> table_grad_list;
  for (const resembed_table_grad& grad : table_grads) table_grad_list.push_back(&grad);
  DeviceOutputGrads output_grads(problem, asked);

  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan.header;
  args.tables = device.Args().tables;
  args.features = device.Args().features;
  args.n_features = device.Args().n_features;
  args.feature_grads = output_grads.list.data();
  args.table_grads = table_grad_list.data();
  const resembed_place place = CudaPlace(stream.get());
  size_t bytes = 0;
  EXPECT_EQ(resembed_backward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  DeviceBuffer workspace(bytes);
  {
    const InOperation scope("backward");
    EXPECT_EQ(resembed_backward(&args, workspace.data(), workspace.size(), &place), RESEMBED_OK)
        << resembed_last_error_message();
  }
  EXPECT_TRUE(workspace.Download(stream)) << "the workspace was written past its end";
  plan.Download(stream);

  for (int32_t index = 0; index < problem.n_tables(); ++index) {
    const auto at = static_cast<size_t>(index);
    TableGrads grads;
    if (table_grads[at].residual != nullptr) grads.residual = residual[at].Read(stream);
    if (table_grads[at].central != nullptr) grads.central = central[at].Read(stream);
    if (table_grads[at].neighbor_weights != nullptr) {
      EXPECT_TRUE(neighbor_weights[at].Download(stream));
      const int64_t n = plan.Counts(index).n_unique * device.tables[at].n_neighbors;
      grads.neighbor_weights.resize(static_cast<size_t>(n));
      if (n > 0)
        std::memcpy(grads.neighbor_weights.data(), neighbor_weights[at].host(), static_cast<size_t>(n) * 4);
    }
    out.tables.push_back(std::move(grads));
  }
  for (size_t index = 0; index < problem.features.size(); ++index) {
    const resembed_feature_grad& grad = output_grads.grads[index];
    const bool has_grad = output_grads.list[index] != nullptr;
    const auto read = [&](bool given, DeviceBuffer& buffer, std::vector<float>* values) {
      if (!given) return;
      EXPECT_TRUE(buffer.Download(stream));
      values->resize(buffer.size() / 4);
      if (!values->empty()) std::memcpy(values->data(), buffer.host(), values->size() * 4);
    };
    out.queries.emplace_back();
    out.scores.emplace_back();
    read(has_grad && grad.grad_query != nullptr, output_grads.queries[index], &out.queries.back());
    read(has_grad && grad.grad_scores != nullptr, output_grads.scores[index], &out.scores.back());
    out.sample_weights.emplace_back();
    if (output_grads.list[index] == nullptr || output_grads.grads[index].grad_weights == nullptr) continue;
    EXPECT_TRUE(output_grads.weights[index].Download(stream));
    std::vector<float>& values = out.sample_weights.back();
    values.resize(output_grads.weights[index].size() / 4);
    if (!values.empty()) std::memcpy(values.data(), output_grads.weights[index].host(), values.size() * 4);
  }
  return out;
}

// What differs first; empty when nothing does.
inline std::string FirstDifference(const Grads& got, const Grads& want) {
  const auto rows = [](const std::string& what, const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) {
      return what + ": " + std::to_string(a.size()) + " values, wanted " + std::to_string(b.size());
    }
    for (size_t at = 0; at < a.size(); ++at) {
      if (std::memcmp(&a[at], &b[at], 4) != 0) {
        return what + " value " + std::to_string(at) + ": " + std::to_string(a[at]) + ", wanted " +
               std::to_string(b[at]);
      }
    }
    return std::string();
  };
  if (got.tables.size() != want.tables.size()) return "no tables";
  for (size_t index = 0; index < want.tables.size(); ++index) {
    const std::string table = "table " + std::to_string(index);
    const TableGrads &a = got.tables[index], &b = want.tables[index];
    if (a.residual.ids != b.residual.ids) return table + " residual ids";
    if (a.central.ids != b.central.ids) return table + " central ids";
    for (const std::string& text : {rows(table + " residual", a.residual.rows, b.residual.rows),
                                    rows(table + " central", a.central.rows, b.central.rows),
                                    rows(table + " weights", a.neighbor_weights, b.neighbor_weights)}) {
      if (!text.empty()) return text;
    }
  }
  for (size_t index = 0; index < want.sample_weights.size(); ++index) {
    const std::string text = rows("sample weights " + std::to_string(index), got.sample_weights[index],
                                  want.sample_weights[index]);
    if (!text.empty()) return text;
  }
  return "";
}

}  // namespace resembed::testing
