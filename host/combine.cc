// SPDX-License-Identifier: Apache-2.0
// Several compressed gradients of one matrix into one: a merge by row id, rows summed in the order of the inputs,
// (g0 + g1) + g2 ... Cut into ranges of ids; counted first, so that each range knows where it writes.
#include <algorithm>
#include <cstdio>

#include "host/cpu/row_ops.h"
#include "host/cpu/tasks.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/combine.h"
#endif
#include "host/descriptor.h"
#include "host/executor.h"
#include "host/nvtx.h"
#include "host/validate.h"
#include "host/workspace.h"

namespace resembed::detail {
namespace {

using ll = long long;

constexpr int64_t kRowsPerTask = 1024;

struct Call {
  resembed_place place;
  resembed_combine_args args;
};

// Input `index` with its defaults resolved; index n_inputs is the output.
resembed_grad GradAt(const resembed_combine_args& args, int32_t index) {
  resembed_grad grad = ReadDescriptor(index == args.n_inputs ? args.output : args.inputs[index]);
  if (grad.stride == 0) grad.stride = args.dim;
  return grad;
}

resembed_status CheckOne(const resembed_combine_args& args, int32_t index) {
  char name[32];
  if (index == args.n_inputs) {
    std::snprintf(name, sizeof(name), "output");
  } else {
    std::snprintf(name, sizeof(name), "inputs[%d]", index);
  }
  const auto bad = [&name](const char* field, const char* seen, const char* rule) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: %s%s is %s; needs %s", name, field, seen, rule);
  };
  const resembed_grad* given = index == args.n_inputs ? args.output : args.inputs[index];
  if (given == nullptr) return bad("", "null", "a compressed gradient");
  if (given->struct_size == 0) return bad(".struct_size", "0", "sizeof(resembed_grad)");
  const resembed_grad grad = GradAt(args, index);
  if (grad.layout != RESEMBED_GRAD_COMPRESSED) return bad(".layout", "not compressed", "compressed");
  if (grad.stride < args.dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: %s.stride is %lld; needs at least dim (%lld)", name,
                static_cast<ll>(grad.stride), static_cast<ll>(args.dim));
  }
  if (grad.capacity < 0) return bad(".capacity", "negative", "0 or more");
  if (!FitsInMemory(grad.capacity, grad.stride, RESEMBED_F32))
    return bad(".capacity", "too large", "rows below 2^62 bytes");
  if (grad.n_rows == nullptr) return bad(".n_rows", "null", "an int64_t");
  if (grad.capacity > 0 && grad.rows == nullptr) return bad(".rows", "null", "[capacity, dim] floats");
  if (grad.capacity > 0 && grad.row_ids == nullptr) return bad(".row_ids", "null", "[capacity] ids");
  if (!IsAligned(grad.rows, RESEMBED_F32)) return bad(".rows", "misaligned", "the alignment of f32");
  if (!IsAligned(grad.row_ids, RESEMBED_I64)) return bad(".row_ids", "misaligned", "the alignment of i64");
  return RESEMBED_OK;
}

bool Share(const resembed_grad& a, const resembed_grad& b, int64_t dim) {
  return Overlaps(Matrix{a.rows, a.capacity, dim, a.stride, RESEMBED_F32},
                  Matrix{b.rows, b.capacity, dim, b.stride, RESEMBED_F32}) ||
         Overlaps(a.row_ids, a.capacity * 8, b.row_ids, b.capacity * 8) || Overlaps(a.n_rows, 8, b.n_rows, 8);
}

