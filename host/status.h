// SPDX-License-Identifier: Apache-2.0
// One currency for errors: a status code, and one sentence per thread.
#pragma once

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::detail {

// Keeps "<op>: <argument> is <seen>; needs <rule>" for this thread (truncated at 1 KiB, never allocates)
// and returns `status`, so that a check reads: if (bad) return Fail(RESEMBED_INVALID_ARGUMENT, ...).
#ifdef __clang_analyzer__
// The static analyzer reads one file at a time and has to be told that what is returned is what was given.
template <typename... Arguments>
resembed_status Fail(resembed_status status, const char*, const Arguments&...) {
  return status;
}
#else
[[gnu::format(printf, 2, 3)]] resembed_status Fail(resembed_status status, const char* format, ...);
#endif

// "ok", "f32", "sum", ...: the words used in messages.
const char* StatusName(resembed_status status);
const char* DtypeName(resembed_dtype dtype);
const char* PoolingName(resembed_pooling pooling);
const char* FormName(resembed_central_form form);
const char* BackendName(resembed_backend backend);
const char* IsaName(resembed_cpu_isa isa);
const char* OptimizerName(resembed_optimizer_kind kind);

}  // namespace resembed::detail

#define RESEMBED_RETURN_IF_ERROR(expression)                                    \
  do {                                                                          \
    if (const resembed_status status_ = (expression); status_ != RESEMBED_OK) { \
      return status_;                                                           \
    }                                                                           \
  } while (false)
