// SPDX-License-Identifier: Apache-2.0
#include "host/train/read_lines.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "host/train/log.h"

namespace resembed::train {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kLineBytes = size_t{16} << 20;  // longer "lines" are not text

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

RecordReader::RecordReader(const std::string& path) : path_(path), buffer_(kBufferBytes) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) throw Error{path + ": " + std::strerror(errno)};
  if (S_ISDIR(info.st_mode)) throw Error{path + ": is a directory; needs a file"};
  bytes_total_ = info.st_size;
  file_ = gzopen(path.c_str(), "rb");  // reads plain files as they are
  if (file_ == nullptr) throw Error{path + ": " + std::strerror(errno)};
  gzbuffer(file_, 1 << 18);
}

RecordReader::~RecordReader() { gzclose_r(file_); }

void RecordReader::Fail(const std::string& reason) const {
  throw Error{path_ + ":" + std::to_string(std::max<int64_t>(record_line_, 1)) + ": " + reason};
}

int64_t RecordReader::bytes_read() const { return gzoffset(file_); }

bool RecordReader::Fill() {
  if (at_end_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) {
    if (end_ >= kLineBytes) {
      record_line_ = n_lines_ + 1;
      Fail("the line is longer than 16 MiB; is this a text file?");
    }
    buffer_.resize(2 * buffer_.size());
  }
  const int n = gzread(file_, buffer_.data() + end_, static_cast<unsigned>(buffer_.size() - end_));
  int code = Z_OK;
  const char* why = gzerror(file_, &code);
  if (n < 0 || (n == 0 && code == Z_BUF_ERROR)) {
    record_line_ = n_lines_ + 1;
    Fail(code == Z_BUF_ERROR ? "the gzip file ends early" : std::string("cannot be read: ") + why);
  }
  at_end_ = n == 0;
  end_ += static_cast<size_t>(n);
  return n > 0;
}

bool RecordReader::NextLine(std::string_view* line) {
  size_t searched = 0;
  for (;;) {
    const char* begin = buffer_.data() + begin_;
    const size_t n = end_ - begin_;
    const void* newline = n > searched ? std::memchr(begin + searched, '\n', n - searched) : nullptr;
    if (newline == nullptr) {
      searched = n;
      if (Fill()) continue;
      if (end_ == begin_) return false;
    }
    begin = buffer_.data() + begin_;
    const char* end = newline == nullptr ? buffer_.data() + end_ : static_cast<const char*>(newline);
    begin_ = static_cast<size_t>(end - buffer_.data()) + (newline == nullptr ? 0 : 1);
    if (end > begin && end[-1] == '\r') --end;
    *line = std::string_view(begin, static_cast<size_t>(end - begin));
    if (++n_lines_ == 1 && line->substr(0, 3) == "\xEF\xBB\xBF") line->remove_prefix(3);
    return true;
  }
}

// By the file's name; where the first line has none of these, by what it has (";" is common in csv files).
void RecordReader::ChooseSeparator(std::string_view first_line) {
  record_line_ = n_lines_;
  if (first_line.substr(0, 2) == "\xFF\xFE" || first_line.substr(0, 2) == "\xFE\xFF")
    Fail("is UTF-16; needs UTF-8");
  std::string name = path_;
  if (EndsWith(name, ".gz")) name.resize(name.size() - 3);
  const bool csv = EndsWith(name, ".csv");
  quotes_ = csv || first_line.find('\t') == std::string_view::npos;
  for (const char separator : std::string(csv ? ",;\t" : "\t,;")) {
    if (first_line.find(separator) == std::string_view::npos) continue;
    separator_ = separator;
    return;
  }
  separator_ = csv ? ',' : '\t';
}

// RFC 4180: a field that starts with a quote ends at the next one that is not doubled, lines may end inside.
void RecordReader::SplitQuoted(std::string_view line, std::vector<std::string_view>* fields) {
  quoted_record_.assign(line);
  const auto more = [&] {
    std::string_view next;
    if (quoted_record_.size() > kBufferBytes || !NextLine(&next)) Fail("a quoted field is not closed");
    (quoted_record_ += '\n').append(next);
  };
  size_t n_fields = 0;
  for (size_t at = 0;; ++at) {
    if (unquoted_.size() == n_fields) unquoted_.emplace_back();
    std::string& field = unquoted_[n_fields++];
    field.clear();
    if (at < quoted_record_.size() && quoted_record_[at] == '"') {
      for (++at;; ++at) {
        while (at >= quoted_record_.size()) more();
        if (quoted_record_[at] != '"') {
          field += quoted_record_[at];
        } else if (at + 1 < quoted_record_.size() && quoted_record_[at + 1] == '"') {
          field += quoted_record_[at++];
        } else {
          break;
        }
      }
      if (++at < quoted_record_.size() && quoted_record_[at] != separator_)
        Fail("text after a closing quote");
    } else {
      while (at < quoted_record_.size() && quoted_record_[at] != separator_) field += quoted_record_[at++];
    }
    if (at >= quoted_record_.size()) break;
  }
  fields->assign(unquoted_.begin(), unquoted_.begin() + static_cast<std::ptrdiff_t>(n_fields));
}

bool RecordReader::Next(std::vector<std::string_view>* fields) {
  std::string_view line;
  do {
    if (!NextLine(&line)) return false;
  } while (line.find_first_not_of(" \t") == std::string_view::npos);
  if (separator_ == '\0') ChooseSeparator(line);
  record_line_ = n_lines_;
  fields->clear();
  if (quotes_ && std::memchr(line.data(), '"', line.size()) != nullptr) {
    SplitQuoted(line, fields);
    return true;
  }
  size_t begin = 0;
  for (;;) {
    const void* found =
        begin < line.size() ? std::memchr(line.data() + begin, separator_, line.size() - begin) : nullptr;
    if (found == nullptr) break;
    const size_t end = static_cast<size_t>(static_cast<const char*>(found) - line.data());
    fields->push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  fields->push_back(line.substr(begin));
  return true;
}

}  // namespace resembed::train
