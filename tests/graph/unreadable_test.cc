// SPDX-License-Identifier: Apache-2.0
// Files that stop being readable halfway: reads of this program fail when a test says so.
#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/graph/graph_support.h"

namespace {

constexpr int kForever = 1 << 30;
int64_t header_bytes = 0;   // reads that begin before this byte of a file always work
int reads_left = kForever;  // how many of the other ones do

}  // namespace

// Takes the place of the C library's.
extern "C" ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
  if (offset >= header_bytes && reads_left-- <= 0) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_pread64, fd, data, bytes, offset);
}

namespace resembed::testing {
namespace {

namespace fs = std::filesystem;

class Unreadable : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "resembed-unreadable-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    header_bytes = 0;
    reads_left = kForever;
    fs::remove_all(folder_);
  }

  std::string folder_;
};

TEST_F(Unreadable, StoredCountsAreRefusedAndNothingIsAdded) {
  const std::string path = folder_ + "/counts.safetensors";
  const SequenceLog log = RandomLog(41, 300, 400, 8);
  Counting stored(Options(300));
  ASSERT_EQ(stored.Add(log), RESEMBED_OK);
  ASSERT_EQ(resembed_covisit_save(stored.get(), path.c_str(), nullptr, 0), RESEMBED_OK);
  header_bytes = static_cast<int64_t>(fs::file_size(path)) - 16 * static_cast<int64_t>(stored.Pairs().size());
  const std::string sentence =
      "covisit_add_file: path is " + path + " (Input/output error); needs a file that can be read";

  Counting counts(Options(300));
  reads_left = 0;
  EXPECT_EQ(resembed_covisit_add_file(counts.get(), path.c_str(), nullptr), RESEMBED_IO_ERROR);
  EXPECT_EQ(resembed_last_error_message(), sentence);
  reads_left = kForever;
  EXPECT_TRUE(counts.Pairs().empty());
  EXPECT_EQ(resembed_covisit_add_file(counts.get(), path.c_str(), nullptr), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), stored.Pairs());

  // The file is checked in a first pass; the second one fails.
  std::vector<int32_t> map(300);
  for (size_t item = 0; item < map.size(); ++item) map[item] = static_cast<int32_t>(299 - item);
  resembed_covisit_file_options options = {};
  options.struct_size = sizeof(options);
  options.item_map = map.data();
  options.n_map = 300;
  Counting mapped(Options(300));
  reads_left = 1;
  EXPECT_EQ(resembed_covisit_add_file(mapped.get(), path.c_str(), &options), RESEMBED_IO_ERROR);
  EXPECT_EQ(resembed_last_error_message(), sentence);
}

TEST_F(Unreadable, SpilledCountsSayWhichFolderAndComeBackWithIt) {
  resembed_covisit_options options = Options(500);
  options.buffer_bytes = options.spill_bytes = 4096;
  options.spill_folder = folder_.c_str();
  Counting counts(options);
  ASSERT_EQ(counts.Add(RandomLog(42, 500, 800, 12)), RESEMBED_OK);
  int64_t n_pairs = 0;
  ASSERT_EQ(resembed_covisit_n_pairs(counts.get(), &n_pairs), RESEMBED_OK);  // one run, on disk
  std::vector<int32_t> neighbors(500 * 4);
  std::vector<int64_t> row_offsets(501);
  const std::string path = folder_ + "/counts.safetensors";
  const auto reads = [&](const std::string& op) {
    if (op == "covisit_top_k") return resembed_covisit_top_k(counts.get(), 4, neighbors.data(), nullptr);
    if (op == "covisit_export")
      return resembed_covisit_export(counts.get(), row_offsets.data(), nullptr, nullptr);
    return resembed_covisit_save(counts.get(), path.c_str(), nullptr, 0);
  };
  for (const std::string op : {"covisit_top_k", "covisit_export", "covisit_save"}) {
    reads_left = 0;
    EXPECT_EQ(reads(op), RESEMBED_IO_ERROR) << op;
    const std::string message = resembed_last_error_message();
    EXPECT_EQ(message.find(op + ": "), 0u) << message;
    EXPECT_NE(message.find(folder_), std::string::npos) << message;
    EXPECT_NE(message.find("could not be read"), std::string::npos) << message;
    EXPECT_NE(message.find("; needs the disk back"), std::string::npos) << message;
    EXPECT_FALSE(fs::exists(path)) << op;
    reads_left = kForever;
    EXPECT_EQ(reads(op), RESEMBED_OK) << op << ": " << resembed_last_error_message();
  }
  EXPECT_EQ(row_offsets.back(), 2 * n_pairs);
}

}  // namespace
}  // namespace resembed::testing
