// SPDX-License-Identifier: Apache-2.0
//
// main of an emulated test program: each test ends with the device drained, and fails for every fault that it did
// not take and every device allocation that it leaves. A failure names the run order.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/emulator/emulator.h"

namespace resembed::emulator {
namespace {

class FaultListener : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { allocations_ = LiveAllocations(); }
  void OnTestEnd(const testing::TestInfo& test) override {
    Drain();
    for (const std::string& fault : TakeFaults()) ADD_FAILURE() << fault;
    if (LiveAllocations() != allocations_) {
      ADD_FAILURE() << "the test leaves " << LiveAllocations() << " device allocations, it began with "
                    << allocations_;
    }
    if (test.result()->Failed()) std::cout << "run order " << Name(GetOrder()) << std::endl;
  }
  std::size_t allocations_ = 0;
};

}  // namespace
}  // namespace resembed::emulator

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new resembed::emulator::FaultListener);
  std::cout << "emulated, run order " << resembed::emulator::Name(resembed::emulator::GetOrder())
            << std::endl;
  return RUN_ALL_TESTS();
}
