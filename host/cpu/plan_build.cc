// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/plan_build.h"

#include "host/cpu/bags.h"
#include "host/cpu/tasks.h"

namespace resembed::detail {
namespace {

constexpr int64_t kUsesPerTask = 8192;
constexpr int64_t kItemsPerTask = 1024;  // a list of neighbors is a line from memory
// Lists asked for ahead of their use: the map is read at random and does not fit into a cache.
constexpr int64_t kListsAhead = 24;

// entries[use] = (item or the sentinel n_items, use); padding and bad ids become the sentinel, which sorts last.
void EnterUses(const PlanInputs& inputs, const PlanRecord& record, char* memory, const PlanScratch& scratch,
               const Executor& executor) {
  const int64_t n_items = inputs.table.n_items;
  float* divisor = record.has_divisor != 0 ? reinterpret_cast<float*>(memory + record.divisor) : nullptr;
  for (int32_t index = 0; index < inputs.n_features; ++index) {
    if (inputs.places[index].table != inputs.index) continue;
    const PlanFeature& place = inputs.places[index];
    const resembed_feature feature = ReadFeature(inputs.features[index], inputs.table.dim);
    const int64_t n_tasks = TaskCount(executor, feature.n_ids, kUsesPerTask);
    executor.ParallelFor(n_tasks, [&](int64_t task) {
      const TaskRange range = RangeOfTask(feature.n_ids, n_tasks, task);
      if (range.first == range.last) return;
      int64_t bag = BagOf(feature, range.first);
      int64_t bag_end = BagBegin(feature, bag + 1);
      for (int64_t position = range.first; position < range.last; ++position) {
        while (position >= bag_end) bag_end = BagBegin(feature, ++bag + 1);
        const int64_t id = IdAt(feature, position);
        const auto key = static_cast<uint32_t>(TakesPart(feature, id, n_items) ? id : n_items);
        const int64_t use = place.first_use + position;
        scratch.entries[use] = MakeEntry(key, static_cast<uint32_t>(use));
        scratch.row_of_use[use] = static_cast<uint32_t>(place.first_row + bag);
      }
    });
    if (divisor == nullptr) continue;
    const bool averaged = feature.pooling == RESEMBED_POOLING_MEAN;
    const int64_t n_rows = OutputRows(feature);
    const int64_t n_row_tasks = TaskCount(executor, averaged ? feature.n_ids : n_rows, kUsesPerTask);
    executor.ParallelFor(n_row_tasks, [&](int64_t task) {
      const TaskRange range = RangeOfTask(n_rows, n_row_tasks, task);
      for (int64_t row = range.first; row < range.last; ++row) {
        int64_t count = averaged ? 0 : 1;
        if (averaged) {
          const SortEntry* bag = scratch.entries + place.first_use;
          for (int64_t at = BagBegin(feature, row); at < BagBegin(feature, row + 1); ++at) {
            count += EntryKey(bag[at]) != static_cast<uint32_t>(n_items);
          }
        }
        divisor[place.first_row + row] = static_cast<float>(count);
      }
    });
  }
}

// First entry whose key is the sentinel or more.
int64_t CountBelow(const SortEntry* entries, int64_t n, uint32_t sentinel) {
  return std::lower_bound(entries, entries + n, MakeEntry(sentinel, 0)) - entries;
}

// Runs of equal keys of entries[0, n): rows and begin, and each(at, payload, run) for every entry. Counted before
// anything is written: returns the number of runs, which the caller has room for only up to max_runs.
template <typename Each>
int64_t WriteRuns(const SortEntry* entries, int64_t n, int64_t max_runs, int32_t* rows, uint32_t* begin,
                  int64_t* task_count, const Executor& executor, const Each& each) {
  const int64_t n_tasks = TaskCount(executor, n, kUsesPerTask);
  const auto starts = [entries](int64_t at) {
    return at == 0 || EntryKey(entries[at]) != EntryKey(entries[at - 1]);
  };
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(n, n_tasks, task);
    int64_t count = 0;
    for (int64_t at = range.first; at < range.last; ++at) count += starts(at);
    task_count[task] = count;
  });
  int64_t n_runs = 0;
  for (int64_t task = 0; task < n_tasks; ++task) {
    const int64_t count = task_count[task];
    task_count[task] = n_runs;
    n_runs += count;
  }
  if (n_runs > max_runs) return n_runs;
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(n, n_tasks, task);
    int64_t run = task_count[task] - 1;
    for (int64_t at = range.first; at < range.last; ++at) {
      if (starts(at)) {
        ++run;
        rows[run] = static_cast<int32_t>(EntryKey(entries[at]));
        begin[run] = static_cast<uint32_t>(at);
      }
      each(at, EntryPayload(entries[at]), run);
    }
  });
  begin[n_runs] = static_cast<uint32_t>(n);
  return n_runs;
}

