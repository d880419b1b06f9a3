// SPDX-License-Identifier: Apache-2.0
// The interest delay model of Zhou et al. 2019, section 3: the hidden interest holds for a period of clicks.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "host/train/log.h"
#include "host/train/random.h"

namespace resembed::train {
namespace {

constexpr uint64_t kCatalogueStream = 1, kFirstUserStream = 1000;
constexpr uint64_t kFirstTimeStream = uint64_t{1} << 40;  // no user's
constexpr int64_t kDay = 86400, kStarts = 365 * kDay, kLongestGap = 60 * kDay, kLongestClick = 600;

void CheckOptions(const GeneratorOptions& options) {
  const auto need = [](bool holds, const char* rule) {
    if (!holds) throw Error{std::string("the generated log needs ") + rule};
  };
  need(options.n_users >= 1 && options.n_users < (int64_t{1} << 31), "1 to 2^31 users");
  need(options.n_interests >= 1, "at least one interest");
  need(options.n_items >= 2 * options.n_interests, "at least two items for each interest");
  need(options.n_items < (int64_t{1} << 31), "fewer than 2^31 items");
  need(options.period >= 1 && options.mean_periods >= 1 && options.mean_periods <= 400,
       "periods of at least one click, 1 to 400 of them");
  for (const double share : {options.overlap, options.noise, options.repeat, options.stay}) {
    need(share >= 0 && share <= 1, "shares from 0 to 1");
  }
  need(options.overlap + options.noise + options.repeat <= 1,
       "overlap, noise and repeat to sum to 1 at most");
  need(options.zipf >= 0 && options.interest_zipf >= 0, "Zipf exponents from 0");
}

// Number of items of each interest: 2 each, the rest in proportion to Zipf weights, largest remainders first.
std::vector<int64_t> InterestSizes(const GeneratorOptions& options) {
  const std::vector<double> weights = ZipfWeights(options.n_interests, options.interest_zipf);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const int64_t spare = options.n_items - 2 * options.n_interests;
  std::vector<int64_t> sizes(weights.size(), 2);
  int64_t given = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t share = static_cast<int64_t>(static_cast<double>(spare) * weights[i] / sum);
    sizes[i] += share;
    given += share;
  }
  for (size_t i = 0; given < spare; i = (i + 1) % sizes.size(), ++given) ++sizes[i];
  return sizes;
}

struct Catalogue {
  std::vector<std::vector<int32_t>> items_of;  // [n_interests] most popular first
  std::vector<WeightedDraw> draw_of;           // [n_interests] index into items_of
  std::vector<WeightedDraw> draw_interest;     // one
};

Catalogue MakeCatalogue(const GeneratorOptions& options, Log* log) {
  Random random(options.seed, kCatalogueStream);
  std::vector<int32_t> items(static_cast<size_t>(options.n_items));
  std::iota(items.begin(), items.end(), 0);
  Shuffle(items, random);  // an id says nothing about interest or popularity
  log->interest_of.assign(items.size(), -1);

  Catalogue catalogue;
  const std::vector<int64_t> sizes = InterestSizes(options);
  size_t next = 0;
  for (size_t interest = 0; interest < sizes.size(); ++interest) {
    const size_t size = static_cast<size_t>(sizes[interest]);
    catalogue.items_of.emplace_back(items.begin() + static_cast<std::ptrdiff_t>(next),
                                    items.begin() + static_cast<std::ptrdiff_t>(next + size));
    catalogue.draw_of.emplace_back(ZipfWeights(sizes[interest], options.zipf));
    for (const int32_t item : catalogue.items_of.back()) {
      log->interest_of[static_cast<size_t>(item)] = static_cast<int32_t>(interest);
    }
    next += size;
  }
  catalogue.draw_interest.emplace_back(std::vector<double>(sizes.begin(), sizes.end()));
  return catalogue;
}

void AppendUser(const GeneratorOptions& options, const Catalogue& catalogue, int64_t user, Log* log) {
  Random random(options.seed, kFirstUserStream + static_cast<uint64_t>(user));
  const size_t first = log->items.size();
  std::vector<int64_t> interests;  // held so far
  const int32_t n_periods = 1 + random.Poisson(options.mean_periods - 1);
  for (int32_t period = 0; period < n_periods; ++period) {
    const bool known = !interests.empty() && random.Uniform() < options.stay;
    const int64_t interest =
        known ? interests[static_cast<size_t>(random.Below(static_cast<int64_t>(interests.size())))]
              : catalogue.draw_interest[0].Draw(random);
    interests.push_back(interest);
    for (int32_t click = 0; click < options.period; ++click) {
      double kind = random.Uniform();
      const int64_t n_earlier = static_cast<int64_t>(log->items.size() - first);
      if (kind < options.repeat && n_earlier > 0) {
        log->items.push_back(log->items[first + static_cast<size_t>(random.Below(n_earlier))]);
        continue;
      }
      kind -= options.repeat;
      if (kind >= 0 && kind < options.noise) {
        log->items.push_back(static_cast<int32_t>(random.Below(options.n_items)));
        continue;
      }
      kind -= options.noise;
      const bool next_door = kind >= 0 && kind < options.overlap;
      const size_t from = static_cast<size_t>((interest + (next_door ? 1 : 0)) % options.n_interests);
      log->items.push_back(
          catalogue.items_of[from][static_cast<size_t>(catalogue.draw_of[from].Draw(random))]);
    }
  }
  log->offsets.push_back(static_cast<int64_t>(log->items.size()));
}

void AppendTimes(const GeneratorOptions& options, int64_t user, Log* log) {
  Random random(options.seed, kFirstTimeStream + static_cast<uint64_t>(user));
  const int64_t n_clicks =
      log->offsets[static_cast<size_t>(user) + 1] - log->offsets[static_cast<size_t>(user)];
  int64_t now = random.Below(kStarts);
  for (int64_t click = 0; click < n_clicks; ++click) {
    if (click > 0) now += 1 + random.Below(click % options.period == 0 ? kLongestGap : kLongestClick);
    log->times.push_back(now);
  }
}

std::string Name(char letter, int64_t number) {
  char name[32];
  std::snprintf(name, sizeof(name), "%c%06lld", letter, static_cast<long long>(number));
  return name;
}

}  // namespace

Log GenerateLog(const GeneratorOptions& options) {
  CheckOptions(options);
  Log log;
  const Catalogue catalogue = MakeCatalogue(options, &log);
  log.offsets.push_back(0);
  for (int64_t user = 0; user < options.n_users; ++user) AppendUser(options, catalogue, user, &log);
  for (int64_t user = 0; options.keep_times && user < options.n_users; ++user)
    AppendTimes(options, user, &log);
  for (int64_t user = 0; user < options.n_users; ++user) log.user_names.push_back(Name('u', user));
  for (int64_t item = 0; item < options.n_items; ++item) log.item_names.push_back(Name('i', item));
  char text[256];
  std::snprintf(text, sizeof(text),
                "generated (interest delay model: %lld interests, periods of %d clicks, %.3g periods a user, "
                "zipf %.3g, "
                "overlap %.3g, noise %.3g, repeat %.3g, stay %.3g, seed %llu)",
                static_cast<long long>(options.n_interests), options.period, options.mean_periods,
                options.zipf, options.overlap, options.noise, options.repeat, options.stay,
                static_cast<unsigned long long>(options.seed));
  log.source = text;
  log.columns = "generated";
  return log;
}

}  // namespace resembed::train
