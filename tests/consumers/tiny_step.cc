// A C++17 program with nothing but resembed.hpp: forward, plan and one fused SGD step, numbers checked by hand
// (the problem of tiny_step.c with the neighbors form: item 0 has two central rows, item 3 none).
#include <cstdio>
#include <resembed/resembed.hpp>
#include <vector>

namespace {

bool Same(const char* what, const std::vector<float>& seen, const std::vector<float>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (seen[i] == expected[i]) continue;
    std::fprintf(stderr, "%s[%zu] is %g; needs %g\n", what, i, static_cast<double>(seen[i]),
                 static_cast<double>(expected[i]));
    return false;
  }
  return true;
}

}  // namespace

int main() {
  using namespace resembed;
  std::vector<float> residual = {1, 2, 3, 4, 5, 6, 7, 8}, central = {10, 20, 100, 200}, pooled(6);
  const std::vector<int32_t> neighbors = {0, 1, 1, -1, 0, -1, -1, -1};
  const std::vector<int64_t> ids = {0, 1, 0, 2, 3};
  const std::vector<int64_t> offsets = {0, 3, 3, 5};
  const std::vector<float> gradient = {1, 2, 9, 9, 3, 4};

  Table table(4, 2);
  table.Residual(residual.data()).Central(central.data(), 2).Uniform(neighbors.data(), 2);
  Feature feature(0, RESEMBED_POOLING_SUM);
  feature.Ids(ids.data(), 5).Offsets(offsets.data(), 3).Output(pooled.data());
  Batch batch({&table}, {&feature}, Place::Cpu());

  // e = (56, 112), (103, 204), (15, 26), (7, 8)
  Status status = batch.Plan();
  if (status.ok()) status = batch.Forward();
  bool same = status.ok() && Same("pooled", pooled, {215, 428, 0, 0, 22, 34});

  // dE = (2, 4), (1, 2), (3, 4), (3, 4); dC = (2, 4)/2 + (3, 4), (2, 4)/2 + (1, 2)
  const Optimizer sgd = Optimizer::Sgd(0.5f);
  const TableStep step(&sgd, &sgd);
  const FeatureGrad grad(gradient.data());
  if (status.ok()) status = batch.BackwardStep({&grad}, {&step});
  same = same && status.ok() && Same("residual", residual, {0, 0, 2.5f, 3, 3.5f, 4, 5.5f, 6}) &&
         Same("central", central, {8, 17, 99, 198});
  if (!status.ok()) std::fprintf(stderr, "%s: %s\n", status.name(), status.message().c_str());
  if (same) std::printf("ok: resembed %d\n", static_cast<int>(resembed_version()));
  return same ? 0 : 1;
}
