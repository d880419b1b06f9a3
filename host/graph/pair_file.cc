// SPDX-License-Identifier: Apache-2.0
// Stored pair counts: a safetensors file with one tensor
//
//   "pairs" I64 [n_pairs, 2]   lower << 32 | higher, count > 0;   rows by increasing key
//
// and metadata "kind" = "resembed_pairs", "n_items". It is written and read in blocks.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "host/descriptor.h"
#include "host/graph/covisit.h"
#include "host/io/bytes.h"
#include "host/io/open_file.h"

namespace resembed::detail {
namespace {

constexpr const char *kKind = "resembed_pairs", *kTensor = "pairs";

struct PairFile {
  std::unique_ptr<resembed_file, void (*)(resembed_file*)> file{nullptr, resembed_file_close};
  int64_t n_items = 0, n_pairs = 0, offset = 0;  // of the first pair, in bytes

  std::unique_ptr<PairSource> Read() const { return ReadEntries(file->fd, offset, n_pairs); }
};

resembed_status OpenPairs(const char* op, const char* path, PairFile* pairs) {
  resembed_file* raw = nullptr;
  RESEMBED_RETURN_IF_ERROR(resembed_file_open(path, &raw));
  pairs->file.reset(raw);
  const auto metadata = [raw](const char* key) {
    const auto found = raw->header.metadata.find(key);
    return found == raw->header.metadata.end() ? std::string() : found->second;
  };
  const TensorEntry* tensor = raw->header.tensors.size() == 1 ? &raw->header.tensors[0] : nullptr;
  if (metadata("kind") != kKind || tensor == nullptr || tensor->name != kTensor ||
      tensor->dtype != RESEMBED_I64 || tensor->shape.size() != 2 || tensor->shape[1] != 2) {
    return Fail(RESEMBED_IO_ERROR, "%s: path is %s; needs stored pair counts (kind %s, pairs I64 [n, 2])", op,
                path, kKind);
  }
  const std::string n_items = metadata("n_items");
  char* end = nullptr;
  errno = 0;
  pairs->n_items = std::strtoll(n_items.c_str(), &end, 10);
  if (n_items.empty() || *end != '\0' || errno != 0 || pairs->n_items < 0) {
    return Fail(RESEMBED_IO_ERROR, "%s: n_items of %s is \"%s\"; needs a number", op, path, n_items.c_str());
  }
  pairs->n_pairs = tensor->shape[0];
  pairs->offset = raw->data_begin + tensor->begin;
  return RESEMBED_OK;
}

// Every pair once, so that nothing is added from a file that is no good.
resembed_status CheckPairs(const char* op, const char* path, const PairFile& pairs) {
  const std::unique_ptr<PairSource> source = pairs.Read();
  uint64_t before = 0;
  int64_t row = 0;
  for (PairBlock block = source->Next(); block.begin != block.end; block = source->Next()) {
    for (; block.begin != block.end; ++block.begin, ++row) {
      const PairCount& pair = *block.begin;
      const int64_t lower = static_cast<int64_t>(pair.key >> 32), higher = HigherItem(pair);
      if (lower >= higher || higher >= pairs.n_items || (row > 0 && pair.key <= before) || pair.count <= 0) {
        return Fail(RESEMBED_IO_ERROR,
                    "%s: pairs[%lld] of %s is (%lld, %lld) x %lld; needs lower < higher < n_items, "
                    "increasing pairs and counts > 0",
                    op, static_cast<long long>(row), path, static_cast<long long>(lower),
                    static_cast<long long>(higher), static_cast<long long>(pair.count));
      }
      before = pair.key;
    }
  }
  if (source->error() == 0) return RESEMBED_OK;
  return Fail(RESEMBED_IO_ERROR, "%s: path is %s (%s); needs a file that can be read", op, path,
              std::strerror(source->error()));
}

// floor(count * decay), decay in units of 2^-32: the same on every machine.
class Decay {
 public:
  explicit Decay(double decay)
      : factor_(decay == 0 ? kOne : static_cast<uint64_t>(std::llround(decay * kOne))) {}
  int64_t operator()(int64_t count) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<int64_t>(static_cast<Wide>(count) * factor_ >> 32);
  }

 private:
  static constexpr uint64_t kOne = uint64_t{1} << 32;
  uint64_t factor_;
};

class DecayedSource final : public PairSource {
 public:
  DecayedSource(std::unique_ptr<PairSource> from, Decay decay) : from_(std::move(from)), decay_(decay) {}
  PairBlock Next() override {
    do {
      const PairBlock block = from_->Next();
      if (block.begin == block.end) return {};
      kept_.clear();
      for (const PairCount* pair = block.begin; pair != block.end; ++pair) {
        const int64_t count = decay_(pair->count);
        if (count > 0) kept_.push_back({pair->key, count});
      }
    } while (kept_.empty());
    return {kept_.data(), kept_.data() + kept_.size()};
  }
  int error() const override { return from_->error(); }

