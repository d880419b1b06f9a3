// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/forward.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <type_traits>

#include "host/cpu/attention_task.h"
#include "host/cpu/bag_cuts.h"
#include "host/cpu/bags.h"
#include "host/cpu/dense_sum.h"
#include "host/cpu/item_stream.h"

namespace resembed::detail::cpu {
namespace {

void Divide(float* y, int64_t count, int64_t dim) {
  const float divisor = static_cast<float>(count);
  for (int64_t col = 0; col < dim; ++col) y[col] /= divisor;
}

// Sums of bags meet an item again and again.
bool UsesCache(const resembed_table& table, const resembed_feature& feature) {
  return (feature.pooling == RESEMBED_POOLING_SUM || feature.pooling == RESEMBED_POOLING_MEAN) &&
         ItemCache::Serves(table);
}

// A free cache for a task over `table`, or none.
class TakenCache {
 public:
  TakenCache(const ForwardWork& work, const ForwardFeature& owner) {
    if (!UsesCache(owner.table, owner.feature)) return;
    for (int64_t index = 0; index < work.n_caches && cache_ == nullptr; ++index) {
      if (work.caches[index].TryTake()) cache_ = work.caches + index;
    }
    if (cache_ != nullptr) is_used_ = cache_->Begin(owner.table, owner.feature.table);
  }
  ~TakenCache() {
    if (cache_ != nullptr) cache_->Release();
  }
  TakenCache(const TakenCache&) = delete;
  TakenCache& operator=(const TakenCache&) = delete;

  ItemCache* Get() const { return is_used_ ? cache_ : nullptr; }

 private:
  ItemCache* cache_ = nullptr;
  bool is_used_ = false;
};

// One task of one feature: the bags and blocks that begin in its cut.
template <typename IdT, MapKind kKind>
class Task {
 public:
  Task(const ForwardWork& work, const ForwardFeature& owner, const RowOps& ops, int64_t global_task)
      : work_(work),
        owner_(owner),
        table_(owner.table),
        feature_(owner.feature),
        ops_(ops),
        cut_(owner.feature, owner.n_tasks, global_task - owner.first_task),
        dim_(owner.table.dim),
        is_max_(owner.feature.pooling == RESEMBED_POOLING_MAX),
        sum_(work.TaskScratch(global_task)),
        block_(sum_ + work.max_dim),
        item_(block_ + work.max_dim),
        argmax_(work.argmax == nullptr ? nullptr : work.argmax + global_task * 2 * work.max_dim),
        block_argmax_(work.argmax == nullptr ? nullptr : argmax_ + work.max_dim),
        has_long_(work.has_long + global_task) {}

  void Pool() {
    if (feature_.pooling == RESEMBED_POOLING_NONE) return Sequence();
    int64_t begin, end;
    cut_.Stretch(&begin, &end);
    const TakenCache cache(work_, owner_);
    std::optional<Stream> own_stream;
    if (!BeginDenseSum(begin, end, cache.Get()))
      own_stream.emplace(table_, ops_, Ids(), begin, end, cache.Get());
    Stream* const stream = own_stream.has_value() ? &*own_stream : nullptr;
    cut_.ForSegments([&](int64_t bag, int64_t block, int64_t start, int64_t length) {
      if (block < 0) {
        WholeBag(stream, bag, start, length);
        return;
      }
      if (block == 0) *has_long_ = 1;
      const int64_t slot = BlockSlot(start, block);
      float* partial = owner_.partials + slot * dim_;
      int32_t* argmax = is_max_ ? owner_.partial_argmax + slot * dim_ : nullptr;
      owner_.partial_counts[slot] = Block(stream, start, length, block * kBlock, partial, argmax);
    });
  }

