/* SPDX-License-Identifier: Apache-2.0
 *
 * resembed: the words of the C ABI. Plain structs and enumerations, no functions; see resembed.h.
 *
 * Conventions
 *   - Every descriptor starts with `size_t struct_size` = sizeof(the struct the caller compiled
 *     against); fields added later are read as zero when struct_size does not reach them. A zeroed
 *     struct with struct_size and the required pointers set is valid: zero is every default.
 *   - Arrays of descriptors are arrays of pointers, so that the structs may grow.
 *   - Shapes stand in brackets beside each pointer. Strides and dims count elements, *_bytes bytes.
 *   - "Device memory" means memory the named backend can reach: ordinary memory on RESEMBED_CPU.
 *   - Memory is owned by the caller, always. Nothing is inferred from a pointer.
 */
#ifndef RESEMBED_TYPES_H_
#define RESEMBED_TYPES_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- enumerations: fixed to 32 bits --------------------------------------------------------- */

typedef int32_t resembed_status;
enum {
  RESEMBED_OK = 0,
  RESEMBED_INVALID_ARGUMENT = 1,    /* a descriptor contradicts itself or another one */
  RESEMBED_OUT_OF_RANGE = 2,        /* a value (an id, a promise) lies outside its bounds */
  RESEMBED_UNSUPPORTED = 3,         /* valid, but not built for this backend */
  RESEMBED_WORKSPACE_TOO_SMALL = 4, /* the message states both numbers */
  RESEMBED_CUDA_ERROR = 5,          /* the CUDA runtime failed, or there is no GPU */
  RESEMBED_OUT_OF_MEMORY = 6,       /* host services only: operations never allocate */
  RESEMBED_IO_ERROR = 7             /* a file could not be read or written, or is malformed */
};

typedef int32_t resembed_backend;
enum { RESEMBED_CPU = 1, RESEMBED_CUDA = 2 };

typedef int32_t resembed_dtype;
enum {
  RESEMBED_F32 = 0,
  RESEMBED_F16 = 1,
  RESEMBED_BF16 = 2,
  RESEMBED_I32 = 3,
  RESEMBED_I64 = 4,
  RESEMBED_U16 = 5,
  RESEMBED_F64 = 6, /* files and host services only */
  RESEMBED_U8 = 7   /* files only */
};

/* Where an item's central part comes from (e_i = sum_k w_ik C[n_ik] + R[i]). */
typedef int32_t resembed_central_form;
enum {
  RESEMBED_CENTRAL_NONE = 0,       /* a plain table: e_i = R[i] */
  RESEMBED_CENTRAL_ASSIGNMENT = 1, /* one shared center: n_i0 = center_of[i], weight 1 */
  RESEMBED_CENTRAL_UNIFORM = 2,    /* neighbors[i, :], weight 1/n (AVG, method eq. 6) */
  RESEMBED_CENTRAL_STORED = 3,     /* neighbors[i, :], neighbor_weights[i, :] (GCN, eq. 7) */
  RESEMBED_CENTRAL_ATTENTION = 4   /* neighbors[i, :], softmax_k(C[i] . C[n_ik]) (ATT, eq. 8) */
};

typedef int32_t resembed_pooling;
enum {
  RESEMBED_POOLING_NONE = 0, /* sequence output: one row per id */
  RESEMBED_POOLING_SUM = 1,
  RESEMBED_POOLING_MEAN = 2, /* divisor: items that contributed; per-sample weights do not count */
  RESEMBED_POOLING_MAX = 3,  /* per column the first maximum, NaN wins; no per-sample weights */
  /* Target attention (DIN): a sum weighted by each item's score against the bag's query, see
   * resembed_feature.query; no per-sample weights. */
  RESEMBED_POOLING_ATTENTION = 4
};

/* What makes the weights p of RESEMBED_POOLING_ATTENTION of the scores of a bag. */
typedef int32_t resembed_attention_activation;
enum {
  RESEMBED_ATTENTION_SOFTMAX = 0, /* p_t = exp(score_t) / sum over the bag; they sum to 1 */
  RESEMBED_ATTENTION_SIGMOID = 1  /* p_t = 1 / (1 + exp(-score_t)), each item for itself */
};

