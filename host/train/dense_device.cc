// SPDX-License-Identifier: Apache-2.0
#include "host/train/dense_device.h"

#include <limits>

#include "host/train/cublas.h"
#include "host/train/log.h"

#ifdef RESEMBED_HAVE_CUBLAS
#include "host/train/dense_kernels.h"

namespace resembed::train {

namespace {

// What cuBLAS asks for on the newest architectures; it allocates nothing of its own then.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void CheckCublas(const char* call, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error{std::string("--dense cublas: ") + call + " returned status " + std::to_string(status)};
}

void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw Error{std::string("--dense cublas: launch: ") + cudaGetErrorString(error)};
}

int Int(int64_t size) {
  if (size > std::numeric_limits<int>::max()) {
    throw Error{"--dense cublas: a matrix has " + std::to_string(size) +
                " rows; cuBLAS needs fewer than 2^31"};
  }
  return static_cast<int>(size);
}

class OnDevice : public DenseMath {
 public:
  OnDevice(Device* device, std::unique_ptr<Cublas> cublas, int64_t most_blocks)
      : device_(device),
        cublas_(std::move(cublas)),
        workspace_(device, HostCopy::kNone),
        row_loss_(device, HostCopy::kNone),
        rows_(device, HostCopy::kNone),
        pieces_(device, HostCopy::kNone) {
    grid_.stream = static_cast<cudaStream_t>(device->place()->stream);
    grid_.most_blocks = most_blocks;
    CheckCublas("cublasCreate", cublas_->create(&handle_));
    workspace_.Assign(kWorkspaceBytes);
    CheckCublas("cublasSetStream", cublas_->set_stream(handle_, grid_.stream));
    // After the stream, which takes a workspace away.
    CheckCublas("cublasSetWorkspace", cublas_->set_workspace(handle_, workspace_.device(), kWorkspaceBytes));
    CheckCublas("cublasSetMathMode", cublas_->set_math_mode(handle_, CUBLAS_DEFAULT_MATH));
    CheckCublas("cublasSetAtomicsMode", cublas_->set_atomics_mode(handle_, CUBLAS_ATOMICS_NOT_ALLOWED));
  }
  ~OnDevice() override {
    if (handle_ != nullptr) cublas_->destroy(handle_);
  }

  std::string Version() const {
    int version = 0;  // 10000 major + 100 minor + patch
    CheckCublas("cublasGetVersion", cublas_->get_version(handle_, &version));
    return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
  }

  Device* device() const override { return device_; }

