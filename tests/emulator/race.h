// SPDX-License-Identifier: Apache-2.0
//
// ThreadSanitizer as a race detector for CUDA threads: each has an identity of its own, and only what orders CUDA
// threads orders identities. Empty functions in other builds. The engine itself is compiled without
// instrumentation (CMakeLists.txt): its own reads and writes are nobody's.
#ifndef RESEMBED_TESTS_EMULATOR_RACE_H_
#define RESEMBED_TESTS_EMULATOR_RACE_H_

#ifdef RESEMBED_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#include <cstdlib>

namespace resembed::emulator::race {

#ifdef RESEMBED_EMULATOR_TSAN
// Blocks of one launch take turns with two sets of identities, so that neighbors in time are unordered. Made for
// each launch: the runtime loses races once thousands of identities have lived in a process.
class Identities {
 public:
  void BeginLaunch(int n_threads) {
    main_ = __tsan_get_current_fiber();
    n_ = 2 * n_threads;
    for (int i = 0; i < n_; ++i) identity_[i] = __tsan_create_fiber(0);
    __tsan_release(&begun_);
  }
  void EndLaunch() {
    BeMain();
    __tsan_acquire(&ended_);
    for (int i = 0; i < n_; ++i) __tsan_destroy_fiber(identity_[i]);
    while (syncs_ != nullptr) {
      Sync* next = syncs_->next;
      std::free(syncs_);
      syncs_ = next;
    }
  }
  void BeginBlock() {
    first_ = first_ == 0 ? n_ / 2 : 0;
    Sync* fresh = static_cast<Sync*>(std::malloc(sizeof(Sync)));
    fresh->next = syncs_;
    syncs_ = fresh;
  }
  int OwnerOf(int thread) const { return first_ + thread; }
  void Be(int thread) { __tsan_switch_to_fiber(identity_[first_ + thread], __tsan_switch_to_fiber_no_sync); }
  void BeMain() { __tsan_switch_to_fiber(main_, __tsan_switch_to_fiber_no_sync); }
  void BeginThread() { __tsan_acquire(&begun_); }
  void EndThread() { __tsan_release(&ended_); }
  // Everything the threads did before orders everything they do after; `which` names the barrier or the warp.
  template <class IsMember>
  void Join(int which, int n_threads, int current, IsMember member) {
    for (int i = 0; i < n_threads; ++i) {
      if (member(i)) Be(i), __tsan_release(&syncs_->word[which]);
    }
    for (int i = 0; i < n_threads; ++i) {
      if (member(i)) Be(i), __tsan_acquire(&syncs_->word[which]);
    }
    Be(current);
  }
  void Release(const void* address) { __tsan_release(const_cast<void*>(address)); }
  void Acquire(const void* address) { __tsan_acquire(const_cast<void*>(address)); }

 private:
  struct Sync {  // of one block: barriers 0..15, warps 16..47, at addresses no other block of the launch has
    Sync* next;
    long word[48];
  };
  void* main_ = nullptr;
  void* identity_[2048];
  int n_ = 0;
  int first_ = 0;
  Sync* syncs_ = nullptr;
  long begun_ = 0, ended_ = 0;
};
#else
class Identities {
 public:
  void BeginLaunch(int) {}
  void EndLaunch() {}
  void BeginBlock() {}
  int OwnerOf(int thread) const { return thread; }
  void Be(int) {}
  void BeMain() {}
  void BeginThread() {}
  void EndThread() {}
  template <class IsMember>
  void Join(int, int, int, IsMember) {}
  void Release(const void*) {}
  void Acquire(const void*) {}
};
#endif

}  // namespace resembed::emulator::race

#endif  // RESEMBED_TESTS_EMULATOR_RACE_H_
