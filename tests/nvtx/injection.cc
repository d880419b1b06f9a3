// SPDX-License-Identifier: Apache-2.0
// A profiler's place taken: NVTX loads this library when NVTX_INJECTION64_PATH names it, and every range of every
// domain is written to the file that RESEMBED_NVTX_LOG names, one line an event. The handles it gives out are
// indices + 1 into its own lists.
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace {

std::mutex mutex;
std::vector<std::string> domains, strings;

std::FILE* Log() {
  static std::FILE* const file = std::fopen(std::getenv("RESEMBED_NVTX_LOG"), "w");
  return file;
}

template <typename Handle>
Handle Keep(std::vector<std::string>* list, const char* text) {
  const std::lock_guard<std::mutex> lock(mutex);
  list->push_back(text);
  return reinterpret_cast<Handle>(list->size());
}

template <typename Handle>
const char* Name(const std::vector<std::string>& list, Handle handle) {
  return list[reinterpret_cast<size_t>(handle) - 1].c_str();
}

nvtxDomainHandle_t NVTX_API CreateDomain(const char* name) {
  return Keep<nvtxDomainHandle_t>(&domains, name);
}

nvtxStringHandle_t NVTX_API RegisterString(nvtxDomainHandle_t domain, const char* text) {
  std::fprintf(Log(), "string %s %s\n", Name(domains, domain), text);
  return Keep<nvtxStringHandle_t>(&strings, text);
}

void NVTX_API NameCategory(nvtxDomainHandle_t domain, uint32_t category, const char* name) {
  std::fprintf(Log(), "category %s %u %s\n", Name(domains, domain), category, name);
}

int NVTX_API Push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* event) {
  const std::lock_guard<std::mutex> lock(mutex);
  const bool registered = event->messageType == NVTX_MESSAGE_TYPE_REGISTERED;
  std::fprintf(Log(), "push %s %s %u", Name(domains, domain),
               registered ? Name(strings, event->message.registered) : "unregistered", event->category);
  if (event->payloadType == NVTX_PAYLOAD_TYPE_EXT && event->reserved0 == 1) {
    const auto* data = reinterpret_cast<const nvtxPayloadData_t*>(event->payload.ullValue);
    long long values[3] = {};
    if (data->size == sizeof(values)) std::memcpy(values, data->payload, sizeof(values));
    std::fprintf(Log(), " %llu %lld %lld %lld", static_cast<unsigned long long>(data->schemaId), values[0],
                 values[1], values[2]);
  }
  std::fprintf(Log(), "\n");
  return 0;
}

int NVTX_API Pop(nvtxDomainHandle_t domain) {
  const std::lock_guard<std::mutex> lock(mutex);
  std::fprintf(Log(), "pop %s\n", Name(domains, domain));
  std::fflush(Log());
  return 0;
}

uint64_t NVTX_API RegisterSchema(nvtxDomainHandle_t domain, const nvtxPayloadSchemaAttr_t* schema) {
  std::fprintf(Log(), "schema %s %llu %zu", Name(domains, domain),
               static_cast<unsigned long long>(schema->schemaId), schema->payloadStaticSize);
  for (size_t entry = 0; entry < schema->numEntries; ++entry) {
    const nvtxPayloadSchemaEntry_t& field = schema->entries[entry];
    const bool integer = field.type == NVTX_PAYLOAD_ENTRY_TYPE_INT64;
    std::fprintf(Log(), " %s:%s@%llu", field.name, integer ? "i64" : "other",
                 static_cast<unsigned long long>(field.offset));
  }
  std::fprintf(Log(), "\n");
  return schema->schemaId;
}

template <typename Function>
void Install(NvtxFunctionTable table, unsigned int size, unsigned int index, Function function) {
  if (index < size) *table[index] = reinterpret_cast<NvtxFunctionPointer>(function);
}

}  // namespace

extern "C" {

// NVTX asks these two names of an injection library.
__attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) == 0) {
    return 0;
  }
  Install(table, size, NVTX_CBID_CORE2_DomainCreateA, CreateDomain);
  Install(table, size, NVTX_CBID_CORE2_DomainRegisterStringA, RegisterString);
  Install(table, size, NVTX_CBID_CORE2_DomainNameCategoryA, NameCategory);
  Install(table, size, NVTX_CBID_CORE2_DomainRangePushEx, Push);
  Install(table, size, NVTX_CBID_CORE2_DomainRangePop, Pop);
  return 1;
}

__attribute__((visibility("default"))) int InitializeInjectionNvtxExtension(nvtxExtModuleInfo_t* module) {
  if (module->segmentsCount > 0) {
    intptr_t* const slots = module->segments[0].functionSlots;
    slots[NVTX3EXT_CBID_nvtxPayloadSchemaRegister] = reinterpret_cast<intptr_t>(RegisterSchema);
  }
  return 1;
}

}  // extern "C"
