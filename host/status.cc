// SPDX-License-Identifier: Apache-2.0
#include "host/status.h"

#include <cstdarg>
#include <cstdio>

namespace resembed::detail {
namespace {

thread_local char last_message[1024] = "";

template <int kCount>
const char* NameOf(const char* const (&names)[kCount], int32_t value) {
  return value >= 0 && value < kCount && names[value] != nullptr ? names[value] : "unknown";
}

}  // namespace

resembed_status Fail(resembed_status status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_message, sizeof(last_message), format, arguments);
  va_end(arguments);
  return status;
}

const char* StatusName(resembed_status status) {
  static constexpr const char* kNames[] = {
      "ok",   "invalid_argument", "out_of_range", "unsupported", "workspace_too_small",
      "cuda", "out_of_memory",    "io_error"};
  return NameOf(kNames, status);
}

const char* DtypeName(resembed_dtype dtype) {
  static constexpr const char* kNames[] = {"f32", "f16", "bf16", "i32", "i64", "u16", "f64", "u8"};
  return NameOf(kNames, dtype);
}

const char* PoolingName(resembed_pooling pooling) {
  static constexpr const char* kNames[] = {"none", "sum", "mean", "max"};
  return NameOf(kNames, pooling);
}

const char* FormName(resembed_central_form form) {
  static constexpr const char* kNames[] = {"none", "assignment", "uniform", "stored", "attention"};
  return NameOf(kNames, form);
}

const char* BackendName(resembed_backend backend) {
  static constexpr const char* kNames[] = {nullptr, "cpu", "cuda"};
  return NameOf(kNames, backend);
}

const char* IsaName(resembed_cpu_isa isa) {
  static constexpr const char* kNames[] = {"best", "portable", "avx2", "avx512"};
  return NameOf(kNames, isa);
}

const char* OptimizerName(resembed_optimizer_kind kind) {
  static constexpr const char* kNames[] = {"sgd", "adagrad", "rowwise_adagrad", "adam",
                                           "partial_rowwise_adam"};
  return NameOf(kNames, kind);
}

}  // namespace resembed::detail

extern "C" {

const char* resembed_status_name(resembed_status status) { return resembed::detail::StatusName(status); }

const char* resembed_last_error_message(void) { return resembed::detail::last_message; }

int32_t resembed_version(void) { return RESEMBED_VERSION; }

}  // extern "C"
