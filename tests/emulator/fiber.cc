// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifdef RESEMBED_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace resembed::emulator {
namespace {

constexpr std::size_t kPage = 4096;
#if defined(RESEMBED_EMULATOR_ASAN) || defined(RESEMBED_EMULATOR_TSAN)
constexpr std::size_t kStackBytes = 256 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif

}  // namespace

#if defined(__x86_64__)
extern "C" void resembed_emulator_switch(void** save, void* to);
// Saves what a call must preserve and the stack pointer, takes the other's, and goes on there. The jump instead
// of a return keeps the processor's stack of return addresses from being wrong for every caller.
asm(R"(
.text
.globl resembed_emulator_switch
.type resembed_emulator_switch, @function
resembed_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size resembed_emulator_switch, .-resembed_emulator_switch
)");
#endif

void Stacks::Map() {
  const std::size_t each = kStackBytes + kPage;
  void* memory = mmap(nullptr, each * kStacks, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulator: stacks");
    std::abort();
  }
  memory_ = static_cast<char*>(memory);
  for (int i = 0; i < kStacks; ++i) {
    char* guard = memory_ + each * static_cast<std::size_t>(i);
    mprotect(guard, kPage, PROT_NONE);
    stacks_[i].low = guard + kPage;
    stacks_[i].size = kStackBytes;
  }
}

void Stacks::Begin(void (*entry)(), bool forget) {
  if (memory_ == nullptr) Map();
  if (forget || entry != entry_) {
#ifdef RESEMBED_EMULATOR_ASAN
    for (int i = 0; i < n_prepared_; ++i) __asan_unpoison_memory_region(stacks_[i].low, stacks_[i].size);
#endif
    n_free_ = n_prepared_ = 0;
    for (bool& owned : owned_) owned = false;
  }
  entry_ = entry;
  running_ = &main_;
}

void Stacks::Prepare(Stack* stack) {
  stack->fake = nullptr;
#if defined(__x86_64__)
  // At entry the stack pointer is 8 below a multiple of 16, as after a call; the word there ends backtraces.
  void** top = reinterpret_cast<void**>(stack->low + stack->size - 64);
  for (int i = 0; i < 8; ++i) top[i] = nullptr;
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry_);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  stack->pointer = top - 8;
#else
  getcontext(&stack->context);
  stack->context.uc_stack.ss_sp = stack->low;
  stack->context.uc_stack.ss_size = stack->size;
  stack->context.uc_link = nullptr;
  makecontext(&stack->context, entry_, 0);
#endif
}

Stack* Stacks::Take(int owner) {
  if (kOwnStacks) {
    if (!owned_[owner]) Prepare(&stacks_[owner]);
    owned_[owner] = true;
    return &stacks_[owner];
  }
  if (n_free_ > 0) return free_[--n_free_];
  Stack* stack = &stacks_[n_prepared_++];
  Prepare(stack);
  return stack;
}

void Stacks::GiveBack(Stack* it) {
  if (!kOwnStacks) free_[n_free_++] = it;
}

void Stacks::SwitchTo(Stack* to) {
  Stack* from = running_;
  running_ = to;
  from_main_ = from == &main_;
#ifdef RESEMBED_EMULATOR_ASAN
  __sanitizer_start_switch_fiber(&from->fake, to->low, to->size);
#endif
#if defined(__x86_64__)
  resembed_emulator_switch(&from->pointer, to->pointer);
#else
  swapcontext(&from->context, &to->context);
#endif
  Entered();
}

void Stacks::Entered() {
#ifdef RESEMBED_EMULATOR_ASAN
  const void* low = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(running_->fake, &low, &size);
  if (from_main_) {
    main_.low = static_cast<char*>(const_cast<void*>(low));
    main_.size = size;
  }
#endif
}

}  // namespace resembed::emulator
