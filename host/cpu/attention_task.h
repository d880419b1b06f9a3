// SPDX-License-Identifier: Apache-2.0
// Attention pooling, one task of forward: y_b = sum_t p_bt e_t in one pass over the rows of a bag.
//
// Order, in fp32: z_t = q . e_t by RowOps::dot; s_t = scale * z_t.
//   sigmoid  p_t = 1 / (1 + exp(-s_t));  y = ((0 + p_0 e_0) + p_1 e_1) + ... over 256 items of the bag, counted from its
//            start; blocks meet in order.
//   softmax  items that take part are taken 8 at a time, in order, within the same blocks of 256:
//              m' = max(m, s of the 8);  f = exp(m - m'), where m' is larger: l = f l, y = f y
//              w_t = exp(s_t - m');  l = l + w_t;  y = y + w_t e_t
//            blocks meet in order, each brought to the larger m; at the end y / l, and p_t = exp(s_t - m) / l.
// exp is the C library's, in code that is the same for each instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "host/cpu/attention.h"
#include "host/cpu/bag_cuts.h"
#include "host/cpu/forward.h"

namespace resembed::detail::cpu {

constexpr int64_t kAttentionScratchRows = kAttentionTile + 2;

template <typename IdT, MapKind kKind>
class AttentionTask {
 public:
  AttentionTask(const ForwardWork& work, const ForwardFeature& owner, const RowOps& ops, int64_t global_task)
      : owner_(owner),
        table_(owner.table),
        feature_(owner.feature),
        ops_(ops),
        cut_(owner.feature, owner.n_tasks, global_task - owner.first_task),
        dim_(owner.table.dim),
        is_softmax_(owner.feature.attention_activation == RESEMBED_ATTENTION_SOFTMAX),
        sum_(work.TaskScratch(global_task)),
        block_(sum_ + work.max_dim),
        scratch_(block_ + work.max_dim),
        has_long_(work.has_long + global_task) {}

  void Pool() {
    int64_t begin, end;
    cut_.Stretch(&begin, &end);
    Items items(table_, feature_, ops_, scratch_, begin, end);
    cut_.ForSegments([&](int64_t bag, int64_t block, int64_t start, int64_t length) {
      if (block < 0) {
        WholeBag(items, bag, start, length);
        return;
      }
      if (block == 0) *has_long_ = 1;
      const int64_t slot = BlockSlot(start, block);
      const Part part = Block(items, bag, start, length, owner_.partials + slot * dim_);
      owner_.partial_counts[slot] = part.count;
      owner_.partial_softmax[slot] = part.softmax;
    });
  }

  // Second pass: long bags that begin in the cut.
  void Meet() {
    for (int64_t bag = cut_.first_bag; bag < cut_.last_bag; ++bag) {
      const int64_t start = cut_.starts(bag), length = cut_.starts(bag + 1) - start;
      if (length <= kLongBag) continue;
      Part total = {sum_, 0, {}};
      for (int64_t block = 0; block < BlocksOf(length); ++block) {
        const int64_t slot = BlockSlot(start + block * kBlock, block);
        Add({owner_.partials + slot * dim_, owner_.partial_counts[slot], owner_.partial_softmax[slot]},
            &total);
      }
      Finish(bag, start, length, total);
    }
  }

 private:
  using Items = AttentionItems<IdT, kKind>;
  // Sum over some items of a bag; count: those that took part.
  struct Part {
    float* y;
    int64_t count;
    SoftmaxSums softmax;
  };

  IdList<IdT> Ids() const { return IdListOf<IdT>(table_, feature_); }

  // Up to 256 ids from `start`, their sum into y.
  Part Block(Items& items, int64_t bag, int64_t start, int64_t length, float* y) {
    Part part = {y, 0, {}};
    std::memset(y, 0, static_cast<size_t>(dim_) * sizeof(float));
    const float* query = feature_.query + bag * feature_.query_stride;
    AttentionTile tile;
    for (int64_t id = start; id < start + length;) {
      const int64_t first = id;
      id = items.Next(first, start + length, query, &tile);
      if (feature_.saved_attention != nullptr && tile.size < id - first) {
        std::fill(feature_.saved_attention + first, feature_.saved_attention + id, 0.0f);
      }
      if (tile.size > 0) AddTile(tile, &part);
    }
    return part;
  }

