// SPDX-License-Identifier: Apache-2.0
// Gradients of the scores and queries of attention pooling, from one more read of the items. In fp32:
//   dp_t = dot(dy, e_t)
//   sigmoid  c_t = (p_t (1 - p_t)) dp_t;  dz_t = scale * c_t;  dq = scale * ((c_0 e_0 + c_1 e_1) + ...)
//   softmax  D = (p_0 dp_0 + p_1 dp_1) + ...;  dz_t = scale * (p_t (dp_t - D))
//            dq = scale * (A - D * B),  A = (p_0 dp_0) e_0 + (p_1 dp_1) e_1 + ...,  B = p_0 e_0 + p_1 e_1 + ...
// Each sum begins with +0 and is cut every 256 ids from the bag's start.
#include <algorithm>
#include <cstring>

#include "host/cpu/attention.h"
#include "host/cpu/backward.h"
#include "host/cpu/bag_cuts.h"
#include "host/cpu/bags.h"
#include "host/cpu/forward.h"
#include "host/cpu/tasks.h"
#include "host/descriptor.h"

namespace resembed::detail {
namespace {

using cpu::kAttentionTile;
using cpu::kBlock;

constexpr int64_t kScratchRows = kAttentionTile + 5;

// The gradients of one feature, and memory for them.
struct QueryWork {
  const TableBackward* work;
  const GradSource* source;
  const float* p;  // [n_ids]
  float* dz;       // [n_ids], dp on the way
  float* dq;       // [n_bags, dim] or null
  int64_t dq_stride;
  int64_t n_tasks;
  float* scratch;       // [n_tasks, kScratchRows, padded dim]
  float* partials;      // [slots, 2, dim] A, B; null without long bags
  float* partial_dots;  // [slots] D
  uint8_t* has_long;    // [n_tasks] a long bag begins in this task

  bool IsSoftmax() const { return source->feature.attention_activation == RESEMBED_ATTENTION_SOFTMAX; }
};

template <typename IdT>
class QueryTask {
 public:
  QueryTask(const QueryWork& work, int64_t task)
      : work_(work),
        table_(work.work->table),
        feature_(work.source->feature),
        ops_(*work.work->row_ops),
        dim_(table_.dim),
        cut_(feature_, work.n_tasks, task),
        scratch_(work.scratch + task * kScratchRows * PaddedDim(dim_)),
        wide_(scratch_ + 4 * dim_),
        tile_scratch_(wide_ + dim_),
        has_long_(work.has_long + task) {}

  void Walk() {
    int64_t begin, end;
    cut_.Stretch(&begin, &end);
    Items items(table_, feature_, ops_, tile_scratch_, begin, end);
    cut_.ForSegments([&](int64_t bag, int64_t block, int64_t start, int64_t length) {
      if (block < 0) {
        WholeBag(items, bag, start, length);
        return;
      }
      if (block == 0) *has_long_ = 1;
      const int64_t slot = cpu::BlockSlot(start, block);
      work_.partial_dots[slot] = Block(items, bag, start, length, work_.partials + slot * 2 * dim_);
    });
  }

  // Second pass: long bags that begin in the cut.
  void Meet() {
    for (int64_t bag = cut_.first_bag; bag < cut_.last_bag; ++bag) {
      const int64_t start = cut_.starts(bag), length = cut_.starts(bag + 1) - start;
      if (length <= cpu::kLongBag) continue;
      float dot = 0.0f;
      for (int64_t block = 0; block < cpu::BlocksOf(length); ++block) {
        const int64_t slot = cpu::BlockSlot(start + block * kBlock, block);
        Add(block == 0, work_.partials + slot * 2 * dim_, work_.partial_dots[slot], scratch_, &dot);
      }
      Finish(bag, start, length, scratch_, dot);
    }
  }

 private:
  using Items = cpu::AttentionItems<IdT>;

  IdList<IdT> Ids() const { return IdListOf<IdT>(table_, feature_); }

  // dp of up to 256 ids from `start`; their A and B into sums [2, dim]. Returns their part of D.
  float Block(Items& items, int64_t bag, int64_t start, int64_t length, float* sums) {
    if (work_.dq != nullptr) std::memset(sums, 0, static_cast<size_t>(2 * dim_) * sizeof(float));
    const char* row = work_.source->rows + bag * work_.source->pitch;
    const float* dy = reinterpret_cast<const float*>(row);
    if (work_.source->dtype != RESEMBED_F32) {
      ops_.set_scaled(wide_, 1.0f, row, work_.source->dtype, dim_);
      dy = wide_;
    }
    float dot = 0.0f;
    cpu::AttentionTile tile;
    for (int64_t id = start; id < start + length;) {
      const int64_t first = id;
      id = items.Next(first, start + length, dy, &tile);
      if (tile.size < id - first) std::fill(work_.dz + first, work_.dz + id, 0.0f);
      if (tile.size > 0) AddTile(tile, sums, &dot);
    }
    return dot;
  }

  void AddTile(const cpu::AttentionTile& tile, float* sums, float* dot) {
    const int64_t n = tile.size;
    float slopes[kAttentionTile] = {}, weights[kAttentionTile] = {};
    for (int64_t index = 0; index < n; ++index) {
      const int64_t id = tile.positions[index];
      const float p = weights[index] = work_.p[id];
      if (work_.IsSoftmax()) {
        work_.dz[id] = tile.dots[index];
        slopes[index] = p * tile.dots[index];
        *dot += slopes[index];
      } else {
        slopes[index] = (p * (1.0f - p)) * tile.dots[index];
        work_.dz[id] = feature_.attention_scale * slopes[index];
      }
    }
    if (work_.dq != nullptr) {
      ops_.add_rows(sums, slopes, tile.items, n, dim_);
      if (work_.IsSoftmax()) ops_.add_rows(sums + dim_, weights, tile.items, n, dim_);
    }
  }

