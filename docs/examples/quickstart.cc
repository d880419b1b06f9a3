// A training step with residual embeddings in a loop of your own. Built and run by the tests.
#include <cstdio>
#include <vector>

#include "resembed/resembed.hpp"

int main() {
  using namespace resembed;
  const int64_t n_items = 1000, n_centers = 50, dim = 16, n_bags = 2;
  std::vector<float> residual(n_items * dim, 0.0f), central(n_centers * dim, 0.1f);
  std::vector<float> residual_state(n_items), central_state(n_centers), pooled(n_bags * dim);
  std::vector<int32_t> center_of(n_items);
  for (int32_t item = 0; item < n_items; ++item) center_of[item] = item % 50;

  Table table(n_items, dim);
  table.Residual(residual.data()).Central(central.data(), n_centers).Assignment(center_of.data());
  const std::vector<int64_t> ids = {3, 14, 159, 26, 535}, offsets = {0, 3, 5};
  Feature history(0, RESEMBED_POOLING_MEAN);
  history.Ids(ids.data(), 5).Offsets(offsets.data(), n_bags).Output(pooled.data());

  const Optimizer for_residual = Optimizer::RowwiseAdagrad(0.05f, residual_state.data()).L2(0.006f);
  const Optimizer for_central = Optimizer::RowwiseAdagrad(0.05f, central_state.data());
  const TableStep step(&for_residual, &for_central);
  Batch batch({&table}, {&history}, Place::Cpu());
  for (int iteration = 0; iteration < 10; ++iteration) {
    Status status = batch.Plan();
    if (status.ok()) status = batch.Forward();
    const std::vector<float> gradient = pooled;  // of the loss |y|^2 / 2: your network goes here
    const FeatureGrad dy(gradient.data());
    if (status.ok()) status = batch.BackwardStep({&dy}, {&step});
    if (!status.ok()) return std::fprintf(stderr, "%s\n", status.message().c_str()), 1;
  }
  std::printf("pooled[0][0] went from 0.1 to %.4f\n", static_cast<double>(pooled[0]));
  return pooled[0] < 0.1f ? 0 : 1;
}
