// SPDX-License-Identifier: Apache-2.0
// What this machine gives for one pass of a radix sort: the yardstick of counting pairs.
#pragma once

namespace resembed::bench {

// GB/s, both ways counted, of 8-byte keys moved to 2^11 places each by a digit, on NumThreads() threads with keys of their
// own; the counts of the digits are known, and the arrays lie past the cache, on huge pages. The best of several
// rounds; each call adds rounds.
double SortPassGbps();

}  // namespace resembed::bench