resembed_status ReadArgs(const resembed_combine_args* given, const resembed_place* place, Call* out) {
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: args is %s; needs a resembed_combine_args",
                given == nullptr ? "null" : "of struct_size 0");
  }
  RESEMBED_RETURN_IF_ERROR(CheckPlace("combine", place, &out->place, Backends::kCpuAndCuda));
  out->args = ReadDescriptor(given);
  const resembed_combine_args& args = out->args;
  if (args.dim < 1) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: dim is %lld; needs 1 or more",
                static_cast<ll>(args.dim));
  }
  if (args.table_rows < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: table_rows is %lld; needs 0 or more",
                static_cast<ll>(args.table_rows));
  }
  if (args.n_inputs < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: n_inputs is %d; needs 0 or more", args.n_inputs);
  }
  if (args.inputs == nullptr && args.n_inputs > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "combine: inputs is null; needs %d gradients", args.n_inputs);
  }
  for (int32_t index = 0; index <= args.n_inputs; ++index) RESEMBED_RETURN_IF_ERROR(CheckOne(args, index));
  const resembed_grad output = GradAt(args, args.n_inputs);
  for (int32_t index = 0; index < args.n_inputs; ++index) {
    if (Share(output, GradAt(args, index), args.dim)) {
      return Fail(RESEMBED_INVALID_ARGUMENT,
                  "combine: output is overlapping inputs[%d]; needs memory of its own", index);
    }
  }
  return RESEMBED_OK;
}

resembed_status CheckRows(const resembed_combine_args& args) {
  for (int32_t index = 0; index < args.n_inputs; ++index) {
    const resembed_grad grad = GradAt(args, index);
    const int64_t n_rows = *grad.n_rows;
    if (n_rows < 0 || n_rows > grad.capacity) {
      return Fail(RESEMBED_OUT_OF_RANGE, "combine: inputs[%d].n_rows[0] is %lld; needs 0 .. capacity (%lld)",
                  index, static_cast<ll>(n_rows), static_cast<ll>(grad.capacity));
    }
    for (int64_t row = 0; row < n_rows; ++row) {
      const int64_t id = grad.row_ids[row];
      if (id < 0 || id >= args.table_rows || (row > 0 && id <= grad.row_ids[row - 1])) {
        return Fail(RESEMBED_OUT_OF_RANGE,
                    "combine: inputs[%d].row_ids[%lld] is %lld; needs increasing ids of 0 .. %lld", index,
                    static_cast<ll>(row), static_cast<ll>(id), static_cast<ll>(args.table_rows - 1));
      }
    }
  }
  return RESEMBED_OK;
}

struct Regions {
  resembed_grad* grads;  // [n_inputs + 1]
  int64_t* next;         // [kMaxTasks, n_inputs] rows of each input still to be taken
  int64_t* first_row;    // [kMaxTasks + 1] of the output

  static Regions Take(const resembed_combine_args& args, Workspace* workspace) {
    Regions regions;
    regions.grads = workspace->Take<resembed_grad>(args.n_inputs + 1);
    regions.next = workspace->Take<int64_t>(kMaxTasks * args.n_inputs);
    regions.first_row = workspace->Take<int64_t>(kMaxTasks + 1);
    return regions;
  }
};

// Calls row(id, inputs' next) for every id of [from, to) that some input has, in order; `row` moves the cursors on.
template <typename Row>
void Merge(const Regions& regions, int32_t n_inputs, int64_t* next, int64_t from, int64_t to,
           const Row& row) {
  for (int32_t input = 0; input < n_inputs; ++input) {
    const resembed_grad& grad = regions.grads[input];
    next[input] = std::lower_bound(grad.row_ids, grad.row_ids + *grad.n_rows, from) - grad.row_ids;
  }
  while (true) {
    int64_t id = to;
    for (int32_t input = 0; input < n_inputs; ++input) {
      const resembed_grad& grad = regions.grads[input];
      if (next[input] < *grad.n_rows) id = std::min(id, grad.row_ids[next[input]]);
    }
    if (id >= to) return;
    row(id);
  }
}

