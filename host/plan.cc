// SPDX-License-Identifier: Apache-2.0
#include "host/plan.h"

#include "host/cpu/bags.h"
#include "host/cpu/plan_build.h"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/plan.h"
#endif
#include "host/descriptor.h"
#include "host/nvtx.h"
#include "host/workspace.h"

namespace resembed::detail {
namespace {

using ll = long long;

// Uses, rows of output and pairs are numbered with 32 bits.
constexpr int64_t kMaxNumber = int64_t{0xffffffff};
constexpr int64_t kMaxItems = 0x7fffffff;

struct Args {
  resembed_place place;
  resembed_plan_args args;
  Tables tables;
};

resembed_status ReadArgs(const resembed_plan_args* given, const resembed_place* place, Args* out) {
  const char* op = "plan";
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: args is %s; needs a resembed_plan_args", op,
                given == nullptr ? "null" : "of struct_size 0");
  }
  RESEMBED_RETURN_IF_ERROR(CheckPlace(op, place, &out->place, Backends::kCpuAndCuda));
  out->args = ReadDescriptor(given);
  RESEMBED_RETURN_IF_ERROR(CheckTables(op, out->args.tables, out->place, &out->tables));
  RESEMBED_RETURN_IF_ERROR(CheckFeatures(op, out->args.features, out->args.n_features, out->tables));
  if (out->args.bounds < RESEMBED_BOUNDS_CHECK || out->args.bounds > RESEMBED_BOUNDS_SKIP) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: bounds is %d; needs check, trust or skip", op,
                out->args.bounds);
  }
  if (out->place.backend == RESEMBED_CUDA && out->args.n_features > 0x7fff) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: n_features is %d; needs at most 32767 on cuda", op,
                out->args.n_features);
  }
  for (int32_t index = 0; index < out->tables.size(); ++index) {
    const int64_t n_items = out->tables[index].n_items;
    if (n_items > kMaxItems) {
      return Fail(RESEMBED_UNSUPPORTED, "%s: tables[%d].n_items is %lld; needs at most 2^31 - 1", op, index,
                  static_cast<ll>(n_items));
    }
    const auto check = [op, index](const char* what, const int64_t* promises) -> resembed_status {
      if (promises == nullptr || promises[index] >= 0) return RESEMBED_OK;
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s[%d] is %lld; needs 0 (no promise) or more", op, what,
                  index, static_cast<ll>(promises[index]));
    };
    RESEMBED_RETURN_IF_ERROR(check("max_unique", out->args.max_unique));
    RESEMBED_RETURN_IF_ERROR(check("max_unique_central", out->args.max_unique_central));
  }
  return RESEMBED_OK;
}

int64_t SlotsOf(const resembed_table& table) {
  switch (table.form) {
    case RESEMBED_CENTRAL_NONE:
      return 0;
    case RESEMBED_CENTRAL_ASSIGNMENT:
      return 1;
    case RESEMBED_CENTRAL_ATTENTION:
      return table.n_neighbors + 1;
    default:
      return table.n_neighbors;
  }
}

int64_t Promised(const int64_t* promises, int32_t index, int64_t worst) {
  return promises == nullptr || promises[index] == 0 ? worst : std::min(promises[index], worst);
}

