// SPDX-License-Identifier: Apache-2.0
#include "host/train/read_order.h"

#include <algorithm>
#include <cstddef>

namespace resembed::train {
namespace {

constexpr int kFractionDigits = 18;
constexpr int64_t kFractionOne = 1000000000000000000;
constexpr char kNeither[] = "is neither a number nor an ISO 8601 date";
constexpr char kNoSuchTime[] = "is no date or time of the calendar";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}
  bool AtEnd() const { return at_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  bool Take(char c) {
    if (Peek() != c || AtEnd()) return false;
    ++at_;
    return true;
  }
  bool TakeWord(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  std::string_view TakeDigits(size_t most = std::string_view::npos) {
    size_t end = at_;
    while (end < text_.size() && end - at_ < most && IsDigit(text_[end])) ++end;
    const std::string_view digits = text_.substr(at_, end - at_);
    at_ = end;
    return digits;
  }
  // Exactly n digits.
  bool TakeNumber(size_t n, int64_t* value) {
    const std::string_view digits = TakeDigits(n);
    if (digits.size() != n) return false;
    *value = 0;
    for (const char c : digits) *value = *value * 10 + (c - '0');
    return true;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

// Negates in the form whole + fraction with a non-negative fraction.
OrderKey Negative(OrderKey key) {
  if (key.fraction == 0) return {-key.whole, 0};
  return {-key.whole - 1, kFractionOne - key.fraction};
}

const char* ParseNumber(std::string_view text, OrderKey* key) {
  Cursor cursor(text);
  const bool negative = cursor.Take('-');
  if (!negative) cursor.Take('+');
  const std::string_view before = cursor.TakeDigits();
  const std::string_view after = cursor.Take('.') ? cursor.TakeDigits() : std::string_view();
  if (before.empty() && after.empty()) return kNeither;
  int64_t exponent = 0;
  if (cursor.Take('e') || cursor.Take('E')) {
    const bool small = cursor.Take('-');
    if (!small) cursor.Take('+');
    const std::string_view digits = cursor.TakeDigits();
    if (digits.empty()) return kNeither;
    for (const char c : digits) exponent = std::min<int64_t>(exponent * 10 + (c - '0'), 1000000);
    if (small) exponent = -exponent;
  }
  if (!cursor.AtEnd()) return kNeither;

  // The digits of before and after in one row, the decimal point moved to `point`.
  const int64_t n_before = static_cast<int64_t>(before.size());
  const int64_t n_digits = n_before + static_cast<int64_t>(after.size());
  const int64_t point = n_before + exponent;
  const auto digit = [&](int64_t i) -> int64_t {
    if (i < 0 || i >= n_digits) return 0;
    return (i < n_before ? before[static_cast<size_t>(i)] : after[static_cast<size_t>(i - n_before)]) - '0';
  };
  int64_t first = 0;
  while (first < n_digits && digit(first) == 0) ++first;
  if (first == n_digits) return *key = {}, nullptr;
  if (point - first > 19) return "lies outside 64 bits";
  const uint64_t limit = (uint64_t{1} << 63) - (negative ? 0 : 1);
  uint64_t whole = 0;
  for (int64_t i = first; i < point; ++i)
    whole = whole * 10 + static_cast<uint64_t>(digit(i));  // 10^19 < 2^64
  OrderKey magnitude{0, 0};
  for (int64_t i = point; i < point + kFractionDigits; ++i)
    magnitude.fraction = magnitude.fraction * 10 + digit(i);
  if (whole > limit || (whole == uint64_t{1} << 63 && magnitude.fraction > 0)) return "lies outside 64 bits";
  if (whole == uint64_t{1} << 63) return *key = {INT64_MIN, 0}, nullptr;
  magnitude.whole = static_cast<int64_t>(whole);
  *key = negative ? Negative(magnitude) : magnitude;
  return nullptr;
}

// Days from 1970-01-01 in the Gregorian calendar: years counted from March, so that the leap day is the last.
int64_t DaysOfDate(int64_t year, int64_t month, int64_t day) {
  const int64_t y = month <= 2 ? year - 1 : year;
  const int64_t m = (month + 9) % 12;
  return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

int64_t DaysInMonth(int64_t year, int64_t month) {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

const char* ParseDate(std::string_view text, OrderKey* key) {
  Cursor cursor(text);
  int64_t year = 0, month = 0, day = 1, hour = 0, minute = 0, second = 0, fraction = 0, offset = 0;
  if (!cursor.TakeNumber(4, &year)) return kNeither;
  const bool basic = cursor.Peek() != '-';
  if (!basic) cursor.Take('-');
  if (!cursor.TakeNumber(2, &month)) return kNeither;
  if (basic || cursor.Take('-')) {
    if (!cursor.TakeNumber(2, &day)) return kNeither;
  }
  if (basic && cursor.Peek() != 'T') return kNeither;
  if (month < 1 || month > 12 || day < 1 || day > DaysInMonth(year, month)) return kNoSuchTime;
  if (!cursor.AtEnd()) {
    if (!cursor.Take('T') && !cursor.Take('t') && !cursor.Take(' ')) return kNeither;
    if (!cursor.TakeNumber(2, &hour)) return kNeither;
    if (!basic && !cursor.Take(':')) return kNeither;
    if (!cursor.TakeNumber(2, &minute)) return kNeither;
    if (basic ? IsDigit(cursor.Peek()) : cursor.Take(':')) {
      if (!cursor.TakeNumber(2, &second)) return kNeither;
      if (cursor.Take('.') || cursor.Take(',')) {
        const std::string_view digits = cursor.TakeDigits();
        if (digits.empty()) return kNeither;
        for (size_t i = 0; i < kFractionDigits; ++i) {
          fraction = fraction * 10 + (i < digits.size() ? digits[i] - '0' : 0);
        }
      }
    }
    cursor.Take(' ');
    const bool west = cursor.Peek() == '-';
    if (cursor.Take('+') || cursor.Take('-')) {
      int64_t hours = 0, minutes = 0;
      if (!cursor.TakeNumber(2, &hours)) return kNeither;
      if (cursor.Take(':') || !cursor.AtEnd()) {
        if (!cursor.TakeNumber(2, &minutes)) return kNeither;
      }
      if (hours > 23 || minutes > 59) return kNoSuchTime;
      offset = (west ? -1 : 1) * (hours * 3600 + minutes * 60);
    } else if (!cursor.Take('Z') && !cursor.Take('z') && !cursor.TakeWord("UTC")) {
      cursor.TakeWord("GMT");
    }
    if (!cursor.AtEnd()) return kNeither;
    const bool midnight = hour == 24 && minute == 0 && second == 0 && fraction == 0;
    if ((hour > 23 && !midnight) || minute > 59 || second > 60) return kNoSuchTime;  // 60: a leap second
  }
  *key = {DaysOfDate(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset, fraction};
  return nullptr;
}

}  // namespace

const char* ParseOrder(std::string_view text, OrderKind* kind, OrderKey* key) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  if (text.empty()) return "is empty";
  // YYYY-... and YYYYMMDDT...: no number has a '-' or a 'T' there.
  const bool date =
      text.size() >= 7 && IsDigit(text[0]) && (text[4] == '-' || (text.size() > 8 && text[8] == 'T'));
  *kind = date ? OrderKind::kDate : OrderKind::kNumber;
  return date ? ParseDate(text, key) : ParseNumber(text, key);
}

}  // namespace resembed::train
