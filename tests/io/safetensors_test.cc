// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "resembed/resembed.h"

namespace {

using ::testing::HasSubstr;

// A directory of its own, gone with the test.
class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "resembed-io-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/table.safetensors";
  }
  void TearDown() override {
    for (const std::string& name : Files()) std::remove((dir_ + "/" + name).c_str());
    rmdir(dir_.c_str());
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    DIR* dir = opendir(dir_.c_str());
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    closedir(dir);
    return names;
  }
  std::string Contents() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // A file from a header text (its length goes in front) and data.
  void WriteFile(const std::string& header, const std::string& data, int64_t header_bytes = -1) const {
    std::ofstream file(path_, std::ios::binary);
    const auto length =
        header_bytes < 0 ? static_cast<uint64_t>(header.size()) : static_cast<uint64_t>(header_bytes);
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << header << data;
  }
  // Status of opening path_; a file that opens although it should not is closed again.
  resembed_status Open() const {
    resembed_file* file = nullptr;
    const resembed_status status = resembed_file_open(path_.c_str(), &file);
    EXPECT_EQ(status == RESEMBED_OK, file != nullptr);
    resembed_file_close(file);
    return status;
  }

  std::string dir_, path_;
};

resembed_tensor Tensor(const char* name, resembed_dtype dtype, std::initializer_list<int64_t> shape,
                       const void* data, int64_t row_stride = 0) {
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.n_dims = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.shape);
  tensor.data = data;
  tensor.row_stride = row_stride;
  return tensor;
}

resembed_status Save(const std::string& path, const std::vector<resembed_tensor>& tensors,
                     const std::vector<const char*>& metadata = {}) {
  std::vector<const resembed_tensor*> pointers;
  for (const resembed_tensor& tensor : tensors) pointers.push_back(&tensor);
  return resembed_save(path.c_str(), pointers.data(), static_cast<int32_t>(pointers.size()), metadata.data(),
                       static_cast<int32_t>(metadata.size() / 2));
}

struct OpenFile {
  explicit OpenFile(const std::string& path) {
    EXPECT_EQ(resembed_file_open(path.c_str(), &file), RESEMBED_OK) << resembed_last_error_message();
  }
  ~OpenFile() { resembed_file_close(file); }
  int32_t Find(const char* name) const {
    int32_t index = -7;
    EXPECT_EQ(resembed_file_find(file, name, &index), RESEMBED_OK);
    return index;
  }
  resembed_tensor Describe(int32_t index) const {
    resembed_tensor tensor = {};
    tensor.struct_size = sizeof(tensor);
    EXPECT_EQ(resembed_file_tensor(file, index, &tensor), RESEMBED_OK) << resembed_last_error_message();
    return tensor;
  }
  resembed_file* file = nullptr;
};

TEST_F(Safetensors, EveryTypeAndShapeComesBack) {
  std::vector<unsigned char> bytes(8 * 24);
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(1));
  struct Kind {
    const char* name;
    resembed_dtype dtype;
    int64_t size;
  };
  const std::vector<Kind> kinds = {{"f32", RESEMBED_F32, 4},   {"f16", RESEMBED_F16, 2},
                                   {"bf16", RESEMBED_BF16, 2}, {"i32", RESEMBED_I32, 4},
                                   {"i64", RESEMBED_I64, 8},   {"u16", RESEMBED_U16, 2},
                                   {"f64", RESEMBED_F64, 8},   {"u8", RESEMBED_U8, 1}};
  std::vector<resembed_tensor> tensors;
  std::vector<std::string> names;
  names.reserve(4 * kinds.size());
  for (const Kind& kind : kinds) {
    const auto name = [&](const char* suffix) {
      return names.emplace_back(std::string(kind.name) + suffix).c_str();
    };
    tensors.push_back(Tensor(name(".cube"), kind.dtype, {2, 3, 4}, bytes.data()));
    tensors.push_back(Tensor(name(".empty"), kind.dtype, {5, 0}, nullptr));
    tensors.push_back(Tensor(name(".scalar"), kind.dtype, {}, bytes.data()));
    tensors.push_back(Tensor(name(".vector"), kind.dtype, {7}, bytes.data()));
  }
  ASSERT_EQ(Save(path_, tensors), RESEMBED_OK) << resembed_last_error_message();
  EXPECT_EQ(Files(), std::vector<std::string>{"table.safetensors"}) << "the temporary file is gone";
  const OpenFile file(path_);
  int32_t n_tensors = 0;
  ASSERT_EQ(resembed_file_n_tensors(file.file, &n_tensors), RESEMBED_OK);
  EXPECT_EQ(n_tensors, static_cast<int32_t>(tensors.size()));
  for (const resembed_tensor& saved : tensors) {
    const int32_t index = file.Find(saved.name);
    ASSERT_GE(index, 0) << saved.name;
    const resembed_tensor read = file.Describe(index);
    EXPECT_STREQ(read.name, saved.name);
    EXPECT_EQ(read.dtype, saved.dtype);
    EXPECT_EQ(read.n_dims, saved.n_dims);
    EXPECT_EQ(std::vector<int64_t>(read.shape, read.shape + read.n_dims),
              std::vector<int64_t>(saved.shape, saved.shape + saved.n_dims));
    EXPECT_EQ(read.data, nullptr);
    int64_t n = 1;
    for (int32_t dim = 0; dim < saved.n_dims; ++dim) n *= saved.shape[dim];
    for (const Kind& kind : kinds) {
      if (kind.dtype == saved.dtype) n *= kind.size;
    }
    std::vector<unsigned char> data(static_cast<size_t>(n) + 1, 0xee);
    ASSERT_EQ(resembed_file_read(file.file, index, data.data(), 0, static_cast<size_t>(n)), RESEMBED_OK);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.begin() + n, data.begin())) << saved.name;
    EXPECT_EQ(data.back(), 0xee);
  }
}