  void GemmNn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
              float* c, int64_t ldc, bool accumulate) override {
    Gemm(CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }
  void GemmTn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
              float* c, int64_t ldc, bool accumulate) override {
    Gemm(CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }
  void GemmNt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
              float* c, int64_t ldc, bool accumulate) override {
    Gemm(CUBLAS_OP_N, CUBLAS_OP_T, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }

  void Copy(int64_t n, const float* x, float* y) override {
    device_->Copy(y, x, static_cast<size_t>(n) * sizeof(float));
  }
  void Add(int64_t n, const float* a, const float* b, float* y) override {
    Check(LaunchAdd(grid_, n, a, b, y));
  }
  void AddRow(int64_t rows, int64_t cols, const float* row, float* x) override {
    Check(LaunchAddRow(grid_, rows, cols, row, x));
  }
  void AddRelu(int64_t rows, int64_t cols, const float* shift, int64_t shift_rows, float* x) override {
    Check(LaunchAddRelu(grid_, rows, cols, shift, shift_rows, x));
  }
  void ReluBackward(int64_t n, const float* x, float* d) override {
    Check(LaunchReluBackward(grid_, n, x, d));
  }
  void ScaleColumns(int64_t rows, int64_t cols, const float* w, const float* x, float* y) override {
    Check(LaunchScaleColumns(grid_, rows, cols, w, x, y));
  }
  void ColumnSums(int64_t rows, int64_t cols, const float* x, int64_t ldx, float* y) override {
    SumColumns(rows, cols, x, nullptr, ldx, y);
  }
  void ColumnDots(int64_t rows, int64_t cols, const float* a, const float* b, float* y) override {
    SumColumns(rows, cols, a, b, cols, y);
  }

  void Logistic(const LogisticLoss& loss) override {
    row_loss_.Reserve(static_cast<size_t>(loss.n));
    rows_.Reserve(static_cast<size_t>(loss.n));
    Check(LaunchLogistic(grid_, loss, row_loss_.device(), rows_.device()));
    Check(LaunchSum(grid_, loss.n, row_loss_.device(), loss.loss));
    ColumnSums(loss.n, 1, rows_.device(), 1, loss.g_b3);
    ColumnSums(loss.n, loss.cols, loss.d_c, loss.cols, loss.g_b2);
    GemmTn(loss.cols, 1, loss.n, loss.c, loss.cols, rows_.device(), 1, loss.g_w3, 1, false);
  }
  void Softmax(const SoftmaxLoss& loss) override {
    row_loss_.Reserve(static_cast<size_t>(loss.n));
    rows_.Reserve(static_cast<size_t>(loss.n * kRepeatFeatures));
    Check(LaunchSoftmax(grid_, loss, row_loss_.device(), rows_.device()));
    Check(LaunchSum(grid_, loss.n, row_loss_.device(), loss.loss));
    ColumnSums(loss.n, kRepeatFeatures, rows_.device(), kRepeatFeatures, loss.g_repeat);
  }

  void Adam(float* value, float* m, float* v, const float* grad, int64_t n, float lr, float beta1,
            float beta2, float eps, float c1, float c2) override {
    Check(LaunchAdam(grid_, value, m, v, grad, n, lr, beta1, beta2, eps, c1, c2));
  }
  void Drop(const Dropout& dropout, int64_t n, float* x) override { Check(LaunchDrop(grid_, dropout, n, x)); }
  void BiasShifts(int64_t n, const int32_t* ids, const float* bias, const float* less, float* y) override {
    Check(LaunchBiasShifts(grid_, n, ids, bias, less, y));
  }
  void StepBiases(const BiasStep& step) override { Check(LaunchStepBiases(grid_, step)); }

 private:
  // A row-major matrix is the column-major transposed one: C^T = op(B)^T op(A)^T, each as it lies.
  void Gemm(cublasOperation_t of_a, cublasOperation_t of_b, int64_t m, int64_t n, int64_t k, const float* a,
            int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    const float alpha = 1.0f, beta = accumulate ? 1.0f : 0.0f;
    CheckCublas("cublasSgemm", cublas_->sgemm(handle_, of_b, of_a, Int(n), Int(m), Int(k), &alpha, b,
                                              Int(ldb), a, Int(lda), &beta, c, Int(ldc)));
  }
  void SumColumns(int64_t rows, int64_t cols, const float* a, const float* b, int64_t lda, float* y) {
    pieces_.Reserve(static_cast<size_t>(PiecesOf(rows) * cols));
    Check(LaunchColumnSums(grid_, rows, cols, a, b, lda, pieces_.device(), y));
  }

  Device* device_;
  DenseGrid grid_;
  std::unique_ptr<Cublas> cublas_;
  cublasHandle_t handle_ = nullptr;
  Mirror<uint8_t> workspace_;
  Mirror<double> row_loss_;
  Mirror<float> rows_, pieces_;  // one value, or kRepeatFeatures, a row; partial sums of columns
};

}  // namespace

std::unique_ptr<DenseMath> OpenDeviceMath(Device* device, std::string* what, int64_t most_blocks) {
  std::unique_ptr<Cublas> cublas = Cublas::Load(what);
  if (cublas == nullptr) return nullptr;
  auto math = std::make_unique<OnDevice>(device, std::move(cublas), most_blocks);
  *what = "cuBLAS " + math->Version() + " (" + *what + ")";
  return math;
}

}  // namespace resembed::train

#else

namespace resembed::train {

std::unique_ptr<DenseMath> OpenDeviceMath(Device*, std::string* what, int64_t) {
  *what = "this trainer was built without cublas_v2.h";
  return nullptr;
}

}  // namespace resembed::train

#endif
