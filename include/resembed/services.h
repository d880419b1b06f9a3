/* SPDX-License-Identifier: Apache-2.0
 *
 * resembed: host services. The interest graph and files. Unlike operations these may allocate (within a
 * stated budget), use the calling machine's threads, and return out_of_memory. Included by resembed.h.
 */
#ifndef RESEMBED_SERVICES_H_
#define RESEMBED_SERVICES_H_

#ifndef RESEMBED_RESEMBED_H_
#error "include resembed/resembed.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- interest graph ------------------------------------------------------------------------- */

/* Co-visit counts of behavior sequences (Zhou et al. 2019, Algorithm 1): for each position c of a
 * sequence and each position w at distance 1..window, Z(g_c, g_w) += weight[distance]; the same item
 * twice is no pair. Z is symmetric; each unordered pair is stored once. Counts are sums: they depend
 * neither on the order of the sequences, nor on buffer_bytes, nor on threads, and stay at INT64_MAX
 * rather than overflow. */
typedef struct resembed_covisit resembed_covisit; /* counts; grows with the distinct pairs seen */

typedef struct resembed_covisit_options {
  size_t struct_size;
  int64_t n_items;                  /* ids are [0, n_items), n_items < 2^31 */
  int32_t window;                   /* >= 1; 0 = 2, the paper's */
  const uint32_t* distance_weights; /* [window] added for a pair at distance 1..window; null = all 1;
                                       a weight of 0 makes no pair */
  size_t buffer_bytes; /* pairs collected before they are sorted and merged; 0 = 256 MiB, least 4 KiB */
  /* Departures from Algorithm 1; 0 is the paper's. */
  int64_t max_sequence_items; /* only the last so many ids of a sequence count; 0 = all */
  int32_t max_pair_uses;      /* a sequence counts one pair at most so often, the first ones; 0 = no limit */
  int64_t session_gap;        /* a sequence is cut where the next time is more than this later; 0 = never */
  /* Counts beyond spill_bytes (16 bytes a pair; 0 = buffer_bytes) become sorted runs in nameless files of
   * this folder, gone when the counts are destroyed. Null = never: all counts in memory. */
  const char* spill_folder;
  size_t spill_bytes;
  /* Where pairs are counted and lists made; null = the CPU. Its executor or stream outlives the counts.
   * On cuda the work is on place.stream and is done when a call returns; max_pair_uses must be 0. The
   * results have the same bits. */
  const resembed_place* place;
  /* Device memory for it, the lists included, beside 32 MiB of scratch; counts beyond go to the host; 0 =
   * 4 GiB. */
  size_t device_bytes;
} resembed_covisit_options;

/* Peak memory: buffer_bytes + 24 bytes per distinct pair + 2 MiB. At rest, after n_pairs, export or
 * top_k: 16 bytes per distinct pair + 2 MiB. With a spill_folder: buffer_bytes + 1.5 spill_bytes + 20
 * MiB, whatever the number of pairs; the disk takes 32 bytes per distinct pair. When memory or disk run
 * out while pairs are added or merged (out_of_memory, io_error), the counts are incomplete and every
 * later call but destroy says so. */
RESEMBED_API resembed_status resembed_covisit_create(const resembed_covisit_options* options,
                                                     resembed_covisit** counts);
/* Adds sequences: ids [offsets[n_sequences]], offsets [n_sequences + 1] of `dtype` I32 or I64 each. May be
 * called any number of times; a sequence is never continued by the next call. Bad ids: out_of_range,
 * nothing is added. */
RESEMBED_API resembed_status resembed_covisit_add(resembed_covisit* counts, const void* ids,
                                                  resembed_dtype id_dtype, const void* offsets,
                                                  resembed_dtype offset_dtype, int64_t n_sequences);
