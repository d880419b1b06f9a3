// SPDX-License-Identifier: Apache-2.0
#include "host/train/figures.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/train/random.h"

namespace resembed::train {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct NamedValues {
  const char* name;
  std::vector<float> values;
};

std::vector<float> Where(const std::vector<float>& values, const std::vector<bool>& mask, bool wanted) {
  std::vector<float> chosen;
  for (size_t i = 0; i < values.size(); ++i) {
    if (mask[i] == wanted) chosen.push_back(values[i]);
  }
  return chosen;
}

std::vector<NamedValues> Values(const Figures& figures) {
  std::vector<NamedValues> values;
  if (!figures.auc.empty()) values.push_back({"auc", figures.auc});
  if (!figures.auc_pop.empty()) values.push_back({"auc_pop", figures.auc_pop});
  if (!figures.logloss.empty()) values.push_back({"logloss", figures.logloss});
  if (!figures.hr20.empty()) {
    values.push_back({"hr20", figures.hr20});
    values.push_back({"hr20_new", Where(figures.hr20, figures.ranked_repeat, false)});
    values.push_back({"hr20_repeat", Where(figures.hr20, figures.ranked_repeat, true)});
  }
  return values;
}

std::vector<float> MeanOf(const std::vector<const std::vector<float>*>& rows) {
  std::vector<double> sums(rows[0]->size(), 0);
  for (const std::vector<float>* row : rows) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += (*row)[i];
  }
  std::vector<float> means;
  for (const double sum : sums) means.push_back(static_cast<float>(sum / static_cast<double>(rows.size())));
  return means;
}

}  // namespace

std::map<std::string, double> NamedFigures(const Figures& figures) {
  std::map<std::string, double> named;
  if (!figures.auc.empty()) named["auc"] = figures.Auc();
  if (!figures.auc_pop.empty()) named["auc_pop"] = figures.AucPop();
  if (!figures.logloss.empty()) named["logloss"] = figures.LogLoss();
  if (!figures.hr20.empty()) {
    named["hr20"] = figures.Hr20();
    named["hr20_new"] = figures.Hr20New();
    named["hr20_repeat"] = figures.Hr20Repeat();
  }
  return named;
}

Figures MeanOfSeeds(const std::vector<Figures>& seeds) {
  const auto mean = [&](std::vector<float> Figures::*member) {
    std::vector<const std::vector<float>*> rows;
    for (const Figures& figures : seeds) rows.push_back(&(figures.*member));
    return MeanOf(rows);
  };
  if (seeds.empty()) return {};
  Figures figures;
  figures.auc = mean(&Figures::auc);
  figures.auc_pop = mean(&Figures::auc_pop);
  figures.logloss = mean(&Figures::logloss);
  figures.hr20 = mean(&Figures::hr20);
  figures.ranked_repeat = seeds[0].ranked_repeat;
  return figures;
}

MeanStd MeanAndStd(const std::vector<double>& values) {
  if (values.empty()) return {kNaN, kNaN};
  const double n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? kNaN : std::sqrt(squares / (n - 1))};
}

Interval MeanInterval(const std::vector<float>& values, uint64_t seed, int n_resamples) {
  if (values.empty()) return {kNaN, kNaN, kNaN};
  const int64_t n = static_cast<int64_t>(values.size());
  double sum = 0;
  for (const float value : values) sum += value;
  // Resample r draws from its own stream: the same users for every row and figure of the same length.
  std::vector<double> means;
  for (int resample = 0; resample < n_resamples; ++resample) {
    Random random(seed, static_cast<uint64_t>(resample));
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += values[static_cast<size_t>(random.Below(n))];
    means.push_back(total / static_cast<double>(n));
  }
  std::sort(means.begin(), means.end());
  const double tail = 0.025 * static_cast<double>(n_resamples);
  const size_t low = static_cast<size_t>(std::floor(tail));
  const size_t high = static_cast<size_t>(n_resamples - 1) - low;
  return {sum / static_cast<double>(n), means[low], means[high]};
}

Interval PairedInterval(const std::vector<float>& row, const std::vector<float>& base, uint64_t seed,
                        int n_resamples) {
  std::vector<float> difference;
  for (size_t i = 0; i < row.size() && i < base.size(); ++i) difference.push_back(row[i] - base[i]);
  return MeanInterval(difference, seed, n_resamples);
}

std::map<std::string, Interval> FigureIntervals(const Figures& row, uint64_t seed, int n_resamples) {
  std::map<std::string, Interval> intervals;
  for (const NamedValues& figure : Values(row)) {
    intervals[figure.name] = MeanInterval(figure.values, seed, n_resamples);
  }
  return intervals;
}

std::map<std::string, Interval> CompareFigures(const Figures& row, const Figures& base, uint64_t seed,
                                               int n_resamples) {
  const std::vector<NamedValues> bases = Values(base);
  std::map<std::string, Interval> intervals;
  for (const NamedValues& figure : Values(row)) {
    for (const NamedValues& other : bases) {
      if (std::string(other.name) != figure.name) continue;
      intervals[figure.name] = PairedInterval(figure.values, other.values, seed, n_resamples);
    }
  }
  return intervals;
}

Agreement CompareInterests(const std::vector<int32_t>& truth, const std::vector<int32_t>& found,
                           const std::vector<int32_t>& neighbors, int32_t k) {
  std::map<std::pair<int32_t, int32_t>, double> joint;
  std::map<int32_t, double> truth_share, found_share, degree;
  double n = 0, n_edges = 0, n_within = 0;
  for (size_t item = 0; item < truth.size(); ++item) {
    if (truth[item] < 0 || found[item] < 0) continue;
    ++joint[{truth[item], found[item]}];
    ++truth_share[truth[item]];
    ++found_share[found[item]];
    ++n;
  }
  const auto entropy = [&](const std::map<int32_t, double>& shares) {
    double sum = 0;
    for (const auto& [key, count] : shares) sum -= count / n * std::log(count / n);
    return sum;
  };
  double mutual = 0;
  for (const auto& [key, count] : joint) {
    mutual += count / n * std::log(count * n / (truth_share[key.first] * found_share[key.second]));
  }
  const double entropies = entropy(truth_share) + entropy(found_share);

  for (size_t item = 0; item < truth.size(); ++item) {
    for (int32_t j = 0; j < k; ++j) {
      const int32_t neighbor = neighbors[item * static_cast<size_t>(k) + static_cast<size_t>(j)];
      if (neighbor < 0) break;
      if (truth[item] < 0 || truth[static_cast<size_t>(neighbor)] < 0) continue;
      ++n_edges;
      n_within += truth[item] == truth[static_cast<size_t>(neighbor)] ? 1 : 0;
      ++degree[truth[item]];
      ++degree[truth[static_cast<size_t>(neighbor)]];
    }
  }
  double chance = 0;
  for (const auto& [interest, ends] : degree) chance += ends / (2 * n_edges) * (ends / (2 * n_edges));
  return {entropies > 0 ? 2 * mutual / entropies : kNaN, n_edges > 0 ? n_within / n_edges : kNaN,
          n_edges > 0 ? chance : kNaN};
}

}  // namespace resembed::train
