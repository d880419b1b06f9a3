// SPDX-License-Identifier: Apache-2.0
//
// C++17 over services.h. Included by resembed.hpp.
#ifndef RESEMBED_SERVICES_HPP_
#define RESEMBED_SERVICES_HPP_

#ifndef RESEMBED_RESEMBED_HPP_
#error "include resembed/resembed.hpp"
#endif

namespace resembed {

/// Options of the interest graph (services.h) with struct_size set, and counts that destroy themselves.
using CovisitOptions = Descriptor<resembed_covisit_options>;
using CovisitSequences = Descriptor<resembed_covisit_sequences>;
using GraphOptions = Descriptor<resembed_graph_options>;
using GraphAssignOptions = Descriptor<resembed_graph_assign_options>;
struct CovisitDelete {
  void operator()(resembed_covisit* counts) const { resembed_covisit_destroy(counts); }
};
using Covisit = std::unique_ptr<resembed_covisit, CovisitDelete>;
inline Status CreateCovisit(const CovisitOptions& options, Covisit* counts) {
  resembed_covisit* raw = nullptr;
  Status status(resembed_covisit_create(&options, &raw));
  counts->reset(raw);
  return status;
}

/// Items numbered center by center (services.h): callers keep external ids, tables are in internal order.
using ItemRows = Descriptor<resembed_item_rows>;
class Numbering {
 public:
  /// center_of [n_items] by external id, I32 with -1 = none or U16 with 65535 = none.
  Status Create(const void* center_of, resembed_dtype dtype, int64_t n_items, int64_t n_centers) {
    internal_of_.assign(static_cast<size_t>(n_items), 0);
    external_of_.assign(static_cast<size_t>(n_items), 0);
    numbering_.n_items = n_items;
    numbering_.internal_of = internal_of_.data();
    numbering_.external_of = external_of_.data();
    return Status(resembed_number_by_center(center_of, dtype, n_centers, &numbering_));
  }
  const std::vector<int32_t>& internal_of() const { return internal_of_; }
  const std::vector<int32_t>& external_of() const { return external_of_; }
  /// Moves rows in place; before a save to external, after it and after a load to internal.
  Status Renumber(resembed_direction direction, const std::vector<const ItemRows*>& arrays) const {
    const std::vector<const resembed_item_rows*> list(arrays.begin(), arrays.end());
    return Status(resembed_renumber(&numbering_, direction, list.data(), static_cast<int32_t>(list.size())));
  }
  /// The ids of a batch, in place, in host memory; ids that are no items stay as they are.
  template <typename Id>
  Status ToInternal(Id* ids, int64_t n_ids, const Place& place) const {
    static_assert(sizeof(Id) == 4 || sizeof(Id) == 8, "int32_t or int64_t");
    Descriptor<resembed_translate_args> args;
    args.ids = args.output = ids;
    args.id_dtype = sizeof(Id) == 4 ? RESEMBED_I32 : RESEMBED_I64;
    args.n_ids = n_ids;
    args.map = internal_of_.data();
    args.n_map = static_cast<int64_t>(internal_of_.size());
    return Status(resembed_translate(&args, &place));
  }

 private:
  Descriptor<resembed_numbering> numbering_;
  std::vector<int32_t> internal_of_, external_of_;
};

}  // namespace resembed

#endif  // RESEMBED_SERVICES_HPP_
