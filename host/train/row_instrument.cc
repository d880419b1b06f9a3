// SPDX-License-Identifier: Apache-2.0
#include "host/train/row_instrument.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "host/train/random.h"

namespace resembed::train {

namespace {

using Json = nlohmann::json;

uint64_t Hash(uint64_t what, int64_t index) {
  return Random(EnvelopeSample::kSeed + what, static_cast<uint64_t>(index)).Next();
}

// The first n by their hash.
void KeepSmallest(uint64_t what, size_t n, std::vector<int32_t>* indices) {
  std::sort(indices->begin(), indices->end(), [what](int32_t a, int32_t b) {
    const uint64_t hash_a = Hash(what, a), hash_b = Hash(what, b);
    return hash_a != hash_b ? hash_a < hash_b : a < b;
  });
  indices->resize(std::min(n, indices->size()));
}

bool IsOf(const RowKey& key, const Json& line) {
  return line.is_object() && line.value("head", "") == HeadName(key.head) &&
         line.value("variant", "") == key.variant && line.value("seed", 0) == key.seed;
}

// Six digits: what fp32 statistics are worth.
Json Number(double value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return std::strtod(text, nullptr);
}

// Over interests: 5 %, 25 %, 50 %, 75 %, 95 %, nearest rank.
Json Quantiles(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  Json list = Json::array();
  for (const double q : {0.05, 0.25, 0.5, 0.75, 0.95}) {
    const double rank = std::ceil(q * static_cast<double>(values.size()));
    list.push_back(Number(values[static_cast<size_t>(std::max(rank, 1.0)) - 1]));
  }
  return list;
}

Json List(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  Json list = Json::array();
  for (const double value : values) list.push_back(Number(value));
  return list;
}

}  // namespace

EnvelopeSample SampleEnvelope(const Partition& partition, int64_t max_items) {
  std::vector<std::vector<int32_t>> members(static_cast<size_t>(partition.n_interests));
  for (size_t item = 0; item < partition.interest_of.size(); ++item) {
    const int32_t interest = partition.interest_of[item];
    if (interest >= 0) members[static_cast<size_t>(interest)].push_back(static_cast<int32_t>(item));
  }
  EnvelopeSample sample;
  sample.interest_of.assign(partition.interest_of.size(), -1);
  std::vector<int32_t> order;
  int64_t n_items = 0;
  for (size_t interest = 0; interest < members.size(); ++interest) {
    const int64_t n = static_cast<int64_t>(members[interest].size());
    if (n < EnvelopeFigures::kMinItems) continue;
    order.push_back(static_cast<int32_t>(interest));
    n_items += n;
  }
  const bool all = n_items <= max_items;
  if (!all) KeepSmallest(0, EnvelopeSample::kMaxInterests, &order);
  for (const int32_t interest : order) {
    if (!all && sample.n_items >= max_items) break;
    std::vector<int32_t>& list = members[static_cast<size_t>(interest)];
    if (!all) KeepSmallest(1, EnvelopeSample::kMaxMembers, &list);
    sample.interests.push_back(interest);
    sample.n_items += static_cast<int64_t>(list.size());
  }
  std::sort(sample.interests.begin(), sample.interests.end());
  for (size_t place = 0; place < sample.interests.size(); ++place) {
    for (const int32_t item : members[static_cast<size_t>(sample.interests[place])]) {
      sample.interest_of[static_cast<size_t>(item)] = static_cast<int32_t>(place);
    }
  }
  return sample;
}

void EnvelopeLog::Clear() {
  std::error_code error;
  std::filesystem::remove(path_, error);
}

void CopyLines(const std::string& from, const RowKey& key, const std::string& to) {
  std::ifstream lines(from, std::ios::binary);
  std::ofstream copy(to, std::ios::binary | std::ios::app);
  std::string text;
  while (std::getline(lines, text)) {
    if (IsOf(key, Json::parse(text, nullptr, false))) copy << text << '\n';
  }
  copy.close();
  if (!copy) throw Error{to + ": cannot be written"};
}

void EnvelopeLog::Cut(const RowKey& key, int64_t last_step) {
  if (!std::filesystem::exists(path_)) return;
  const std::string partial = path_ + ".part";
  {
    std::ifstream before(path_, std::ios::binary);
    std::ofstream after(partial, std::ios::binary);
    std::string text;
    while (std::getline(before, text)) {
      const Json line = Json::parse(text, nullptr, false);
      if (!line.is_object()) continue;
      if (!IsOf(key, line) || line.value("step", int64_t{0}) <= last_step) after << text << '\n';
    }
    after.close();
    if (!after) throw Error{path_ + ": cannot be written"};
  }
  std::error_code error;
  std::filesystem::rename(partial, path_, error);
  if (error) throw Error{path_ + ": cannot be written (" + error.message() + ")"};
}

void EnvelopeLog::Append(const Json& line) {
  std::ofstream file(path_, std::ios::binary | std::ios::app);
  file << line.dump() << '\n';
  file.close();
  if (!file) throw Error{path_ + ": cannot be written"};
}

RowInstrument::RowInstrument(const RowKey& key, const Hyper& hyper, const Variant& variant,
                             const EnvelopeSample& sample, int every, Learner* learner, TrainState* state,
                             EnvelopeLog* log)
    : key_(key),
      hyper_(hyper),
      sample_(sample),
      every_(sample.interests.empty() ? 0 : every),
      controls_(every_ > 0 && ControlsResidual(hyper, variant)),
      learner_(learner),
      state_(state),
      log_(log),
      meter_(learner->embedding(), sample.interest_of, static_cast<int64_t>(sample.interests.size())) {
  if (every_ == 0) return;
  log_->Cut(key_, state_->looks > 0 ? state_->total_steps : -1);
  if (state_->looks == 0) {
    state_->residual = FirstRule(hyper_);
    Look();
  } else if (controls_) {
    learner_->mutable_embedding().SetResidualRule(state_->residual);
  }
}

Json RowInstrument::Line() {
  const bool residual = learner_->embedding().table().residual != nullptr;
  const bool central = learner_->embedding().table().central != nullptr, both = residual && central;
  // One number for each interest in units of `unit`; none where it does not exist.
  const auto list = [&](bool there, const float* values, float unit) {
    std::vector<double> numbers;
    for (int64_t i = 0; there && unit > 0 && i < meter_.n_interests(); ++i) {
      numbers.push_back(static_cast<double>(values[i] / unit));
    }
    return numbers;
  };
  const std::vector<double> radius = list(true, meter_.radius(), meter_.spread());
  const std::vector<double> ratio = list(both, meter_.ratio(), 1);
  return {{"head", HeadName(key_.head)},
          {"variant", key_.variant},
          {"seed", key_.seed},
          {"step", state_->total_steps},
          {"epoch", state_->epoch},
          {"ratio", both ? Number(meter_.median_ratio()) : Json()},
          {"residual", residual ? Number(meter_.mean_residual_norm()) : Json()},
          {"central", central ? Number(meter_.mean_central_norm()) : Json()},
          {"spread", Number(meter_.spread())},
          {"lambda", controls_ ? Number(state_->residual.lambda) : Json()},
          {"cap", controls_ && hyper_.residual_cap > 0 ? Number(state_->residual.max_norm) : Json()},
          {"quantiles",
           {{"radius", Quantiles(radius)},
            {"radius95", Quantiles(list(true, meter_.radius95(), meter_.spread()))},
            {"residual", Quantiles(list(residual, meter_.residual_norm(), 1))},
            {"central", Quantiles(list(central, meter_.central_norm(), 1))},
            {"ratio", Quantiles(ratio)}}},
          {"per_interest", {{"radius", List(radius)}, {"ratio", List(ratio)}}}};
}

void RowInstrument::Look() {
  const auto begin = std::chrono::steady_clock::now();
  meter_.Measure();
  if (controls_) {
    state_->residual = Follow(hyper_, state_->residual, static_cast<double>(meter_.median_ratio()),
                              static_cast<double>(meter_.mean_central_norm()));
    learner_->mutable_embedding().SetResidualRule(state_->residual);
  }
  log_->Append(Line());
  ++state_->looks;
  state_->look_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace resembed::train