  void AddTile(const AttentionTile& tile, Part* part) {
    float weights[kAttentionTile];
    for (int64_t index = 0; index < tile.size; ++index) {
      weights[index] = feature_.attention_scale * tile.dots[index];
    }
    if (is_softmax_) {
      Save(tile, weights);  // scores until the bag's sum is known
      Weigh(tile.size, part, weights);
    } else {
      for (int64_t index = 0; index < tile.size; ++index) {
        weights[index] = 1.0f / (1.0f + std::exp(-weights[index]));
      }
      Save(tile, weights);
    }
    ops_.add_rows(part->y, weights, tile.items, tile.size, dim_);
    part->count += tile.size;
  }

  // Scores to weights of the running sums.
  void Weigh(int64_t n, Part* part, float* weights) const {
    SoftmaxSums& sums = part->softmax;
    float largest = part->count > 0 ? sums.largest : weights[0];
    for (int64_t index = 0; index < n; ++index) {
      if (weights[index] > largest) largest = weights[index];
    }
    if (part->count > 0 && largest > sums.largest) Shrink(std::exp(sums.largest - largest), part);
    sums.largest = largest;
    for (int64_t index = 0; index < n; ++index) {
      weights[index] = std::exp(weights[index] - largest);
      sums.total += weights[index];
    }
  }

  void Shrink(float factor, Part* part) const {
    part->softmax.total *= factor;
    ops_.set_scaled(part->y, factor, part->y, RESEMBED_F32, dim_);
  }

  void Save(const AttentionTile& tile, const float* values) const {
    if (feature_.saved_attention == nullptr) return;
    for (int64_t index = 0; index < tile.size; ++index) {
      feature_.saved_attention[tile.positions[index]] = values[index];
    }
  }

  // total = total + part.
  void Add(const Part& part, Part* total) const {
    float factor = 1.0f;
    if (total->count == 0) {
      std::memcpy(total->y, part.y, static_cast<size_t>(dim_) * sizeof(float));
      total->softmax = part.softmax;
    } else if (part.count > 0) {
      if (is_softmax_) {
        if (part.softmax.largest > total->softmax.largest) {
          Shrink(std::exp(total->softmax.largest - part.softmax.largest), total);
          total->softmax.largest = part.softmax.largest;
        } else {
          factor = std::exp(part.softmax.largest - total->softmax.largest);
        }
        total->softmax.total += factor * part.softmax.total;
      }
      ops_.add_scaled(total->y, factor, part.y, RESEMBED_F32, dim_);
    }
    total->count += part.count;
  }

  void WholeBag(Items& items, int64_t bag, int64_t start, int64_t length) {
    Part total = Block(items, bag, start, std::min(length, kBlock), sum_);
    for (int64_t offset = kBlock; offset < length; offset += kBlock) {
      Add(Block(items, bag, start + offset, std::min(length - offset, kBlock), block_), &total);
    }
    Finish(bag, start, length, total);
  }

  // Divides, rounds and stores the bag's row; scores that were saved become weights.
  void Finish(int64_t bag, int64_t start, int64_t length, const Part& part) const {
    const SoftmaxSums& sums = part.softmax;
    if (is_softmax_ && part.count > 0) {
      for (int64_t col = 0; col < dim_; ++col) part.y[col] /= sums.total;
      if (feature_.saved_attention != nullptr) {
        const IdList<IdT> ids = Ids();
        for (int64_t id = start; id < start + length; ++id) {
          if (ids(id) < 0) continue;
          feature_.saved_attention[id] = std::exp(feature_.saved_attention[id] - sums.largest) / sums.total;
        }
      }
    }
    char* row = static_cast<char*>(feature_.output) +
                bag * feature_.output_stride * ElementBytes(feature_.output_dtype);
    ops_.store(row, feature_.output_dtype, part.y, dim_);
  }

  const ForwardFeature& owner_;
  const resembed_table& table_;
  const resembed_feature& feature_;
  const RowOps& ops_;
  const BagCut cut_;
  const int64_t dim_;
  const bool is_softmax_;
  float *sum_, *block_;
  float* const scratch_;  // [kAttentionTile, dim]
  uint8_t* has_long_;
};

}  // namespace resembed::detail::cpu
