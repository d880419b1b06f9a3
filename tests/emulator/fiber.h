// SPDX-License-Identifier: Apache-2.0
//
// Stacks that are switched by hand: 1,024 of them, enough for one block, with a guard page below each. On x86-64
// a switch is 14 instructions; elsewhere it is swapcontext, 50 times slower. AddressSanitizer is told of each.
#ifndef RESEMBED_TESTS_EMULATOR_FIBER_H_
#define RESEMBED_TESTS_EMULATOR_FIBER_H_

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define RESEMBED_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RESEMBED_EMULATOR_ASAN 1
#endif
#endif

namespace resembed::emulator {

constexpr int kMaxBlockThreads = 1024;
#ifdef RESEMBED_EMULATOR_TSAN
// Each identity has a stack of its own: two that took turns on one would race for its local variables.
constexpr bool kOwnStacks = true;
constexpr int kStacks = 2 * kMaxBlockThreads;
#else
constexpr bool kOwnStacks = false;
constexpr int kStacks = kMaxBlockThreads;
#endif

struct Stack {
  char* low = nullptr;
  std::size_t size = 0;
  void* fake = nullptr;  // AddressSanitizer's second stack, while this one is not running
#if defined(__x86_64__)
  void* pointer = nullptr;
#else
  ucontext_t context;
#endif
};

// The stacks of one block and the one that runs the grid. Nothing here may be called by two threads at once.
class Stacks {
 public:
  // From now on the calling thread's stack is main(), and every fiber begins with `entry`. Fibers parked in an
  // earlier use go on existing unless `forget`: then their stacks are as new.
  void Begin(void (*entry)(), bool forget);
  Stack* main() { return &main_; }
  Stack* running() { return running_; }
  Stack* Take(int owner);    // one that is free, prepared or parked; the owner's with kOwnStacks
  void GiveBack(Stack* it);  // the running one; it is parked by the next SwitchTo
  void SwitchTo(Stack* to);
  void Entered();  // the first thing a fiber's entry calls

 private:
  void Map();
  void Prepare(Stack* stack);

  Stack stacks_[kStacks];
  Stack* free_[kStacks];
  bool owned_[kStacks] = {};  // with kOwnStacks: has a context
  int n_free_ = 0;
  int n_prepared_ = 0;  // stacks_[0, n_prepared_) have a context
  Stack main_;
  Stack* running_ = nullptr;
  void (*entry_)() = nullptr;
  bool from_main_ = false;  // the last switch left main(): AddressSanitizer tells its bounds on arrival
  char* memory_ = nullptr;
};

}  // namespace resembed::emulator

#endif  // RESEMBED_TESTS_EMULATOR_FIBER_H_
