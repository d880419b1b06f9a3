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
 * sequence and each position w at distance 1..window, Z(g_c, g_w) += weight[distance]; the same item twice
 * is no pair. Z is symmetric; each unordered pair is stored once. Counts are sums: they depend neither on the
 * order of the sequences, nor on buffer_bytes, nor on threads, and stay at INT64_MAX rather than overflow. */
typedef struct resembed_covisit resembed_covisit; /* counts; grows with the distinct pairs seen */

typedef struct resembed_covisit_options {
  size_t struct_size;
  int64_t n_items;                  /* ids are [0, n_items), n_items < 2^31 */
  int32_t window;                   /* >= 1; 0 = 2, the paper's */
  const uint32_t* distance_weights; /* [window] added for a pair at distance 1..window; null = all 1;
                                       a weight of 0 makes no pair */
  size_t buffer_bytes; /* pairs collected before they are sorted and merged; 0 = 256 MiB, least 4 KiB */
} resembed_covisit_options;

/* Peak memory: buffer_bytes + 24 bytes per distinct pair + 2 MiB. At rest, after n_pairs, export or top_k:
 * 16 bytes per distinct pair + 2 MiB. When memory runs out while pairs are added or merged (out_of_memory),
 * the counts are incomplete and every later call but destroy says so. */
RESEMBED_API resembed_status resembed_covisit_create(const resembed_covisit_options* options,
                                                     resembed_covisit** counts);
/* Adds sequences: ids [offsets[n_sequences]], offsets [n_sequences + 1] of `dtype` I32 or I64 each. May be
 * called any number of times; a sequence is never continued by the next call. Bad ids: out_of_range,
 * nothing is added. */
RESEMBED_API resembed_status resembed_covisit_add(resembed_covisit* counts, const void* ids,
                                                  resembed_dtype id_dtype, const void* offsets,
                                                  resembed_dtype offset_dtype, int64_t n_sequences);
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
RESEMBED_API void resembed_covisit_destroy(resembed_covisit* counts); /* null is fine */

typedef int32_t resembed_graph_weighting;
enum {
  RESEMBED_GRAPH_AVG = 1, /* eq. 6: 1 / number of neighbors */
  RESEMBED_GRAPH_GCN = 2  /* eq. 7: Z_ij / sqrt(D_i D_j), D = row sums of the top-K graph */
};
/* Weights of a top-K graph: neighbors and counts [n_items, k] as top_k wrote them, weights [n_items, k],
 * 0 past the end of a list. AVG needs no counts (null is fine). Given lists that no symmetric Z has, a
 * neighbor with an empty list of its own gets 0 under GCN. */
RESEMBED_API resembed_status resembed_graph_weights(const int32_t* neighbors, const int64_t* counts,
                                                    int64_t n_items, int32_t k,
                                                    resembed_graph_weighting weighting, float* weights);

typedef struct resembed_graph_assign_options {
  size_t struct_size;
  int64_t max_center_items; /* an interest holds at most so many items; 0 = no limit */
  int64_t max_centers;      /* at most so many centers (smallest merged first); 0 = no limit */
  float resolution;         /* of modularity; larger = more, smaller centers; 0 = 1 */
} resembed_graph_assign_options;
/* One center per item from the graph (made symmetric: an edge where either list has it, weighted by the
 * larger count): Louvain modularity (Blondel et al. 2008), deterministic: items visited in id order, ties
 * to the lowest center. center_of [n_items]; an item without a neighbor gets -1. Centers are numbered 0..*n_centers-1 by size, then by lowest item. */
RESEMBED_API resembed_status resembed_graph_assign(const int32_t* neighbors, const int64_t* counts,
                                                   int64_t n_items, int32_t k,
                                                   const resembed_graph_assign_options* options,
                                                   int32_t* center_of, int64_t* n_centers);

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
