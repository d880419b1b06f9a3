// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "host/train/log.h"
#include "host/train/random.h"

namespace resembed::train {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class ReadLogTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const {
    return ::testing::TempDir() + "resembed_read_log_" + name;
  }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = Path(name);
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  std::string WriteGzip(const std::string& name, const std::string& text, size_t cut = 0) {
    const std::string path = Path(name);
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
    std::ifstream in(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    bytes.resize(bytes.size() - cut);
    return Write(name, bytes);
  }

  static ReadOptions WithColumns(const std::string& columns) {
    ReadOptions options;
    options.columns = columns;
    return options;
  }

  // user -> items, by name.
  static std::map<std::string, std::vector<std::string>> Read(const std::string& path,
                                                              const std::string& columns = "") {
    const Log log = ReadLog(path, WithColumns(columns));
    std::map<std::string, std::vector<std::string>> sequences;
    for (size_t user = 0; user < log.user_names.size(); ++user) {
      for (int64_t event = log.offsets[user]; event < log.offsets[user + 1]; ++event) {
        const int32_t item = log.items[static_cast<size_t>(event)];
        sequences[log.user_names[user]].push_back(log.item_names[static_cast<size_t>(item)]);
      }
    }
    return sequences;
  }

  static std::string Failure(const std::string& path, const std::string& columns = "") {
    try {
      ReadLog(path, WithColumns(columns));
    } catch (const Error& error) {
      return error.message;
    }
    return "no error";
  }
};

TEST_F(ReadLogTest, SortsEachUserAndKeepsFileOrderAmongTies) {
  const Log log =
      ReadLog(Write("ties.tsv", "user\titem\torder\nb\tx\t2\na\ty\t1\nb\tz\t1\nb\ty\t2\nb\tw\t1\n"), {});
  EXPECT_THAT(log.user_names, ElementsAre("b", "a"));
  EXPECT_THAT(log.item_names, ElementsAre("x", "y", "z", "w"));
  EXPECT_THAT(log.offsets, ElementsAre(0, 4, 5));
  EXPECT_THAT(log.items, ElementsAre(2, 3, 0, 1, 1));
  EXPECT_EQ(log.columns, "user=user,item=item,order=order");
}

TEST_F(ReadLogTest, ComparesLargeIntegersAndDecimalsExactly) {
  const std::string path =
      Write("big.tsv",
            "u\ta\t9007199254740993\nu\tb\t9007199254740992\nu\tc\t9007199254740992.5\n"
            "u\td\t-9223372036854775808\nu\te\t9223372036854775807\nu\tf\t9.007199254740992e15\n");
  EXPECT_THAT(Read(path)["u"], ElementsAre("d", "b", "f", "c", "a", "e"));
}

TEST_F(ReadLogTest, IdsAreStringsOfAnyKind) {
  const std::string path =
      Write("ids.tsv",
            "9223372036854775807\t18446744073709551616\t1\n9223372036854775807\t00042\t2\n"
            "9223372036854775807\t42\t3\n-1\t\xC3\xA4 b\t1\n");
  auto sequences = Read(path);
  EXPECT_THAT(sequences["9223372036854775807"], ElementsAre("18446744073709551616", "00042", "42"));
  EXPECT_THAT(sequences["-1"], ElementsAre("\xC3\xA4 b"));
}

TEST_F(ReadLogTest, ReadsIsoDatesWithOffsets) {
  const std::string path =
      Write("dates.csv",
            "session;item;when\ns;c;2014-04-07T10:51:09.277Z\ns;b;2014-04-07 12:51:09+02:00\n"
            "s;a;2014-04-07\n");
  EXPECT_THAT(Read(path)["s"], ElementsAre("a", "b", "c"));
}

TEST_F(ReadLogTest, UnderstandsQuotedFields) {
  const std::string path =
      Write("quoted.csv",
            "user,item,order\n\"u,1\",\"say \"\"x\"\"\",2\n\"u,1\",\"two\nlines\",1\nu2,5\" disk,1\n"
            "u2,\"\",2\n");
  EXPECT_THAT(Failure(path), EndsWith("quoted.csv:6: the item is empty"));
  auto sequences = Read(
      Write("quoted.csv",
            "user,item,order\n\"u,1\",\"say \"\"x\"\"\",2\n\"u,1\",\"two\nlines\",1\nu2,5\" disk,\"1\""));
  EXPECT_THAT(sequences["u,1"], ElementsAre("two\nlines", "say \"x\""));
  EXPECT_THAT(sequences["u2"], ElementsAre("5\" disk"));
  EXPECT_THAT(Read(Write("quotes.tsv", "u\t\"a\t1\n"))["u"], ElementsAre("\"a"));
}

TEST_F(ReadLogTest, RejectsBrokenQuotes) {
  EXPECT_THAT(Failure(Write("open.csv", "u,a,1\nu,\"b,2\nu,c,3\n")),
              EndsWith("open.csv:2: a quoted field is not closed"));
  EXPECT_THAT(Failure(Write("after.csv", "u,\"a\"b,1\n")),
              EndsWith("after.csv:1: text after a closing quote"));
}

TEST_F(ReadLogTest, AcceptsCrlfByteOrderMarkBlankLinesAndNoFinalLineEnd) {
  const std::string path =
      Write("windows.csv", "\xEF\xBB\xBFuser_id,Item-ID,Time Stamp\r\nu,b,2\r\n\r\nu,a,1\r\n\r\nu,c,3");
  EXPECT_THAT(Read(path)["u"], ElementsAre("a", "b", "c"));
}

TEST_F(ReadLogTest, FindsColumnsByCommonNames) {
  const Log log =
      ReadLog(Write("shop.csv", "timestamp,visitorid,event,itemid\n2,v,view,a\n1,v,view,b\n"), {});
  EXPECT_EQ(log.columns, "user=visitorid,item=itemid,order=timestamp");
  EXPECT_THAT(log.item_names, ElementsAre("a", "b"));
  EXPECT_THAT(log.items, ElementsAre(1, 0));
  EXPECT_EQ(ReadLog(Write("both.csv", "sessionid,userid,item,ts\n1,2,3,4\n"), {}).columns,
            "user=userid,item=item,order=ts");
}

TEST_F(ReadLogTest, TakesColumnsByNameOrNumber) {
  const std::string headed = Write("headed.csv", "when,who,what\n1,a,x\n");
  EXPECT_EQ(ReadLog(headed, WithColumns("user=who,item=what,order=when")).columns,
            "user=who,item=what,order=when");
  EXPECT_EQ(ReadLog(headed, WithColumns("user=2,item=3,order=1")).n_events(), 1);
  const std::string bare =
      Write("bare.csv", "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:50:00Z,7,0\n");
  EXPECT_THAT(Failure(bare), HasSubstr(":1: column 2 holds a time, not an item; say which column is what"));
  EXPECT_THAT(Read(bare, "user=1,item=3,order=2")["1"], ElementsAre("7", "214536502"));
}

TEST_F(ReadLogTest, RejectsColumnsThatAreNotThere) {
  const std::string path = Write("cols.csv", "who,what,when\na,x,1\n");
  EXPECT_THAT(
      Failure(path, "user=who,item=which,order=when"),
      EndsWith("cols.csv:1: no column is called \"which\" (--columns); the first line has: who, what, when"));
  EXPECT_THAT(Failure(path, "user=1,item=2,order=4"),
              HasSubstr("--columns names column 4; the first line has 3"));
  EXPECT_THAT(Failure(path, "user=who,item=who"), HasSubstr("one column is named twice"));
  for (const char* bad :
       {"user", "user=", "user=who", "user=who,item=what,color=when", "user=who,user=what,item=when", ","}) {
    EXPECT_THAT(Failure(path, bad),
                HasSubstr(std::string("--columns is \"") + bad + "\"; needs user=NAME,item=NAME"));
  }
  EXPECT_THAT(Failure(Write("unknown.csv", "alpha,beta,gamma,delta\n1,2,3,4\n")),
              HasSubstr(":1: the names of the columns are not known; say --columns"));
}

TEST_F(ReadLogTest, WithoutAnOrderColumnFileOrderCounts) {
  EXPECT_THAT(Read(Write("two.tsv", "u\tc\nu\ta\nu\tb\n"))["u"], ElementsAre("c", "a", "b"));
  const Log log =
      ReadLog(Write("three.csv", "user,item,time\nu,c,3\nu,a,1\n"), WithColumns("user=user,item=item"));
  EXPECT_THAT(log.items, ElementsAre(0, 1));
  EXPECT_THAT(log.columns, HasSubstr("order of the file"));
}

TEST_F(ReadLogTest, NamesLineAndReasonOfMalformedLines) {
  const std::string good = "user\titem\torder\nu\ta\t1\n";
  EXPECT_THAT(Failure(Write("bad.tsv", good + "u\tb\n")),
              EndsWith("bad.tsv:3: has 2 fields; needs 3 (user=user,item=item,order=order)"));
  EXPECT_THAT(Failure(Write("bad.tsv", good + "u\tb\t\n")), EndsWith("bad.tsv:3: the order \"\" is empty"));
  EXPECT_THAT(Failure(Write("bad.tsv", good + "\tb\t1\n")), EndsWith("bad.tsv:3: the user is empty"));
  EXPECT_THAT(Failure(Write("bad.tsv", good + "\n\nu\t\t1\n")), EndsWith("bad.tsv:5: the item is empty"));
  EXPECT_THAT(Failure(Write("bad.tsv", good + "u\tb\tsoon\n")),
              EndsWith("bad.tsv:3: the order \"soon\" is neither a number nor an ISO 8601 date"));
  EXPECT_THAT(Failure(Write("bad.tsv", good + "u\tb\t2011-01-01\n")),
              EndsWith("bad.tsv:3: the order \"2011-01-01\" is a date; the lines before have numbers"));
  EXPECT_THAT(Failure(Write("bad.tsv", "u7\ti3\tabc\n")),
              HasSubstr("bad.tsv:1: the order \"abc\" is neither"));
}

TEST_F(ReadLogTest, RejectsFilesWithoutEvents) {
  EXPECT_THAT(Failure(Write("empty.tsv", "")),
              EndsWith("empty.tsv: the file is empty; needs lines of user, item and order"));
  EXPECT_THAT(Failure(Write("blank.tsv", "\n\n  \n")), HasSubstr("the file is empty"));
  EXPECT_THAT(Failure(Write("header.tsv", "user\titem\torder\n")),
              HasSubstr("no events; the file holds only the header"));
  EXPECT_THAT(Failure(Write("one.tsv", "x\ny\n")), HasSubstr(":1: one column only"));
  EXPECT_THAT(Failure(Path("missing.tsv")), HasSubstr("No such file"));
  EXPECT_THAT(Failure(::testing::TempDir()), HasSubstr("is a directory"));
  EXPECT_THAT(Failure(Write("utf16.tsv", "\xFF\xFEu\0\t\0")), HasSubstr("is UTF-16; needs UTF-8"));
}

TEST_F(ReadLogTest, ReadsGzipAndSaysWhenItIsCut) {
  std::string text = "user\titem\torder\n";
  for (int i = 0; i < 200000; ++i) {
    text += "u" + std::to_string(i % 1000) + "\ti" + std::to_string((i * 7919) % 5003) + "\t" +
            std::to_string(200000 - i) + "\n";
  }
  int64_t calls = 0, last = 0;
  ReadOptions options;
  options.progress = [&](int64_t read, int64_t total, int64_t lines) {
    EXPECT_LE(read, total);
    EXPECT_GE(lines, last);
    last = lines;
    ++calls;
  };
  const Log log = ReadLog(WriteGzip("whole.tsv.gz", text), options);
  EXPECT_EQ(log.n_events(), 200000);
  EXPECT_EQ(log.n_users(), 1000);
  EXPECT_EQ(log.n_items(), 5003);
  EXPECT_EQ(last, 200001);
  EXPECT_GE(calls, 3);
  // The last line of u0 is its first event.
  EXPECT_EQ(log.item_names[static_cast<size_t>(log.items[0])],
            "i" + std::to_string((199000LL * 7919) % 5003));
  EXPECT_THAT(Failure(WriteGzip("cut.tsv.gz", text, 2000)), HasSubstr("the gzip file ends early"));
}

// A log in no order, with ties and, on request, fractions: every event's place is told by its item.
std::string ShuffledLog(int n_events, int n_users, bool fractions) {
  Random random(7);
  std::string text = "user\titem\torder\n";
  for (int event = 0; event < n_events; ++event) {
    // One user has a third of all events; ids of users run against the order of first appearance.
    const int64_t user = random.Below(3) == 0 ? 0 : random.Below(n_users);
    text += "u" + std::to_string(n_users - user) + "\ti" + std::to_string(random.Below(500)) + "\t" +
            std::to_string(random.Below(1000) - 500);
    if (fractions && random.Below(2) == 0) text += "." + std::to_string(random.Below(100));
    text += "\n";
  }
  return text;
}

TEST_F(ReadLogTest, SortsInFilesAsInMemory) {
  const std::string folder = Path("scratch");
  std::filesystem::create_directories(folder);
  for (const bool fractions : {false, true}) {
    const std::string path = Write("shuffled.tsv", ShuffledLog(150000, 3000, fractions));
    ReadOptions options;
    options.keep_times = true;
    const Log whole = ReadLog(path, options);
    options.memory_bytes = 1;  // the least there is: 1 MiB, some 37,000 events
    options.scratch = folder;
    const Log merged = ReadLog(path, options);
    EXPECT_EQ(whole.n_events(), 150000);
    EXPECT_EQ(merged.offsets, whole.offsets);
    EXPECT_EQ(merged.items, whole.items);
    EXPECT_EQ(merged.times, whole.times);
    EXPECT_EQ(whole.time_fractions.size(), fractions ? 150000u : 0u);
    EXPECT_EQ(merged.time_fractions, whole.time_fractions);
    EXPECT_EQ(merged.user_names, whole.user_names);
    EXPECT_EQ(merged.item_names, whole.item_names);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(ReadLogTest, SortsInFilesWithoutAnOrder) {
  std::string text = "user\titem\n";
  for (int event = 0; event < 100000; ++event) {
    text += "u" + std::to_string(event * 7919 % 13) + "\ti" + std::to_string(event) + "\n";
  }
  const std::string path = Write("no_order.tsv", text);
  ReadOptions options;
  options.memory_bytes = 1;
  options.scratch = ::testing::TempDir();
  const Log merged = ReadLog(path, options), whole = ReadLog(path, {});
  EXPECT_EQ(merged.items, whole.items);
  EXPECT_EQ(merged.offsets, whole.offsets);
  EXPECT_THAT(merged.times, ElementsAre());
}

TEST_F(ReadLogTest, SaysWhereSortedEventsFindNoRoom) {
  const std::string path = Write("shuffled.tsv", ShuffledLog(50000, 100, false));
  ReadOptions options;
  options.memory_bytes = 1;
  options.scratch = Path("nowhere");
  try {
    ReadLog(path, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message,
                EndsWith("nowhere: has no room for sorted events (No such file or directory)"));
  }
}

}  // namespace
}  // namespace resembed::train
