// SPDX-License-Identifier: Apache-2.0
// Items of attention pooling are taken some at a time.
#pragma once

#include <cstdint>

#include "host/cpu/row_ops.h"

namespace resembed::detail::cpu {

// Items composed side by side before they are scored: enough to send for the rows of later ones meanwhile, few enough
// to stay in the first-level cache. Part of the numerics of softmax (attention_task.h).
constexpr int64_t kAttentionTile = 8;

// Up to kAttentionTile items that take part, in order.
struct AttentionTile {
  int64_t size;
  const float* items[kAttentionTile];  // embeddings
  int64_t positions[kAttentionTile];
  float dots[kAttentionTile];  // with x of FillTileFunction; from `size` on they mean nothing
};

// Composes the items at positions [first, end) that take part, until the tile is full, in `scratch` [kAttentionTile, dim]
// or where they lie; dots with x [dim]. Returns the position after the last one taken. Positions follow those of the call
// before; rows of later ones up to items->last are sent for.
using FillTileFunction = int64_t (*)(DenseItems* items, int64_t first, int64_t end, const float* x,
                                     float* scratch, AttentionTile* tile);

}  // namespace resembed::detail::cpu