/* What to do with an id outside [0, n_items). Caller memory is never rewritten. */
typedef int32_t resembed_bounds;
enum {
  RESEMBED_BOUNDS_CHECK = 0, /* CPU: the call fails with out_of_range, nothing is written. CUDA: the
                                first bad id is recorded in bad_ids, its row contributes nothing. */
  RESEMBED_BOUNDS_TRUST = 1, /* undefined for bad ids */
  RESEMBED_BOUNDS_SKIP = 2   /* a bad id contributes nothing and is counted in bad_ids */
};

typedef int32_t resembed_numerics;
enum {
  RESEMBED_NUMERICS_EXACT = 0, /* documented order of sums: the same bits on every backend */
  RESEMBED_NUMERICS_FAST = 1   /* paths that reorder sums are allowed as well; none does yet, so it gives
                                  the bits of EXACT */
};

typedef int32_t resembed_cpu_isa;
enum {
  RESEMBED_ISA_BEST = 0, /* the widest this machine has */
  RESEMBED_ISA_PORTABLE = 1,
  RESEMBED_ISA_AVX2 = 2,
  RESEMBED_ISA_AVX512 = 3
};

typedef int32_t resembed_optimizer_kind;
enum {
  RESEMBED_SGD = 0,
  RESEMBED_ADAGRAD = 1,             /* state1 [rows, dim]: sum of squared gradients */
  RESEMBED_ROWWISE_ADAGRAD = 2,     /* state1 [rows]: sum of mean squared gradients */
  RESEMBED_ADAM = 3,                /* state1, state2 [rows, dim]; AdamW = decoupled decay */
  RESEMBED_PARTIAL_ROWWISE_ADAM = 4 /* state1 [rows, dim], state2 [rows] */
};

typedef int32_t resembed_decay;
enum {
  RESEMBED_DECAY_L2 = 0,            /* gradient += weight_decay * row, rows touched by the step */
  RESEMBED_DECAY_DECOUPLED = 1,     /* row *= 1 - lr * weight_decay, rows touched by the step */
  RESEMBED_DECAY_L2_WHOLE_TABLE = 2 /* as L2, every row of the table takes part in the step */
};

typedef int32_t resembed_grad_layout;
enum {
  RESEMBED_GRAD_COMPRESSED = 0, /* unique rows, ids strictly increasing, count on the device */
  RESEMBED_GRAD_DENSE = 1       /* one row per table row; rows without a gradient are set to 0 */
};

/* ---- where a call runs ---------------------------------------------------------------------- */

/* Threads for the CPU backend, supplied by the caller (torch: at::parallel_for).
 * parallel_for must call task(arg, index) once for each index in [0, n_tasks), from at most `width`
 * threads at a time, and return when all are done. Tasks never throw. */
typedef struct resembed_executor {
  size_t struct_size;
  int32_t width; /* >= 1 */
  void (*parallel_for)(void* context, int64_t n_tasks, void (*task)(void* arg, int64_t index), void* arg);
  void* context;
} resembed_executor;

/* Backend, device, stream and threads of one call: the last argument of every operation. */
typedef struct resembed_place {
  size_t struct_size;
  resembed_backend backend;
  int32_t device;                    /* CUDA ordinal; 0 on the CPU */
  void* stream;                      /* cudaStream_t; must be null on the CPU */
  const resembed_executor* executor; /* CPU; null = the library's own pool of threads */
  resembed_cpu_isa isa;              /* CPU; results have the same bits for each */
} resembed_place;

/* ---- tables and features -------------------------------------------------------------------- */

/* A residual-embedding table: R, C and the map from an item to its central rows.
 * C and R must not overlap. Rows are `stride` elements apart (0 = dim); fast when dim * element size
 * and the base address are multiples of 16 bytes, correct for any dim >= 1 and any alignment of the
 * element type. */
