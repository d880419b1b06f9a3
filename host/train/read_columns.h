// SPDX-License-Identifier: Apache-2.0
// Which column is what.
#pragma once

#include <string>
#include <vector>

namespace resembed::train {

struct Columns {
  int user = 0, item = 1;
  int order = 2;            // -1: the order of the file
  bool has_header = false;  // line 1 is names, not an event
  std::string description;  // "user=visitorid,item=itemid,order=timestamp"
};

// `first`: fields of line 1; `option`: --columns or "". Throws Error without a place ("FILE:1: " is the caller's).
Columns ResolveColumns(const std::vector<std::string>& first, const std::string& option);

}  // namespace resembed::train