TEST_F(Safetensors, DataAreAlignedToTheirElements) {
  const std::vector<char> bytes(64, 'x');
  ASSERT_EQ(
      Save(path_,
           {Tensor("a", RESEMBED_U8, {3}, bytes.data()), Tensor("b", RESEMBED_F16, {3}, bytes.data()),
            Tensor("c", RESEMBED_F32, {3}, bytes.data()), Tensor("d", RESEMBED_F64, {3}, bytes.data())}),
      RESEMBED_OK);
  const std::string contents = Contents();
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, contents.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(contents.size(), 8 + header_bytes + 3 + 6 + 12 + 24);
  const OpenFile file(path_);
  EXPECT_STREQ(file.Describe(0).name, "d");
  EXPECT_STREQ(file.Describe(1).name, "c");
  EXPECT_STREQ(file.Describe(2).name, "b");
  EXPECT_STREQ(file.Describe(3).name, "a");
}

TEST_F(Safetensors, StridedRowsAreWrittenTightAndReadApart) {
  // More rows than one block of the writer holds.
  constexpr int64_t kRows = 200000, kDim = 3, kStride = 5;
  std::vector<float> table(kRows * kStride, -1);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t col = 0; col < kDim; ++col)
      table[static_cast<size_t>(row * kStride + col)] = static_cast<float>(row * 10 + col);
  }
  ASSERT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {kRows, kDim}, table.data(), kStride)}), RESEMBED_OK);
  const OpenFile file(path_);
  std::vector<float> tight(kRows * kDim);
  ASSERT_EQ(resembed_file_read(file.file, 0, tight.data(), 0, tight.size() * 4), RESEMBED_OK);
  EXPECT_EQ(tight[7 * kDim + 2], 72);
  EXPECT_EQ(tight[(kRows - 1) * kDim + 1], static_cast<float>((kRows - 1) * 10 + 1));
  std::vector<float> apart(kRows * 4, -2);
  ASSERT_EQ(resembed_file_read(file.file, 0, apart.data(), 4, apart.size() * 4 - 4), RESEMBED_OK);
  for (const int64_t row : {int64_t{0}, int64_t{1}, kRows / 2, kRows - 1}) {
    for (int64_t col = 0; col < kDim; ++col) {
      EXPECT_EQ(apart[static_cast<size_t>(row * 4 + col)], static_cast<float>(row * 10 + col));
    }
    EXPECT_EQ(apart[static_cast<size_t>(row * 4 + 3)], -2) << "between rows nothing is written";
  }
}

