// SPDX-License-Identifier: Apache-2.0
#include "host/train/read_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace resembed::train {
namespace {

using ::testing::HasSubstr;

std::pair<int64_t, int64_t> Key(const std::string& text) {
  OrderKind kind;
  OrderKey key;
  const char* reason = ParseOrder(text, &kind, &key);
  EXPECT_EQ(reason, nullptr) << text << " " << reason;
  return {key.whole, key.fraction};
}

std::string Reason(const std::string& text) {
  OrderKind kind;
  OrderKey key;
  const char* reason = ParseOrder(text, &kind, &key);
  return reason == nullptr ? "" : reason;
}

TEST(ParseOrder, KeepsEvery64BitInteger) {
  EXPECT_EQ(Key("0").first, 0);
  EXPECT_EQ(Key("9223372036854775807").first, INT64_MAX);
  EXPECT_EQ(Key("-9223372036854775808").first, INT64_MIN);
  EXPECT_EQ(Key("9007199254740993").first, 9007199254740993);  // 2^53 + 1: no double
  EXPECT_EQ(Key("+007").first, 7);
  EXPECT_EQ(Key("\t 12 ").first, 12);
  EXPECT_EQ(Key("00000000000000000000000000000000001").first, 1);
}

TEST(ParseOrder, ReadsDecimalsAndExponentsExactly) {
  const int64_t one = 1000000000000000000;
  EXPECT_EQ(Key("1.5"), std::make_pair(int64_t{1}, one / 2));
  EXPECT_EQ(Key("-1.5"), std::make_pair(int64_t{-2}, one / 2));
  EXPECT_EQ(Key("-0.25"), std::make_pair(int64_t{-1}, one / 4 * 3));
  EXPECT_EQ(Key(".000000000000000001"), std::make_pair(int64_t{0}, int64_t{1}));
  EXPECT_EQ(Key("1.259653500e9"), Key("1259653500"));
  EXPECT_EQ(Key("125965350000E-2"), Key("1259653500"));
  EXPECT_EQ(Key("1.25e1"), Key("12.5"));
  EXPECT_EQ(Key("0e999999999999"), Key("0"));
  EXPECT_LT(Key("9223372036854775806.999999999999999999"), Key("9223372036854775807"));
}

TEST(ParseOrder, ReadsDatesAsSeconds) {
  EXPECT_EQ(Key("1970-01-01").first, 0);
  EXPECT_EQ(Key("1969-12-31T23:59:59Z").first, -1);
  EXPECT_EQ(Key("2009-12-01 07:45").first, 1259653500);
  EXPECT_EQ(Key("2009-12-01T07:45:00Z").first, 1259653500);
  EXPECT_EQ(Key("2009-12-01T08:45:00+01:00").first, 1259653500);
  EXPECT_EQ(Key("2009-12-01T02:15:00-0530").first, 1259653500);
  EXPECT_EQ(Key("2009-12-01T09:45+02").first, 1259653500);
  EXPECT_EQ(Key("2009-12-01 07:45:00 UTC").first, 1259653500);
  EXPECT_EQ(Key("20091201T074500Z").first, 1259653500);
  EXPECT_EQ(Key("2009-12"), Key("2009-12-01"));
  EXPECT_EQ(Key("2000-02-29").first, 951782400);
  EXPECT_EQ(Key("2009-11-30T24:00"), Key("2009-12-01"));
  EXPECT_EQ(Key("2014-04-07T10:51:09.277Z"),
            std::make_pair(int64_t{1396867869}, int64_t{277000000000000000}));
  EXPECT_LT(Key("2014-04-07T10:51:09.277000001Z"), Key("2014-04-07T10:51:09,277000002Z"));
}

TEST(ParseOrder, RejectsWithTheReason) {
  for (const char* text :
       {"abc", "12x", "1.2.3", "1e", "-", ".", "nan", "inf", "0x10", "12-13", "2011-1-1", "2011-01-01x",
        "2011-01-01T", "2011-01-01T10", "2011-01-01T10:11:12.", "20110101T1x", "2011-01-01T10:11+1"}) {
    EXPECT_THAT(Reason(text), HasSubstr("neither a number nor")) << text;
  }
  for (const char* text :
       {"2011-02-29", "1900-02-29", "2011-13-01", "2011-00-10", "2011-04-31", "2011-01-01 25:00",
        "2011-01-01 24:01", "2011-01-01 10:60", "2011-01-01T10:00+25:00"}) {
    EXPECT_THAT(Reason(text), HasSubstr("no date or time of the calendar")) << text;
  }
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "1e30", "-9223372036854775808.5",
                           "18446744073709551616", "99999999999999999999"}) {
    EXPECT_THAT(Reason(text), HasSubstr("outside 64 bits")) << text;
  }
  EXPECT_EQ(Reason("  "), "is empty");
}

}  // namespace
}  // namespace resembed::train
