// SPDX-License-Identifier: Apache-2.0
#include "host/train/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "host/train/mlp.h"

namespace resembed::train {
namespace {

// The number after `key` in /proc/meminfo, in bytes; 0 = not there.
int64_t FromMeminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == key && file >> kib) return kib * 1024;
  }
  return 0;
}

// The one number of a file; 0 = none ("max").
int64_t FromFile(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : 0;
}

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", static_cast<double>(bytes) / 1e9);
  return text;
}

}  // namespace

int64_t AvailableBytes() {
  const int64_t machine = FromMeminfo("MemAvailable:");
  const int64_t most = FromFile("/sys/fs/cgroup/memory.max");
  if (most == 0) return machine;
  const int64_t group = std::max<int64_t>(most - FromFile("/sys/fs/cgroup/memory.current"), 1);
  return machine == 0 ? group : std::min(machine, group);
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  return file >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

int64_t PeakResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

RowMemory MemoryOf(const Variant& variant, int64_t n_items, int64_t n_centers, const Hyper& hyper) {
  const int64_t dim = static_cast<int64_t>(hyper.dim) * variant.dim_factor;
  const int64_t central = variant.form == RESEMBED_CENTRAL_NONE         ? 0
                          : variant.form == RESEMBED_CENTRAL_ASSIGNMENT ? n_centers
                                                                        : n_items;
  const int64_t rows = (variant.residual ? n_items : 0) + central;
  constexpr int64_t kFloat = sizeof(float);
  RowMemory memory;
  memory.tables = rows * dim * kFloat;
  memory.optimizer = hyper.optimizer == "adam" ? 2 * memory.tables : rows * kFloat;
  memory.best = memory.tables;
  // The scorer's item embeddings and those of the picture; the mlp's first layer of each item, or the dot head's
  // biases; a few scores of every item.
  constexpr int64_t kScoredAtOnce = 8;
  const int64_t of_head = Ranks(hyper.head) ? MlpNet::kHidden1 : 4;
  memory.evaluation = n_items * kFloat * (2 * dim + of_head + kScoredAtOnce);
  return memory;
}

void CheckMemory(const RowMemory& memory, int64_t taken, int64_t limit, const std::string& row) {
  if (taken + memory.total() <= limit) return;
  throw Error{"--memory is " + Gigabytes(limit) + " GB; " + row + " needs " +
              Gigabytes(taken + memory.total()) + ": tables " + Gigabytes(memory.tables) + ", optimizer " +
              Gigabytes(memory.optimizer) + ", best epoch " + Gigabytes(memory.best) + ", evaluation " +
              Gigabytes(memory.evaluation) + ", log and graph " + Gigabytes(taken) +
              " (--optimizer adagrad and a smaller --dim take less)"};
}

}  // namespace resembed::train
