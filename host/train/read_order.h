// SPDX-License-Identifier: Apache-2.0
// The order column: numbers and ISO 8601, compared exactly.
#pragma once

#include <cstdint>
#include <string_view>

namespace resembed::train {

enum class OrderKind { kNumber, kDate };

// whole + fraction * 1e-18, fraction in [0, 1e18): exact for every 64-bit integer and for 18 decimals. Dates are
// seconds since 1970-01-01T00:00Z.
struct OrderKey {
  int64_t whole = 0;
  int64_t fraction = 0;
};

// Null when `text` (surrounding blanks allowed) was read; otherwise why not.
//   number  [+-]digits[.digits][e[+-]digits], within 64 bits
//   date    YYYY-MM[-DD], optionally (T or blank) hh:mm[:ss[.fraction]] and Z, UTC, GMT or +-hh[[:]mm];
//           also YYYYMMDDThhmm[ss]. Without an offset: UTC.
const char* ParseOrder(std::string_view text, OrderKind* kind, OrderKey* key);

}  // namespace resembed::train
