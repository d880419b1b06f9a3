// SPDX-License-Identifier: Apache-2.0
// The items of attention pooling, tile by tile: what forward and backward share.
#pragma once

#include <cstdint>
#include <optional>

#include "host/cpu/attention_tile.h"
#include "host/cpu/dense_items.h"
#include "host/cpu/item_stream.h"
#include "host/cpu/row_ops.h"

namespace resembed::detail::cpu {

// One stretch of positions of a feature, taken in order.
template <typename IdT, MapKind kKind = MapKind::kAny>
class AttentionItems {
 public:
  // scratch: [kAttentionTile, dim]. Everything given outlives the object.
  AttentionItems(const resembed_table& table, const resembed_feature& feature, const RowOps& ops,
                 float* scratch, int64_t first, int64_t last)
      : compose_ahead_(ops.compose_ahead(table.central_dtype, table.residual_dtype)),
        ops_(ops),
        dim_(table.dim),
        in_place_(table.form == RESEMBED_CENTRAL_NONE && table.residual_dtype == RESEMBED_F32),
        scratch_(scratch) {
    if (ops.fill_tile != nullptr && IsDense(table)) {
      fill_ = ops.fill_tile(MapKindOf(table), table.dim, feature.id_dtype);
    }
    if (fill_ != nullptr) {
      dense_ = DenseItemsOf(table, feature, first, last);
    } else {
      stream_.emplace(table, ops, IdListOf<IdT>(table, feature), first, last);
    }
  }

  // The next items that take part, of positions [first, end), and their dot products with x. Returns the position after
  // the last one it took: `end`, or earlier where the tile is full.
  int64_t Next(int64_t first, int64_t end, const float* x, AttentionTile* tile) {
    if (fill_ != nullptr) return fill_(&dense_, first, end, x, scratch_, tile);
    tile->size = 0;
    int64_t position = first;
    for (; position < end && tile->size < kAttentionTile; ++position) {
      const float* const item = Compose(scratch_ + tile->size * dim_);
      if (item == nullptr) continue;
      tile->items[tile->size] = item;
      tile->positions[tile->size++] = position;
    }
    ops_.dot_rows(tile->dots, x, tile->items, tile->size, dim_);
    return position;
  }

 private:
  // The stream's next item, in `e` or in the table; null when it contributes nothing.
  const float* Compose(float* e) {
    const ItemRows* ahead;
    const ItemRows* rows = stream_->Next(&ahead);
    if (rows == nullptr) {
      stream_->SendFor(ahead);
      return nullptr;
    }
    if (in_place_ && rows->residual != nullptr) {
      stream_->SendFor(ahead);
      return static_cast<const float*>(rows->residual);
    }
    if (ahead != nullptr) {
      compose_ahead_(e, *rows, *ahead, dim_);
    } else {
      ops_.compose(e, *rows, dim_);
    }
    return e;
  }

  const ComposeFunction compose_ahead_;
  const RowOps& ops_;
  const int64_t dim_;
  const bool in_place_;  // a plain fp32 table: its rows are the embeddings
  float* const scratch_;
  FillTileFunction fill_ = nullptr;
  DenseItems dense_ = {};
  std::optional<ItemStream<IdList<IdT>, kKind>> stream_;  // where fill_ is null
};

}  // namespace resembed::detail::cpu