// The record of a table: shapes and promises; regions and results are still to come.
resembed_status ShapeOf(const Args& args, int32_t index, PlanRecord* out) {
  const resembed_table table = args.tables[index];
  PlanRecord record = {};
  for (int32_t number = 0; number < args.args.n_features; ++number) {
    if (TableOf(args.args.features[number]) != index) continue;
    const resembed_feature feature = ReadFeature(args.args.features[number], table.dim);
    // Each term stays below 2^62, so the sums do not overflow before they are checked.
    record.n_uses += feature.n_ids;
    record.n_rows += OutputRows(feature);
    if (feature.pooling == RESEMBED_POOLING_MEAN) record.has_divisor = 1;
    if (record.n_uses >= kMaxNumber || record.n_rows >= kMaxNumber) {
      return Fail(RESEMBED_UNSUPPORTED,
                  "plan: features over tables[%d] is %lld ids and %lld rows of output; "
                  "needs below 2^32 - 1 of each",
                  index, static_cast<ll>(record.n_uses), static_cast<ll>(record.n_rows));
    }
  }
  record.max_unique = Promised(args.args.max_unique, index, std::min(table.n_items, record.n_uses));
  record.max_long_items = MaxLongChunks(record.n_uses);
  const int64_t n_slots = args.args.skip_central != 0 ? 0 : SlotsOf(table);
  if (n_slots > 0) {
    record.has_central = 1;
    while (int64_t{1} << record.slot_bits < n_slots) ++record.slot_bits;
    if (record.max_unique << record.slot_bits >= kMaxNumber) {
      return Fail(RESEMBED_UNSUPPORTED,
                  "plan: max_unique[%d] is %lld; needs at most %lld with %lld slots an item", index,
                  static_cast<ll>(record.max_unique), static_cast<ll>(kMaxNumber >> record.slot_bits),
                  static_cast<ll>(n_slots));
    }
    record.max_pairs = record.max_unique * n_slots;
    record.max_unique_central =
        Promised(args.args.max_unique_central, index, std::min(table.central_rows, record.max_pairs));
    record.max_long_pairs = MaxLongChunks(record.max_pairs);
  }
  *out = record;
  return RESEMBED_OK;
}

// Regions of one table: counts with a null base, else fills the record's offsets.
void TakeRegions(Workspace* memory, PlanRecord* record) {
  const auto take = [memory](auto* type, int64_t count) {
    const size_t offset = memory->used();
    memory->Take<std::remove_pointer_t<decltype(type)>>(count);
    return offset;
  };
  int32_t* const i32 = nullptr;
  uint32_t* const u32 = nullptr;
  record->rows = take(i32, record->max_unique);
  record->begin = take(u32, record->max_unique + 1);
  record->use = take(u32, record->n_uses);
  record->use_row = take(u32, record->n_uses);
  record->inverse = take(i32, record->n_uses);
  record->divisor = take(static_cast<float*>(nullptr), record->has_divisor != 0 ? record->n_rows : 0);
  record->long_items = take(static_cast<PlanChunk*>(nullptr), record->max_long_items);
  record->central_rows = take(i32, record->max_unique_central);
  record->central_begin = take(u32, record->max_unique_central + 1);
  record->pair = take(u32, record->max_pairs);
  record->long_pairs = take(static_cast<PlanChunk*>(nullptr), record->max_long_pairs);
}

struct Sizes {
  size_t plan, workspace;
};

// Head, records and features: at the start of the plan's memory, or in a layout.
int64_t FrontBytes(const Args& args) {
  return static_cast<int64_t>(sizeof(PlanHead)) +
         args.tables.size() * static_cast<int64_t>(sizeof(PlanRecord)) +
         args.args.n_features * static_cast<int64_t>(sizeof(PlanFeature));
}
static_assert(RESEMBED_PLAN_LAYOUT_BYTES(0, 0) >= sizeof(PlanHead), "of a plan without tables");
static_assert(RESEMBED_PLAN_LAYOUT_BYTES(1, 0) - RESEMBED_PLAN_LAYOUT_BYTES(0, 0) >= sizeof(PlanRecord),
              "of a table");
static_assert(RESEMBED_PLAN_LAYOUT_BYTES(0, 1) - RESEMBED_PLAN_LAYOUT_BYTES(0, 0) >= sizeof(PlanFeature),
              "of a feature");

