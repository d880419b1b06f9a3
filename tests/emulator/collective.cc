// SPDX-License-Identifier: Apache-2.0
//
// Rendezvous: of the lanes of a mask, of the threads of a barrier.
#include <cstring>

#include "tests/emulator/machine.h"

namespace resembed::emulator {
namespace {

constexpr std::uint64_t kPoison = ~std::uint64_t{0};  // what a lane that takes no part would have given

std::uint64_t Reduce(WarpOp op, std::uint64_t a, std::uint64_t b) {
  const auto left = static_cast<std::uint32_t>(a), right = static_cast<std::uint32_t>(b);
  const auto signed_left = static_cast<std::int32_t>(left), signed_right = static_cast<std::int32_t>(right);
  switch (op) {
    case WarpOp::kAdd:
      return left + right;
    case WarpOp::kMinSigned:
      return signed_left < signed_right ? left : right;
    case WarpOp::kMaxSigned:
      return signed_left > signed_right ? left : right;
    case WarpOp::kMinUnsigned:
      return left < right ? left : right;
    case WarpOp::kMaxUnsigned:
      return left > right ? left : right;
    case WarpOp::kAnd:
      return left & right;
    case WarpOp::kOr:
      return left | right;
    default:
      return left ^ right;
  }
}

// The lane a shuffle reads, or -1 for its own value.
int SourceLane(WarpOp op, int lane, unsigned argument, int width) {
  const int base = lane & ~(width - 1), a = static_cast<int>(argument);
  switch (op) {
    case WarpOp::kShuffle:
      return base | (a & (width - 1));
    case WarpOp::kShuffleUp:
      return lane - a < base ? -1 : lane - a;
    case WarpOp::kShuffleDown:
      return lane + a >= base + width ? -1 : lane + a;
    default:
      return (lane ^ a) >= base + width ? -1 : lane ^ a;
  }
}

std::uint64_t ResultOf(const Thread* warp, int lane, unsigned live) {
  const Thread& me = warp[lane];
  switch (me.op) {
    case WarpOp::kSync:
    case WarpOp::kGather:
      return 0;
    case WarpOp::kShuffle:
    case WarpOp::kShuffleUp:
    case WarpOp::kShuffleDown:
    case WarpOp::kShuffleXor: {
      const int source = SourceLane(me.op, lane, me.lane_argument, me.width);
      if (source < 0) return me.value;
      return live >> source & 1u ? warp[source].value : kPoison;
    }
    default:
      break;
  }
  std::uint64_t result = me.op == WarpOp::kAll || me.op == WarpOp::kMatchAll ? me.mask : 0;
  bool first = true;
  for (int other = 0; other < kWarpThreads; ++other) {
    if ((live >> other & 1u) == 0) continue;
    const std::uint64_t value = warp[other].value;
    const std::uint64_t bit = std::uint64_t{1} << other;
    switch (me.op) {
      case WarpOp::kBallot:
      case WarpOp::kAny:
        if (value != 0) result |= bit;
        break;
      case WarpOp::kAll:
        if (value == 0) result = 0;
        break;
      case WarpOp::kMatchAny:
        if (value == me.value) result |= bit;
        break;
      case WarpOp::kMatchAll:
        if (value != me.value) result = 0;
        break;
      default:
        result = first ? value : Reduce(me.op, result, value);
    }
    first = false;
  }
  if (me.op == WarpOp::kAny || me.op == WarpOp::kAll) return result != 0;
  return result;
}

}  // namespace

const char* NameOf(WarpOp op) {
  static const char* const kNames[] = {
      "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",  "__shfl_xor_sync",
      "__ballot_sync",     "__any_sync",        "__all_sync",        "__match_any_sync",  "__match_all_sync",
      "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync", "__reduce_max_sync",
      "__reduce_and_sync", "__reduce_or_sync",  "__reduce_xor_sync", "mma.sync"};
  return kNames[static_cast<int>(op)];
}

const char* NameOf(BarrierOp op) {
  static const char* const kNames[] = {"__syncthreads", "__syncthreads_count", "__syncthreads_and",
                                       "__syncthreads_or"};
  return kNames[static_cast<int>(op)];
}

std::uint64_t Machine::Collective(WarpOp op, unsigned mask, std::uint64_t value, unsigned lane_argument,
                                  int width, int bytes, Site site) {
  const int me = current_, lane = me % kWarpThreads, w = me / kWarpThreads;
  if ((mask >> lane & 1u) == 0) {
    Fail("%s at %s:%d: mask 0x%08x does not name the caller, lane %d", NameOf(op), site.file, site.line, mask,
         lane);
  }
  if (width < 1 || width > kWarpThreads || (width & (width - 1)) != 0) {
    Fail("%s at %s:%d: width is %d; needs a power of two up to 32", NameOf(op), site.file, site.line, width);
  }
  Thread& t = threads_[me];
  t.in_barrier = false;
  t.op = op;
  t.mask = mask;
  t.value = value;
  t.lane_argument = lane_argument;
  t.width = width;
  t.bytes = bytes;
  t.site = site;
  // Two lanes that name each other must mean the same rendezvous: neither could go on.
  for (unsigned others = warps_[w].pending & mask; others != 0; others &= others - 1) {
    const int other = w * kWarpThreads + __builtin_ctz(others);
    const Thread& o = threads_[other];
    if ((o.mask >> lane & 1u) == 0) continue;
    if (o.mask == mask && o.op == op && o.width == width && o.bytes == bytes) continue;
    Fail(
        "%s at %s:%d (mask 0x%08x, width %d, %d bytes) meets thread %d in %s at %s:%d (mask 0x%08x, width "
        "%d, %d bytes)",
        NameOf(op), site.file, site.line, mask, width, bytes, other, NameOf(o.op), o.site.file, o.site.line,
        o.mask, o.width, o.bytes);
  }
  warps_[w].pending |= 1u << lane;
  if (!TryCollective(w, mask, me)) Wait();
  return threads_[me].result;
}

// Completes the rendezvous of `mask` if all are there; `last` goes on itself, the others become ready.
bool Machine::TryCollective(int w, unsigned mask, int last) {
  Warp& warp = warps_[w];
  const unsigned live = mask & warp.exists & ~warp.exited;
  if (live == 0 || (warp.pending & live) != live) return false;
  Thread* const lanes = threads_ + w * kWarpThreads;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if ((live >> lane & 1u) == 0) continue;
    if (lanes[lane].mask != mask) return false;
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (live >> lane & 1u) lanes[lane].result = ResultOf(lanes, lane, live);
  }
  if (lanes[__builtin_ctz(live)].op == WarpOp::kGather) {
    for (int lane = 0; lane < kWarpThreads; ++lane) {
      gathered_[w][lane] = live >> lane & 1u ? lanes[lane].value : kPoison;
      lanes[lane].result = reinterpret_cast<std::uintptr_t>(gathered_[w]);
    }
  }
  warp.pending &= ~live;
  if (lanes[__builtin_ctz(live)].op == WarpOp::kSync) {
    race.Join(kMaxBarriers + w, n_threads_, current_, [w, live](int thread) {
      return thread / kWarpThreads == w && (live >> (thread % kWarpThreads) & 1u) != 0;
    });
  }
  for (int i = 0; i < kWarpThreads; ++i) {
    const int lane = order_.kind == Order::kReverse ? kWarpThreads - 1 - i : i;
    const int thread = w * kWarpThreads + lane;
    if ((live >> lane & 1u) != 0 && thread != last) MakeReady(thread);
  }
  return true;
}