resembed_status Combine(const Call& call, const Regions& regions) {
  const resembed_combine_args& args = call.args;
  const Executor executor(call.place);
  const RowOps& ops = GetRowOps(call.place.isa);
  const int32_t n_inputs = args.n_inputs;
  for (int32_t index = 0; index <= n_inputs; ++index) regions.grads[index] = GradAt(args, index);
  const resembed_grad& output = regions.grads[n_inputs];
  int64_t total = 0;
  int32_t largest = 0;
  for (int32_t input = 0; input < n_inputs; ++input) {
    total += *regions.grads[input].n_rows;
    if (*regions.grads[input].n_rows > *regions.grads[largest].n_rows) largest = input;
  }
  if (total == 0) {
    *output.n_rows = 0;
    return RESEMBED_OK;
  }
  const int64_t n_tasks = TaskCount(executor, total, kRowsPerTask);
  // Ranges of ids: cut where the largest input is cut evenly.
  const auto first_id = [&](int64_t task) {
    if (task == 0) return int64_t{0};
    if (task == n_tasks) return args.table_rows;
    const resembed_grad& grad = regions.grads[largest];
    return grad.row_ids[*grad.n_rows * task / n_tasks];
  };
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    int64_t* const next = regions.next + task * n_inputs;
    int64_t count = 0;
    Merge(regions, n_inputs, next, first_id(task), first_id(task + 1), [&](int64_t id) {
      ++count;
      for (int32_t input = 0; input < n_inputs; ++input) {
        const resembed_grad& grad = regions.grads[input];
        next[input] += next[input] < *grad.n_rows && grad.row_ids[next[input]] == id;
      }
    });
    regions.first_row[task + 1] = count;
  });
  regions.first_row[0] = 0;
  for (int64_t task = 0; task < n_tasks; ++task) regions.first_row[task + 1] += regions.first_row[task];
  const int64_t n_rows = regions.first_row[n_tasks];
  if (n_rows > output.capacity) {
    return Fail(RESEMBED_OUT_OF_RANGE,
                "combine: output.capacity is %lld; needs the %lld distinct rows of the inputs",
                static_cast<ll>(output.capacity), static_cast<ll>(n_rows));
  }
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    int64_t* const next = regions.next + task * n_inputs;
    int64_t at = regions.first_row[task];
    Merge(regions, n_inputs, next, first_id(task), first_id(task + 1), [&](int64_t id) {
      float* const row = output.rows + at * output.stride;
      output.row_ids[at++] = id;
      bool first = true;
      for (int32_t input = 0; input < n_inputs; ++input) {
        const resembed_grad& grad = regions.grads[input];
        if (next[input] >= *grad.n_rows || grad.row_ids[next[input]] != id) continue;
        const float* from = grad.rows + next[input]++ * grad.stride;
        if (first) {
          ops.store(row, RESEMBED_F32, from, args.dim);
        } else {
          ops.add_scaled(row, 1.0f, from, RESEMBED_F32, args.dim);
        }
        first = false;
      }
    });
  });
  *output.n_rows = n_rows;
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

resembed_status resembed_combine_workspace_size(const resembed_combine_args* args,
                                                const resembed_place* place, size_t* bytes) {
  using namespace resembed::detail;
  Call call;
  RESEMBED_RETURN_IF_ERROR(ReadArgs(args, place, &call));
  if (bytes == nullptr) return Fail(RESEMBED_INVALID_ARGUMENT, "combine: bytes is null; needs a size_t");
#ifdef RESEMBED_WITH_CUDA
  if (call.place.backend == RESEMBED_CUDA) return cuda::CombineBytes(call.args, call.place, bytes);
#endif
  Workspace count(nullptr);
  Regions::Take(call.args, &count);
  *bytes = count.used();
  return RESEMBED_OK;
}

resembed_status resembed_combine(const resembed_combine_args* args, void* workspace, size_t workspace_bytes,
                                 const resembed_place* place) {
  using namespace resembed::detail;
  Call call;
  RESEMBED_RETURN_IF_ERROR(ReadArgs(args, place, &call));
#ifdef RESEMBED_WITH_CUDA
  if (call.place.backend == RESEMBED_CUDA) {
    size_t needed = 0;
    RESEMBED_RETURN_IF_ERROR(cuda::CombineBytes(call.args, call.place, &needed));
    RESEMBED_RETURN_IF_ERROR(CheckWorkspace("combine", workspace, workspace_bytes, needed));
    const NvtxRange range(NvtxOp::kCombine, [&] { return CombineSize(call.args); });
    return cuda::Combine(call.args, workspace, call.place);
  }
#endif
  RESEMBED_RETURN_IF_ERROR(CheckRows(call.args));
  Workspace count(nullptr);
  Regions::Take(call.args, &count);
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace("combine", workspace, workspace_bytes, count.used()));
  const NvtxRange range(NvtxOp::kCombine, [&] { return CombineSize(call.args); });
  Workspace carve(workspace);
  return Combine(call, Regions::Take(call.args, &carve));
}

}  // extern "C"
