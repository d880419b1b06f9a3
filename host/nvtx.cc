// SPDX-License-Identifier: Apache-2.0
#include "host/nvtx.h"

#include "host/cpu/row_ops.h"
#include "host/descriptor.h"

#ifdef RESEMBED_HAVE_NVTX
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>
#endif

namespace resembed::detail {

#ifdef RESEMBED_HAVE_NVTX
namespace {

constexpr int kNOps = 11;
constexpr const char* kNames[kNOps] = {"forward",       "plan",       "backward",         "step",
                                       "backward_step", "combine",    "materialize",      "envelope",
                                       "translate",     "check_maps", "table_set_prepare"};
// Categories: what a training step is made of, and whole-table services.
constexpr const char* kCategories[] = {"forward", "index", "backward", "optimizer", "table"};
constexpr uint32_t kCategoryOf[kNOps] = {1, 2, 3, 4, 4, 3, 5, 5, 2, 5, 5};
// A fixed number, so that the payload names its schema even to a tool that registers none.
constexpr uint64_t kSchema = NVTX_PAYLOAD_SCHEMA_ID_STATIC_START + 1;

struct Domain {
  nvtxDomainHandle_t handle;
  nvtxStringHandle_t names[kNOps] = {};

  // The first call makes NVTX look for a tool; without one the handle is null and stays so.
  Domain() : handle(nvtxDomainCreateA("resembed")) {
    if (handle == nullptr) return;
    for (int op = 0; op < kNOps; ++op) names[op] = nvtxDomainRegisterStringA(handle, kNames[op]);
    uint32_t number = 0;
    for (const char* category : kCategories) nvtxDomainNameCategoryA(handle, ++number, category);
    nvtxPayloadSchemaEntry_t entries[3] = {};
    const char* const fields[3] = {"bags", "rows", "bytes"};
    for (int field = 0; field < 3; ++field) {
      entries[field].type = NVTX_PAYLOAD_ENTRY_TYPE_INT64;
      entries[field].name = fields[field];
      entries[field].offset = sizeof(int64_t) * static_cast<uint64_t>(field);
    }
    nvtxPayloadSchemaAttr_t schema = {};
    schema.fieldMask = NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NAME | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_TYPE |
                       NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_ENTRIES | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NUM_ENTRIES |
                       NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_STATIC_SIZE | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_SCHEMA_ID;
    schema.name = "resembed operation";
    schema.type = NVTX_PAYLOAD_SCHEMA_TYPE_STATIC;
    schema.entries = entries;
    schema.numEntries = 3;
    schema.payloadStaticSize = sizeof(NvtxSize);
    schema.schemaId = kSchema;
    nvtxPayloadSchemaRegister(handle, &schema);
  }
};

const Domain& TheDomain() {
  static const Domain domain;
  return domain;
}

}  // namespace

bool NvtxOn() { return TheDomain().handle != nullptr; }

void NvtxPush(NvtxOp op, const NvtxSize& size) {
  const Domain& domain = TheDomain();
  const nvtxPayloadData_t payload = {kSchema, sizeof(size), &size};
  nvtxEventAttributes_t event = {};
  event.version = NVTX_VERSION;
  event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  event.category = kCategoryOf[static_cast<int>(op)];
  event.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
  event.message.registered = domain.names[static_cast<int>(op)];
  event.payloadType = NVTX_PAYLOAD_TYPE_EXT;
  event.reserved0 = 1;  // payloads that follow
  event.payload.ullValue = NVTX_POINTER_AS_PAYLOAD_ULLVALUE(&payload);
  nvtxDomainRangePushEx(domain.handle, &event);
}

void NvtxPop() { nvtxDomainRangePop(TheDomain().handle); }
#endif

namespace {

int64_t Slots(const resembed_table& table) {
  if (table.form == RESEMBED_CENTRAL_NONE) return 0;
  return table.form == RESEMBED_CENTRAL_ASSIGNMENT ? 1 : table.n_neighbors;
}

// Of one item: its map, its rows of R and C.
int64_t ItemBytes(const resembed_table& table) {
  const int64_t slots = Slots(table);
  int64_t map = slots * (table.form == RESEMBED_CENTRAL_STORED ? 8 : 4);
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) map = ElementBytes(table.center_of_dtype);
  int64_t rows = slots * table.dim * ElementBytes(table.central_dtype);
  if (table.residual != nullptr) rows += table.dim * ElementBytes(table.residual_dtype);
  return map + rows;
}

int64_t IdBytes(const resembed_feature& feature) {
  return feature.n_ids * ElementBytes(feature.id_dtype) +
         (feature.offsets == nullptr ? 0 : (feature.n_bags + 1) * ElementBytes(feature.offset_dtype));
}

}  // namespace