int Machine::Meet(BarrierOp op, int id, int count, int predicate, Site site) {
  const int me = current_;
  const char* const name = id == 0 && count == 0 ? NameOf(op) : "named barrier";
  if (id < 0 || id >= kMaxBarriers) {
    Fail("%s at %s:%d: barrier is %d; needs 0..%d", name, site.file, site.line, id, kMaxBarriers - 1);
  }
  if (count % kWarpThreads != 0 || count < 0 ||
      count > (n_threads_ + kWarpThreads - 1) / kWarpThreads * kWarpThreads) {
    Fail("%s %d at %s:%d: thread count is %d; needs a multiple of 32 up to the block's %d", name, id,
         site.file, site.line, count, n_threads_);
  }
  Barrier& barrier = barriers_[id];
  const int expected = count == 0 || count > n_threads_ ? n_threads_ : count;
  if (barrier.n_arrived == 0) {
    barrier = {0, expected, 0, me, op, site};
  } else if (barrier.n_expected != expected || barrier.op != op) {
    Fail("%s %d at %s:%d for %d threads meets %s for %d threads at %s:%d", name, id, site.file, site.line,
         expected, NameOf(barrier.op), barrier.n_expected, barrier.site.file, barrier.site.line);
  } else if (count == 0 &&
             (barrier.site.line != site.line || std::strcmp(barrier.site.file, site.file) != 0)) {
    Fail("divergent barrier %d: this thread arrives at %s:%d, thread %d waits at %s:%d", id, site.file,
         site.line, barrier.first, barrier.site.file, barrier.site.line);
  }
  Thread& t = threads_[me];
  t.in_barrier = true;
  t.barrier = id;
  t.barrier_op = op;
  t.site = site;
  ++barrier.n_arrived;
  if (predicate != 0) ++barrier.predicate_count;
  if (!TryBarrier(id, me)) Wait();
  return static_cast<int>(threads_[me].result);
}