  void Add(bool first, const float* sums, float dot, float* total, float* total_dot) const {
    *total_dot = first ? dot : *total_dot + dot;
    if (work_.dq == nullptr) return;
    if (first) {
      std::memcpy(total, sums, static_cast<size_t>(2 * dim_) * sizeof(float));
    } else {
      ops_.add_scaled(total, 1.0f, sums, RESEMBED_F32, 2 * dim_);
    }
  }

  void WholeBag(Items& items, int64_t bag, int64_t start, int64_t length) {
    float dot = Block(items, bag, start, std::min(length, kBlock), scratch_);
    for (int64_t offset = kBlock; offset < length; offset += kBlock) {
      float* block = scratch_ + 2 * dim_;
      const float more = Block(items, bag, start + offset, std::min(length - offset, kBlock), block);
      Add(false, block, more, scratch_, &dot);
    }
    Finish(bag, start, length, scratch_, dot);
  }

  void Finish(int64_t bag, int64_t start, int64_t length, const float* sums, float dot) const {
    const float scale = feature_.attention_scale;
    if (work_.IsSoftmax()) {
      const IdList<IdT> ids = Ids();
      for (int64_t id = start; id < start + length; ++id) {
        if (ids(id) >= 0) work_.dz[id] = scale * (work_.p[id] * (work_.dz[id] - dot));
      }
    }
    if (work_.dq == nullptr) return;
    float* dq = work_.dq + bag * work_.dq_stride;
    for (int64_t col = 0; col < dim_; ++col) {
      dq[col] = scale * (work_.IsSoftmax() ? sums[col] - dot * sums[dim_ + col] : sums[col]);
    }
  }

  const QueryWork& work_;
  const resembed_table& table_;
  const resembed_feature& feature_;
  const RowOps& ops_;
  const int64_t dim_;
  const cpu::BagCut cut_;
  float* const scratch_;  // A, B; A, B of a block; dy; the tile
  float* const wide_;     // dy of 16 bits
  float* const tile_scratch_;
  uint8_t* has_long_;
};

void RunQueries(const QueryWork& work, const Executor& executor) {
  const auto with = [&](auto id) {
    using IdT = decltype(id);
    std::memset(work.has_long, 0, static_cast<size_t>(work.n_tasks));
    executor.ParallelFor(work.n_tasks, [&](int64_t task) { QueryTask<IdT>(work, task).Walk(); });
    executor.ParallelFor(work.n_tasks, [&](int64_t task) {
      if (work.has_long[task] != 0) QueryTask<IdT>(work, task).Meet();
    });
  };
  work.source->feature.id_dtype == RESEMBED_I32 ? with(int32_t{}) : with(int64_t{});
}

// p where forward did not save it: forward once more, into memory nobody reads but for the weights.
const float* RecomputeAttention(resembed_feature feature, const Tables& tables, const TableBackward& work,
                                const Executor& executor, Workspace* workspace) {
  feature.output = workspace->Take<float>(feature.n_bags * work.table.dim);
  feature.output_stride = work.table.dim;
  feature.output_dtype = RESEMBED_F32;
  feature.saved_attention = workspace->Take<float>(feature.n_ids);
  const resembed_feature* const features[] = {&feature};
  const cpu::ForwardWork forward = cpu::CarveForward(features, 1, tables, workspace);
  if (work.sources != nullptr) cpu::Forward(forward, *work.row_ops, executor);
  return feature.saved_attention;
}

}  // namespace

void ScoreGradients(const BackwardArgs& args, int32_t table, TableBackward* work, const resembed_place& place,
                    Workspace* workspace) {
  const Executor executor(place);
  int32_t number = -1;  // of the source
  for (int32_t index = 0; index < args.n_features; ++index) {
    if (TableOf(args.features[index]) != table) continue;
    ++number;
    if (args.feature_grads[index] == nullptr) continue;
    const resembed_feature feature = ReadFeature(args.features[index], work->table.dim);
    if (feature.pooling != RESEMBED_POOLING_ATTENTION) continue;
    const resembed_feature_grad grad = ReadDescriptor(args.feature_grads[index]);
    const bool ready = grad.grad_scores_ready != 0;
    const bool asked = grad.grad_query != nullptr || (grad.grad_scores != nullptr && !ready);
    if (!asked && !work->request.items()) continue;
    const float* p = feature.saved_attention;
    if (p == nullptr) p = RecomputeAttention(feature, *args.tables, *work, executor, workspace);
    QueryWork query = {};
    query.dz = grad.grad_scores != nullptr ? grad.grad_scores : workspace->Take<float>(feature.n_ids);
    if (!ready) {
      const int64_t slots = cpu::MayHaveLongBags(feature) ? cpu::BlockSlots(feature) : 0;
      query.n_tasks = cpu::BagTasks(work->table, feature);
      query.scratch = workspace->Take<float>(query.n_tasks * kScratchRows * PaddedDim(work->table.dim));
      query.partials = workspace->Take<float>(slots * 2 * work->table.dim);
      query.partial_dots = workspace->Take<float>(slots);
      query.has_long = workspace->Take<uint8_t>(query.n_tasks);
    }
    if (work->sources == nullptr) continue;
    GradSource& source = work->sources[number];
    if (!ready) {
      query.work = work;
      query.source = &source;
      query.p = p;
      query.dq = grad.grad_query;
      query.dq_stride = grad.grad_query_stride == 0 ? work->table.dim : grad.grad_query_stride;
      RunQueries(query, executor);
    }
    source.weights = p;
    source.query = feature.query;
    source.query_stride = feature.query_stride;
    source.score_grads = query.dz;
  }
}

}  // namespace resembed::detail