typedef struct resembed_table {
  size_t struct_size;
  int64_t n_items; /* valid ids are [0, n_items) */
  int64_t dim;
  resembed_central_form form;

  void* residual; /* R [n_items or residual_rows, dim]; null = no residual part */
  int64_t residual_stride;
  resembed_dtype residual_dtype;  /* F32, F16, BF16 */
  const int32_t* residual_row_of; /* [n_items] or null = identity; -1 = item has no residual;
                                            no two items share a row */
  int64_t residual_rows;          /* with residual_row_of; otherwise n_items (0 = n_items) */

  void* central; /* C [central_rows, dim]; null exactly when form is NONE */
  int64_t central_rows;
  int64_t central_stride;
  resembed_dtype central_dtype;

  const void* center_of;          /* ASSIGNMENT: [n_items]; I32 with -1 = none, U16 with 65535 */
  resembed_dtype center_of_dtype; /* I32 or U16 */

  const int32_t* neighbors;      /* other forms: [n_items, n_neighbors]; -1 ends an item's list */
  int32_t n_neighbors;           /* K, 1..64 */
  int64_t neighbors_stride;      /* 0 = n_neighbors */
  const float* neighbor_weights; /* STORED: [n_items, n_neighbors] */
  int64_t neighbor_weights_stride;

  uint64_t map_version; /* change it when a map changes: a plan made for another one is refused */

  /* 1: a promise that center_of never decreases, items without a center last (services.h:
   * resembed_number_by_center). The plan then needs one sort instead of two; the CPU sees it by itself.
   * Broken on CUDA: the plan's status says out_of_range and nothing is updated. */
  int32_t center_major;
} resembed_table;

/* Descriptors of many tables, written once into caller-owned device memory by
 * resembed_table_set_prepare. A plain header; copy it freely. */
typedef struct resembed_table_set {
  size_t struct_size;
  resembed_backend backend;
  int32_t device;
  int32_t n_tables;
  const void* memory;
  size_t memory_bytes;
} resembed_table_set;

/* One list of bags over one table. Several features may share a table. */
typedef struct resembed_feature {
  size_t struct_size;
  int32_t table; /* index into the call's tables */
  resembed_pooling pooling;

  const void* ids; /* [n_ids] items; null allowed when n_ids is 0 */
  int64_t n_ids;
  resembed_dtype id_dtype; /* I32 or I64; must be set */

  const void* offsets;         /* [n_bags + 1], non-decreasing, 0 .. n_ids; null = fixed length */
  resembed_dtype offset_dtype; /* I32 or I64 when offsets is given */
  int64_t n_bags;
  int64_t bag_length; /* with offsets == null: n_ids == n_bags * bag_length */

  const float* weights; /* per-sample weights a [n_ids], or null */
  int32_t has_padding;  /* 0: every id is an item */
  int64_t padding_id;   /* with has_padding: left out of pooling and divisor, no gradient */

  void* output;                /* y [n_bags, dim] (pooling NONE: [n_ids, dim]); forward only */
  int64_t output_stride;       /* 0 = dim */
  resembed_dtype output_dtype; /* F32, F16, BF16 */

  int32_t* saved_argmax; /* MAX: [n_bags, dim] position in the bag, -1 when empty; forward writes it
                            when given, backward reads it when given and recomputes it otherwise */

  /* ATTENTION, for bag b with the items t:
   *   score_bt = attention_scale * (q_b . e_t);  p_b = softmax or sigmoid of score_b;
   *   y_b = sum_t p_bt e_t
   * Items are composed on the fly and never written to memory; padding and bad ids have no score. Forward
   * reads the query and backward reads it again, unchanged. A plan needs none of these fields. */
  const float* query;   /* q [n_bags, dim]; overlaps no output of the call */
  int64_t query_stride; /* 0 = dim */
  resembed_attention_activation attention_activation;
  float attention_scale; /* finite; 0 means 1 */
  /* p [n_ids], 0 for padding and bad ids; forward writes it when given, backward reads it when given and
   * recomputes it otherwise. */
  float* saved_attention;
} resembed_feature;