// Walks the tables once: sizes, and with `front` the records in it.
resembed_status LayOut(const Args& args, char* front, PlanScratch* scratch, void* workspace, Sizes* sizes) {
  const int32_t n_tables = args.tables.size();
  const bool on_gpu = args.place.backend == RESEMBED_CUDA;
  Workspace regions(nullptr);
  regions.Take<char>(on_gpu ? n_tables * int64_t{sizeof(kernels::PlanCounts)} : FrontBytes(args));
  auto* records = reinterpret_cast<PlanRecord*>(front + sizeof(PlanHead));
  int64_t n_entries = 0, n_uses = 0;
#ifdef RESEMBED_WITH_CUDA
  cuda::PlanBatches batches = {};
#endif
  for (int32_t index = 0; index < n_tables; ++index) {
    PlanRecord record;
    RESEMBED_RETURN_IF_ERROR(ShapeOf(args, index, &record));
#ifdef RESEMBED_WITH_CUDA
    batches.Add(record, args.tables[index]);
#endif
    TakeRegions(&regions, &record);
    n_entries = std::max({n_entries, record.n_uses, record.max_pairs});
    n_uses = std::max(n_uses, record.n_uses);
    if (on_gpu) {
      record.n_unique = record.max_unique;
      record.n_unique_central = record.max_unique_central;
      record.n_long_items = record.max_long_items;
      record.n_long_pairs = record.max_long_pairs;
    }
    if (front != nullptr) records[index] = record;
  }
#ifdef RESEMBED_WITH_CUDA
  if (on_gpu) {
    sizes->plan = regions.used();
    batches.size.n_features = args.args.n_features;
    return cuda::PlanWorkspaceBytes(args.place, batches.size, &sizes->workspace);
  }
#endif
  Workspace carve(workspace);
  const PlanScratch taken = PlanScratch::Take(&carve, n_entries, n_uses);
  if (scratch != nullptr) *scratch = taken;
  *sizes = {regions.used(), carve.used()};
  return RESEMBED_OK;
}

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

// Shapes, features and map versions: what a later call must agree on.
uint64_t Fingerprint(const Tables& tables, const resembed_feature* const* features, int32_t n_features) {
  uint64_t hash =
      Mix(Mix(0x7265736D62ull, static_cast<uint64_t>(tables.size())), static_cast<uint64_t>(n_features));
  for (int32_t index = 0; index < tables.size(); ++index) {
    const resembed_table table = tables[index];
    for (const int64_t value : {table.n_items, table.dim, int64_t{table.form}, table.central_rows,
                                int64_t{table.n_neighbors}, static_cast<int64_t>(table.map_version)}) {
      hash = Mix(hash, static_cast<uint64_t>(value));
    }
  }
  for (int32_t index = 0; index < n_features; ++index) {
    const resembed_feature feature = ReadFeature(features[index], 1);
    for (const int64_t value :
         {int64_t{feature.table}, int64_t{feature.pooling}, feature.n_ids, feature.n_bags,
          feature.offsets != nullptr ? int64_t{-1} : feature.bag_length,
          feature.has_padding != 0 ? feature.padding_id : int64_t{-1}, int64_t{feature.has_padding != 0}}) {
      hash = Mix(hash, static_cast<uint64_t>(value));
    }
  }
  return hash == 0 ? 1 : hash;
}

}  // namespace

PlanTable Plan::table(int32_t index) const {
  const PlanRecord& from = record(index);
  PlanTable out;
  out.max_unique = from.max_unique;
  out.max_unique_central = from.max_unique_central;
  out.n_uses = from.n_uses;
  out.n_rows = from.n_rows;
  out.items = {from.n_unique, reinterpret_cast<const int32_t*>(memory_ + from.rows),
               reinterpret_cast<const uint32_t*>(memory_ + from.begin), from.n_long_items,
               reinterpret_cast<const PlanChunk*>(memory_ + from.long_items)};
  out.use = reinterpret_cast<const uint32_t*>(memory_ + from.use);
  out.use_row = reinterpret_cast<const uint32_t*>(memory_ + from.use_row);
  out.inverse = reinterpret_cast<const int32_t*>(memory_ + from.inverse);
  out.divisor = from.has_divisor != 0 ? reinterpret_cast<const float*>(memory_ + from.divisor) : nullptr;
  out.central = {from.n_unique_central, reinterpret_cast<const int32_t*>(memory_ + from.central_rows),
                 reinterpret_cast<const uint32_t*>(memory_ + from.central_begin), from.n_long_pairs,
                 reinterpret_cast<const PlanChunk*>(memory_ + from.long_pairs)};
  out.pair = reinterpret_cast<const uint32_t*>(memory_ + from.pair);
  out.slot_bits = from.slot_bits;
  out.has_central = from.has_central != 0;
  return out;
}

