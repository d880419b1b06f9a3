// SPDX-License-Identifier: Apache-2.0
// The library's pool under taskset: a program of its own, since the pool starts once.
#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

#include "host/executor.h"

namespace resembed::detail {
namespace {

TEST(AllowedCores, BoundThePoolsWidth) {
  cpu_set_t allowed, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  CPU_ZERO(&one);
  for (int core = 0; CPU_COUNT(&one) == 0; ++core) {
    if (CPU_ISSET(core, &allowed)) CPU_SET(core, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const resembed_place place = {};
  const Executor executor(place);
  EXPECT_EQ(executor.width(), 1);
  const std::thread::id self = std::this_thread::get_id();
  int calls = 0;
  executor.ParallelFor(100, [&](int64_t) { calls += std::this_thread::get_id() == self; });
  EXPECT_EQ(calls, 100);
}

}  // namespace
}  // namespace resembed::detail