/* Record of ids outside their bounds; device memory, written by the call. */
typedef struct resembed_bad_ids {
  int64_t count;
  int64_t feature;  /* of the first one: lowest feature, then lowest position; -1 when count is 0 */
  int64_t position; /* index into that feature's ids */
  int64_t value;
} resembed_bad_ids;

/* ---- gradients ------------------------------------------------------------------------------ */

/* What backward reads for one feature, and the per-sample gradient it may write. */
typedef struct resembed_feature_grad {
  size_t struct_size;
  const void* grad_output; /* dL/dy, the shape of the feature's output */
  int64_t grad_output_stride;
  resembed_dtype grad_output_dtype;
  float* grad_weights; /* dL/da [n_ids], or null = not asked for */

  /* ATTENTION. With dp_t = dy_b . e_t and D = sum_t p_t dp_t, the gradient of a product z_t = q_b . e_t is
   *   dz_t = scale * p_t (dp_t - D) for softmax, scale * p_t (1 - p_t) dp_t for sigmoid
   * and dL/dq_b = sum_t dz_t e_t;  dL/de_t = p_t dy_b + dz_t q_b.
   * Where the query is an output of the same step (DIN: the target item), its gradient is needed before the
   * tables' step: call resembed_backward without table gradients, asking for grad_query with grad_scores
   * given; add grad_query to the grad_output of the feature that made the query; then call
   * resembed_backward_step on all features with the same saved_attention and grad_scores,
   * grad_scores_ready = 1 and no grad_query: it reads no table for the scores. */
  float* grad_query; /* dL/dq [n_bags, dim], 0 for an empty bag, or null = not asked for; overlaps no input */
  int64_t grad_query_stride; /* 0 = dim */
  /* dz [n_ids], 0 for padding and bad ids: written when given, or read; null = kept in the workspace. */
  float* grad_scores;
  /* 1: grad_scores holds what backward wrote there for these values of tables, query and grad_output; it is
   * read instead of computed. Not with grad_query. */
  int32_t grad_scores_ready;
} resembed_feature_grad;

/* Gradient of one matrix (R or C), duplicates already summed. */
typedef struct resembed_grad {
  size_t struct_size;
  resembed_grad_layout layout;
  float* rows;      /* COMPRESSED: [capacity, dim], the first *n_rows are written; DENSE: [table rows, dim] */
  int64_t stride;   /* 0 = dim */
  int64_t* row_ids; /* COMPRESSED: [capacity], strictly increasing. For R these are item ids (the
                       table maps them to rows), for C central rows. */
  int64_t* n_rows;  /* COMPRESSED: [1] device memory */
  int64_t capacity; /* COMPRESSED: >= the rows the batch touches */
} resembed_grad;

/* Gradients of one table; a null pointer is a gradient nobody asked for. */
typedef struct resembed_table_grad {
  size_t struct_size;
  const resembed_grad* residual;
  const resembed_grad* central;
  float* neighbor_weights; /* STORED: [residual capacity or plan's unique items, K], row u belongs to
                              the u-th unique item of the plan */
} resembed_table_grad;

/* ---- optimizers ----------------------------------------------------------------------------- */

/* One update of one matrix: SGD, Adagrad (Duchi et al. 2011), row-wise Adagrad, Adam / AdamW (lazy:
 * rows touched by the step, global step count), partial row-wise Adam. Exact: duplicates are summed
 * first, then each row is updated once.
 *   g = grad_scale * gradient (+ weight_decay * row for L2)
 *   SGD                  row -= lr g
 *   Adagrad              s += g^2;              row -= lr g / (sqrt(s) + eps)
 *   row-wise Adagrad     s += mean_j g_j^2;     row -= lr g / (sqrt(s) + eps)
 *   Adam                 m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
 *                        row -= lr m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps)
 *   partial row-wise     v = b2 v + (1-b2) mean_j g_j^2, else as Adam
 * Decoupled decay multiplies the row by (1 - lr weight_decay) first. A row whose gradient is not
 * finite is left alone and counted. */