static Plan OpenHeader(const resembed_plan_header& header) {
  return header.backend == RESEMBED_CPU ? Plan(header.memory) : Plan(header.layout, header.memory);
}

// The header, and what it points to in ordinary memory. `place` null: any backend.
static resembed_status CheckHeader(const char* op, const resembed_plan_header* given,
                                   const resembed_place* place, resembed_plan_header* header) {
  if (given == nullptr || given->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: plan is %s; needs a header that resembed_plan filled", op,
                given == nullptr ? "null" : "of struct_size 0");
  }
  *header = ReadDescriptor(given);
  if (header->memory == nullptr || header->fingerprint == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: plan is empty; needs a header that resembed_plan filled", op);
  }
  const resembed_backend backend = place != nullptr ? place->backend : header->backend;
  if (header->backend != backend || (backend != RESEMBED_CPU && backend != RESEMBED_CUDA)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: plan.backend is %s; needs %s", op,
                BackendName(header->backend), place != nullptr ? BackendName(backend) : "cpu or cuda");
  }
  if (place != nullptr && header->device != place->device) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: plan.device is %d; needs %d", op, header->device,
                place->device);
  }
  if (header->backend != RESEMBED_CPU && header->layout == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: plan.layout is null; needs the layout the plan was made with",
                op);
  }
  const PlanHead& head = OpenHeader(*header).head();
  if (head.fingerprint != header->fingerprint || head.n_tables != header->n_tables ||
      head.n_features != header->n_features) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: plan.fingerprint is %016llx; needs the one in its memory (%016llx): the memory holds "
                "another plan",
                op, static_cast<unsigned long long>(header->fingerprint),
                static_cast<unsigned long long>(head.fingerprint));
  }
  return RESEMBED_OK;
}

resembed_status OpenPlan(const char* op, const resembed_plan_header* given, const Tables& tables,
                         const resembed_feature* const* features, int32_t n_features,
                         const resembed_place& place, Plan* plan) {
  resembed_plan_header header = {};
  RESEMBED_RETURN_IF_ERROR(CheckHeader(op, given, &place, &header));
  const uint64_t fingerprint = Fingerprint(tables, features, n_features);
  if (header.fingerprint != fingerprint) {
    return Fail(
        RESEMBED_INVALID_ARGUMENT,
        "%s: plan.fingerprint is %016llx; needs %016llx, that of these tables, features and map versions", op,
        static_cast<unsigned long long>(header.fingerprint), static_cast<unsigned long long>(fingerprint));
  }
  *plan = OpenHeader(header);
  return RESEMBED_OK;
}

// The start of a plan: head, records, features. Until the head has a fingerprint the plan is not made.
struct Front {
  PlanHead* head;
  PlanRecord* records;
  PlanFeature* places;
};

static Front NumberFeatures(const Args& args, char* at) {
  const Front front = {
      reinterpret_cast<PlanHead*>(at), reinterpret_cast<PlanRecord*>(at + sizeof(PlanHead)),
      reinterpret_cast<PlanFeature*>(at + sizeof(PlanHead) +
                                     static_cast<size_t>(args.tables.size()) * sizeof(PlanRecord))};
  for (int32_t index = 0; index < args.tables.size(); ++index) {
    int64_t first_use = 0, first_row = 0;
    for (int32_t number = 0; number < args.args.n_features; ++number) {
      if (TableOf(args.args.features[number]) != index) continue;
      const resembed_feature feature = ReadFeature(args.args.features[number], 1);
      front.places[number] = {index, first_use, first_row};
      first_use += feature.n_ids;
      first_row += OutputRows(feature);
    }
  }
  return front;
}