// The chunks of runs longer than kSumBlock.
int64_t WriteLongChunks(const uint32_t* begin, int64_t n_runs, PlanChunk* chunks) {
  int64_t n_chunks = 0;
  for (int64_t run = 0; run < n_runs; ++run) {
    if (begin[run + 1] - begin[run] <= kSumBlock) continue;
    for (int64_t first = begin[run]; first < begin[run + 1]; first += kSumBlock) {
      chunks[n_chunks++] = {static_cast<uint32_t>(run), static_cast<uint32_t>(first)};
    }
  }
  return n_chunks;
}

uint32_t CenterOf(const resembed_table& table, int32_t item) {
  if (table.center_of_dtype == RESEMBED_U16) {
    const uint16_t code = static_cast<const uint16_t*>(table.center_of)[item];
    return code == 65535 ? 0xffffffffu : code;
  }
  return static_cast<uint32_t>(static_cast<const int32_t*>(table.center_of)[item]);
}

// entries[item << slot_bits | slot] = (central row or the sentinel, that number): every slot of every unique item.
void EnterPairs(const resembed_table& table, const int32_t* items, int64_t n_unique, int slot_bits,
                SortEntry* entries, const Executor& executor) {
  const auto sentinel = static_cast<uint32_t>(table.central_rows);
  const bool assigned = table.form == RESEMBED_CENTRAL_ASSIGNMENT;
  const bool asks = table.form == RESEMBED_CENTRAL_ATTENTION;
  const int64_t n_slots = assigned ? 1 : table.n_neighbors + (asks ? 1 : 0);
  const int64_t n_tasks = TaskCount(executor, n_unique, kItemsPerTask);
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(n_unique, n_tasks, task);
    for (int64_t unique = range.first; unique < range.last; ++unique) {
      const auto number = static_cast<uint32_t>(unique << slot_bits);
      SortEntry* out = entries + unique * n_slots;
      if (assigned) {
        const uint32_t center = CenterOf(table, items[unique]);
        out[0] = MakeEntry(std::min(center, sentinel), number);
        continue;
      }
      if (unique + kListsAhead < range.last) {
        const int32_t* next = table.neighbors + items[unique + kListsAhead] * table.neighbors_stride;
        __builtin_prefetch(next);
        __builtin_prefetch(next + table.n_neighbors - 1);
      }
      const int32_t* list = table.neighbors + items[unique] * table.neighbors_stride;
      int slot = 0;
      for (; slot < table.n_neighbors && list[slot] >= 0; ++slot) {
        out[slot] = MakeEntry(static_cast<uint32_t>(list[slot]), number | static_cast<uint32_t>(slot));
      }
      const bool query = asks && slot > 0;
      for (; slot < table.n_neighbors; ++slot) out[slot] = MakeEntry(sentinel, 0);
      if (asks) {
        out[slot] = MakeEntry(query ? static_cast<uint32_t>(items[unique]) : sentinel,
                              number | static_cast<uint32_t>(slot));
      }
    }
  });
}

// Pairs of items numbered center by center come in the order of their centers; others end this at the first descent.
bool IsSorted(const SortEntry* entries, int64_t n) {
  return std::is_sorted(entries, entries + n,
                        [](SortEntry a, SortEntry b) { return EntryKey(a) < EntryKey(b); });
}

resembed_status Exceeded(const PlanInputs& inputs, const char* what, int64_t promise, int64_t seen) {
  return Fail(RESEMBED_OUT_OF_RANGE,
              "plan: %s[%d] is %lld; needs at least the %lld distinct rows of the batch", what, inputs.index,
              static_cast<long long>(promise), static_cast<long long>(seen));
}

}  // namespace

