// SPDX-License-Identifier: Apache-2.0
// E[i] = sum_k w_ik C[n_ik] + R[i] for a range of items: pooling NONE of forward over consecutive ids.
#include <algorithm>

#include "host/cpu/item_stream.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/forward.h"
#include "host/cuda/launch_tables.h"
#endif
#include "host/descriptor.h"
#include "host/executor.h"
#include "host/nvtx.h"
#include "host/validate.h"
#include "host/workspace.h"

namespace resembed::detail {
namespace {

constexpr const char* kOp = "materialize";
using ll = long long;

// Each task has one fp32 row of scratch (outputs of 16 bits); so many keep 100 threads busy.
constexpr int64_t kMaxTasks = 512;
constexpr int64_t kItemsPerTask = 1024;

struct Work {
  int64_t n_tasks;
  float* scratch;  // [n_tasks, dim]
};

Work Carve(const resembed_materialize_args& args, int64_t dim, const resembed_place& place,
           Workspace* workspace) {
  Work work = {};
  if (place.backend != RESEMBED_CPU) return work;
  work.n_tasks = std::min(kMaxTasks, (args.n_items + kItemsPerTask - 1) / kItemsPerTask);
  if (args.output_dtype != RESEMBED_F32) work.scratch = workspace->Take<float>(work.n_tasks * dim);
  return work;
}

resembed_status Check(const resembed_materialize_args* given, const resembed_place* place,
                      resembed_materialize_args* args, resembed_place* where, resembed_table* table) {
  RESEMBED_RETURN_IF_ERROR(CheckPlace(kOp, place, where, Backends::kCpuAndCuda));
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: args is %s; needs a resembed_materialize_args", kOp,
                given == nullptr ? "null" : "of struct_size 0");
  }
  *args = ReadDescriptor(given);
  if (args->table == nullptr || args->table->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: table is %s; needs a resembed_table", kOp,
                args->table == nullptr ? "null" : "of struct_size 0");
  }
  *table = ReadTable(args->table);
  RESEMBED_RETURN_IF_ERROR(CheckTable(kOp, 0, *table));
  if (args->first_item < 0 || args->n_items < 0 || args->first_item > table->n_items ||
      args->n_items > table->n_items - args->first_item) {
    return Fail(RESEMBED_OUT_OF_RANGE,
                "%s: items are %lld .. %lld + %lld; needs a range of 0 .. %lld (n_items)", kOp,
                static_cast<ll>(args->first_item), static_cast<ll>(args->first_item),
                static_cast<ll>(args->n_items), static_cast<ll>(table->n_items));
  }
  if (!IsFloatType(args->output_dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output_dtype is %s; needs f32, f16 or bf16", kOp,
                DtypeName(args->output_dtype));
  }
  if (args->output_stride == 0) args->output_stride = table->dim;
  if (args->output_stride < table->dim) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output_stride is %lld; needs at least dim (%lld)", kOp,
                static_cast<ll>(args->output_stride), static_cast<ll>(table->dim));
  }
  if (!FitsInMemory(args->n_items, args->output_stride, args->output_dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output is %lld rows of stride %lld; needs below 2^62 bytes",
                kOp, static_cast<ll>(args->n_items), static_cast<ll>(args->output_stride));
  }
#ifdef RESEMBED_WITH_CUDA
  if (where->backend == RESEMBED_CUDA) return cuda::CheckForwardTypes(kOp, 0, *table);
#endif
  return RESEMBED_OK;
}

resembed_status CheckOutput(const resembed_materialize_args& args, const resembed_table& table) {
  if (args.output == nullptr && args.n_items > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output is null; needs [%lld, %lld] rows", kOp,
                static_cast<ll>(args.n_items), static_cast<ll>(table.dim));
  }
  if (!IsAligned(args.output, args.output_dtype)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output is misaligned; needs the alignment of its type", kOp);
  }
  const Matrix output = {args.output, args.n_items, table.dim, args.output_stride, args.output_dtype};
  if (Overlaps(output, {table.residual, table.residual_rows, table.dim, table.residual_stride,
                        table.residual_dtype}) ||
      Overlaps(output,
               {table.central, table.central_rows, table.dim, table.central_stride, table.central_dtype})) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: output is overlapping the table; needs memory of its own",
                kOp);
  }
  return RESEMBED_OK;
}

void Run(const resembed_materialize_args& args, const resembed_table& table, const Work& work,
         const RowOps& ops, const Executor& executor) {
  const int64_t pitch = args.output_stride * ElementBytes(args.output_dtype);
  const ComposeFunction compose_ahead = ops.compose_ahead(table.central_dtype, table.residual_dtype);
  executor.ParallelFor(work.n_tasks, [&](int64_t task) {
    const int64_t first = args.n_items / work.n_tasks * task + std::min(task, args.n_items % work.n_tasks);
    const int64_t last =
        args.n_items / work.n_tasks * (task + 1) + std::min(task + 1, args.n_items % work.n_tasks);
    ItemStream<IdRange> stream(table, ops, {args.first_item}, first, last);
    for (int64_t position = first; position < last; ++position) {
      void* row = static_cast<char*>(args.output) + position * pitch;
      float* e = work.scratch == nullptr ? static_cast<float*>(row) : work.scratch + task * table.dim;
      const ItemRows* ahead;
      const ItemRows* rows = stream.Next(&ahead);
      if (ahead != nullptr) {
        compose_ahead(e, *rows, *ahead, table.dim);
      } else {
        ops.compose(e, *rows, table.dim);
      }
      if (work.scratch != nullptr) ops.store(row, args.output_dtype, e, table.dim);
    }
  });
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

resembed_status resembed_materialize_workspace_size(const resembed_materialize_args* args,
                                                    const resembed_place* place, size_t* bytes) {
  using namespace resembed::detail;  // NOLINT: one function
  if (bytes == nullptr) return Fail(RESEMBED_INVALID_ARGUMENT, "%s: bytes is null; needs a size_t", kOp);
  resembed_materialize_args given = {};
  resembed_place where = {};
  resembed_table table = {};
  RESEMBED_RETURN_IF_ERROR(Check(args, place, &given, &where, &table));
  Workspace count(nullptr);
  Carve(given, table.dim, where, &count);
  *bytes = count.used();
  return RESEMBED_OK;
}

resembed_status resembed_materialize(const resembed_materialize_args* args, void* workspace,
                                     size_t workspace_bytes, const resembed_place* place) {
  using namespace resembed::detail;  // NOLINT: one function
  resembed_materialize_args given = {};
  resembed_place where = {};
  resembed_table table = {};
  RESEMBED_RETURN_IF_ERROR(Check(args, place, &given, &where, &table));
  RESEMBED_RETURN_IF_ERROR(CheckOutput(given, table));
  Workspace count(nullptr);
  Carve(given, table.dim, where, &count);
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace(kOp, workspace, workspace_bytes, count.used()));
  const NvtxRange range(NvtxOp::kMaterialize, [&] {
    return ItemsSize(table, given.n_items, given.n_items * table.dim * ElementBytes(given.output_dtype));
  });
#ifdef RESEMBED_WITH_CUDA
  if (where.backend == RESEMBED_CUDA) return cuda::Materialize(kOp, given, table, where);
#endif
  Workspace memory(workspace);
  const Work work = Carve(given, table.dim, where, &memory);
  Run(given, table, work, GetRowOps(where.isa), Executor(where));
  return RESEMBED_OK;
}

}  // extern "C"