typedef struct resembed_optimizer {
  size_t struct_size;
  resembed_optimizer_kind kind;
  float lr;
  float beta1, beta2; /* Adam; 0 means 0, set .9 and .999 yourself */
  float eps;
  float weight_decay;
  resembed_decay decay;
  float max_row_norm;            /* after the update a longer row is scaled down to this norm; 0 = no cap */
  float grad_scale;              /* multiplies the gradient; 0 means 1 */
  int64_t step;                  /* t = 1, 2, ...: Adam's bias correction and the random generator */
  const float* lr_device;        /* [1] overrides lr, read when the step runs */
  const int64_t* step_device;    /* [1] overrides step */
  const float* inv_scale_device; /* [1] multiplies the gradient as well (loss scale) */
  const float* found_inf_device; /* [1] non-zero: the whole step is skipped */
  int64_t* n_skipped_rows;       /* [1] device memory, incremented by rows left out; or null */

  void* state1;          /* shapes above; null for SGD */
  int64_t state1_stride; /* 0 = dim (matrix states) or 1 (row states) */
  void* state2;
  int64_t state2_stride;
  resembed_dtype state_dtype; /* F32; F16/BF16 where the backend says so */

  int32_t stochastic_rounding; /* 16-bit tables: 0 = round to nearest even, 1 = stochastic */
  uint64_t seed;               /* Philox4x32-10 keyed by (seed, step, table, part, row, column) */
} resembed_optimizer;

/* Updates of one table; a null optimizer leaves that part as it is. */
typedef struct resembed_table_step {
  size_t struct_size;
  const resembed_optimizer* residual;
  const resembed_optimizer* central;
  int32_t table_number; /* key of the random generator, the same in every call: 0 .. 32767 */
} resembed_table_step;

/* ---- arguments of the operations (resembed.h) ----------------------------------------------- */

/* The tables of a call: either an array of descriptors or a prepared set. */
typedef struct resembed_tables {
  size_t struct_size;
  const resembed_table* const* tables; /* [n_tables] */
  int32_t n_tables;
  const resembed_table_set* set; /* when given, `tables` is ignored */
} resembed_tables;

/* What one batch's ids say, computed once and reused: a plain header over caller-owned memory. Filled
 * by resembed_plan; read it with resembed_plan_view. Copy it freely; it dies with `memory`. */
typedef struct resembed_plan_header {
  size_t struct_size;
  void* memory;
  size_t memory_bytes;
  resembed_backend backend;
  int32_t device;
  int32_t n_tables;
  int32_t n_features;
  uint64_t fingerprint; /* of shapes, features and map versions: other ones are refused */
  const void* layout;   /* CUDA: the layout of the args, which must outlive the plan; otherwise null */
} resembed_plan_header;

/* Bytes of resembed_plan_args.layout. */
#define RESEMBED_PLAN_LAYOUT_BYTES(n_tables, n_features) \
  (64 + 256 * (size_t)(n_tables) + 32 * (size_t)(n_features))

/* One table's part of a plan; every pointer is device memory inside the plan. */
typedef struct resembed_plan_table {
  size_t struct_size;
  const int64_t* n_unique;         /* [1] distinct items of the batch (padding and bad ids excluded) */
  const int32_t* unique_items;     /* [max_unique] increasing; only the first *n_unique hold */
  const int64_t* n_unique_central; /* [1] distinct central rows */
  const int32_t* unique_central;   /* [max_unique_central] increasing */
  int64_t max_unique;              /* capacity that holds every gradient of R */
  int64_t max_unique_central;      /* capacity that holds every gradient of C */
  const int32_t* status;           /* [1] non-zero: the batch broke a promise; nothing is updated */
} resembed_plan_table;

typedef struct resembed_plan_args {
  size_t struct_size;
  const resembed_tables* tables;
  const resembed_feature* const* features; /* [n_features] */
  int32_t n_features;
  resembed_bounds bounds;
  resembed_bad_ids* bad_ids;         /* [1] device memory or null */
  const int64_t* max_unique;         /* [n_tables] host; promises, or null = the worst case */
  const int64_t* max_unique_central; /* [n_tables] host */
  int32_t skip_central;              /* 1: no gradient of C will be asked of this plan */
  /* CUDA: ordinary memory, 8-byte aligned, of RESEMBED_PLAN_LAYOUT_BYTES(n_tables, n_features): where the parts of
   * the plan lie, since the host does not read device memory. Ignored by plan_size and on the CPU. */
  void* layout;
  size_t layout_bytes;
} resembed_plan_args;

