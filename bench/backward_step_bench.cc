// SPDX-License-Identifier: Apache-2.0
// resembed_plan + resembed_backward_step of a training batch against the update limit of the memory and
// against unfused scatter code.
#include <string>
#include <vector>

#include "bench/support/main.h"
#include "bench/support/scenario.h"
#include "bench/support/unfused.h"
#include "bench/support/updater.h"

namespace resembed::bench {
namespace {

constexpr int64_t kIds = 40'960;
constexpr int kBatches = 4;
constexpr int kPeerRuns = 3;

struct UpdateCase {
  TableSpec table;
  resembed_optimizer_kind optimizer = RESEMBED_ROWWISE_ADAGRAD;
  int64_t bag_length = 20;
};

const char* OptimizerName(resembed_optimizer_kind kind) {
  static const char* const kNames[] = {"sgd", "adagrad", "rowwise_adagrad", "adam", "partial_rowwise_adam"};
  return kNames[kind];
}

std::string Name(const UpdateCase& c) {
  char zipf[16];
  std::snprintf(zipf, sizeof(zipf), "%g", c.table.alpha);
  std::string name = "BM_PlanBackwardStep/" + DtypeName(c.table.dtype) + "_i32/" +
                     OptimizerName(c.optimizer) + "/form:" + FormName(c.table.form) +
                     "/dim:" + std::to_string(c.table.dim) + "/bag:" + std::to_string(c.bag_length) +
                     "/zipf:" + zipf + "/rows:" + CountName(c.table.rows);
  if (c.table.pages == Pages::kSmall) name += "/pages:small";
  return c.table.form == RESEMBED_CENTRAL_NONE ? name : name + "/k:" + std::to_string(c.table.k);
}

void PlanBackwardStep(benchmark::State& state, const UpdateCase& c) {
  const Scenario& scenario = GetScenario(c.table);
  const IdSource source(c.table.rows, c.table.alpha, 3);
  const int64_t n_bags = kIds / c.bag_length, dim = c.table.dim;
  std::vector<Batch> batches;
  for (uint64_t stream = 0; stream < kBatches; ++stream) {
    batches.push_back(MakeBatch(scenario, source, n_bags, c.bag_length, stream));
  }
  const HugeArray<float> grad = OutputGradients(n_bags * dim);
  const bool central = c.table.form != RESEMBED_CENTRAL_NONE;
  Part residual_part(c.optimizer, c.table.rows, dim, c.table.pages),
      central_part(c.optimizer, central ? c.table.rows : 1, dim, c.table.pages);
  Updater updater(scenario.tables(), &batches[0].feature, GradOf(grad.data()), &residual_part,
                  central ? &central_part : nullptr);

  const MemoryTable limit_of = MemoryTableOf(c.table.rows, dim * ElementBytes(c.table.dtype));
  RefreshLimits(limit_of);
  // Pages and caches are warm before the first timed step.
  for (const Batch& batch : batches) {
    updater.Plan(&batch.feature);
    updater.Step();
  }
  Timings whole, planning;
  size_t number = 0;
  for (auto _ : state) {
    const resembed_feature* feature = &batches[number++ % kBatches].feature;
    whole.Time([&] {
      planning.Time([&] { updater.Plan(feature); });
      updater.Step();
    });
  }
  RefreshLimits(limit_of);

  const StateShape state_shape = StateOf(c.optimizer);
  const auto compulsory = static_cast<double>(CompulsoryUpdate(batches[0].shape, state_shape));
  const double limit = Limits(limit_of).update_gbps, median = whole.Median();
  state.counters["bytes"] = compulsory;
  state.counters["GBps"] = 1e-9 * compulsory / median;
  state.counters["logical_GBps"] =
      1e-9 * static_cast<double>(LogicalUpdate(batches[0].shape, state_shape)) / median;
  state.counters["limit_GBps"] = limit;
  state.counters["update_frac"] = 1e-9 * compulsory / median / limit;
  state.counters["update_frac_best"] = 1e-9 * compulsory / whole.Best() / limit;
  state.counters["plan_ms"] = 1e3 * planning.Median();
  state.counters["unique_frac"] = static_cast<double>(batches[0].shape.n_unique) / static_cast<double>(kIds);
  state.counters["items_per_s"] = static_cast<double>(kIds) / median;
  Timings fresh, kept;
  for (int run = 0; run < kPeerRuns; ++run) {
    Unfused peer(scenario, batches[static_cast<size_t>(run) % kBatches]);
    const auto update = [&] {
      peer.BackwardStep(grad.data(), residual_part.descriptor, central_part.descriptor);
    };
    fresh.Time(update);
    kept.Time(update);
  }
  state.counters["vs_unfused"] = fresh.Median() / median;
  state.counters["vs_unfused_kept"] = kept.Median() / median;
}

// Items numbered by the caller against items numbered center by center, in turns over the same batches; numbered
// times have the translation of the ids in them.
struct NumberingCase {
  TableSpec table;
  resembed_optimizer_kind optimizer;
  int64_t n_ids;
  int interests;  // of a bag, its items any of theirs; 0: items of any center
};
constexpr int64_t kNumberedBag = 20;

std::string Name(const NumberingCase& c) {
  char zipf[16];
  std::snprintf(zipf, sizeof(zipf), "%g", c.table.alpha);
  return std::string("BM_Numbering/f32_i32/") + OptimizerName(c.optimizer) +
         "/dim:" + std::to_string(c.table.dim) + "/ids:" + std::to_string(c.n_ids) + "/zipf:" + zipf +
         "/rows:" + CountName(c.table.rows) + "/centers:" + std::to_string(c.table.centers) +
         (c.interests == 0 ? "/random" : "/coherent:" + std::to_string(c.interests));
}

// Bags of items of a few centers each, which the power law chooses.
std::vector<int32_t> CoherentIds(const NumberingCase& c, const resembed_numbering& numbering,
                                 const int32_t* center_of, uint64_t stream) {
  const int64_t n_bags = c.n_ids / kNumberedBag;
  std::vector<int32_t> chosen(static_cast<size_t>(n_bags * c.interests)), ids(static_cast<size_t>(c.n_ids));
  IdSource(c.table.centers, c.table.alpha, 3).Fill(stream, n_bags * c.interests, chosen.data());
  std::vector<int64_t> first(static_cast<size_t>(c.table.centers) + 1, 0);
  for (int64_t item = 0; item < c.table.rows; ++item) ++first[static_cast<size_t>(center_of[item]) + 1];
  for (size_t center = 1; center < first.size(); ++center) first[center] += first[center - 1];
  for (int64_t at = 0; at < c.n_ids; ++at) {
    const auto center =
        static_cast<size_t>(chosen[static_cast<size_t>(at / kNumberedBag * c.interests + at % c.interests)]);
    const int64_t size = first[center + 1] - first[center];
    const auto draw = static_cast<int64_t>((static_cast<uint64_t>(at) * 0x9e3779b97f4a7c15u + stream) >> 33);
    ids[static_cast<size_t>(at)] = size == 0 ? 0 : numbering.external_of[first[center] + draw % size];
  }
  return ids;
}

void CenterMajor(benchmark::State& state, const NumberingCase& c) {
  const Scenario& scenario = GetScenario(c.table);
  const resembed_place place = CpuPlace();
  HugeArray<int32_t> internal_of(c.table.rows), external_of(c.table.rows), centers(c.table.rows);
  resembed_numbering numbering = {};
  numbering.struct_size = sizeof(numbering);
  numbering.n_items = c.table.rows;
  numbering.internal_of = internal_of.data();
  numbering.external_of = external_of.data();
  Check(resembed_number_by_center(scenario.slots(), RESEMBED_I32, c.table.centers, &numbering));
  // The same R under both: what it holds costs no time.
  std::copy_n(scenario.slots(), c.table.rows, centers.data());
  resembed_item_rows rows = {};
  rows.struct_size = sizeof(rows);
  rows.data = centers.data();
  rows.dtype = RESEMBED_I32;
  rows.dim = 1;
  const resembed_item_rows* arrays[] = {&rows};
  Check(resembed_renumber(&numbering, RESEMBED_TO_INTERNAL, arrays, 1));
  resembed_table table = scenario.table();
  table.center_of = centers.data();
  table.center_major = 1;
  const resembed_table* const table_list[] = {&table};
  resembed_tables tables = {};
  tables.struct_size = sizeof(tables);
  tables.tables = table_list;
  tables.n_tables = 1;

  const IdSource source(c.table.rows, c.table.alpha, 3);
  std::vector<Batch> batches;
  for (uint64_t stream = 0; stream < kBatches; ++stream) {
    batches.push_back(MakeBatch(scenario, source, c.n_ids / kNumberedBag, kNumberedBag, stream));
    if (c.interests == 0) continue;
    batches.back().ids = CoherentIds(c, numbering, scenario.slots(), stream);
    batches.back().feature.ids = batches.back().ids.data();
  }
  const HugeArray<float> grad = OutputGradients(c.n_ids / kNumberedBag * c.table.dim);
  Part residual_part(c.optimizer, c.table.rows, c.table.dim),
      central_part(c.optimizer, c.table.centers, c.table.dim);
  HugeArray<int32_t> translated(c.n_ids);
  resembed_feature feature = batches[0].feature;
  feature.ids = translated.data();
  Updater plain(scenario.tables(), &batches[0].feature, GradOf(grad.data()), &residual_part, &central_part),
      numbered(tables, &feature, GradOf(grad.data()), &residual_part, &central_part);
  resembed_translate_args translate = {};
  translate.struct_size = sizeof(translate);
  translate.id_dtype = RESEMBED_I32;
  translate.n_ids = c.n_ids;
  translate.map = internal_of.data();
  translate.n_map = c.table.rows;
  translate.output = translated.data();

  // Pages and caches are warm before the first timed step.
  for (const Batch& batch : batches) {
    plain.Plan(&batch.feature);
    plain.Step();
    translate.ids = batch.ids.data();
    Check(resembed_translate(&translate, &place));
    numbered.Plan(&feature);
    numbered.Step();
  }
  Timings whole, planning, numbered_whole, translating, numbered_planning;
  size_t number = 0;
  for (auto _ : state) {
    const Batch& batch = batches[number++ % kBatches];
    whole.Time([&] {
      planning.Time([&] { plain.Plan(&batch.feature); });
      plain.Step();
    });
    numbered_whole.Time([&] {
      translating.Time([&] {
        translate.ids = batch.ids.data();
        Check(resembed_translate(&translate, &place));
      });
      numbered_planning.Time([&] { numbered.Plan(&feature); });
      numbered.Step();
    });
  }
  state.counters["ms"] = 1e3 * whole.Median();
  state.counters["numbered_ms"] = 1e3 * numbered_whole.Median();
  state.counters["speedup"] = whole.Median() / numbered_whole.Median();
  state.counters["speedup_best"] = whole.Best() / numbered_whole.Best();
  // Where the ids were translated once for all epochs.
  state.counters["speedup_stored_ids"] = whole.Median() / (numbered_whole.Median() - translating.Median());
  state.counters["plan_ms"] = 1e3 * planning.Median();
  state.counters["numbered_plan_ms"] = 1e3 * numbered_planning.Median();
  state.counters["translate_ms"] = 1e3 * translating.Median();
}

void RegisterNumbering() {
  for (const resembed_optimizer_kind optimizer : {RESEMBED_ROWWISE_ADAGRAD, RESEMBED_ADAM}) {
    for (const int64_t centers : {4'096, 65'536}) {
      for (const int interests : {0, 4}) {
        for (const double alpha : {0.0, 1.05}) {
          for (const int64_t n_ids : {40'960, 409'600}) {
            NumberingCase c = {TableSpec(), optimizer, n_ids, interests};
            c.table.form = RESEMBED_CENTRAL_ASSIGNMENT;
            c.table.centers = centers;
            c.table.alpha = alpha;
            if (optimizer == RESEMBED_ADAM && (centers == 4'096 || n_ids == 40'960)) continue;
            benchmark::RegisterBenchmark(Name(c).c_str(),
                                         [c](benchmark::State& state) { CenterMajor(state, c); })
                ->UseRealTime()
                ->Unit(benchmark::kMillisecond);
          }
        }
      }
    }
  }
}

void Register() {
  std::vector<UpdateCase> cases;
  const UpdateCase main;
  cases.push_back(main);
  const auto vary = [&](auto&& change) {
    UpdateCase c = main;
    change(c);
    cases.push_back(c);
  };
  for (const int64_t bag_length : {1, 100}) vary([&](UpdateCase& c) { c.bag_length = bag_length; });
  for (const resembed_optimizer_kind kind :
       {RESEMBED_SGD, RESEMBED_ADAGRAD, RESEMBED_ADAM, RESEMBED_PARTIAL_ROWWISE_ADAM}) {
    vary([&](UpdateCase& c) { c.optimizer = kind; });
  }
  for (const resembed_central_form form : {RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_NONE}) {
    vary([&](UpdateCase& c) { c.table.form = form; });
  }
  vary([](UpdateCase& c) { c.table.pages = Pages::kSmall; });  // what a caller loses on ordinary pages
  for (const double alpha : {1.05, 1.15}) vary([&](UpdateCase& c) { c.table.alpha = alpha; });
  vary([](UpdateCase& c) { c.table.dtype = RESEMBED_BF16; });
  for (const int64_t dim : {16, 32, 128}) vary([&](UpdateCase& c) { c.table.dim = dim; });
  vary([](UpdateCase& c) { c.table.dim = 256, c.table.rows = 2'000'000; });
  vary([](UpdateCase& c) { c.table.rows = 10'000'000; });
  for (const UpdateCase& c : cases) {
    benchmark::RegisterBenchmark(Name(c).c_str(),
                                 [c](benchmark::State& state) { PlanBackwardStep(state, c); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace resembed::bench

int main(int argc, char** argv) {
  resembed::bench::Register();
  resembed::bench::RegisterNumbering();
  return resembed::bench::RunMain(argc, argv);
}