TEST_F(Safetensors, MetadataAndUnicodeComeBack) {
  const float one = 1;
  const std::vector<const char*> metadata = {"form", "gcn", "quote \" and \\", "line\nbreak", "\xc3\xa9", ""};
  ASSERT_EQ(Save(path_, {Tensor("weights/\xe2\x88\x91 \"x\"", RESEMBED_F32, {1}, &one)}, metadata),
            RESEMBED_OK);
  const OpenFile file(path_);
  EXPECT_EQ(file.Find("weights/\xe2\x88\x91 \"x\""), 0);
  EXPECT_EQ(file.Find("weights"), -1);
  const char* value = nullptr;
  for (size_t pair = 0; pair < metadata.size(); pair += 2) {
    ASSERT_EQ(resembed_file_metadata(file.file, metadata[pair], &value), RESEMBED_OK);
    EXPECT_STREQ(value, metadata[pair + 1]);
  }
  ASSERT_EQ(resembed_file_metadata(file.file, "none", &value), RESEMBED_OK);
  EXPECT_EQ(value, nullptr);
}

TEST_F(Safetensors, AFileWithoutTensorsIsValid) {
  ASSERT_EQ(resembed_save(path_.c_str(), nullptr, 0, nullptr, 0), RESEMBED_OK);
  const OpenFile file(path_);
  int32_t n_tensors = -1;
  EXPECT_EQ(resembed_file_n_tensors(file.file, &n_tensors), RESEMBED_OK);
  EXPECT_EQ(n_tensors, 0);
}

TEST_F(Safetensors, SavingReplacesTheFileAtOnce) {
  const float one = 1, two = 2;
  ASSERT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {1}, &one)}), RESEMBED_OK);
  const OpenFile before(path_);
  ASSERT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {1}, &two)}), RESEMBED_OK);
  const OpenFile after(path_);
  float value = 0;
  ASSERT_EQ(resembed_file_read(before.file, 0, &value, 0, 4), RESEMBED_OK);
  EXPECT_EQ(value, 1) << "who has the old file open reads the old file";
  ASSERT_EQ(resembed_file_read(after.file, 0, &value, 0, 4), RESEMBED_OK);
  EXPECT_EQ(value, 2);
  struct stat info = {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  const mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(info.st_mode & 0777, 0666 & ~mask);
}

TEST_F(Safetensors, AFailedSaveLeavesTheOldFileAndNothingElse) {
  const float one = 1;
  ASSERT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {1}, &one)}), RESEMBED_OK);
  const std::string before = Contents();
  EXPECT_EQ(Save(dir_ + "/none/x.safetensors", {}), RESEMBED_IO_ERROR);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("/none/x.safetensors (No such file or directory); needs"));
  ASSERT_EQ(mkdir((dir_ + "/taken").c_str(), 0777), 0);
  EXPECT_EQ(Save(dir_ + "/taken", {Tensor("t", RESEMBED_F32, {1}, &one)}), RESEMBED_IO_ERROR);
  rmdir((dir_ + "/taken").c_str());
  EXPECT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {2}, nullptr)}), RESEMBED_INVALID_ARGUMENT);
  EXPECT_EQ(Files(), std::vector<std::string>{"table.safetensors"});
  EXPECT_EQ(Contents(), before);
}

TEST_F(Safetensors, PythonReadsWhatWeWriteAndWritesWhatWeRead) {
  if (std::system("python3 -c 'import json, struct' 2>/dev/null") != 0)
    GTEST_SKIP() << "python3 is not installed";
  std::vector<float> table(12);
  std::iota(table.begin(), table.end(), 0.5f);
  const std::vector<int64_t> ids = {1, -2, int64_t{1} << 40};
  ASSERT_EQ(Save(path_,
                 {Tensor("table", RESEMBED_F32, {3, 4}, table.data()),
                  Tensor("ids", RESEMBED_I64, {3}, ids.data())},
                 {"who", "resembed"}),
            RESEMBED_OK);
  const std::string read = "python3 " RESEMBED_TESTS_DIR "/io/read_back.py read " + path_;
  EXPECT_EQ(std::system(read.c_str()), 0);
  const std::string write = "python3 " RESEMBED_TESTS_DIR "/io/read_back.py write " + path_;
  ASSERT_EQ(std::system(write.c_str()), 0);
  const OpenFile file(path_);
  std::vector<double> values(2);
  ASSERT_EQ(resembed_file_read(file.file, file.Find("w"), values.data(), 0, 16), RESEMBED_OK);
  EXPECT_EQ(values, (std::vector<double>{0.25, -3}));
}

// ---- malformed files ---------------------------------------------------------------------------

struct Malformed {
  const char* name;
  std::string header, data;
  resembed_status status;
  const char* message;
  friend std::ostream& operator<<(std::ostream& out, const Malformed& m) { return out << m.name; }
};

