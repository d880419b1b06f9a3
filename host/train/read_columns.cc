// SPDX-License-Identifier: Apache-2.0
#include "host/train/read_columns.h"

#include <algorithm>
#include <cstddef>

#include "host/train/log.h"
#include "host/train/read_order.h"

namespace resembed::train {
namespace {

using Names = std::vector<std::string>;

// Lower case, without blanks, '_', '-' and '.': "Session_ID" -> "sessionid".
std::string Plain(const std::string& name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-' || c == '.') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return plain;
}

// In order of preference: a file with userid and sessionid is read by user.
const Names& Synonyms(int role) {
  static const Names kUser = {"user",       "userid",      "uid",      "visitorid",  "visitor",
                              "customerid", "customer",    "clientid", "client",     "memberid",
                              "member",     "accountid",   "buyerid",  "personid",   "playerid",
                              "reviewerid", "listenerid",  "username", "customerno", "session",
                              "sessionid",  "usersession", "sid"};
  static const Names kItem = {
      "item",  "itemid",  "iid",       "product",   "productid",   "sku",      "skuid",      "asin",
      "movie", "movieid", "article",   "articleid", "track",       "trackid",  "song",       "songid",
      "book",  "bookid",  "isbn",      "stockcode", "game",        "gameid",   "video",      "videoid",
      "news",  "newsid",  "contentid", "pageid",    "productcode", "itemcode", "businessid", "goodsid"};
  static const Names kOrder = {
      "order",          "timestamp", "ts",        "datetime",      "time",    "eventtime", "unixtime",
      "unixtimestamp",  "timeframe", "createdat", "eventdatetime", "date",    "eventdate", "invoicedate",
      "unixreviewtime", "position",  "step",      "seq",           "sequence"};
  return role == 0 ? kUser : role == 1 ? kItem : kOrder;
}

int FindSynonym(const Names& plain, int role) {
  for (const std::string& synonym : Synonyms(role)) {
    const auto found = std::find(plain.begin(), plain.end(), synonym);
    if (found != plain.end()) return static_cast<int>(found - plain.begin());
  }
  return -1;
}

std::string List(const Names& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

bool IsOrder(const Names& fields, int column) {
  OrderKind kind;
  OrderKey key;
  return column < static_cast<int>(fields.size()) &&
         ParseOrder(fields[static_cast<size_t>(column)], &kind, &key) == nullptr;
}

constexpr char kRoles[3][6] = {"user", "item", "order"};
constexpr char kColumnsRule[] =
    "needs user=NAME,item=NAME,order=NAME (or numbers from 1; order may be left out)";

// The three values of --columns, empty where not given.
Names ParseOption(const std::string& option) {
  Names values(3);
  size_t begin = 0;
  while (begin <= option.size()) {
    const size_t end = std::min(option.find(',', begin), option.size());
    const std::string part = option.substr(begin, end - begin);
    const size_t equal = part.find('=');
    const auto role = std::find(kRoles, kRoles + 3, part.substr(0, equal)) - kRoles;
    if (equal == std::string::npos || role == 3 || equal + 1 == part.size() ||
        !values[static_cast<size_t>(role)].empty()) {
      throw Error{"--columns is \"" + option + "\"; " + kColumnsRule};
    }
    values[static_cast<size_t>(role)] = part.substr(equal + 1);
    begin = end + 1;
  }
  if (values[0].empty() || values[1].empty()) throw Error{"--columns is \"" + option + "\"; " + kColumnsRule};
  return values;
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() < 6 && text.find_first_not_of("0123456789") == std::string::npos &&
         text != "0";
}

int FindName(const Names& first, const Names& plain, const std::string& name) {
  auto found = std::find(first.begin(), first.end(), name);
  if (found != first.end()) return static_cast<int>(found - first.begin());
  found = std::find(plain.begin(), plain.end(), Plain(name));
  return found == plain.end() ? -1 : static_cast<int>(found - plain.begin());
}

Columns FromOption(const Names& first, const Names& plain, const std::string& option) {
  const Names values = ParseOption(option);
  int at[3] = {-1, -1, -1};
  Columns columns;
  for (int role = 0; role < 3; ++role) {
    const std::string& value = values[static_cast<size_t>(role)];
    if (value.empty()) continue;
    if (IsNumber(value)) {
      at[role] = std::stoi(value) - 1;
      if (at[role] >= static_cast<int>(first.size())) {
        throw Error{"--columns names column " + value + "; the first line has " +
                    std::to_string(first.size())};
      }
      continue;
    }
    at[role] = FindName(first, plain, value);
    columns.has_header = true;
    if (at[role] < 0)
      throw Error{"no column is called \"" + value + "\" (--columns); the first line has: " + List(first)};
  }
  columns.user = at[0];
  columns.item = at[1];
  columns.order = at[2];
  if (!columns.has_header) {
    columns.has_header = columns.order >= 0
                             ? !IsOrder(first, columns.order)
                             : FindSynonym(plain, 0) == columns.user || FindSynonym(plain, 1) == columns.item;
  }
  return columns;
}

Columns Guess(const Names& first, const Names& plain) {
  Columns columns;
  const int n_columns = static_cast<int>(first.size());
  if (n_columns < 2) {
    throw Error{
        "one column only; needs user, item and (optionally) order, separated by tab, comma or semicolon"};
  }
  const int user = FindSynonym(plain, 0), item = FindSynonym(plain, 1), order = FindSynonym(plain, 2);
  if (user >= 0 && item >= 0) {
    columns = {user, item, order, true, ""};
    if (order < 0 && n_columns == 3) columns.order = 3 - user - item;
    if (order < 0 && n_columns > 3) {
      throw Error{
          "no column looks like an order (a time); say --columns user=" + first[static_cast<size_t>(user)] +
          ",item=" + first[static_cast<size_t>(item)] + ",order=NAME; the columns are: " + List(first)};
    }
    return columns;
  }
  if (n_columns == 2) return {0, 1, -1, false, ""};
  if (IsOrder(first, 2)) {
    OrderKind kind;
    OrderKey key;
    if (ParseOrder(first[1], &kind, &key) == nullptr && kind == OrderKind::kDate) {
      throw Error{
          "column 2 holds a time, not an item; say which column is what: --columns user=1,item=3,order=2"};
    }
    return columns;
  }
  // Not an event. Names have no digits; "u7 i3 abc" is an event whose order is malformed.
  for (int column = 0; column < 3; ++column) {
    if (first[static_cast<size_t>(column)].find_first_of("0123456789") != std::string::npos) return columns;
  }
  if (n_columns > 3) {
    throw Error{
        "the names of the columns are not known; say --columns user=NAME,item=NAME,order=NAME; they are: " +
        List(first)};
  }
  columns.has_header = true;
  return columns;
}

}  // namespace

Columns ResolveColumns(const std::vector<std::string>& first, const std::string& option) {
  Names plain;
  for (const std::string& name : first) plain.push_back(Plain(name));
  Columns columns = option.empty() ? Guess(first, plain) : FromOption(first, plain, option);
  const int at[3] = {columns.user, columns.item, columns.order};
  if (at[0] == at[1] || at[0] == at[2] || at[1] == at[2]) {
    throw Error{"one column is named twice; user, item and order need different ones"};
  }
  for (int role = 0; role < 3; ++role) {
    columns.description += std::string(role > 0 ? "," : "") + kRoles[role] + "=";
    columns.description += at[role] < 0         ? "(order of the file)"
                           : columns.has_header ? first[static_cast<size_t>(at[role])]
                                                : std::to_string(at[role] + 1);
  }
  return columns;
}

}  // namespace resembed::train