  // Second pass: long bags that begin in the cut.
  void Meet() {
    for (int64_t bag = cut_.first_bag; bag < cut_.last_bag; ++bag) {
      const int64_t start = cut_.starts(bag), length = cut_.starts(bag + 1) - start;
      if (length <= kLongBag) continue;
      int64_t count = 0;
      for (int64_t block = 0; block < BlocksOf(length); ++block) {
        const int64_t slot = BlockSlot(start + block * kBlock, block);
        const int32_t* argmax = is_max_ ? owner_.partial_argmax + slot * dim_ : nullptr;
        Add(block == 0, count, owner_.partial_counts[slot], owner_.partials + slot * dim_, argmax, sum_);
        count += owner_.partial_counts[slot];
      }
      Finish(bag, count, sum_);
    }
  }

 private:
  using Stream = ItemStream<IdList<IdT>, kKind>;

  IdList<IdT> Ids() const { return IdListOf<IdT>(table_, feature_); }
  char* OutputRow(int64_t row) const {
    return static_cast<char*>(feature_.output) +
           row * feature_.output_stride * ElementBytes(feature_.output_dtype);
  }

  // Whether sums of the positions [begin, end) go by dense_sum_.
  bool BeginDenseSum(int64_t begin, int64_t end, ItemCache* cache) {
    if (is_max_) return false;
    dense_sum_ = FindDenseSum(table_, feature_.id_dtype, cache != nullptr, ops_);
    if (dense_sum_ == nullptr) return false;
    dense_.items = DenseItemsOf(table_, feature_, begin, end);
    dense_.cache = cache;
    dense_sum_->begin(&dense_, begin);
    return true;
  }

  // Sum or maximum of `length` <= 256 ids from `start`, position `offset` of their bag. Returns how many
  // contributed; without one a maximum is left unwritten. stream: null with dense_sum_.
  int64_t Block(Stream* stream, int64_t start, int64_t length, int64_t offset, float* y, int32_t* argmax) {
    int64_t count = 0;
    if (!is_max_) {
      std::memset(y, 0, static_cast<size_t>(dim_) * sizeof(float));
      if (dense_sum_ != nullptr) {
        const float* weights = feature_.weights != nullptr ? feature_.weights + start : nullptr;
        return dense_sum_->add(&dense_, start, length, weights, y);
      }
      const PoolFunction pool = ops_.pool(table_.central_dtype, table_.residual_dtype);
      ItemBatch batch;
      for (int64_t done = 0; done < length; done += kItemBatch) {
        const auto n = static_cast<int>(std::min<int64_t>(kItemBatch, length - done));
        const float* weights = feature_.weights != nullptr ? feature_.weights + start + done : nullptr;
        stream->Next(n, weights, &batch);
        pool(y, batch, dim_);
        count += batch.n_items;
      }
      return count;
    }
    for (int64_t index = 0; index < length; ++index) {
      const ItemRows* rows = stream->Next();
      if (rows == nullptr) continue;
      const auto position = static_cast<int32_t>(offset + index);
      if (count++ == 0) {
        ops_.compose(y, *rows, dim_);
        std::fill(argmax, argmax + dim_, position);
      } else {
        ops_.compose(item_, *rows, dim_);
        ops_.max_update(y, argmax, item_, position, dim_);
      }
    }
    return count;
  }

  // total = total + partial, or the maximum of both; `first` and a total without items are replaced.
  void Add(bool first, int64_t count, int64_t partial_count, const float* partial, const int32_t* argmax,
           float* total) {
    if (!is_max_) {
      if (first) {
        std::memcpy(total, partial, static_cast<size_t>(dim_) * sizeof(float));
      } else {
        ops_.add_scaled(total, 1.0f, partial, RESEMBED_F32, dim_);
      }
      return;
    }
    if (partial_count == 0) return;
    for (int64_t col = 0; col < dim_; ++col) {
      const float old = total[col], candidate = partial[col];
      const bool wins = count == 0 || candidate > old || (candidate != candidate && old == old);
      if (wins) {
        total[col] = candidate;
        argmax_[col] = argmax[col];
      }
    }
  }

