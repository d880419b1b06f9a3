// SPDX-License-Identifier: Apache-2.0
// A device with the heads' arithmetic. Emulated, a stand-in is loaded in place of cuBLAS (tests/emulator/cublas.cc); on a
// GPU the library itself, and where there is none the tests are skipped.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "host/train/dense_device.h"

namespace resembed::train::testing {

// RESEMBED_CUBLAS while one lives.
class Chosen {
 public:
  explicit Chosen(const char* file) { setenv("RESEMBED_CUBLAS", file, 1); }
  ~Chosen() { unsetenv("RESEMBED_CUBLAS"); }
  Chosen(const Chosen&) = delete;
  Chosen& operator=(const Chosen&) = delete;
};

class DenseOnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef RESEMBED_EMULATED
#ifdef RESEMBED_CUBLAS_STAND_IN
    chosen_ = std::make_unique<Chosen>(RESEMBED_CUBLAS_STAND_IN);
#else
    GTEST_SKIP() << "built without cublas_v2.h";
#endif
#endif
    std::string what;
    device_ = Device::Open(0);
    device_->UseDense(OpenDeviceMath(device_.get(), &what));
    if (device_->dense() == nullptr) GTEST_SKIP() << what;
    EXPECT_THAT(what, ::testing::StartsWith("cuBLAS "));
  }
  std::unique_ptr<Chosen> chosen_;
  std::unique_ptr<Device> device_;
};

}  // namespace resembed::train::testing