typedef struct resembed_covisit_sequences {
  size_t struct_size;
  const void* ids; /* [offsets[n_sequences]] of id_dtype */
  resembed_dtype id_dtype;
  const void* offsets; /* [n_sequences + 1] of offset_dtype */
  resembed_dtype offset_dtype;
  int64_t n_sequences;
  const int64_t* times;  /* one for each id, non-decreasing in a sequence; for session_gap; or null */
  const int64_t* n_seen; /* [n_sequences] leading ids counted by an earlier call, here for the pairs they make
                            with later ones: pairs of two of them are left out; null = none */
  /* 1: ids and times lie in memory of the place's device, and times are taken as they are; offsets and
   * n_seen are always in host memory. */
  int32_t on_device;
} resembed_covisit_sequences;
/* covisit_add with all there is to say about sequences. A sequence that goes on where an earlier call
 * stopped begins with the last `window` ids (or more) of what was added, n_seen of them. */
RESEMBED_API resembed_status resembed_covisit_add_sequences(resembed_covisit* counts,
                                                            const resembed_covisit_sequences* sequences);
/* Counts from elsewhere: pairs of different items, either order, in any sequence; equal pairs add up. */
RESEMBED_API resembed_status resembed_covisit_add_pairs(resembed_covisit* counts, const int32_t* items,
                                                        const int32_t* others, const int64_t* values,
                                                        int64_t n_pairs);
/* Distinct unordered pairs so far. */
RESEMBED_API resembed_status resembed_covisit_n_pairs(resembed_covisit* counts, int64_t* n_pairs);
/* The whole symmetric matrix as CSR: row_offsets [n_items + 1], columns and values [2 * n_pairs], columns
 * increasing in each row. Any pointer may be null. Takes 8 bytes per item for the time of the call. */
RESEMBED_API resembed_status resembed_covisit_export(resembed_covisit* counts, int64_t* row_offsets,
                                                     int32_t* columns, int64_t* values);
/* The K largest counts of each row, K <= RESEMBED_MAX_NEIGHBORS. Ties at equal count: the lower item id
 * first (documented, tested against a golden file). neighbors [n_items, k], -1 ends a list; counts_out
 * [n_items, k], 0 past the end, or null: then 8 * n_items * k bytes are taken for the time of the call. */
RESEMBED_API resembed_status resembed_covisit_top_k(resembed_covisit* counts, int32_t k, int32_t* neighbors,
                                                    int64_t* counts_out);
#define RESEMBED_SELF_LOOP_LARGEST (-1)
typedef struct resembed_graph_options {
  size_t struct_size;
  int32_t k;
  /* Departures from Algorithm 1; 0 is the paper's. */
  int64_t min_count; /* smaller counts make no neighbor */
  /* Neighbors of i are chosen and ordered by Z_ij / D_j^popularity, D = row sums of Z; 0 .. 1. Counts
   * stay those of Z. Ties still go to the lower id. */
  double popularity;
  /* Each item stands first in its own list, with this count; RESEMBED_SELF_LOOP_LARGEST: with the largest
   * count of the list (1 in an empty one). It takes one of the K places. */
  int64_t self_loop;
} resembed_graph_options;
/* top_k with options. Where counts are on cuda, both outputs may be in device memory. popularity takes 16
 * * n_items + 8 * n_items * k bytes for the time of the call. */
RESEMBED_API resembed_status resembed_covisit_graph(resembed_covisit* counts,
                                                    const resembed_graph_options* options, int32_t* neighbors,
                                                    int64_t* counts_out);
/* All counts in a file (docs/graph.md has the format), to go on from another day. metadata: n_metadata
 * pairs key, value, key, value, ... beside its own ("kind", "n_items"). */
RESEMBED_API resembed_status resembed_covisit_save(resembed_covisit* counts, const char* path,
                                                   const char* const* metadata, int32_t n_metadata);
typedef struct resembed_covisit_file_options {
  size_t struct_size;
  /* Old counts become floor(count * decay), decay rounded to 2^-32; those at 0 go; 0 = 1. Counts are
   * integers: with decay, count a pair as e.g. 1000 (distance_weights). */
  double decay;
  const int32_t* item_map; /* [n_map] new id of each item of the file, -1 = removed; two items may become one.
                              Null: ids stay, and counts may have more items than the file */
  int64_t n_map;           /* n_items of the file */
} resembed_covisit_file_options;
/* Adds the counts of a file that covisit_save wrote; options may be null. What is malformed is refused
 * before anything is added. */
