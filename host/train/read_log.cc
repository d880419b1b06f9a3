// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "host/train/log.h"
#include "host/train/random.h"
#include "host/train/read_columns.h"
#include "host/train/read_lines.h"
#include "host/train/read_order.h"

namespace resembed::train {
namespace {

// Numbers distinct strings in order of first appearance: open addressing over one arena of characters.
class Names {
 public:
  int32_t Number(std::string_view name) {
    if (2 * (starts_.size() + 1) > slots_.size()) Grow();
    const uint64_t hash = Hash(name);
    size_t at = hash & (slots_.size() - 1);
    for (; slots_[at].number >= 0; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].hash == static_cast<uint32_t>(hash >> 32) && Name(slots_[at].number) == name)
        return slots_[at].number;
    }
    if (starts_.size() - 1 >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) return -1;
    const int32_t number = static_cast<int32_t>(starts_.size() - 1);
    slots_[at] = {static_cast<uint32_t>(hash >> 32), number};
    characters_.append(name);
    starts_.push_back(characters_.size());
    return number;
  }

  std::vector<std::string> Take() {
    std::vector<std::string> names;
    names.reserve(starts_.size() - 1);
    for (size_t i = 0; i + 1 < starts_.size(); ++i) names.emplace_back(Name(static_cast<int32_t>(i)));
    *this = Names();
    return names;
  }

 private:
  struct Slot {
    uint32_t hash;
    int32_t number;
  };

  static uint64_t Hash(std::string_view name) {
    uint64_t hash = name.size();
    while (name.size() >= 8) {
      uint64_t word;
      std::memcpy(&word, name.data(), 8);
      hash = MixBits(hash ^ word);
      name.remove_prefix(8);
    }
    uint64_t word = 0;
    std::memcpy(&word, name.data(), name.size());
    return MixBits(hash * 0x9E3779B97F4A7C15u ^ word);
  }

  std::string_view Name(int32_t number) const {
    const size_t begin = starts_[static_cast<size_t>(number)];
    return std::string_view(characters_).substr(begin, starts_[static_cast<size_t>(number) + 1] - begin);
  }

  void Grow() {
    slots_.assign(std::max<size_t>(1024, 2 * slots_.size()), {0, -1});
    for (size_t number = 0; number + 1 < starts_.size(); ++number) {
      const uint64_t hash = Hash(Name(static_cast<int32_t>(number)));
      size_t at = hash & (slots_.size() - 1);
      while (slots_[at].number >= 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(number)};
    }
  }

  std::string characters_;
  std::vector<size_t> starts_ = {0};  // [n + 1]
  std::vector<Slot> slots_;
};

struct Events {
  std::vector<int32_t> user, item;
  std::vector<int64_t> whole;     // empty: the order of the file
  std::vector<int64_t> fraction;  // empty as long as every order is whole
};

// Groups by user (stable), then sorts each user's events by order (stable).
void SortInto(Events* events, int64_t n_users, bool keep_times, Log* log) {
  const size_t n_events = events->user.size();
  log->offsets.assign(static_cast<size_t>(n_users) + 1, 0);
  for (const int32_t user : events->user) ++log->offsets[static_cast<size_t>(user) + 1];
  std::partial_sum(log->offsets.begin(), log->offsets.end(), log->offsets.begin());

  std::vector<int64_t> next(log->offsets.begin(), log->offsets.end() - 1);
  std::vector<int64_t> source(n_events);  // events by user, in file order
  for (size_t event = 0; event < n_events; ++event) {
    source[static_cast<size_t>(next[static_cast<size_t>(events->user[event])]++)] =
        static_cast<int64_t>(event);
  }
  if (!events->whole.empty()) {
    const auto earlier = [&](int64_t a, int64_t b) {
      const auto i = static_cast<size_t>(a), j = static_cast<size_t>(b);
      if (events->whole[i] != events->whole[j]) return events->whole[i] < events->whole[j];
      return !events->fraction.empty() && events->fraction[i] < events->fraction[j];
    };
    for (int64_t user = 0; user < n_users; ++user) {
      const auto begin = source.begin() + log->offsets[static_cast<size_t>(user)];
      const auto end = source.begin() + log->offsets[static_cast<size_t>(user) + 1];
      if (!std::is_sorted(begin, end, earlier)) std::stable_sort(begin, end, earlier);
    }
  }
  log->items.resize(n_events);
  for (size_t event = 0; event < n_events; ++event)
    log->items[event] = events->item[static_cast<size_t>(source[event])];
  if (!keep_times || events->whole.empty()) return;
  log->times.resize(n_events);
  for (size_t event = 0; event < n_events; ++event)
    log->times[event] = events->whole[static_cast<size_t>(source[event])];
  for (size_t event = 0; event < events->fraction.size(); ++event)
    log->time_fractions.push_back(events->fraction[static_cast<size_t>(source[event])]);
}

}  // namespace