// Completes barrier `id` if all are there. Threads that ended count as missing: the hardware forgives them, the
// documentation does not.
bool Machine::TryBarrier(int id, int last) {
  Barrier& barrier = barriers_[id];
  if (barrier.n_arrived == 0) return false;
  if (barrier.n_arrived < barrier.n_expected) {
    if (barrier.n_expected == n_threads_ && barrier.n_arrived + n_exited_ == n_threads_) {
      Fail(
          "%s at %s:%d is not reached by the whole block: %d of %d threads wait there, %d have ended (thread "
          "%d first)",
          NameOf(barrier.op), barrier.site.file, barrier.site.line, barrier.n_arrived, n_threads_, n_exited_,
          first_exited_);
    }
    return false;
  }
  const int result = barrier.op == BarrierOp::kCount ? barrier.predicate_count
                     : barrier.op == BarrierOp::kAnd ? barrier.predicate_count == barrier.n_expected
                                                     : barrier.predicate_count > 0;
  const auto is_member = [this, id, last](int thread) {
    const Thread& t = threads_[thread];
    return thread == last || (t.state == Thread::kWaiting && t.in_barrier && t.barrier == id);
  };
  race.Join(id, n_threads_, current_, is_member);
  for (int i = 0; i < n_threads_; ++i) {
    const int thread = order_.kind == Order::kReverse ? n_threads_ - 1 - i : i;
    if (!is_member(thread)) continue;
    threads_[thread].result = static_cast<std::uint64_t>(result);
    if (thread != last) MakeReady(thread);
  }
  barrier.n_arrived = 0;
  return true;
}

std::uint64_t WarpCollective(WarpOp op, unsigned mask, std::uint64_t value, unsigned lane_argument, int width,
                             int bytes, Site site) {
  return TheMachine().Collective(op, mask, value, lane_argument, width, bytes, site);
}

const std::uint64_t* WarpGather(unsigned mask, std::uint64_t value, Site site) {
  return reinterpret_cast<const std::uint64_t*>(
      TheMachine().Collective(WarpOp::kGather, mask, value, 0, kWarpThreads, 8, site));
}

int BlockBarrier(BarrierOp op, int id, int count, int predicate, Site site) {
  return TheMachine().Meet(op, id, count, predicate, site);
}

void Sleep(Site site) { TheMachine().Yield(site); }
void Trap(Site site) { TheMachine().Fail("__trap at %s:%d", site.file, site.line); }
void Fence() { TheMachine().current().fenced = true; }

// Atomics are relaxed: an atomic publishes what its thread did before the last __threadfence, and takes what others
// published. Lenient: one fence covers all later atomics of its thread.
void BeforeAtomic(const void* address) {
  Machine& machine = TheMachine();
  if (machine.current().fenced) machine.race.Release(address);
}
void AfterAtomic(const void* address) { TheMachine().race.Acquire(address); }

}  // namespace resembed::emulator
