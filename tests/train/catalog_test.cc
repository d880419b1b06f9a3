// SPDX-License-Identifier: Apache-2.0
#include "host/train/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "host/train/log.h"

namespace resembed::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ReadCatalogTest : public ::testing::Test {
 protected:
  ~ReadCatalogTest() override { std::remove(path_.c_str()); }
  Catalog Read(const std::string& text, const std::string& columns = "") {
    path_ = ::testing::TempDir() + "catalog_" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".csv";
    std::ofstream(path_, std::ios::binary) << text;
    return ReadCatalog(path_, columns);
  }
  std::string Refusal(const std::string& text, const std::string& columns = "") {
    try {
      Read(text, columns);
    } catch (const Error& error) {
      return error.message;
    }
    return "";
  }
  std::string path_;
};

TEST_F(ReadCatalogTest, FindsItsColumns) {
  const Catalog plain = Read("sku,what\n1,\"cup, red\"\n2,\n3\n");
  EXPECT_THAT(plain.items, ElementsAre("1", "2", "3"));
  EXPECT_THAT(plain.names, ElementsAre("cup, red", "", ""));
  EXPECT_THAT(plain.groups, IsEmpty());
  EXPECT_EQ(plain.NameOf("1"), "cup, red");
  EXPECT_EQ(plain.NameOf("3"), "");
  EXPECT_EQ(plain.NameOf("4"), "");
  const Catalog known = Read("item,uses,Category,Title\n1,7,c,cup\n");
  EXPECT_THAT(known.names, ElementsAre("cup"));
  EXPECT_THAT(known.groups, ElementsAre("c"));
  const Catalog second = Read("item,group,label\n1,c,cup\n");
  EXPECT_THAT(second.names, ElementsAre("cup"));
  const Catalog groups = Read("item,group\n1,c\n");
  EXPECT_THAT(groups.names, IsEmpty());
  EXPECT_EQ(groups.NameOf("1"), "");
  const Catalog said = Read("group,name,id,family\na,cup,1,f\n", "item=id,group=family");
  EXPECT_THAT(said.items, ElementsAre("1"));
  EXPECT_THAT(said.names, ElementsAre("cup"));
  EXPECT_THAT(said.groups, ElementsAre("f"));
}

TEST_F(ReadCatalogTest, SaysWhatIsWrong) {
  EXPECT_THAT(Refusal(""), HasSubstr("the file is empty; needs a header"));
  EXPECT_THAT(Refusal("item,name\n"), HasSubstr("no items; the file holds only its header"));
  EXPECT_THAT(Refusal("item\n1\n"), HasSubstr(":1: has one column"));
  EXPECT_THAT(Refusal("item,name\n1,a\n,b\n"), HasSubstr(":3: the item is empty"));
  EXPECT_THAT(Refusal("item,name\n1,a\n1,b\n"), HasSubstr(":3: item \"1\" is named twice"));
  EXPECT_THAT(Refusal("name,item\na,1\n"), HasSubstr(":1: one column is item and name or group"));
  EXPECT_THAT(Refusal("item,name\n1,a\n", "name=title"), HasSubstr("no column is called \"title\""));
  for (const char* columns : {"name", "name=", "title=name", "name=name,name=item"}) {
    EXPECT_THAT(Refusal("item,name\n1,a\n", columns), HasSubstr("--catalog-columns is")) << columns;
  }
}

}  // namespace
}  // namespace resembed::train