class MalformedFile : public Safetensors, public ::testing::WithParamInterface<Malformed> {};

TEST_P(MalformedFile, IsRejectedWithTheReason) {
  WriteFile(GetParam().header, GetParam().data);
  EXPECT_EQ(Open(), GetParam().status);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("file_open: " + path_));
  EXPECT_THAT(resembed_last_error_message(), HasSubstr(GetParam().message));
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("; needs "));
}

const std::string kFour = R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";

INSTANTIATE_TEST_SUITE_P(
    Safetensors, MalformedFile,
    ::testing::Values(
        Malformed{"no_header", "", "", RESEMBED_IO_ERROR, "no { in front"},
        Malformed{"space_in_front", " " + kFour, "xxxx", RESEMBED_IO_ERROR, "no { in front"},
        Malformed{"bad_json", R"({"t":)", "", RESEMBED_IO_ERROR, "no JSON object"},
        Malformed{"text_after_json", kFour + "x", "xxxx", RESEMBED_IO_ERROR, "no JSON object"},
        Malformed{"zero_padding", kFour + std::string(2, '\0'), "xxxx", RESEMBED_IO_ERROR,
                  "a zero byte; needs none"},
        Malformed{"bad_utf8", "{\"\xff\":{}}", "", RESEMBED_IO_ERROR, "no JSON object"},
        Malformed{"truncated", kFour, "xxx", RESEMBED_IO_ERROR, "data section has 3 bytes; needs 4"},
        Malformed{"bytes_left", kFour, "xxxxx", RESEMBED_IO_ERROR, "data section has 5 bytes; needs 4"},
        Malformed{"unknown_type", R"({"t":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}})", "xxxx",
                  RESEMBED_UNSUPPORTED, "dtype \"I8\"; needs one of F32, F16, BF16, I32, I64, U16, F64, U8"},
        Malformed{"type_is_number", R"({"t":{"dtype":3,"shape":[4],"data_offsets":[0,4]}})", "xxxx",
                  RESEMBED_IO_ERROR, "dtype that is no string"},
        Malformed{"nine_dims", R"({"t":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
                  "x", RESEMBED_UNSUPPORTED, "9 dimensions; needs at most 8"},
        Malformed{"negative_size", R"({"t":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "x",
                  RESEMBED_IO_ERROR, "size -1; needs an integer >= 0"},
        Malformed{"fractional_size", R"({"t":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", "x",
                  RESEMBED_IO_ERROR, "size 1.0"},
        Malformed{"shape_is_number", R"({"t":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", "x",
                  RESEMBED_IO_ERROR, "shape that is no list"},
        Malformed{"size_overflow",
                  R"({"t":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}})", "xxxx",
                  RESEMBED_IO_ERROR, "a shape whose bytes fit into 63 bits"},
        Malformed{"size_beyond_63_bits",
                  R"({"t":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}})", "x",
                  RESEMBED_IO_ERROR, "size 9223372036854775808"},
        Malformed{"wrong_length", R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "xxxx",
                  RESEMBED_IO_ERROR, "has 4 bytes; needs 8 for its shape and dtype"},
        Malformed{"offsets_reversed", R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "xxxx",
                  RESEMBED_IO_ERROR, "bad data_offsets"},
        Malformed{"one_offset", R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4]}})", "xxxx",
                  RESEMBED_IO_ERROR, "bad data_offsets"},
        Malformed{"hole_in_front", R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "xx",
                  RESEMBED_IO_ERROR, "begins at byte 1; needs 0"},
        Malformed{"hole",
                  R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                  R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                  "xxx", RESEMBED_IO_ERROR, "\"b\" begins at byte 2; needs 1"},
        Malformed{"overlap",
                  R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                  R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                  "xxx", RESEMBED_IO_ERROR, "\"b\" begins at byte 1; needs 2"},
        Malformed{"beyond_the_end", R"({"t":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", "x",
                  RESEMBED_IO_ERROR, "data section has 1 bytes; needs 9"},
        Malformed{"missing_field", R"({"t":{"dtype":"U8","shape":[1]}})", "x", RESEMBED_IO_ERROR,
                  "other fields"},
        Malformed{"further_field", R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", "x",
                  RESEMBED_IO_ERROR, "other fields"},
        Malformed{"tensor_is_list", R"({"t":[1]})", "x", RESEMBED_IO_ERROR, "other fields"},
        Malformed{"twice",
                  R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                  R"("t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                  "x", RESEMBED_IO_ERROR, "key \"t\" stands twice"},
        Malformed{"field_twice", R"({"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x",
                  RESEMBED_IO_ERROR, "key \"dtype\" stands twice"},
        Malformed{"metadata_is_list", R"({"__metadata__":[]})", "", RESEMBED_IO_ERROR,
                  "__metadata__ is no object"},
        Malformed{"metadata_number", R"({"__metadata__":{"a":1}})", "", RESEMBED_IO_ERROR,
                  "metadata \"a\" is no string"},
        Malformed{"deep_nesting", "{\"a\":" + std::string(200000, '['), "", RESEMBED_IO_ERROR,
                  "no JSON object"}));