  void WholeBag(Stream* stream, int64_t bag, int64_t start, int64_t length) {
    float* y = feature_.output_dtype == RESEMBED_F32 ? reinterpret_cast<float*>(OutputRow(bag)) : sum_;
    int64_t count = Block(stream, start, std::min(length, kBlock), 0, y, argmax_);
    for (int64_t offset = kBlock; offset < length; offset += kBlock) {
      const int64_t more =
          Block(stream, start + offset, std::min(length - offset, kBlock), offset, block_, block_argmax_);
      Add(false, count, more, block_, block_argmax_, y);
      count += more;
    }
    Finish(bag, count, y);
  }

  // Divides, rounds and stores the bag's row from y.
  void Finish(int64_t bag, int64_t count, float* y) {
    if (count == 0) std::memset(y, 0, static_cast<size_t>(dim_) * sizeof(float));
    if (feature_.pooling == RESEMBED_POOLING_MEAN && count > 0) Divide(y, count, dim_);
    if (reinterpret_cast<char*>(y) != OutputRow(bag)) {
      ops_.store(OutputRow(bag), feature_.output_dtype, y, dim_);
    }
    if (is_max_ && feature_.saved_argmax != nullptr) {
      int32_t* saved = feature_.saved_argmax + bag * dim_;
      if (count == 0) {
        std::fill(saved, saved + dim_, -1);
      } else {
        std::copy(argmax_, argmax_ + dim_, saved);
      }
    }
  }

  // Pooling NONE: each id is its own output row. The cut counts every id twice (as an id and as a bag).
  void Sequence() {
    const int64_t first = (cut_.low + 1) / 2, last = std::min(feature_.n_ids, (cut_.high + 1) / 2);
    Stream stream(table_, ops_, Ids(), first, std::max(first, last));
    for (int64_t id = first; id < last; ++id) {
      float* y = feature_.output_dtype == RESEMBED_F32 ? reinterpret_cast<float*>(OutputRow(id)) : sum_;
      const ItemRows* rows = stream.Next();
      if (rows == nullptr) {
        std::memset(y, 0, static_cast<size_t>(dim_) * sizeof(float));
      } else {
        ops_.compose(y, *rows, dim_);
        if (feature_.weights != nullptr) ops_.set_scaled(y, feature_.weights[id], y, RESEMBED_F32, dim_);
      }
      if (reinterpret_cast<char*>(y) != OutputRow(id)) {
        ops_.store(OutputRow(id), feature_.output_dtype, y, dim_);
      }
    }
  }