RESEMBED_API resembed_status resembed_covisit_add_file(resembed_covisit* counts, const char* path,
                                                       const resembed_covisit_file_options* options);
RESEMBED_API void resembed_covisit_destroy(resembed_covisit* counts); /* null is fine */

typedef int32_t resembed_graph_weighting;
enum {
  RESEMBED_GRAPH_AVG = 1, /* eq. 6: 1 / number of neighbors */
  RESEMBED_GRAPH_GCN = 2  /* eq. 7: Z_ij / sqrt(D_i D_j), D = row sums of the top-K graph */
};
/* Weights of a top-K graph: neighbors and counts [n_items, k] as top_k or graph wrote them, weights
 * [n_items, k], 0 past the end of a list. AVG needs no counts (null is fine). Given lists that no
 * symmetric Z has, a neighbor with an empty list of its own gets 0 under GCN. */
RESEMBED_API resembed_status resembed_graph_weights(const int32_t* neighbors, const int64_t* counts,
                                                    int64_t n_items, int32_t k,
                                                    resembed_graph_weighting weighting, float* weights);

typedef int32_t resembed_graph_symmetry;
enum {
  RESEMBED_GRAPH_MUTUAL = 1, /* an edge stays where both lists have it */
  RESEMBED_GRAPH_UNION = 2   /* an edge is put where one list has it, with that count */
};
/* Neighbors and counts [n_items, k] to [n_items, k_out], ordered by count, ties to the lower id. Mutual
 * lists are symmetric and fit k_out = k. A union cut at k_out is symmetric but for *n_cut edges (may be
 * null). */
RESEMBED_API resembed_status resembed_graph_symmetrize(const int32_t* neighbors, const int64_t* counts,
                                                       int64_t n_items, int32_t k,
                                                       resembed_graph_symmetry symmetry, int32_t k_out,
                                                       int32_t* neighbors_out, int64_t* counts_out,
                                                       int64_t* n_cut);
/* Two hops in one: the k_out largest entries of each row of one_hop * W + W W (ties to the lower id), W
 * the given weights; the item itself is one of them where a neighbor leads back. Sums in double, in the
 * order of the slots. neighbors_out [n_items, k_out], -1 ends a list; weights_out the same, 0 past the
 * end. */
RESEMBED_API resembed_status resembed_graph_two_hop(const int32_t* neighbors, const float* weights,
                                                    int64_t n_items, int32_t k, float one_hop, int32_t k_out,
                                                    int32_t* neighbors_out, float* weights_out);
/* A graph made elsewhere: edges in any order, counts > 0, no edge twice (scale real weights: eq. 6 and 7
 * do not see a common factor). Each row keeps its k largest, ties to the lower id. */
RESEMBED_API resembed_status resembed_graph_from_edges(const int32_t* items, const int32_t* neighbors_of,
                                                       const int64_t* values, int64_t n_edges,
                                                       int64_t n_items, int32_t k, int32_t* neighbors,
                                                       int64_t* counts);

/* All counts, as covisit_export wrote them. */
typedef struct resembed_covisit_matrix {
  size_t struct_size;
  int64_t n_items;
  const int64_t* row_offsets; /* [n_items + 1] */
  const int32_t* columns;     /* [row_offsets[n_items]] */
  const int64_t* values;
} resembed_covisit_matrix;
/* The lists a training user should see: those of the graph without her own sequence. Only rows of her
 * items change. `counting` is what the matrix was counted with, `sequence` one sequence (n_sequences 1)
 * that was counted. Writes the distinct items of the sequence, increasing, their number to *n_rows and
 * their lists; items, neighbors and counts_out have room for as many rows as the sequence has ids.
 * popularity must be 0: its divisors would change rows of everybody. Any number of threads may call at
 * once. */