TEST_F(Safetensors, LengthsOfTheHeaderAreChecked) {
  WriteFile("{}", "", 3);
  EXPECT_EQ(Open(), RESEMBED_IO_ERROR);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("header of 3 bytes; needs at most the 2 that follow"));
  WriteFile("{}", "", INT64_MAX);
  EXPECT_EQ(Open(), RESEMBED_IO_ERROR);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("header of 9223372036854775807 bytes; needs at most 100000000"));
  std::ofstream(path_, std::ios::binary) << "1234567";
  EXPECT_EQ(Open(), RESEMBED_IO_ERROR);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("has 7 bytes; needs at least 8"));
}

TEST_F(Safetensors, AFileCutWhileItIsOpenIsAnError) {
  const std::vector<float> table(1000, 1);
  ASSERT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {1000}, table.data())}), RESEMBED_OK);
  const OpenFile file(path_);
  ASSERT_EQ(truncate(path_.c_str(), 2000), 0);
  std::vector<float> read(1000);
  EXPECT_EQ(resembed_file_read(file.file, 0, read.data(), 0, 4000), RESEMBED_IO_ERROR);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("needs the 4000 bytes of \"t\""));
}

TEST_F(Safetensors, OffsetsBeyondFourGigabytes) {
  // A sparse file: six gigabytes of zeros, then four bytes.
  const std::string header = R"({"big":{"dtype":"U8","shape":[6442450944],"data_offsets":[0,6442450944]},)"
                             R"("t":{"dtype":"F32","shape":[1],"data_offsets":[6442450944,6442450948]}})";
  WriteFile(header, "");
  const auto begin = static_cast<int64_t>(8 + header.size());
  if (truncate(path_.c_str(), begin + 6442450944) != 0) GTEST_SKIP() << "no sparse files here";
  const float value = 2.5f;
  std::ofstream append(path_, std::ios::binary | std::ios::app);
  append.write(reinterpret_cast<const char*>(&value), 4);
  append.close();
  const OpenFile file(path_);
  float read = 0;
  ASSERT_EQ(resembed_file_read(file.file, file.Find("t"), &read, 0, 4), RESEMBED_OK);
  EXPECT_EQ(read, 2.5f);
}

// ---- bad arguments -----------------------------------------------------------------------------

TEST_F(Safetensors, SaveRejectsBadTensors) {
  const std::vector<float> data(16, 1);
  const auto rejects = [&](const resembed_tensor& tensor, const char* message) {
    EXPECT_EQ(Save(path_, {tensor}), RESEMBED_INVALID_ARGUMENT);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr(message));
    EXPECT_TRUE(Files().empty());
  };
  rejects(Tensor(nullptr, RESEMBED_F32, {1}, data.data()), "save: tensors[0].name is null; needs a string");
  rejects(Tensor("__metadata__", RESEMBED_F32, {1}, data.data()),
          "save: tensors[0].name is __metadata__; needs");
  rejects(Tensor("\xff", RESEMBED_F32, {1}, data.data()), "save: tensors[0].name is not UTF-8; needs UTF-8");
  rejects(Tensor("t", 99, {1}, data.data()), "save: tensors[0].dtype is 99; needs one of F32");
  rejects(Tensor("t", RESEMBED_F32, {-1}, data.data()), "save: tensors[0].shape is negative (-1); needs");
  rejects(Tensor("t", RESEMBED_F32, {int64_t{1} << 61, 2}, data.data()),
          "save: tensors[0].shape is too large; needs");
  rejects(Tensor("t", RESEMBED_F32, {2, 4}, data.data(), 3),
          "save: tensors[0].row_stride is 3; needs 0 or at least 4");
  rejects(Tensor("t", RESEMBED_F32, {2, 4}, data.data(), -4), "save: tensors[0].row_stride is -4; needs");
  rejects(Tensor("t", RESEMBED_F32, {2}, nullptr), "save: tensors[0].data is null; needs 8 bytes");
  resembed_tensor many = Tensor("t", RESEMBED_F32, {1}, data.data());
  many.n_dims = 9;
  rejects(many, "save: tensors[0].n_dims is 9; needs 0 .. 8");
  EXPECT_EQ(
      Save(path_, {Tensor("t", RESEMBED_F32, {1}, data.data()), Tensor("t", RESEMBED_F32, {1}, data.data())}),
      RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "save: tensors[1].name is \"t\" again; needs unique names");
  EXPECT_EQ(Save(path_, {}, {"a", nullptr}), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "save: metadata[1] is null; needs a UTF-8 string");
  EXPECT_EQ(Save(path_, {}, {"a", "1", "a", "2"}), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "save: metadata[2] is \"a\" again; needs unique keys");
  EXPECT_EQ(resembed_save(nullptr, nullptr, 0, nullptr, 0), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "save: path is null; needs a pointer");
  EXPECT_EQ(resembed_save(path_.c_str(), nullptr, 1, nullptr, 0), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "save: tensors is null; needs a pointer");
  EXPECT_EQ(resembed_save(path_.c_str(), nullptr, -1, nullptr, 0), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(), "save: n_tensors is -1; needs >= 0");
}