 private:
  std::unique_ptr<PairSource> from_;
  Decay decay_;
  std::vector<PairCount> kept_;
};

class VectorSource final : public PairSource {
 public:
  explicit VectorSource(const std::vector<PairCount>* pairs) : pairs_(pairs) {}
  PairBlock Next() override {
    if (pairs_ == nullptr) return {};
    const PairBlock all = {pairs_->data(), pairs_->data() + pairs_->size()};
    pairs_ = nullptr;
    return all;
  }

 private:
  const std::vector<PairCount>* pairs_;
};

// Adds pairs in any order: collected, sorted and reduced a buffer at a time.
class PairSorter {
 public:
  explicit PairSorter(resembed_covisit* counts)
      : counts_(counts), capacity_(std::max<size_t>(64, counts->buffer_bytes / sizeof(PairCount))) {}

  void Add(int64_t item, int64_t other, int64_t count) {
    if (block_.size() == capacity_) Flush();
    if (block_.size() == block_.capacity()) block_.reserve(std::min(capacity_, 2 * block_.size() + 1024));
    block_.push_back(
        {static_cast<uint64_t>(std::min(item, other)) << 32 | static_cast<uint64_t>(std::max(item, other)),
         count});
  }
  void Flush() {
    std::sort(block_.begin(), block_.end(),
              [](const PairCount& a, const PairCount& b) { return a.key < b.key; });
    size_t n = 0;
    for (size_t at = 0; at < block_.size(); ++at) {
      if (n > 0 && block_[n - 1].key == block_[at].key) {
        block_[n - 1].count = SaturatingAdd(block_[n - 1].count, block_[at].count);
      } else {
        block_[n++] = block_[at];
      }
    }
    block_.resize(n);
    if (n > 0) counts_->pairs.AddSource(std::make_unique<VectorSource>(&block_), static_cast<int64_t>(n));
    block_.clear();
  }

 private:
  resembed_covisit* counts_;
  size_t capacity_;
  std::vector<PairCount> block_;
};

resembed_status CheckMap(const char* op, const resembed_covisit_file_options& options, int64_t file_items,
                         int64_t n_items) {
  if (options.item_map == nullptr) {
    if (file_items <= n_items) return RESEMBED_OK;
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: n_items of the file is %lld; needs at most that of counts (%lld)", op,
                static_cast<long long>(file_items), static_cast<long long>(n_items));
  }
  if (options.n_map != file_items) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_map is %lld; needs n_items of the file (%lld)", op,
                static_cast<long long>(options.n_map), static_cast<long long>(file_items));
  }
  for (int64_t item = 0; item < options.n_map; ++item) {
    if (options.item_map[item] >= -1 && options.item_map[item] < n_items) continue;
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: item_map[%lld] is %d; needs -1 or an item below %lld", op,
                static_cast<long long>(item), options.item_map[item], static_cast<long long>(n_items));
  }
  return RESEMBED_OK;
}

resembed_status AddFile(resembed_covisit* counts, const char* path,
                        const resembed_covisit_file_options& options) {
  constexpr const char* kOp = "covisit_add_file";
  PairFile pairs;
  RESEMBED_RETURN_IF_ERROR(OpenPairs(kOp, path, &pairs));
  RESEMBED_RETURN_IF_ERROR(CheckMap(kOp, options, pairs.n_items, counts->n_items));
  RESEMBED_RETURN_IF_ERROR(CheckPairs(kOp, path, pairs));
  counts->adding = true;
  auto source = std::make_unique<DecayedSource>(pairs.Read(), Decay(options.decay));
  if (options.item_map == nullptr) {
    counts->pairs.AddSource(std::move(source), pairs.n_pairs);
  } else {
    PairSorter sorter(counts);
    for (PairBlock block = source->Next(); block.begin != block.end; block = source->Next()) {
      for (; block.begin != block.end; ++block.begin) {
        const auto lower = static_cast<int64_t>(block.begin->key >> 32),
                   higher = int64_t{HigherItem(*block.begin)};
        if (lower >= options.n_map || higher < 0 || higher >= options.n_map)
          continue;  // the file has changed
        const int32_t a = options.item_map[lower], b = options.item_map[higher];
        if (a >= 0 && b >= 0 && a != b) sorter.Add(a, b, block.begin->count);
      }
    }
    sorter.Flush();
    if (source->error() != 0)
      return Fail(RESEMBED_IO_ERROR, "%s: path is %s (%s); needs a file that can be read", kOp, path,
                  std::strerror(source->error()));
  }
  counts->adding = counts->pairs.broken();
  return RESEMBED_OK;
}

