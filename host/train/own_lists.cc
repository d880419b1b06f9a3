// SPDX-License-Identifier: Apache-2.0
#include "host/train/own_lists.h"

#include <algorithm>
#include <string>

#include "host/train/graph.h"
#include "host/train/parallel.h"

namespace resembed::train {

int32_t OwnLists::RowOf(int32_t user, int32_t item) const {
  const auto begin = items.begin() + offsets[static_cast<size_t>(user)];
  const auto end = items.begin() + offsets[static_cast<size_t>(user) + 1];
  const auto found = std::lower_bound(begin, end, item);
  if (found == end || *found != item) return item;
  return static_cast<int32_t>(n_items + (found - items.begin()));
}

OwnLists MakeOwnLists(const Log& log, const Split& split, const InterestGraph& graph, int n_threads) {
  const CovisitPointer counts = CountPairs(log, split, graph.window, nullptr, {});
  const size_t n_pairs = static_cast<size_t>(graph.n_pairs), k = static_cast<size_t>(graph.k);
  std::vector<int64_t> row_offsets(static_cast<size_t>(log.n_items()) + 1), values(2 * n_pairs);
  std::vector<int32_t> columns(2 * n_pairs);
  CheckStatus(resembed_covisit_export(counts.get(), row_offsets.data(), columns.data(), values.data()));
  resembed_covisit_matrix matrix = {};
  matrix.struct_size = sizeof(matrix);
  matrix.n_items = log.n_items();
  matrix.row_offsets = row_offsets.data();
  matrix.columns = columns.data();
  matrix.values = values.data();
  resembed_covisit_options counting = {};
  counting.struct_size = sizeof(counting);
  counting.n_items = log.n_items();
  counting.window = graph.window;
  resembed_graph_options lists = {};
  lists.struct_size = sizeof(lists);
  lists.k = graph.k;

  struct Changed {
    std::vector<int32_t> items, neighbors;
    std::string error;
  };
  std::vector<Changed> changed(split.train.size());
  ParallelFor(static_cast<int64_t>(changed.size()), n_threads, [&](int, int64_t at) {
    Changed& mine = changed[static_cast<size_t>(at)];
    const int32_t user = split.train[static_cast<size_t>(at)];
    const int64_t ends[2] = {log.offsets[static_cast<size_t>(user)], EndOf(log, split.train_ends, user)};
    const size_t length = static_cast<size_t>(ends[1] - ends[0]);
    std::vector<int32_t> items(length), neighbors(length * k);
    std::vector<int64_t> own_counts(length * k);
    resembed_covisit_sequences sequence = {};
    sequence.struct_size = sizeof(sequence);
    sequence.ids = log.items.data();
    sequence.id_dtype = RESEMBED_I32;
    sequence.offsets = ends;
    sequence.offset_dtype = RESEMBED_I64;
    sequence.n_sequences = 1;
    int64_t n_rows = 0;
    if (resembed_graph_leave_out(&matrix, &counting, &sequence, &lists, &n_rows, items.data(),
                                 neighbors.data(), own_counts.data()) != RESEMBED_OK) {
      mine.error = resembed_last_error_message();
      return;
    }
    for (size_t row = 0; row < static_cast<size_t>(n_rows); ++row) {
      const auto list = neighbors.begin() + static_cast<std::ptrdiff_t>(row * k);
      const auto shared =
          graph.neighbors.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(items[row]) * k);
      if (std::equal(list, list + graph.k, shared)) continue;
      mine.items.push_back(items[row]);
      mine.neighbors.insert(mine.neighbors.end(), list, list + graph.k);
    }
  });

  OwnLists own;
  own.n_items = log.n_items();
  own.offsets.assign(static_cast<size_t>(log.n_users()) + 1, 0);
  own.neighbors = graph.neighbors;
  for (size_t at = 0; at < changed.size(); ++at) {
    Changed& mine = changed[at];
    if (!mine.error.empty()) throw Error{mine.error};
    own.offsets[static_cast<size_t>(split.train[at]) + 1] = static_cast<int64_t>(mine.items.size());
    own.items.insert(own.items.end(), mine.items.begin(), mine.items.end());
    own.neighbors.insert(own.neighbors.end(), mine.neighbors.begin(), mine.neighbors.end());
    mine = {};
  }
  for (size_t user = 1; user < own.offsets.size(); ++user) own.offsets[user] += own.offsets[user - 1];
  if (own.n_rows() > INT32_MAX) {
    throw Error{"leave one out: " + std::to_string(own.n_rows()) + " lists; needs at most 2^31 - 1"};
  }
  return own;
}

}  // namespace resembed::train
