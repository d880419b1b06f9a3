// SPDX-License-Identifier: Apache-2.0
// Records of a tsv or csv file, plain or gzip, streamed.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace resembed::train {

class RecordReader {
 public:
  // Throws Error when the file cannot be opened.
  explicit RecordReader(const std::string& path);
  ~RecordReader();
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;

  // The fields of the next record that is not blank; they live until the next call. False at the end of the file.
  // Throws Error: a quote that is not closed, a damaged gzip file, a line over 16 MiB.
  bool Next(std::vector<std::string_view>* fields);

  int64_t line() const { return record_line_; }  // of the current record's start, from 1
  int64_t bytes_read() const;                    // of the file on disk
  int64_t bytes_total() const { return bytes_total_; }
  [[noreturn]] void Fail(const std::string& reason) const;  // throws "FILE:LINE: reason"

 private:
  bool NextLine(std::string_view* line);
  bool Fill();
  void ChooseSeparator(std::string_view first_line);
  void SplitQuoted(std::string_view line, std::vector<std::string_view>* fields);

  std::string path_;
  gzFile file_ = nullptr;
  int64_t bytes_total_ = 0;
  std::vector<char> buffer_;  // bytes [begin_, end_) are not consumed yet
  size_t begin_ = 0, end_ = 0;
  bool at_end_ = false;
  int64_t n_lines_ = 0, record_line_ = 0;
  char separator_ = '\0';
  bool quotes_ = false;        // csv
  std::string quoted_record_;  // a record over several lines
  std::vector<std::string> unquoted_;
};

}  // namespace resembed::train
