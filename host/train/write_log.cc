// SPDX-License-Identifier: Apache-2.0
#include <zlib.h>

#include <charconv>
#include <cstdio>
#include <memory>

#include "host/train/log.h"

namespace resembed::train {
namespace {

// Text to a file, through gzip where the name ends in .gz.
class TextFile {
 public:
  explicit TextFile(const std::string& path) : path_(path) {
    const bool gzip = path.size() > 3 && path.compare(path.size() - 3, 3, ".gz") == 0;
    file_.reset(gzopen(path.c_str(), gzip ? "wb1" : "wbT"));  // T: as it is
    if (file_ == nullptr) throw Error{path + ": cannot be written"};
    text_.reserve(2 * kBlock);
  }
  void Append(const std::string& name) { text_ += name; }
  void Append(char c) { text_ += c; }
  void Append(int64_t number) {
    char digits[24];
    text_.append(digits, std::to_chars(digits, digits + sizeof(digits), number).ptr);
  }
  void EndLine() {
    text_ += '\n';
    if (text_.size() >= kBlock) Flush();
  }
  void Close() {
    Flush();
    if (gzclose(file_.release()) != Z_OK) throw Error{path_ + ": cannot be written"};
  }

 private:
  static constexpr size_t kBlock = size_t{1} << 20;
  struct Closer {
    void operator()(gzFile_s* file) const { gzclose(file); }
  };
  void Flush() {
    if (text_.empty()) return;
    if (gzwrite(file_.get(), text_.data(), static_cast<unsigned>(text_.size())) <= 0)
      throw Error{path_ + ": cannot be written"};
    text_.clear();
  }

  const std::string path_;
  std::unique_ptr<gzFile_s, Closer> file_;
  std::string text_;
};

}  // namespace

void WriteLog(const Log& log, const std::string& path) {
  TextFile file(path);
  for (const char* name : {"user\t", "item\t", "order"}) file.Append(std::string(name));
  file.EndLine();
  const auto n_users = static_cast<size_t>(log.n_users());
  std::vector<int32_t> active(n_users);
  for (size_t user = 0; user < n_users; ++user) active[user] = static_cast<int32_t>(user);
  for (int64_t round = 0; !active.empty(); ++round) {
    size_t kept = 0;
    for (const int32_t user : active) {
      const auto u = static_cast<size_t>(user);
      const int64_t event = log.offsets[u] + round;
      if (event >= log.offsets[u + 1]) continue;
      active[kept++] = user;
      file.Append(log.user_names[u]);
      file.Append('\t');
      file.Append(log.item_names[static_cast<size_t>(log.items[static_cast<size_t>(event)])]);
      file.Append('\t');
      file.Append(log.times.empty() ? round : log.times[static_cast<size_t>(event)]);
      file.EndLine();
    }
    active.resize(kept);
  }
  file.Close();
}

}  // namespace resembed::train
