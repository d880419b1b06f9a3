/* SPDX-License-Identifier: Apache-2.0
 *
 * resembed: residual embeddings for recommender training. The C ABI, the one exported surface.
 *
 *     e_i  =  sum_k w_ik * C[n_ik]  +  R[i]               central part + residual part
 *     y_b  =  pool over t in bag b of  a_bt * e_{i_bt}    none | sum | mean | max | attention to a query
 *
 * Every operation comes as a pair:
 *     resembed_<op>_workspace_size(args, place, &bytes)   pure, host only, reads no device memory
 *     resembed_<op>(args, workspace, workspace_bytes, place)
 * The operation is enqueued on place->stream (CUDA) or done on return (CPU). It never allocates, never
 * synchronizes, never prints. The workspace is 64-byte aligned caller memory of the backend, free for
 * reuse once the operation has run; null is fine when the size is 0.
 *
 * Errors: the first failed check wins, nothing has been enqueued or written. The status says the kind,
 * resembed_last_error_message() the sentence: "<op>: <argument> is <seen>; needs <rule>".
 *
 * Threads: every function may be called from several threads at once, on different memory.
 * Bits: see docs/guarantees.md. Order of sums: items of a bag in order, partial sums cut every 256 items
 * from the bag's start; uses of a row in (feature, position) order, cut every 256 from the run's start.
 */
#ifndef RESEMBED_RESEMBED_H_
#define RESEMBED_RESEMBED_H_

#include "resembed/types.h"

#define RESEMBED_VERSION_MAJOR 0
#define RESEMBED_VERSION_MINOR 1
#define RESEMBED_VERSION_PATCH 0
#define RESEMBED_VERSION \
  (RESEMBED_VERSION_MAJOR * 10000 + RESEMBED_VERSION_MINOR * 100 + RESEMBED_VERSION_PATCH)

/* Partial sums are cut every so many terms; part of the numerics, never tuned. */
#define RESEMBED_SUM_BLOCK 256
#define RESEMBED_MAX_NEIGHBORS 64
#define RESEMBED_WORKSPACE_ALIGNMENT 64

#if defined(RESEMBED_STATIC)
#define RESEMBED_API
#elif defined(_WIN32)
#define RESEMBED_API __declspec(dllimport)
#else
#define RESEMBED_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- about the library ---------------------------------------------------------------------- */

/* RESEMBED_VERSION of the library that was loaded; compare with the macro. */
RESEMBED_API int32_t resembed_version(void);
/* "ok", "invalid_argument", ...; "unknown" for other numbers. Static storage. */
RESEMBED_API const char* resembed_status_name(resembed_status status);
/* The sentence of this thread's last failed call; "" when none failed yet. Valid until the next call on
 * this thread. */
RESEMBED_API const char* resembed_last_error_message(void);
/* ok when `backend` can run on `device` now; otherwise unsupported (not built in) or cuda (no GPU), with
 * the reason in the message. */
RESEMBED_API resembed_status resembed_backend_available(resembed_backend backend, int32_t device);
/* ok when this machine can run `isa`; otherwise unsupported. */
RESEMBED_API resembed_status resembed_isa_available(resembed_cpu_isa isa);
/* The instruction set RESEMBED_ISA_BEST stands for on this machine. */
RESEMBED_API resembed_cpu_isa resembed_best_isa(void);

/* ---- tables --------------------------------------------------------------------------------- */

/* Checks the maps of one table once, after they were made or changed: center_of, neighbors,
 * residual_row_of in range, a list ends at its first -1, no residual row shared, center_major kept. Operations trust
 * them. A host service: reads the maps on the calling thread, and may allocate residual_rows bits.
 * CUDA: copies the maps to the host piece by piece (4 MiB) and waits for place->stream.
 * Errors: out_of_range with item and value. */
RESEMBED_API resembed_status resembed_check_maps(const resembed_table* table, const resembed_place* place);

/* Writes the descriptors of many tables into caller-owned device memory, for calls whose descriptors
 * would not fit into kernel parameters. The set may be used by any number of calls. CUDA: unsupported; an
 * array of any number of tables works. */
RESEMBED_API resembed_status resembed_table_set_size(const resembed_tables* tables,
                                                     const resembed_place* place, size_t* memory_bytes);
RESEMBED_API resembed_status resembed_table_set_prepare(const resembed_tables* tables, void* memory,
                                                        size_t memory_bytes, resembed_table_set* set,
                                                        const resembed_place* place);

/* ---- forward -------------------------------------------------------------------------------- */

/* Composes and pools in one pass: feature.output [n_bags, dim] (NONE: [n_ids, dim]) for every feature.
 * An empty bag gives zeros. fp32 accumulation whatever the types. Outputs must not overlap each other,
 * tables or ids. With args->plan (of the same features) each unique item may be composed once and pooled
 * from there; the bits are the same. */
