/* A C11 program with nothing but the public header: forward, plan and one fused SGD step over a table of
 * four items and two centers, with numbers small enough to check by hand. */
#include <resembed/resembed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void Check(resembed_status status, const char* call) {
  if (status != RESEMBED_OK) {
    fprintf(stderr, "%s: %s: %s\n", call, resembed_status_name(status), resembed_last_error_message());
    exit(1);
  }
}

static void CheckFloats(const char* what, const float* seen, const float* expected, int n) {
  for (int i = 0; i < n; ++i) {
    if (seen[i] != expected[i]) {
      fprintf(stderr, "%s[%d] is %g; needs %g\n", what, i, (double)seen[i], (double)expected[i]);
      exit(1);
    }
  }
}

static void* Allocate(size_t bytes) {
  const size_t unit = RESEMBED_WORKSPACE_ALIGNMENT;
  void* memory = aligned_alloc(unit, (bytes / unit + 1) * unit);
  if (memory == NULL) exit(1);
  return memory;
}

static float residual[] = {1, 2, 3, 4, 5, 6, 7, 8}; /* R [4, 2] */
static float central[] = {10, 20, 100, 200};        /* C [2, 2] */
static const int32_t center_of[] = {0, 1, 0, -1};   /* item 3 has no center */
static int64_t ids[] = {0, 1, 0, 2, 3};
static const int32_t offsets[] = {0, 3, 3, 5};         /* the bag in the middle is empty */
static const float grad_output[] = {1, 2, 9, 9, 3, 4}; /* dL/dy [3, 2] */
static float pooled[6];

static void Forward(const resembed_tables* tables, const resembed_feature* const* features,
                    const resembed_place* place, resembed_status expected) {
  const resembed_forward_args args = {
      .struct_size = sizeof args, .tables = tables, .features = features, .n_features = 1};
  size_t bytes = 0;
  Check(resembed_forward_workspace_size(&args, place, &bytes), "forward_workspace_size");
  void* workspace = Allocate(bytes);
  const resembed_status status = resembed_forward(&args, workspace, bytes, place);
  free(workspace);
  if (expected == RESEMBED_OK) Check(status, "forward");
  if (status != expected) {
    fprintf(stderr, "forward returned %s; needs %s\n", resembed_status_name(status),
            resembed_status_name(expected));
    exit(1);
  }
}

static void BackwardStep(const resembed_tables* tables, const resembed_feature* const* features,
                         const resembed_place* place) {
  const resembed_plan_args plan_args = {
      .struct_size = sizeof plan_args, .tables = tables, .features = features, .n_features = 1};
  size_t plan_bytes = 0, bytes = 0;
  Check(resembed_plan_size(&plan_args, place, &plan_bytes, &bytes), "plan_size");
  void* memory = Allocate(plan_bytes);
  void* workspace = Allocate(bytes);
  resembed_plan_header plan = {.struct_size = sizeof plan};
  Check(resembed_plan(&plan_args, memory, plan_bytes, &plan, workspace, bytes, place), "plan");
  free(workspace);

  resembed_plan_table view = {.struct_size = sizeof view};
  Check(resembed_plan_view(&plan, 0, &view), "plan_view");
  if (*view.n_unique != 4 || *view.n_unique_central != 2) {
    fprintf(stderr, "the plan counts %lld items, %lld centers; needs 4 and 2\n", (long long)*view.n_unique,
            (long long)*view.n_unique_central);
    exit(1);
  }

  const resembed_optimizer sgd = {.struct_size = sizeof sgd, .kind = RESEMBED_SGD, .lr = 0.5f, .step = 1};
  const resembed_table_step step = {.struct_size = sizeof step, .residual = &sgd, .central = &sgd};
  const resembed_table_step* steps[] = {&step};
  const resembed_feature_grad grad = {.struct_size = sizeof grad, .grad_output = grad_output};
  const resembed_feature_grad* grads[] = {&grad};
  const resembed_backward_step_args args = {.struct_size = sizeof args,
                                            .plan = &plan,
                                            .tables = tables,
                                            .features = features,
                                            .n_features = 1,
                                            .feature_grads = grads,
                                            .steps = steps};
  Check(resembed_backward_step_workspace_size(&args, place, &bytes), "backward_step_workspace_size");
  workspace = Allocate(bytes);
  Check(resembed_backward_step(&args, workspace, bytes, place), "backward_step");
  free(workspace);
  free(memory);
}

int main(void) {
  if (resembed_version() != RESEMBED_VERSION) {
    fprintf(stderr, "the library is version %d, its header %d\n", (int)resembed_version(), RESEMBED_VERSION);
    return 1;
  }
  const resembed_place place = {.struct_size = sizeof place, .backend = RESEMBED_CPU};
  const resembed_table table = {.struct_size = sizeof table,
                                .n_items = 4,
                                .dim = 2,
                                .form = RESEMBED_CENTRAL_ASSIGNMENT,
                                .residual = residual,
                                .central = central,
                                .central_rows = 2,
                                .center_of = center_of,
                                .center_of_dtype = RESEMBED_I32};
  const resembed_table* table_list[] = {&table};
  const resembed_tables tables = {.struct_size = sizeof tables, .tables = table_list, .n_tables = 1};
  const resembed_feature feature = {.struct_size = sizeof feature,
                                    .pooling = RESEMBED_POOLING_SUM,
                                    .ids = ids,
                                    .n_ids = 5,
                                    .id_dtype = RESEMBED_I64,
                                    .offsets = offsets,
                                    .offset_dtype = RESEMBED_I32,
                                    .n_bags = 3,
                                    .output = pooled};
  const resembed_feature* features[] = {&feature};

  Forward(&tables, features, &place, RESEMBED_OK);
  CheckFloats("pooled", pooled, (const float[]){125, 248, 0, 0, 22, 34}, 6);

  /* dE = (2, 4), (1, 2), (3, 4), (3, 4); dC = (5, 8), (1, 2); each row moves by half of it. */
  BackwardStep(&tables, features, &place);
  CheckFloats("residual", residual, (const float[]){0, 0, 2.5f, 3, 3.5f, 4, 5.5f, 6}, 8);
  CheckFloats("central", central, (const float[]){7.5f, 16, 99.5f, 199}, 4);
  Forward(&tables, features, &place, RESEMBED_OK);
  CheckFloats("pooled after the step", pooled, (const float[]){117, 234, 0, 0, 16.5f, 26}, 6);

  /* A bad id is refused with a sentence, and nothing is written. */
  ids[4] = 4;
  Forward(&tables, features, &place, RESEMBED_OUT_OF_RANGE);
  if (strstr(resembed_last_error_message(), "4") == NULL) {
    fprintf(stderr, "the message does not name the id: \"%s\"\n", resembed_last_error_message());
    return 1;
  }
  CheckFloats("pooled after a refused call", pooled, (const float[]){117, 234, 0, 0, 16.5f, 26}, 6);
  printf("ok: %s\n", resembed_last_error_message());
  return 0;
}
