// SPDX-License-Identifier: Apache-2.0
// resembed-train: exit 0 done, 1 the run failed, 2 a bad option, 130 interrupted.
#include <csignal>
#include <cstdio>
#include <new>

#include "host/train/run.h"
#include "host/train/sweep.h"
#include "host/train/use.h"

namespace {

std::atomic<bool> stop_asked{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

// The second signal ends the program the usual way.
extern "C" void AskToStop(int signal) {
  stop_asked = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

int main(int argc, char** argv) {
  resembed::train::Options options;
  int exit_code = 0;
  if (!resembed::train::ParseOptions(argc, argv, &options, &exit_code)) return exit_code;
  try {
    if (!options.use.command.empty()) return resembed::train::Use(options.use);
    if (options.log_only) {
      WriteLog(resembed::train::GenerateLog(options.generator), options.save_log);
      return 0;
    }
    std::signal(SIGINT, AskToStop);
    std::signal(SIGTERM, AskToStop);
    if (!options.sweep.name.empty()) return resembed::train::RunSweep(options, stop_asked);
    return resembed::train::Run(options, stop_asked);
  } catch (const resembed::train::Error& error) {
    std::fprintf(stderr, "resembed-train: %s\n", error.message.c_str());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "resembed-train: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "resembed-train: %s\n", error.what());
  }
  return 1;
}