static void FinishPlan(const Args& args, const Front& front, void* memory, size_t plan_bytes,
                       resembed_plan_header* out) {
  front.head->fingerprint = Fingerprint(args.tables, args.args.features, args.args.n_features);
  resembed_plan_header header = {};
  header.struct_size = std::min(out->struct_size, sizeof(header));
  header.memory = memory;
  header.memory_bytes = plan_bytes;
  header.backend = args.place.backend;
  header.device = args.place.device;
  header.n_tables = args.tables.size();
  header.n_features = args.args.n_features;
  header.fingerprint = front.head->fingerprint;
  if (args.place.backend != RESEMBED_CPU) header.layout = args.args.layout;
  std::memcpy(out, &header, header.struct_size);
}

static resembed_status MakePlan(const Args& args, char* memory, const PlanScratch& scratch,
                                resembed_plan_header* out, size_t plan_bytes) {
  const Executor executor(args.place);
  const Front front = NumberFeatures(args, memory);
  for (int32_t index = 0; index < args.tables.size(); ++index) {
    const PlanInputs inputs = {index, args.tables[index], args.args.features, args.args.n_features,
                               front.places};
    const resembed_status status = BuildPlanTable(inputs, memory, &front.records[index], scratch, executor);
    if (status != RESEMBED_OK) {
      front.records[index].status = status;
      return status;
    }
  }
  FinishPlan(args, front, memory, plan_bytes, out);
  return RESEMBED_OK;
}

// What a plan on a GPU needs beside its memory.
static resembed_status CheckLayout(const Args& args, const resembed_plan_header& out) {
  if (args.args.layout == nullptr || reinterpret_cast<uintptr_t>(args.args.layout) % 8 != 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "plan: layout is %p; needs ordinary memory, 8-byte aligned",
                args.args.layout);
  }
  const size_t needed = RESEMBED_PLAN_LAYOUT_BYTES(args.tables.size(), args.args.n_features);
  if (args.args.layout_bytes < needed) {
    return Fail(RESEMBED_WORKSPACE_TOO_SMALL, "plan: layout_bytes is %zu; needs %zu", args.args.layout_bytes,
                needed);
  }
  if (out.struct_size < offsetof(resembed_plan_header, layout) + sizeof(out.layout)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "plan: plan.struct_size is %zu; needs %zu on cuda",
                out.struct_size, sizeof(out));
  }
  return RESEMBED_OK;
}

#ifdef RESEMBED_WITH_CUDA
static resembed_status MakePlanOnGpu(const Args& args, char* memory, void* workspace,
                                     resembed_plan_header* out) {
  char* const layout = static_cast<char*>(args.args.layout);
  *reinterpret_cast<PlanHead*>(layout) = {0, args.tables.size(), args.args.n_features};
  Sizes sizes;
  RESEMBED_RETURN_IF_ERROR(LayOut(args, layout, nullptr, workspace, &sizes));
  const Front front = NumberFeatures(args, layout);
  RESEMBED_RETURN_IF_ERROR(cuda::BuildPlan(
      {args.place, &args.args, &args.tables, front.records, front.places, memory, workspace}));
  FinishPlan(args, front, memory, sizes.plan, out);
  return RESEMBED_OK;
}
#endif

}  // namespace resembed::detail

extern "C" {

resembed_status resembed_plan_size(const resembed_plan_args* args, const resembed_place* place,
                                   size_t* plan_bytes, size_t* workspace_bytes) {
  using namespace resembed::detail;
  Args read;
  RESEMBED_RETURN_IF_ERROR(ReadArgs(args, place, &read));
  if (plan_bytes == nullptr || workspace_bytes == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "plan: %s is null; needs a size_t",
                plan_bytes == nullptr ? "plan_bytes" : "workspace_bytes");
  }
  Sizes sizes;
  RESEMBED_RETURN_IF_ERROR(LayOut(read, nullptr, nullptr, nullptr, &sizes));
  *plan_bytes = sizes.plan;
  *workspace_bytes = sizes.workspace;
  return RESEMBED_OK;
}

