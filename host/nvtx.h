// SPDX-License-Identifier: Apache-2.0
// A range around every public operation, for Nsight and other profilers: NVTX domain "resembed", one registered
// string and a category for each operation, and a payload of three numbers. With no tool attached an operation
// costs one comparison and counts nothing.
#pragma once

#include <cstdint>

#include "host/validate.h"

namespace resembed::detail {

// The order of kNames in nvtx.cc.
enum class NvtxOp {
  kForward,
  kPlan,
  kBackward,
  kStep,
  kBackwardStep,
  kCombine,
  kMaterialize,
  kEnvelope,
  kTranslate,
  kCheckMaps,
  kTableSetPrepare,
};

// The payload. Bytes are logical: every use of a row counted, caches ignored.
struct NvtxSize {
  int64_t bags;  // bags pooled; 0 for operations without bags
  int64_t
      rows;  // item rows composed, summed or updated (compressed gradients: their capacity); ids, items, tables
  int64_t bytes;  // read and written by the operation
};

#ifdef RESEMBED_HAVE_NVTX
bool NvtxOn();  // a tool listens
void NvtxPush(NvtxOp op, const NvtxSize& size);
void NvtxPop();
#else
constexpr bool NvtxOn() { return false; }
inline void NvtxPush(NvtxOp, const NvtxSize&) {}
inline void NvtxPop() {}
#endif

// The range of one call, from its checks to its return; on a GPU that is the time to enqueue it. size() is
// called only when a tool listens.
class NvtxRange {
 public:
  template <typename Size>
  NvtxRange(NvtxOp op, const Size& size) : on_(NvtxOn()) {
    if (on_) NvtxPush(op, size());
  }
  ~NvtxRange() {
    if (on_) NvtxPop();
  }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;

 private:
  const bool on_;
};

// Forward: ids, maps, rows of R and C, outputs. Plan: ids and offsets.
NvtxSize ForwardSize(const resembed_feature* const* features, int32_t n_features, const Tables& tables);
NvtxSize PlanSize(const resembed_feature* const* features, int32_t n_features, const Tables& tables);
// Backward: output gradients of the features that have one, once for each bag, and ids.
NvtxSize BackwardSize(const resembed_feature* const* features,
                      const resembed_feature_grad* const* feature_grads, int32_t n_features,
                      const Tables& tables);
// Step: gradients read, rows read and written, states not counted.
NvtxSize StepSize(const resembed_step_args& args, const Tables& tables);
NvtxSize CombineSize(const resembed_combine_args& args);
// Materialize and envelope: maps, rows of R and C of n items, output bytes.
NvtxSize ItemsSize(const resembed_table& table, int64_t n_items, int64_t output_bytes);
// Translate: ids read and written, an entry of the map for each.
NvtxSize TranslateSize(const resembed_translate_args& args);
// Check_maps: codes, lists and row numbers of all items.
NvtxSize MapsSize(const resembed_table& table);

}  // namespace resembed::detail