resembed_status SavePairs(resembed_covisit* counts, const char* path, const char* const* metadata,
                          int32_t n_metadata) {
  constexpr const char* kOp = "covisit_save";
  FileHeader header;
  for (int32_t pair = 0; pair < n_metadata; ++pair) {
    for (int32_t side = 0; side < 2; ++side) {
      const char* text = metadata[2 * pair + side];
      if (text != nullptr && IsUtf8(text)) continue;
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: metadata[%d] is %s; needs a UTF-8 string", kOp,
                  2 * pair + side, text == nullptr ? "null" : "not UTF-8");
    }
    header.metadata[metadata[2 * pair]] = metadata[2 * pair + 1];
  }
  header.metadata["kind"] = kKind;
  header.metadata["n_items"] = std::to_string(counts->n_items);
  RESEMBED_RETURN_IF_ERROR(Gather(kOp, counts));
  const int64_t n_pairs = counts->pairs.size();
  header.tensors.push_back({kTensor, RESEMBED_I64, {n_pairs, 2}, 0, n_pairs * int64_t{sizeof(PairCount)}});
  const std::string text = WriteHeader(header);
  TemporaryFile file(path);
  uint64_t length = text.size();
  bool ok = file.ok() && file.Write(&length, sizeof(length)) &&
            file.Write(text.data(), static_cast<int64_t>(text.size()));
  const std::unique_ptr<PairSource> source = counts->pairs.Read();
  for (PairBlock block = source->Next(); ok && block.begin != block.end; block = source->Next()) {
    ok = file.Write(block.begin, (block.end - block.begin) * int64_t{sizeof(PairCount)});
  }
  if (source->error() != 0) return ReadFailed(kOp, counts);
  if (!ok || !file.RenameTo(path)) {
    return Fail(RESEMBED_IO_ERROR, "%s: path is %s (%s); needs a place that can be written", kOp, path,
                std::strerror(errno));
  }
  return RESEMBED_OK;
}

resembed_status AddPairs(resembed_covisit* counts, const int32_t* items, const int32_t* others,
                         const int64_t* values, int64_t n_pairs) {
  for (int64_t pair = 0; pair < n_pairs; ++pair) {
    for (const int32_t id : {items[pair], others[pair]}) {
      if (id >= 0 && id < counts->n_items) continue;
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "covisit_add_pairs: pair %lld has item %d; needs 0 .. n_items - 1 (%lld)",
                  static_cast<long long>(pair), id, static_cast<long long>(counts->n_items - 1));
    }
    if (items[pair] == others[pair]) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add_pairs: pair %lld is item %d twice; needs two items",
                  static_cast<long long>(pair), items[pair]);
    }
    if (values[pair] <= 0) {
      return Fail(RESEMBED_OUT_OF_RANGE, "covisit_add_pairs: values[%lld] is %lld; needs > 0",
                  static_cast<long long>(pair), static_cast<long long>(values[pair]));
    }
  }
  counts->adding = true;
  PairSorter sorter(counts);
  for (int64_t pair = 0; pair < n_pairs; ++pair) sorter.Add(items[pair], others[pair], values[pair]);
  sorter.Flush();
  counts->adding = counts->pairs.broken();
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" {

using resembed::detail::Fail;

resembed_status resembed_covisit_save(resembed_covisit* counts, const char* path, const char* const* metadata,
                                      int32_t n_metadata) {
  if (counts == nullptr || path == nullptr || (metadata == nullptr && n_metadata > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_save: %s is null; needs a pointer",
                counts == nullptr ? "counts"
                : path == nullptr ? "path"
                                  : "metadata");
  }
  if (n_metadata < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_save: n_metadata is %d; needs >= 0", n_metadata);
  }
  return resembed::detail::Guarded("covisit_save", counts, [&] {
    return resembed::detail::SavePairs(counts, path, metadata, n_metadata);
  });
}

resembed_status resembed_covisit_add_file(resembed_covisit* counts, const char* path,
                                          const resembed_covisit_file_options* options) {
  if (counts == nullptr || path == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add_file: %s is null; needs a pointer",
                counts == nullptr ? "counts" : "path");
  }
  const resembed_covisit_file_options read = resembed::detail::ReadDescriptor(options);
  if (!(read.decay >= 0.0) || read.decay > 1.0) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "covisit_add_file: decay is %g; needs a factor in (0, 1], or 0 for 1", read.decay);
  }
  return resembed::detail::Guarded("covisit_add_file", counts,
                                   [&] { return resembed::detail::AddFile(counts, path, read); });
}

resembed_status resembed_covisit_add_pairs(resembed_covisit* counts, const int32_t* items,
                                           const int32_t* others, const int64_t* values, int64_t n_pairs) {
  const bool missing = n_pairs > 0 && (items == nullptr || others == nullptr || values == nullptr);
  if (counts == nullptr || missing) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add_pairs: %s is null; needs a pointer",
                counts == nullptr   ? "counts"
                : items == nullptr  ? "items"
                : others == nullptr ? "others"
                                    : "values");
  }
  if (n_pairs < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add_pairs: n_pairs is %lld; needs >= 0",
                static_cast<long long>(n_pairs));
  }
  return resembed::detail::Guarded("covisit_add_pairs", counts, [&] {
    return resembed::detail::AddPairs(counts, items, others, values, n_pairs);
  });
}

}  // extern "C"
