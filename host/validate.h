// SPDX-License-Identifier: Apache-2.0
// Checks that several operations share, and their wording. First failed check wins:
// null -> type -> shape -> stride -> aliasing -> workspace -> device.
#pragma once

#include <vector>

#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// The descriptors of one call, copied to this version's structs with defaults resolved (stride 0 -> dim,
// residual_rows 0 -> n_items, ...). Views into caller memory (a few pointers); no allocation beyond
// `kMaxInline` entries is done: Tables()/Features() copy on demand.
class Tables {
 public:
  // Copies nothing; `op` names the operation in messages.
  resembed_status Init(const char* op, const resembed_tables* tables, const resembed_place& place);
  int32_t size() const { return n_; }
  resembed_table operator[](int32_t index) const;  // defaults resolved

 private:
  const resembed_table* const* array_ = nullptr;
  const resembed_table* flat_ = nullptr;  // from a prepared set
  int32_t n_ = 0;
};

resembed_status CheckPlace(const char* op, const resembed_place* place, resembed_place* out);
resembed_status CheckTable(const char* op, int32_t index, const resembed_table& table);
// Everything about a feature but its output.
resembed_status CheckFeature(const char* op, int32_t index, const resembed_feature& feature,
                             const Tables& tables);
// One feature with defaults resolved (output_stride 0 -> dim, n_bags of NONE -> n_ids, ...).
resembed_feature ReadFeature(const resembed_feature* feature, int64_t dim);
resembed_status CheckWorkspace(const char* op, const void* workspace, size_t workspace_bytes,
                               size_t needed);
// [a, a + a_bytes) and [b, b + b_bytes) share a byte.
bool Overlaps(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes);

// CHECK policy on the CPU: walks every feature's offsets and ids before anything is written.
// Fills *record (when not null); returns out_of_range on the first bad id under CHECK.
// SKIP: counts them. TRUST: does nothing. Offsets are always checked.
resembed_status CheckIds(const char* op, const resembed_feature* const* features, int32_t n_features,
                         const Tables& tables, resembed_bounds bounds, resembed_bad_ids* record,
                         const resembed_place& place);

}  // namespace resembed::detail