PlanScratch PlanScratch::Take(Workspace* workspace, int64_t n_entries, int64_t n_uses) {
  PlanScratch scratch;
  scratch.entries = workspace->Take<SortEntry>(n_entries);
  scratch.spare = workspace->Take<SortEntry>(n_entries);
  scratch.counters = workspace->Take<uint32_t>(SortCounters(n_entries));
  scratch.row_of_use = workspace->Take<uint32_t>(n_uses);
  scratch.task_count = workspace->Take<int64_t>(kMaxTasks);
  return scratch;
}

resembed_status BuildPlanTable(const PlanInputs& inputs, char* memory, PlanRecord* record,
                               const PlanScratch& scratch, const Executor& executor) {
  const resembed_table& table = inputs.table;
  const auto at = [memory](auto* type, size_t offset) {
    return reinterpret_cast<decltype(type)>(memory + offset);
  };
  int32_t* const rows = at(static_cast<int32_t*>(nullptr), record->rows);
  uint32_t* const begin = at(static_cast<uint32_t*>(nullptr), record->begin);
  uint32_t* const use_of = at(static_cast<uint32_t*>(nullptr), record->use);
  uint32_t* const use_row = at(static_cast<uint32_t*>(nullptr), record->use_row);
  int32_t* const inverse = at(static_cast<int32_t*>(nullptr), record->inverse);

  EnterUses(inputs, *record, memory, scratch, executor);
  const SortEntry* sorted =
      SortEntries(scratch.entries, scratch.spare, record->n_uses,
                  BitsFor(static_cast<uint64_t>(table.n_items)), scratch.counters, executor);
  const int64_t n_uses = CountBelow(sorted, record->n_uses, static_cast<uint32_t>(table.n_items));
  record->n_unique = WriteRuns(sorted, n_uses, record->max_unique, rows, begin, scratch.task_count, executor,
                               [&](int64_t index, uint32_t use, int64_t run) {
                                 use_of[index] = use;
                                 use_row[index] = scratch.row_of_use[use];
                                 inverse[use] = static_cast<int32_t>(run);
                               });
  if (record->n_unique > record->max_unique) {
    return Exceeded(inputs, "max_unique", record->max_unique, record->n_unique);
  }
  for (int64_t index = n_uses; index < record->n_uses; ++index) inverse[EntryPayload(sorted[index])] = -1;
  record->n_long_items =
      WriteLongChunks(begin, record->n_unique, at(static_cast<PlanChunk*>(nullptr), record->long_items));

  record->n_unique_central = record->n_long_pairs = 0;
  if (record->has_central == 0) return RESEMBED_OK;
  const int64_t n_slots = record->max_unique > 0 ? record->max_pairs / record->max_unique : 0;
  EnterPairs(table, rows, record->n_unique, record->slot_bits, scratch.entries, executor);
  const int64_t n_pairs_entered = record->n_unique * n_slots;
  sorted = IsSorted(scratch.entries, n_pairs_entered)
               ? scratch.entries
               : SortEntries(scratch.entries, scratch.spare, n_pairs_entered,
                             BitsFor(static_cast<uint64_t>(table.central_rows)), scratch.counters, executor);
  const int64_t n_pairs = CountBelow(sorted, n_pairs_entered, static_cast<uint32_t>(table.central_rows));
  uint32_t* const pair = at(static_cast<uint32_t*>(nullptr), record->pair);
  uint32_t* const central_begin = at(static_cast<uint32_t*>(nullptr), record->central_begin);
  record->n_unique_central =
      WriteRuns(sorted, n_pairs, record->max_unique_central,
                at(static_cast<int32_t*>(nullptr), record->central_rows), central_begin, scratch.task_count,
                executor, [pair](int64_t index, uint32_t number, int64_t) { pair[index] = number; });
  if (record->n_unique_central > record->max_unique_central) {
    return Exceeded(inputs, "max_unique_central", record->max_unique_central, record->n_unique_central);
  }
  record->n_long_pairs = WriteLongChunks(central_begin, record->n_unique_central,
                                         at(static_cast<PlanChunk*>(nullptr), record->long_pairs));
  return RESEMBED_OK;
}

}  // namespace resembed::detail