TEST_F(Safetensors, ReadingRejectsBadArguments) {
  const std::vector<float> data(8, 1);
  ASSERT_EQ(Save(path_, {Tensor("t", RESEMBED_F32, {2, 4}, data.data())}), RESEMBED_OK);
  const OpenFile file(path_);
  std::vector<float> out(16, 3);
  const auto rejects = [&](resembed_status seen, resembed_status status, const char* message) {
    EXPECT_EQ(seen, status);
    EXPECT_STREQ(resembed_last_error_message(), message);
    EXPECT_EQ(out, std::vector<float>(16, 3));
  };
  rejects(resembed_file_read(file.file, 1, out.data(), 0, 64), RESEMBED_OUT_OF_RANGE,
          "file_read: index is 1; needs 0 .. n_tensors - 1 (0)");
  rejects(resembed_file_read(file.file, 0, nullptr, 0, 64), RESEMBED_INVALID_ARGUMENT,
          "file_read: data is null; needs 32 bytes");
  rejects(resembed_file_read(file.file, 0, out.data(), 0, 31), RESEMBED_INVALID_ARGUMENT,
          "file_read: bytes is 31; needs at least 32");
  rejects(resembed_file_read(file.file, 0, out.data(), 3, 64), RESEMBED_INVALID_ARGUMENT,
          "file_read: row_stride is 3; needs 0 or at least 4");
  rejects(resembed_file_read(file.file, 0, out.data(), 8, 47), RESEMBED_INVALID_ARGUMENT,
          "file_read: bytes is 47; needs at least 48");
  rejects(resembed_file_read(file.file, 0, out.data(), INT64_MAX / 2, 64), RESEMBED_INVALID_ARGUMENT,
          "file_read: row_stride is 4611686018427387903; needs bytes that fit into 63 bits");
  resembed_tensor tensor = {};
  rejects(resembed_file_tensor(file.file, 0, &tensor), RESEMBED_INVALID_ARGUMENT,
          "file_tensor: tensor.struct_size is 0; needs sizeof(resembed_tensor)");
  rejects(resembed_file_tensor(file.file, -1, &tensor), RESEMBED_OUT_OF_RANGE,
          "file_tensor: index is -1; needs 0 .. n_tensors - 1 (0)");
  resembed_file* none = nullptr;
  rejects(resembed_file_open((dir_ + "/none").c_str(), &none), RESEMBED_IO_ERROR,
          ("file_open: path is " + dir_ + "/none (No such file or directory); needs a file that can be read")
              .c_str());
  rejects(resembed_file_open(dir_.c_str(), &none), RESEMBED_IO_ERROR,
          ("file_open: path is " + dir_ + " (Is a directory); needs a file that can be read").c_str());
  rejects(resembed_file_open(nullptr, &none), RESEMBED_INVALID_ARGUMENT,
          "file_open: path is null; needs a pointer");
  rejects(resembed_file_find(file.file, nullptr, nullptr), RESEMBED_INVALID_ARGUMENT,
          "file_find: name is null; needs a pointer");
  resembed_file_close(nullptr);
}

}  // namespace