Log ReadLog(const std::string& path, const ReadOptions& options) {
  RecordReader reader(path);
  std::vector<std::string_view> fields;
  if (!reader.Next(&fields)) throw Error{path + ": the file is empty; needs lines of user, item and order"};
  Columns columns;
  try {
    columns = ResolveColumns({fields.begin(), fields.end()}, options.columns);
  } catch (const Error& error) {
    reader.Fail(error.message);
  }
  const size_t n_needed = static_cast<size_t>(std::max({columns.user, columns.item, columns.order})) + 1;

  Names users, items;
  Events events;
  std::optional<OrderKind> file_kind;
  const auto add = [&] {
    if (fields.size() < n_needed) {
      reader.Fail("has " + std::to_string(fields.size()) + (fields.size() == 1 ? " field" : " fields") +
                  "; needs " + std::to_string(n_needed) + " (" + columns.description + ")");
    }
    const std::string_view user = fields[static_cast<size_t>(columns.user)];
    const std::string_view item = fields[static_cast<size_t>(columns.item)];
    if (user.empty()) reader.Fail("the user is empty");
    if (item.empty()) reader.Fail("the item is empty");
    if (columns.order >= 0) {
      const std::string_view text = fields[static_cast<size_t>(columns.order)];
      OrderKind kind;
      OrderKey key;
      const char* reason = ParseOrder(text, &kind, &key);
      if (reason != nullptr) reader.Fail("the order \"" + std::string(text.substr(0, 80)) + "\" " + reason);
      if (!file_kind) file_kind = kind;
      if (kind != *file_kind) {
        reader.Fail("the order \"" + std::string(text) + "\" is a " +
                    (kind == OrderKind::kDate ? "date" : "number") + "; the lines before have " +
                    (kind == OrderKind::kDate ? "numbers" : "dates"));
      }
      if (key.fraction != 0 && events.fraction.empty()) events.fraction.assign(events.whole.size(), 0);
      if (key.fraction != 0 || !events.fraction.empty()) events.fraction.push_back(key.fraction);
      events.whole.push_back(key.whole);
    }
    events.user.push_back(users.Number(user));
    events.item.push_back(items.Number(item));
    if (events.user.back() < 0 || events.item.back() < 0) reader.Fail("more than 2^31 - 2 users or items");
  };

  bool more = true;
  if (columns.has_header) more = reader.Next(&fields);
  for (int64_t n_records = 1; more; more = reader.Next(&fields), ++n_records) {
    add();
    if (options.progress && (n_records & 0xFFFF) == 0) {
      options.progress(reader.bytes_read(), reader.bytes_total(), reader.line());
    }
  }
  if (options.progress) options.progress(reader.bytes_total(), reader.bytes_total(), reader.line());
  if (events.user.empty())
    throw Error{path + ": no events; the file holds only the header " + columns.description};

  Log log;
  log.source = path;
  log.columns = columns.description;
  log.user_names = users.Take();
  log.item_names = items.Take();
  SortInto(&events, static_cast<int64_t>(log.user_names.size()), options.keep_times, &log);
  return log;
}

}  // namespace resembed::train
