// SPDX-License-Identifier: Apache-2.0
// Items of attention pooling, some at a time: what forward and backward share.
#pragma once

#include <cmath>
#include <cstdint>

#include "host/cpu/item_stream.h"
#include "host/cpu/row_ops.h"

namespace resembed::detail::cpu {

// Items composed side by side before they are scored: enough to send for the rows of later ones meanwhile, few enough
// to stay in the first-level cache. Part of the numerics of softmax (attention_task.h).
constexpr int64_t kAttentionTile = 8;

// The embeddings of up to kAttentionTile items that take part, in order.
class AttentionTile {
 public:
  // scratch: [kAttentionTile, dim].
  AttentionTile(const resembed_table& table, const RowOps& ops, float* scratch)
      : compose_ahead_(ops.compose_ahead[table.central_dtype][table.residual_dtype]),
        ops_(ops),
        dim_(table.dim),
        in_place_(table.form == RESEMBED_CENTRAL_NONE && table.residual_dtype == RESEMBED_F32),
        scratch_(scratch) {}

  // Composes the stream's next item, the one at `position`; false when it contributes nothing.
  template <typename StreamT>
  bool Add(StreamT& stream, int64_t position) {
    const ItemRows* ahead;
    const ItemRows* rows = stream.Next(&ahead);
    if (rows == nullptr) {
      stream.SendFor(ahead);
      return false;
    }
    if (in_place_ && rows->residual != nullptr) {
      stream.SendFor(ahead);
      items_[size_] = static_cast<const float*>(rows->residual);
    } else {
      float* e = scratch_ + size_ * dim_;
      if (ahead != nullptr) {
        compose_ahead_(e, *rows, *ahead, dim_);
      } else {
        ops_.compose(e, *rows, dim_);
      }
      items_[size_] = e;
    }
    positions_[size_++] = position;
    return true;
  }

  int64_t size() const { return size_; }
  bool full() const { return size_ == kAttentionTile; }
  void Clear() { size_ = 0; }
  const float* const* items() const { return items_; }
  int64_t position(int64_t index) const { return positions_[index]; }

 private:
  const ComposeFunction compose_ahead_;
  const RowOps& ops_;
  const int64_t dim_;
  const bool in_place_;  // a plain fp32 table: its rows are the embeddings
  float* const scratch_;
  int64_t size_ = 0;
  const float* items_[kAttentionTile];
  int64_t positions_[kAttentionTile];
};

}  // namespace resembed::detail::cpu