RESEMBED_API resembed_status resembed_graph_leave_out(const resembed_covisit_matrix* all,
                                                      const resembed_covisit_options* counting,
                                                      const resembed_covisit_sequences* sequence,
                                                      const resembed_graph_options* graph, int64_t* n_rows,
                                                      int32_t* items, int32_t* neighbors,
                                                      int64_t* counts_out);

typedef struct resembed_graph_assign_options {
  size_t struct_size;
  int64_t max_center_items; /* an interest holds at most so many items; 0 = no limit */
  int64_t max_centers;      /* at most so many centers (smallest merged first); 0 = no limit */
  float resolution;         /* of modularity; larger = more, smaller centers; 0 = 1 */
  /* 1: items without a neighbor share one more center, the last one, whatever its size; 0: they get -1,
   * and their embedding is their residual row alone. */
  int32_t cold_center;
} resembed_graph_assign_options;
/* One center per item from the graph (made symmetric: an edge where either list has it, weighted by the
 * larger count): Louvain modularity (Blondel et al. 2008), deterministic: items visited in id order, ties
 * to the lowest center. center_of [n_items]; an item without a neighbor gets -1 (but see cold_center).
 * Centers are numbered 0..*n_centers-1 by size, then by lowest item. */
RESEMBED_API resembed_status resembed_graph_assign(const int32_t* neighbors, const int64_t* counts,
                                                   int64_t n_items, int32_t k,
                                                   const resembed_graph_assign_options* options,
                                                   int32_t* center_of, int64_t* n_centers);

/* Old rows where new ones are: to[r] = from[source[r]]; rows with source -1 stay as they are (initialize
 * them first). For R, C and optimizer states when items or centers are renumbered. source [to_rows];
 * strides in elements, 0 = dim; `to` is memory of its own. */
RESEMBED_API resembed_status resembed_carry_rows(const void* from, int64_t from_rows, int64_t from_stride,
                                                 resembed_dtype dtype, int64_t dim, const int32_t* source,
                                                 void* to, int64_t to_rows, int64_t to_stride);
/* The old center a new one goes on from, for carry_rows of C and its states after a new assignment: that
 * which shares most items with it (ties: the lower one), -1 where they share none. center_of arrays
 * [n_items], -1 = none; source [n_new]. Two new centers may come from one old center. */
RESEMBED_API resembed_status resembed_graph_match_centers(const int32_t* old_center_of, int64_t n_old,
                                                          const int32_t* new_center_of, int64_t n_new,
                                                          int64_t n_items, int32_t* source);

/* ---- center-major numbering ----------------------------------------------------------------- */

/* Items renumbered center by center, for tables with one center per item: centers in order, the items of a
 * center by their external id, items without a center last. Rows of one center then lie side by side, and
 * a plan needs one sort (resembed_table.center_major). Callers keep their external ids: in the data, and in
 * files. Only the library's tables, maps and states are in internal order, and ids are translated once a
 * batch. Outputs and updates have the same bits as without: within a center the order of items stays. But
 * for stochastic rounding, whose numbers go by the row in memory; and gradients that backward hands out
 * name internal items. */
typedef struct resembed_numbering {
  size_t struct_size;
  int64_t n_items;      /* 0 .. 2^31 - 1 */
  int32_t* internal_of; /* [n_items] by external id */
  int32_t* external_of; /* [n_items] by internal id */
} resembed_numbering;
/* Fills both arrays from center_of [n_items] by external id: I32 with -1 = none, or U16 with 65535. A
 * center past n_centers: out_of_range, nothing is written. Takes 8 bytes per center for the time of the
 * call. */
RESEMBED_API resembed_status resembed_number_by_center(const void* center_of, resembed_dtype center_of_dtype,
                                                       int64_t n_centers,
                                                       const resembed_numbering* numbering);

typedef int32_t resembed_direction;
enum { RESEMBED_TO_INTERNAL = 0, RESEMBED_TO_EXTERNAL = 1 };

/* What has one row per item: R, an optimizer state, center_of, residual_row_of, neighbor lists and their
 * weights (and C and its states where central rows are items). */