  const ForwardWork& work_;
  const ForwardFeature& owner_;
  const resembed_table& table_;
  const resembed_feature& feature_;
  const RowOps& ops_;
  const BagCut cut_;
  const int64_t dim_;
  const bool is_max_;
  float *sum_, *block_, *item_;
  int32_t *argmax_, *block_argmax_;
  uint8_t* has_long_;
  const DenseSumFunctions* dense_sum_ = nullptr;
  DenseSum dense_ = {};
};

// The feature that task `task` of the call belongs to.
const ForwardFeature& OwnerOf(const ForwardWork& work, int64_t task) {
  int32_t low = 0, high = work.n_features - 1;
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    if (work.features[middle].first_task <= task) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return work.features[low];
}

// Composing once reads (rows + 1) rows an item and 1 row a use instead of rows a use; below nine tenths it
// wins beyond the cost of the extra pass.
bool ComposingOnceWins(int64_t rows_of_item, int64_t n_unique, int64_t n_uses) {
  return 10 * (n_unique * (rows_of_item + 1) + n_uses) < 9 * n_uses * rows_of_item;
}

int64_t RowsOfItem(const resembed_table& table) {
  switch (table.form) {
    case RESEMBED_CENTRAL_NONE:
      return 1;
    case RESEMBED_CENTRAL_ASSIGNMENT:
      return 2;
    case RESEMBED_CENTRAL_ATTENTION:
      return 2 * table.n_neighbors + 1;  // each row also for its dot product
    default:
      return table.n_neighbors + 1;
  }
}

// Most unique items for which room is made: the caller's hint, or half of the uses.
int64_t ComposedCapacity(const resembed_forward_args& args, int32_t first, const resembed_table& table) {
  int64_t n_uses = 0;
  const int32_t number = TableOf(args.features[first]);
  for (int32_t index = first; index < args.n_features; ++index) {
    if (TableOf(args.features[index]) == number) n_uses += ReadFeature(args.features[index], table.dim).n_ids;
  }
  const int64_t rows = RowsOfItem(table);
  const int64_t unique =
      std::min(table.n_items, args.expected_unique > 0 ? args.expected_unique : n_uses / 2);
  return ComposingOnceWins(rows, args.expected_unique > 0 ? unique : 1, n_uses) ? std::min(unique, n_uses)
                                                                                : 0;
}

struct UniqueItems {
  const int32_t* items;
  int64_t operator()(int64_t position) const { return items[position]; }
};

// Unique items of `owner`'s table, each into its row of owner.composed.
void ComposeUnique(const ForwardFeature& owner, const PlanRuns& items, const RowOps& ops,
                   const Executor& executor) {
  constexpr int64_t kItems = 256;
  const resembed_table& table = owner.table;
  const ComposeFunction compose_ahead = ops.compose_ahead(table.central_dtype, table.residual_dtype);
  executor.ParallelFor((items.n_runs + kItems - 1) / kItems, [&](int64_t task) {
    const int64_t first = task * kItems, last = std::min(items.n_runs, first + kItems);
    ItemStream<UniqueItems> stream(table, ops, {items.rows}, first, last);
    for (int64_t run = first; run < last; ++run) {
      const ItemRows* ahead;
      const ItemRows* rows = stream.Next(&ahead);
      float* e = owner.composed + run * table.dim;
      if (ahead != nullptr) {
        compose_ahead(e, *rows, *ahead, table.dim);
      } else {
        ops.compose(e, *rows, table.dim);
      }
    }
  });
}

// Composes unique items where that wins and turns their features into features over a plain table.
void UsePlan(const ForwardWork& work, const Plan& plan, const RowOps& ops, const Executor& executor) {
  for (int32_t first = 0; first < work.n_features; ++first) {
    const ForwardFeature owner = work.features[first];
    if (owner.composed_owner != first) continue;
    const PlanTable planned = plan.table(owner.feature.table);
    if (planned.items.n_runs > owner.composed_capacity ||
        !ComposingOnceWins(RowsOfItem(owner.table), planned.items.n_runs, planned.n_uses)) {
      continue;
    }
    ComposeUnique(owner, planned.items, ops, executor);
    resembed_table plain = {};
    plain.struct_size = sizeof(plain);
    plain.n_items = planned.items.n_runs;
    plain.dim = owner.table.dim;
    plain.residual = owner.composed;
    plain.residual_stride = owner.table.dim;
    plain.residual_rows = plain.n_items;
    for (int32_t index = first; index < work.n_features; ++index) {
      ForwardFeature& entry = work.features[index];
      if (entry.composed_owner != first) continue;
      entry.table = plain;
      entry.feature.ids = planned.inverse + plan.feature(index).first_use;
      entry.feature.id_dtype = RESEMBED_I32;
      entry.feature.has_padding = 0;  // padding and bad ids are -1
    }
  }
}

}  // namespace

ForwardWork CarveForward(const resembed_forward_args& args, const Tables& tables, Workspace* workspace) {
  ForwardWork work = {};
  work.n_features = args.n_features;
  work.scratch_rows = 3;
  work.features = workspace->Take<ForwardFeature>(args.n_features);
  bool any_max = false;
  int64_t cached_uses = 0;
  for (int32_t index = 0; index < args.n_features; ++index) {
    ForwardFeature entry = {};
    entry.table = tables[TableOf(args.features[index])];
    entry.feature = ReadFeature(args.features[index], entry.table.dim);
    entry.first_task = work.n_tasks;
    entry.n_tasks = BagTasks(entry.table, entry.feature);
    const bool is_max = entry.feature.pooling == RESEMBED_POOLING_MAX;
    const bool is_attention = entry.feature.pooling == RESEMBED_POOLING_ATTENTION;
    if (MayHaveLongBags(entry.feature)) {
      const int64_t slots = BlockSlots(entry.feature);
      entry.partials = workspace->Take<float>(slots * entry.table.dim);
      entry.partial_counts = workspace->Take<int64_t>(slots);
      if (is_max) entry.partial_argmax = workspace->Take<int32_t>(slots * entry.table.dim);
      if (is_attention) entry.partial_softmax = workspace->Take<SoftmaxSums>(slots);
    }
    entry.composed_owner = -1;
    if (args.plan != nullptr) {
      int32_t owner = 0;
      while (TableOf(args.features[owner]) != entry.feature.table) ++owner;
      if (owner == index) {
        entry.composed_capacity = ComposedCapacity(args, index, entry.table);
        entry.composed = workspace->Take<float>(entry.composed_capacity * entry.table.dim);
      }
      entry.composed_owner = owner;
    }
    any_max = any_max || is_max;
    if (is_attention) work.scratch_rows = kAttentionScratchRows;
    if (UsesCache(entry.table, entry.feature)) cached_uses += entry.feature.n_ids;
    work.n_tasks += entry.n_tasks;
    work.max_dim = std::max(work.max_dim, entry.table.dim);
    if (work.features != nullptr) work.features[index] = entry;
  }
  work.scratch = workspace->Take<float>(work.n_tasks * work.scratch_rows * work.max_dim);
  if (any_max) work.argmax = workspace->Take<int32_t>(work.n_tasks * 2 * work.max_dim);
  work.has_long = workspace->Take<uint8_t>(work.n_tasks);
  work.n_caches = std::min(cached_uses / ItemCache::kIdsEach, ItemCache::kMaxCaches);
  work.caches = workspace->Take<ItemCache>(work.n_caches);
  work.cache_rows = workspace->Take<float>(work.n_caches * ItemCache::kFloats);
  return work;
}

void Forward(const ForwardWork& work, const Plan* plan, const RowOps& ops, const Executor& executor) {
  if (plan != nullptr) UsePlan(work, *plan, ops, executor);
  const auto run = [&work, &ops](int64_t task, auto member) {
    const ForwardFeature& owner = OwnerOf(work, task);
    const auto with = [&](auto id, auto kind) {
      using IdT = decltype(id);
      constexpr MapKind kKind = decltype(kind)::value;
      if (owner.feature.pooling == RESEMBED_POOLING_ATTENTION) {
        return member(AttentionTask<IdT, kKind>(work, owner, ops, task));
      }
      return member(Task<IdT, kKind>(work, owner, ops, task));
    };
    const auto of = [&](auto id) {
      switch (MapKindOf(owner.table)) {
        case MapKind::kNone:
          return with(id, std::integral_constant<MapKind, MapKind::kNone>());
        case MapKind::kCode:
          return with(id, std::integral_constant<MapKind, MapKind::kCode>());
        default:
          return with(id, std::integral_constant<MapKind, MapKind::kList>());
      }
    };
    owner.feature.id_dtype == RESEMBED_I32 ? of(int32_t{}) : of(int64_t{});
  };
  std::memset(work.has_long, 0, static_cast<size_t>(work.n_tasks));
  for (int64_t index = 0; index < work.n_caches; ++index) {
    new (work.caches + index) ItemCache(work.cache_rows + index * ItemCache::kFloats);
  }
  executor.ParallelFor(work.n_tasks, [&run](int64_t task) { run(task, [](auto&& one) { one.Pool(); }); });
  if (std::find(work.has_long, work.has_long + work.n_tasks, 1) == work.has_long + work.n_tasks) return;
  executor.ParallelFor(work.n_tasks, [&run, &work](int64_t task) {
    if (work.has_long[task] != 0) run(task, [](auto&& one) { one.Meet(); });
  });
}

}  // namespace resembed::detail::cpu