RESEMBED_API resembed_status resembed_forward_workspace_size(const resembed_forward_args* args,
                                                             const resembed_place* place, size_t* bytes);
RESEMBED_API resembed_status resembed_forward(const resembed_forward_args* args, void* workspace,
                                              size_t workspace_bytes, const resembed_place* place);

/* ---- plan ----------------------------------------------------------------------------------- */

/* Sorts the ids of all features of a step once, across features that share a table: unique rows, runs of
 * uses, work chunks, central rows. Never reads a table's values, so it may run early and on another
 * stream. plan_bytes and the workspace are functions of shapes and promises alone. */
RESEMBED_API resembed_status resembed_plan_size(const resembed_plan_args* args, const resembed_place* place,
                                                size_t* plan_bytes, size_t* workspace_bytes);
/* Fills `memory` (64-byte aligned, owned by the caller, must outlive the plan) and `*plan`. CPU: a broken
 * promise fails with out_of_range; CUDA: it is recorded in the plan's status word. */
RESEMBED_API resembed_status resembed_plan(const resembed_plan_args* args, void* memory, size_t memory_bytes,
                                           resembed_plan_header* plan, void* workspace,
                                           size_t workspace_bytes, const resembed_place* place);
/* Pointers into one table's part of the plan. Host only, reads no device memory. */
RESEMBED_API resembed_status resembed_plan_view(const resembed_plan_header* plan, int32_t table,
                                                resembed_plan_table* view);

/* ---- backward and step ---------------------------------------------------------------------- */

/* Gradients of R and C from one read of the output gradients; gradients of per-sample weights, of stored
 * neighbor weights and of the queries of attention pooling only where a pointer asks for them. Each may be asked
 * for alone.
 *   dE[i] = sum over uses of a * dy (mean: / divisor; max: the columns whose argmax it is; attention: p * dy + dz * q,
 *           see resembed_feature_grad)
 *   dR[i] = dE[i];  dC = W^T dE over unique items;  attention as in docs/concepts.md
 * Same bits on every run and thread count. */
RESEMBED_API resembed_status resembed_backward_workspace_size(const resembed_backward_args* args,
                                                              const resembed_place* place, size_t* bytes);
RESEMBED_API resembed_status resembed_backward(const resembed_backward_args* args, void* workspace,
                                               size_t workspace_bytes, const resembed_place* place);

/* One optimizer update of each table from its gradients. */
RESEMBED_API resembed_status resembed_step_workspace_size(const resembed_step_args* args,
                                                          const resembed_place* place, size_t* bytes);
RESEMBED_API resembed_status resembed_step(const resembed_step_args* args, void* workspace,
                                           size_t workspace_bytes, const resembed_place* place);

/* Backward and step in one: the gradients never leave the workspace. The same bits as
 * resembed_backward followed by resembed_step: every read of a table that a gradient needs happens
 * before the first write to it. */
RESEMBED_API resembed_status resembed_backward_step_workspace_size(const resembed_backward_step_args* args,
                                                                   const resembed_place* place,
                                                                   size_t* bytes);
RESEMBED_API resembed_status resembed_backward_step(const resembed_backward_step_args* args, void* workspace,
                                                    size_t workspace_bytes, const resembed_place* place);

/* Sums several compressed gradients of one matrix into one (gradient accumulation, data-parallel ranks):
 * row by row in the order of the inputs, each partial sum rounded to fp32. */
RESEMBED_API resembed_status resembed_combine_workspace_size(const resembed_combine_args* args,
                                                             const resembed_place* place, size_t* bytes);
RESEMBED_API resembed_status resembed_combine(const resembed_combine_args* args, void* workspace,
                                              size_t workspace_bytes, const resembed_place* place);

/* ---- whole tables --------------------------------------------------------------------------- */

/* E[i] for a range of items: a plain table for serving, and the honest baseline. */
RESEMBED_API resembed_status resembed_materialize_workspace_size(const resembed_materialize_args* args,
                                                                 const resembed_place* place, size_t* bytes);
RESEMBED_API resembed_status resembed_materialize(const resembed_materialize_args* args, void* workspace,
                                                  size_t workspace_bytes, const resembed_place* place);

/* How tight the items of each interest lie, and how large residuals are beside centers. */
RESEMBED_API resembed_status resembed_envelope_workspace_size(const resembed_envelope_args* args,
                                                              const resembed_place* place, size_t* bytes);
RESEMBED_API resembed_status resembed_envelope(const resembed_envelope_args* args, void* workspace,
                                               size_t workspace_bytes, const resembed_place* place);

#ifdef __cplusplus
}
#endif

#include "resembed/services.h" /* interest graph, files */

#endif /* RESEMBED_RESEMBED_H_ */