NvtxSize ForwardSize(const resembed_feature* const* features, int32_t n_features, const Tables& tables) {
  NvtxSize size = {};
  for (int32_t index = 0; index < n_features; ++index) {
    const resembed_table table = tables[ReadDescriptor(features[index]).table];
    const resembed_feature feature = ReadFeature(features[index], table.dim);
    size.bags += feature.n_bags;
    size.rows += feature.n_ids;
    size.bytes += IdBytes(feature) + (feature.weights == nullptr ? 0 : 4 * feature.n_ids) +
                  feature.n_ids * ItemBytes(table) +
                  feature.n_bags * table.dim * ElementBytes(feature.output_dtype);
  }
  return size;
}

NvtxSize PlanSize(const resembed_feature* const* features, int32_t n_features, const Tables& tables) {
  NvtxSize size = {};
  for (int32_t index = 0; index < n_features; ++index) {
    const resembed_feature feature =
        ReadFeature(features[index], tables[ReadDescriptor(features[index]).table].dim);
    size.bags += feature.n_bags;
    size.rows += feature.n_ids;
    size.bytes += IdBytes(feature);
  }
  return size;
}

NvtxSize BackwardSize(const resembed_feature* const* features,
                      const resembed_feature_grad* const* feature_grads, int32_t n_features,
                      const Tables& tables) {
  NvtxSize size = {};
  for (int32_t index = 0; index < n_features; ++index) {
    if (feature_grads == nullptr || feature_grads[index] == nullptr) continue;
    const int64_t dim = tables[ReadDescriptor(features[index]).table].dim;
    const resembed_feature feature = ReadFeature(features[index], dim);
    const resembed_feature_grad grad = ReadDescriptor(feature_grads[index]);
    size.bags += feature.n_bags;
    size.rows += feature.n_ids;
    size.bytes += IdBytes(feature) + feature.n_bags * dim * ElementBytes(grad.grad_output_dtype);
  }
  return size;
}

NvtxSize StepSize(const resembed_step_args& args, const Tables& tables) {
  NvtxSize size = {};
  const auto add = [&size](const resembed_grad* given, const resembed_optimizer* optimizer,
                           int64_t table_rows, int64_t dim, resembed_dtype dtype) {
    if (given == nullptr || optimizer == nullptr) return;
    const resembed_grad grad = ReadDescriptor(given);
    const int64_t rows = grad.layout == RESEMBED_GRAD_DENSE ? table_rows : grad.capacity;
    size.rows += rows;
    size.bytes += rows * dim * (4 + 2 * ElementBytes(dtype));
  };
  for (int32_t index = 0; index < tables.size(); ++index) {
    if (args.steps[index] == nullptr || args.table_grads[index] == nullptr) continue;
    const resembed_table table = tables[index];
    const resembed_table_step step = ReadDescriptor(args.steps[index]);
    const resembed_table_grad grad = ReadDescriptor(args.table_grads[index]);
    add(grad.residual, step.residual, table.residual_rows, table.dim, table.residual_dtype);
    add(grad.central, step.central, table.central_rows, table.dim, table.central_dtype);
  }
  return size;
}

NvtxSize CombineSize(const resembed_combine_args& args) {
  NvtxSize size = {};
  for (int32_t input = 0; input < args.n_inputs; ++input) {
    size.rows += ReadDescriptor(args.inputs[input]).capacity;
  }
  size.bytes = (size.rows + ReadDescriptor(args.output).capacity) * (args.dim * 4 + 8);
  return size;
}

NvtxSize ItemsSize(const resembed_table& table, int64_t n_items, int64_t output_bytes) {
  return {0, n_items, n_items * ItemBytes(table) + output_bytes};
}

NvtxSize TranslateSize(const resembed_translate_args& args) {
  return {0, args.n_ids, args.n_ids * (2 * ElementBytes(args.id_dtype) + 4)};
}

NvtxSize MapsSize(const resembed_table& table) {
  int64_t bytes = 0;
  if (table.center_of != nullptr) bytes += ElementBytes(table.center_of_dtype);
  if (table.neighbors != nullptr) bytes += int64_t{table.n_neighbors} * 4;
  if (table.residual != nullptr && table.residual_row_of != nullptr) bytes += 4;
  return {0, table.n_items, table.n_items * bytes};
}

}  // namespace resembed::detail
