// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/machine.h"

#include <unistd.h>

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/emulator/builtin.h"

#ifdef RESEMBED_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace resembed::emulator {
namespace {

unsigned watchdog_seconds = 0;  // 0: not set yet

unsigned WatchdogSeconds() {
  if (watchdog_seconds == 0) {
    const char* text = std::getenv("RESEMBED_EMULATOR_WATCHDOG");
    const int seconds = text == nullptr ? 0 : std::atoi(text);
    watchdog_seconds = seconds > 0 ? static_cast<unsigned>(seconds) : 120;
  }
  return watchdog_seconds;
}

void OnAlarm(int) {
  char text[256];
  int at =
      std::snprintf(text, sizeof text, "emulator: watchdog: one launch has taken %u s; ", watchdog_seconds);
  TheMachine().Where(text + at, sizeof text - static_cast<std::size_t>(at) - 2);
  std::strcat(text, "\n");
  if (write(2, text, std::strlen(text)) < 0) std::_Exit(3);
  std::abort();
}

int DimensionOf(const dim3& size) { return static_cast<int>(size.x * size.y * size.z); }

uint3 IndexOf(std::uint64_t i, const dim3& size) {
  return {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
          static_cast<unsigned>(i / size.x / size.y)};
}

std::uint64_t GreatestDivisor(std::uint64_t a, std::uint64_t b) {
  while (b != 0) {
    const std::uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

}  // namespace

void SetWatchdog(unsigned seconds) { watchdog_seconds = seconds; }

Machine& TheMachine() {
  static Machine* const machine = new Machine;  // reachable to the end: the fibers' stacks belong to it
  return *machine;
}

bool Machine::Run(const Grid& grid, Order order, std::uint64_t launch, std::string* fault) {
  grid_ = &grid;
  order_ = order;
  random_.Seed(order.seed * 0x10001 + launch);
  n_threads_ = DimensionOf(grid.threads);
  const std::uint64_t n_blocks = std::uint64_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z;
  MapShared();
  stacks_.Begin(&Machine::Entry, forget_);
  forget_ = failed_ = false;
  running_ = true;
  ::gridDim = grid.blocks;
  ::blockDim = grid.threads;
  const auto before = std::signal(SIGALRM, OnAlarm);
  alarm(WatchdogSeconds());
  race.BeginLaunch(n_threads_);
  // Random: blocks begin at a random one and go on by a stride without common divisor, which visits each once.
  const std::uint64_t offset = random_.Next() % n_blocks;
  std::uint64_t stride = random_.Next() % n_blocks;
  while (GreatestDivisor(stride, n_blocks) != 1) ++stride;
  for (std::uint64_t i = 0; i < n_blocks && !failed_; ++i) {
    const std::uint64_t block = order.kind == Order::kForward   ? i
                                : order.kind == Order::kReverse ? n_blocks - 1 - i
                                                                : (offset + i * stride) % n_blocks;
    ::blockIdx = IndexOf(block, grid.blocks);
    BeginBlock();
    Resume(Pick());  // comes back when the last thread has ended, or after Fail
    for (int i = 0; failed_ && i < n_threads_; ++i) {  // abandoned, but what comes next comes after them
      race.Be(i);
      race.EndThread();
    }
    race.BeMain();
    EndShared();
  }
  race.EndLaunch();
  alarm(0);
  std::signal(SIGALRM, before);
  running_ = false;
  if (failed_) {
    forget_ = true;
    *fault = fault_;
  }
  return !failed_;
}

void Machine::BeginBlock() {
  n_begun_ = n_exited_ = n_ready_ = ready_head_ = 0;
  first_exited_ = -1;
  for (int i = 0; i < n_threads_; ++i) {
    Thread& t = threads_[i];
    t.state = Thread::kUnstarted;
    t.fenced = false;
    t.stack = nullptr;
    start_order_[i] = i;
  }
  if (order_.kind == Order::kRandom) {
    for (int i = n_threads_ - 1; i > 0; --i) {
      const int j = random_.Below(i + 1), other = start_order_[j];
      start_order_[j] = start_order_[i];
      start_order_[i] = other;
    }
  } else if (order_.kind == Order::kReverse) {
    for (int i = 0; i < n_threads_; ++i) start_order_[i] = n_threads_ - 1 - i;
  }
  for (int w = 0; w < kMaxWarps; ++w) {
    const int lanes = n_threads_ - w * kWarpThreads;
    warps_[w] = {lanes >= kWarpThreads ? ~0u : lanes > 0 ? (1u << lanes) - 1 : 0u, 0, 0};
  }
  for (Barrier& barrier : barriers_) barrier = {};
  race.BeginBlock();
  BeginShared();
}

void Machine::Entry() {
  Machine& machine = TheMachine();
  machine.stacks_.Entered();
  machine.RunThreads();
}

// The body of every fiber. A thread that ends hands its stack to the next one that has not begun: a kernel without
// barriers runs without a switch.
void Machine::RunThreads() {
  for (;;) {
    Thread& t = threads_[current_];
    t.state = Thread::kReady;
    t.stack = stacks_.running();
    race.BeginThread();
    grid_->run(grid_->call.get());
    ThreadEnds();
    const int next = Pick();
    if (!kOwnStacks && next >= 0 && threads_[next].state == Thread::kUnstarted) {
      Become(next);
      continue;
    }
    if (next < 0 && n_exited_ != n_threads_) Deadlock();
    stacks_.GiveBack(stacks_.running());
    if (next >= 0) {
      Resume(next);
    } else {
      stacks_.SwitchTo(stacks_.main());
    }
  }
}

void Machine::ThreadEnds() {
  Thread& t = current();
  race.EndThread();
  t.state = Thread::kDone;
  if (n_exited_++ == 0) first_exited_ = current_;
  const int w = current_ / kWarpThreads;
  Warp& warp = warps_[w];
  warp.exited |= 1u << (current_ % kWarpThreads);
  // A collective waits for the lanes of its mask that have not ended: this end may have been the last it waited for.
  unsigned pending = warp.pending;
  while (pending != 0) {
    const unsigned mask = threads_[w * kWarpThreads + __builtin_ctz(pending)].mask;
    TryCollective(w, mask, -1);
    pending &= ~mask;
  }
  TryBarrier(0, -1);
}

void Machine::Become(int thread) {
  current_ = thread;
  ::threadIdx = IndexOf(static_cast<std::uint64_t>(thread), grid_->threads);
  race.Be(thread);
}

void Machine::Resume(int thread) {
  Become(thread);
  if (threads_[thread].state == Thread::kUnstarted) {
    stacks_.SwitchTo(stacks_.Take(race.OwnerOf(thread)));
  } else {
    stacks_.SwitchTo(threads_[thread].stack);
  }
}

void Machine::MakeReady(int thread) {
  threads_[thread].state = Thread::kReady;
  ready_[(ready_head_ + n_ready_++) % kMaxBlockThreads] = thread;
}

int Machine::PickReady() {
  if (n_ready_ == 0) return -1;
  if (order_.kind == Order::kRandom) {
    const int chosen = (ready_head_ + random_.Below(n_ready_)) % kMaxBlockThreads;
    const int thread = ready_[chosen];
    ready_[chosen] = ready_[ready_head_];
    ready_[ready_head_] = thread;
  }
  const int thread = ready_[ready_head_];
  ready_head_ = (ready_head_ + 1) % kMaxBlockThreads;
  --n_ready_;
  return thread;
}

int Machine::PickUnstarted() { return n_begun_ < n_threads_ ? start_order_[n_begun_++] : -1; }

int Machine::Pick() {
  const bool begin_one = order_.kind == Order::kRandom && n_begun_ < n_threads_ && random_.Below(8) == 0;
  if (n_ready_ > 0 && !begin_one) return PickReady();
  const int unstarted = PickUnstarted();
  return unstarted >= 0 ? unstarted : PickReady();
}

void Machine::Wait() {
  const int me = current_;
  threads_[me].state = Thread::kWaiting;
  const int next = Pick();
  if (next < 0) Deadlock();
  Resume(next);
}

void Machine::Yield(Site site) {
  const int me = current_;
  threads_[me].site = site;
  MakeReady(me);
  // Threads that have not begun go first, or two that spin would starve the one they wait for.
  int next = PickUnstarted();
  if (next < 0) next = PickReady();
  if (next != me) Resume(next);
}

void Machine::Where(char* text, std::size_t size) const {
  std::snprintf(text, size, "block (%u,%u,%u) thread (%u,%u,%u)", ::blockIdx.x, ::blockIdx.y, ::blockIdx.z,
                ::threadIdx.x, ::threadIdx.y, ::threadIdx.z);
}

// Abandons the block where it stands. Fibers are never unwound: the launch's parameters are all that lives there.
void Machine::Fail(const char* format, ...) {
  Where(fault_, sizeof fault_);
  const std::size_t at = std::strlen(fault_);
  std::snprintf(fault_ + at, sizeof fault_ - at, ": ");
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(fault_ + at + 2, sizeof fault_ - at - 2, format, arguments);
  va_end(arguments);
  failed_ = true;
  race.BeMain();
  stacks_.SwitchTo(stacks_.main());
  __builtin_unreachable();
}

void Machine::Deadlock() {
  char text[2048];
  std::size_t at = 0;
  bool told[kMaxBlockThreads] = {};
  for (int i = 0; i < n_threads_; ++i) {
    const Thread& t = threads_[i];
    if (t.state != Thread::kWaiting || told[i]) continue;
    int alike = 0;
    for (int j = i; j < n_threads_; ++j) {
      const Thread& o = threads_[j];
      if (o.state != Thread::kWaiting || o.in_barrier != t.in_barrier || o.site.line != t.site.line) continue;
      if (t.in_barrier ? o.barrier != t.barrier : o.op != t.op || o.mask != t.mask) continue;
      told[j] = true;
      ++alike;
    }
    char detail[64];
    if (t.in_barrier) {
      std::snprintf(detail, sizeof detail, "%s (barrier %d)", NameOf(t.barrier_op), t.barrier);
    } else {
      std::snprintf(detail, sizeof detail, "%s (mask 0x%08x)", NameOf(t.op), t.mask);
    }
    if (at < sizeof text) {
      const int n =
          std::snprintf(text + at, sizeof text - at, "\n    %d thread(s) from thread %d: in %s at %s:%d",
                        alike, i, detail, t.site.file, t.site.line);
      at += static_cast<std::size_t>(n);
    }
  }
  Fail("deadlock: no thread can go on, %d of %d have ended%s", n_exited_, n_threads_, text);
}

}  // namespace resembed::emulator
