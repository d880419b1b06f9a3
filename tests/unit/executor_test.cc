// SPDX-License-Identifier: Apache-2.0
#include "host/executor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <iterator>
#include <set>
#include <thread>
#include <vector>

#include "resembed/resembed.hpp"

namespace resembed::detail {
namespace {

// Counts how often each index ran; true when that is once each.
bool EachOnce(const Executor& executor, int64_t n_tasks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(n_tasks));
  executor.ParallelFor(n_tasks, [&](int64_t task) { runs[static_cast<size_t>(task)].fetch_add(1); });
  for (const auto& count : runs) {
    if (count.load() != 1) return false;
  }
  return true;
}

TEST(Executor, RunsEachIndexOnce) {
  const Executor executor(Place::Cpu());
  EXPECT_GE(executor.width(), 1);
  for (int64_t n_tasks : {0, 1, 2, 3, 64, 1000}) EXPECT_TRUE(EachOnce(executor, n_tasks)) << n_tasks;
}

TEST(Executor, ServesSeveralCallersAtOnce) {
  std::atomic<int> failures{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&failures] {
      const Executor executor(Place::Cpu());
      for (int round = 0; round < 200; ++round) {
        if (!EachOnce(executor, 17)) failures.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failures.load(), 0);
}

TEST(Executor, LoopsMayBeNested) {
  const Executor executor(Place::Cpu());
  std::atomic<int> runs{0};
  executor.ParallelFor(8, [&](int64_t) { executor.ParallelFor(9, [&](int64_t) { runs.fetch_add(1); }); });
  EXPECT_EQ(runs.load(), 72);
}

int64_t ThreadsOfThisProcess() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

// A thread that was joined may be listed a moment longer.
bool HasThreads(int64_t n) {
  for (int wait = 0; wait < 2000 && ThreadsOfThisProcess() != n; ++wait) usleep(1000);
  return ThreadsOfThisProcess() == n;
}

// Runs in a fresh process, where no test before has started the pool. Exits with the number of what went wrong.
[[noreturn]] void CountPoolThreads() {
  std::thread([] {}).join();  // ThreadSanitizer starts a thread of its own with the first one
  int64_t before = 0;
  do {
    before = ThreadsOfThisProcess();
    usleep(20'000);
  } while (ThreadsOfThisProcess() != before);
  const resembed_executor serial{sizeof(resembed_executor), 4,
                                 [](void*, int64_t n_tasks, void (*task)(void*, int64_t), void* arg) {
                                   for (int64_t index = 0; index < n_tasks; ++index) task(arg, index);
                                 },
                                 nullptr};
  if (!EachOnce(Executor(Place::Cpu(&serial)), 50) || ThreadsOfThisProcess() != before) _exit(1);
  const Executor executor(Place::Cpu());
  const int64_t pool = executor.width() - 1;
  if (!EachOnce(executor, 50) || ThreadsOfThisProcess() != before + pool) _exit(2);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([] {
      for (int round = 0; round < 20; ++round) EachOnce(Executor(Place::Cpu()), 50);
    });
  }
  for (std::thread& caller : callers) caller.join();
  _exit(HasThreads(before + pool) ? 0 : 3);
}

TEST(ExecutorDeathTest, ThePoolStartsOnceByTheFirstCallWithoutAnExecutor) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(CountPoolThreads(), ::testing::ExitedWithCode(0), "");
}

TEST(Executor, IsSerialInAForkedChild) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow a fork of a threaded process";
#endif
  const Executor executor(Place::Cpu());
  ASSERT_TRUE(EachOnce(executor, 100));  // the pool has started
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Executor forked(Place::Cpu());
    _exit(forked.width() == 1 && EachOnce(forked, 100) && EachOnce(executor, 100) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Executor, UsesTheCallersThreads) {
  struct Record {
    std::vector<int64_t> indices;
    int calls = 0;
  } record;
  resembed_executor own{sizeof(resembed_executor), 4,
                        [](void* context, int64_t n_tasks, void (*task)(void*, int64_t), void* arg) {
                          auto* to = static_cast<Record*>(context);
                          ++to->calls;
                          for (int64_t index = n_tasks; index-- > 0;) {
                            to->indices.push_back(index);
                            task(arg, index);
                          }
                        },
                        &record};
  const Executor executor(Place::Cpu(&own));
  EXPECT_EQ(executor.width(), 4);
  EXPECT_TRUE(EachOnce(executor, 5));
  EXPECT_EQ(record.calls, 1);
  EXPECT_EQ(record.indices, (std::vector<int64_t>{4, 3, 2, 1, 0}));
}

}  // namespace
}  // namespace resembed::detail
