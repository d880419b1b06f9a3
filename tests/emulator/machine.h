// SPDX-License-Identifier: Apache-2.0
//
// The state of the emulated multiprocessor: the threads of the block that runs, its warps and barriers, who is
// ready. One for the process; the stand-in for the runtime lets one launch in at a time.
#ifndef RESEMBED_TESTS_EMULATOR_MACHINE_H_
#define RESEMBED_TESTS_EMULATOR_MACHINE_H_

#include <cstdint>
#include <string>

#include "tests/emulator/emulator.h"
#include "tests/emulator/engine.h"
#include "tests/emulator/fiber.h"
#include "tests/emulator/race.h"

namespace resembed::emulator {

constexpr int kWarpThreads = 32;
constexpr int kMaxWarps = kMaxBlockThreads / kWarpThreads;
constexpr int kMaxBarriers = 16;
constexpr int kMaxSharedArrays = 64;

// Small and without std::: constructed once, touched at every switch, and instrumented by nobody.
class Random {
 public:
  void Seed(std::uint64_t seed) { state_ = seed; }
  std::uint64_t Next() {  // SplitMix64
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  int Below(int n) { return static_cast<int>(Next() % static_cast<std::uint64_t>(n)); }

 private:
  std::uint64_t state_ = 0;
};

struct Thread {
  enum State : unsigned char { kUnstarted, kReady, kWaiting, kDone };
  State state;
  bool in_barrier;  // what it waits for: a barrier, or a collective of its warp
  bool fenced;      // a __threadfence since the thread began
  WarpOp op;        // of the collective
  BarrierOp barrier_op;
  int barrier;
  int width, bytes;
  unsigned mask, lane_argument;
  std::uint64_t value, result;
  Site site;
  Stack* stack;
};

struct Warp {
  unsigned exists, exited, pending;
};

struct Barrier {
  int n_arrived, n_expected, predicate_count, first;
  BarrierOp op;
  Site site;
};

class Machine {
 public:
  // Runs every block; false when a fault ended the launch (its text in `fault`).
  bool Run(const Grid& grid, Order order, std::uint64_t launch, std::string* fault);

  // Called by the running thread.
  std::uint64_t Collective(WarpOp op, unsigned mask, std::uint64_t value, unsigned lane_argument, int width,
                           int bytes, Site site);
  int Meet(BarrierOp op, int id, int count, int predicate, Site site);
  void Yield(Site site);
  [[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

  race::Identities race;
  Thread& current() { return threads_[current_]; }
  int current_index() const { return current_; }
  bool running() const { return running_; }
  void Where(char* text, std::size_t size) const;  // "block (0,0,0) thread (0,0,0)"
  void* StaticShared(const void* key, std::size_t bytes, std::size_t alignment);
  void* DynamicShared();

 private:
  static void Entry();
  void RunThreads();
  void BeginBlock();
  void MapShared();
  void BeginShared();
  void EndShared();
  void* TakeShared(std::size_t bytes);
  void Become(int thread);
  int Pick();  // the next thread to run, -1 when none can
  int PickReady();
  int PickUnstarted();
  void MakeReady(int thread);
  void Wait();
  void Resume(int thread);
  void ThreadEnds();
  [[noreturn]] void Deadlock();
  bool TryCollective(int warp, unsigned mask, int last);
  bool TryBarrier(int id, int last);

  Stacks stacks_;
  Thread threads_[kMaxBlockThreads];
  Warp warps_[kMaxWarps];
  Barrier barriers_[kMaxBarriers];
  int n_threads_ = 0;
  int n_begun_ = 0, n_exited_ = 0, first_exited_ = -1;
  int current_ = -1;
  int ready_[kMaxBlockThreads];
  int ready_head_ = 0, n_ready_ = 0;
  int start_order_[kMaxBlockThreads];  // threads in the order in which they begin
  std::uint64_t gathered_[kMaxWarps][kWarpThreads];
  bool running_ = false, failed_ = false, forget_ = true;
  Order order_;
  Random random_;
  const Grid* grid_ = nullptr;
  char fault_[4096];
  struct SharedArray {
    const void* key;
    void* at;
    std::size_t bytes;
  } shared_[kMaxSharedArrays];
  int n_shared_ = 0;
  std::size_t static_bytes_ = 0;
  void* dynamic_ = nullptr;
  char* arena_ = nullptr;  // shared memory of the launch, except under AddressSanitizer
  std::size_t arena_used_ = 0;
};

Machine& TheMachine();

const char* NameOf(WarpOp op);
const char* NameOf(BarrierOp op);

}  // namespace resembed::emulator

#endif  // RESEMBED_TESTS_EMULATOR_MACHINE_H_