typedef struct resembed_item_rows {
  size_t struct_size;
  void* data; /* [n_items, dim], host memory */
  resembed_dtype dtype;
  int64_t dim;         /* 1 for maps and row states, K for neighbor lists */
  int64_t stride;      /* elements, 0 = dim */
  int32_t holds_items; /* 1: the elements are items themselves (lists over central rows that are items), I32;
                          they are translated as well, up to the first -1 of a row */
} resembed_item_rows;
/* Moves the rows of each array in place: to_internal, row external_of[r] comes to r; to_external undoes it.
 * Around a save that is how a file has external ids, and after a load how they are taken in. On an error
 * nothing has been moved. Takes one bit per item and one row for the time of the call. */
RESEMBED_API resembed_status resembed_renumber(const resembed_numbering* numbering,
                                               resembed_direction direction,
                                               const resembed_item_rows* const* arrays, int32_t n_arrays);

typedef struct resembed_translate_args {
  size_t struct_size;
  const void* ids; /* [n_ids] */
  resembed_dtype id_dtype;
  int64_t n_ids;
  const int32_t* map; /* [n_map] internal_of: for the ids of a batch; external_of: for row ids of gradients */
  int64_t n_map;
  void* output; /* [n_ids] of id_dtype; ids itself is fine, other overlap is not */
} resembed_translate_args;
/* output[t] = map[ids[t]]; an id outside [0, n_map) stays as it is, so that bounds policies still see it. A
 * padding id that is an item is translated like one: give map[padding_id] to the feature. An operation:
 * enqueued on place->stream on CUDA, where the pointers are device memory; allocates nothing, needs no
 * workspace. */
RESEMBED_API resembed_status resembed_translate(const resembed_translate_args* args,
                                                const resembed_place* place);

/* ---- files (safetensors) -------------------------------------------------------------------- */

#define RESEMBED_MAX_DIMS 8

typedef struct resembed_tensor {
  size_t struct_size;
  const char* name; /* UTF-8, not "__metadata__" */
  resembed_dtype dtype;
  int32_t n_dims;
  int64_t shape[RESEMBED_MAX_DIMS];
  const void* data;   /* row-major, host memory */
  int64_t row_stride; /* elements between rows of the first dimension; 0 = contiguous */
} resembed_tensor;

/* Writes tensors and string metadata to `path` (a temporary file beside it, then renamed: a reader never
 * sees half a file). metadata: n_metadata pairs key, value, key, value, ... */
RESEMBED_API resembed_status resembed_save(const char* path, const resembed_tensor* const* tensors,
                                           int32_t n_tensors, const char* const* metadata,
                                           int32_t n_metadata);

typedef struct resembed_file resembed_file; /* an open safetensors file; the header is in memory */

/* Opens and checks the whole header: lengths, offsets without holes or overlap, known types. */
RESEMBED_API resembed_status resembed_file_open(const char* path, resembed_file** file);
RESEMBED_API resembed_status resembed_file_n_tensors(const resembed_file* file, int32_t* n_tensors);
/* Name, type and shape of tensor `index` (in the order of their data); data is null. The name lives as long
 * as the file is open. */
RESEMBED_API resembed_status resembed_file_tensor(const resembed_file* file, int32_t index,
                                                  resembed_tensor* tensor);
/* Index of the tensor called `name`, or -1. */
RESEMBED_API resembed_status resembed_file_find(const resembed_file* file, const char* name, int32_t* index);
/* Reads tensor `index` into data (row-major; rows row_stride elements apart, 0 = contiguous); bytes is the
 * size of that memory. */
RESEMBED_API resembed_status resembed_file_read(const resembed_file* file, int32_t index, void* data,
                                                int64_t row_stride, size_t bytes);
/* Value of a metadata key, or null when there is none. Lives as long as the file is open. */
RESEMBED_API resembed_status resembed_file_metadata(const resembed_file* file, const char* key,
                                                    const char** value);
RESEMBED_API void resembed_file_close(resembed_file* file); /* null is fine */

#ifdef __cplusplus
}
#endif
#endif /* RESEMBED_SERVICES_H_ */