resembed_status resembed_plan(const resembed_plan_args* args, void* memory, size_t memory_bytes,
                              resembed_plan_header* plan, void* workspace, size_t workspace_bytes,
                              const resembed_place* place) {
  using namespace resembed::detail;
  Args read;
  RESEMBED_RETURN_IF_ERROR(ReadArgs(args, place, &read));
  if (plan == nullptr || plan->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "plan: plan is %s; needs a resembed_plan_header with its struct_size",
                plan == nullptr ? "null" : "of struct_size 0");
  }
  Sizes sizes;
  RESEMBED_RETURN_IF_ERROR(LayOut(read, nullptr, nullptr, nullptr, &sizes));
  if (memory == nullptr || reinterpret_cast<uintptr_t>(memory) % RESEMBED_WORKSPACE_ALIGNMENT != 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "plan: memory is %p; needs an address that is a multiple of %d",
                memory, RESEMBED_WORKSPACE_ALIGNMENT);
  }
  if (memory_bytes < sizes.plan) {
    return Fail(RESEMBED_WORKSPACE_TOO_SMALL, "plan: memory_bytes is %zu; needs %zu", memory_bytes,
                sizes.plan);
  }
  if (workspace != nullptr &&
      Overlaps(memory, static_cast<int64_t>(sizes.plan), workspace, static_cast<int64_t>(sizes.workspace))) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "plan: memory is overlapping workspace; needs memory of its own");
  }
  RESEMBED_RETURN_IF_ERROR(CheckWorkspace("plan", workspace, workspace_bytes, sizes.workspace));
  if (read.place.backend == RESEMBED_CUDA) RESEMBED_RETURN_IF_ERROR(CheckLayout(read, *plan));
  const NvtxRange range(NvtxOp::kPlan,
                        [&] { return PlanSize(read.args.features, read.args.n_features, read.tables); });
#ifdef RESEMBED_WITH_CUDA
  if (read.place.backend == RESEMBED_CUDA) {
    return MakePlanOnGpu(read, static_cast<char*>(memory), workspace, plan);
  }
#endif
  RESEMBED_RETURN_IF_ERROR(CheckIds("plan", read.args.features, read.args.n_features, read.tables,
                                    read.args.bounds, read.args.bad_ids, read.place));
  // From here on an earlier plan in this memory is gone, whatever happens.
  auto* head = static_cast<PlanHead*>(memory);
  *head = {0, read.tables.size(), read.args.n_features};
  PlanScratch scratch;
  RESEMBED_RETURN_IF_ERROR(LayOut(read, static_cast<char*>(memory), &scratch, workspace, &sizes));
  return MakePlan(read, static_cast<char*>(memory), scratch, plan, sizes.plan);
}

resembed_status resembed_plan_view(const resembed_plan_header* plan, int32_t table,
                                   resembed_plan_table* view) {
  using namespace resembed::detail;
  resembed_plan_header header = {};
  RESEMBED_RETURN_IF_ERROR(CheckHeader("plan_view", plan, nullptr, &header));
  if (table < 0 || table >= header.n_tables) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "plan_view: table is %d; needs 0 .. %d (n_tables - 1)", table,
                header.n_tables - 1);
  }
  if (view == nullptr || view->struct_size == 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "plan_view: view is %s; needs a resembed_plan_table with its struct_size",
                view == nullptr ? "null" : "of struct_size 0");
  }
  const Plan opened = OpenHeader(header);
  const PlanRecord& record = opened.record(table);
  const PlanTable read = opened.table(table);
  resembed_plan_table out = {};
  out.struct_size = std::min(view->struct_size, sizeof(out));
  out.n_unique = &record.n_unique;
  out.unique_items = read.items.rows;
  out.n_unique_central = &record.n_unique_central;
  out.unique_central = read.central.rows;
  out.max_unique = record.max_unique;
  out.max_unique_central = record.max_unique_central;
  out.status = &record.status;
  if (header.backend != RESEMBED_CPU) {
    out.n_unique = &opened.counts(table)->n_unique;
    out.n_unique_central = &opened.counts(table)->n_unique_central;
    out.status = &opened.counts(table)->status;
  }
  std::memcpy(view, &out, out.struct_size);
  return RESEMBED_OK;
}

}  // extern "C"