typedef struct resembed_forward_args {
  size_t struct_size;
  const resembed_tables* tables;
  const resembed_feature* const* features;
  int32_t n_features;
  resembed_bounds bounds;
  resembed_bad_ids* bad_ids;
  resembed_numerics numerics;
  const resembed_plan_header* plan; /* optional: each unique item may be composed once (same bits) */
  int64_t expected_unique;          /* hint for the CPU: distinct items of the batch; 0 = unknown */
  int32_t coherent_bags;            /* reserved hint, read by no path yet: a bag's items share few centers */
} resembed_forward_args;

typedef struct resembed_backward_args {
  size_t struct_size;
  const resembed_plan_header* plan;
  const resembed_tables* tables;           /* those the plan was made for */
  const resembed_feature* const* features; /* those the plan was made for */
  int32_t n_features;
  const resembed_feature_grad* const* feature_grads; /* [n_features]; null entry = no gradient */
  const resembed_table_grad* const* table_grads;     /* [n_tables]; null entry = not asked for */
} resembed_backward_args;

typedef struct resembed_step_args {
  size_t struct_size;
  const resembed_tables* tables;
  const resembed_table_grad* const* table_grads; /* [n_tables] compressed or dense; null = no step */
  const resembed_table_step* const* steps;       /* [n_tables]; null entry = no step */
} resembed_step_args;

typedef struct resembed_backward_step_args {
  size_t struct_size;
  const resembed_plan_header* plan;
  const resembed_tables* tables;
  const resembed_feature* const* features;
  int32_t n_features;
  const resembed_feature_grad* const* feature_grads;
  const resembed_table_step* const* steps; /* [n_tables] */
} resembed_backward_step_args;

typedef struct resembed_combine_args {
  size_t struct_size;
  const resembed_grad* const* inputs; /* [n_inputs] compressed, summed in this order */
  int32_t n_inputs;
  int64_t dim;
  int64_t table_rows;          /* ids are in [0, table_rows) */
  const resembed_grad* output; /* compressed; overlaps no input */
} resembed_combine_args;

typedef struct resembed_materialize_args {
  size_t struct_size;
  const resembed_table* table;
  int64_t first_item;
  int64_t n_items; /* items [first_item, first_item + n_items) */
  void* output;    /* E [n_items, dim] */
  int64_t output_stride;
  resembed_dtype output_dtype;
} resembed_materialize_args;

/* Statistics of items grouped by interest. Distances are Euclidean, between item embeddings. */
typedef struct resembed_envelope_args {
  size_t struct_size;
  const resembed_table* table;
  const int32_t* interest_of; /* [n_items], -1 = left out */
  int64_t n_interests;
  const float* quantiles; /* [n_quantiles] host, in [0, 1]; nearest rank */
  int32_t n_quantiles;
  /* outputs, device memory, each may be null; an interest without items gets 0 */
  int64_t* count;                 /* [n_interests] */
  float* radius;                  /* [n_interests] largest distance to the mean of the members */
  float* radius_quantiles;        /* [n_interests, n_quantiles] of that distance */
  float* residual_norm;           /* [n_interests] mean |R[i]| */
  float* residual_norm_quantiles; /* [n_interests, n_quantiles] */
  float* central_norm;            /* [n_interests] mean |central part of i| */
  float* ratio;                   /* [n_interests] median |R[i]| / |central part of i| over the members that
                               have a central part, 0 when none has */
  float* global;                  /* [4]: RMS distance of all grouped items to their global mean; mean |R|;
                               mean |central part|; median ratio over all grouped items */
} resembed_envelope_args;

#ifdef __cplusplus
}
#endif
#endif /* RESEMBED_TYPES_H_ */
