# SPDX-License-Identifier: Apache-2.0
"""The C ABI for ctypes: structs with the fields of include/resembed/types.h, and calls with their workspace."""
import ctypes
import pathlib
import re
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint64, c_void_p

import numpy as np

CPU, F32, I32, I64 = 1, 0, 3, 4
FORM_STORED, POOLING_SUM, POOLING_MEAN = 3, 1, 2
ROWWISE_ADAGRAD, OUT_OF_RANGE = 2, 2


def struct(name, *fields):
    """A ctypes struct whose first field is struct_size, set on creation."""

    def init(self, **values):
        ctypes.Structure.__init__(self, struct_size=ctypes.sizeof(type(self)), **values)

    return type(name, (ctypes.Structure,), {"_fields_": [("struct_size", c_size_t), *fields], "__init__": init})


Place = struct("resembed_place", ("backend", c_int32), ("device", c_int32), ("stream", c_void_p),
               ("executor", c_void_p), ("isa", c_int32))
Table = struct("resembed_table", ("n_items", c_int64), ("dim", c_int64), ("form", c_int32),
               ("residual", c_void_p), ("residual_stride", c_int64), ("residual_dtype", c_int32),
               ("residual_row_of", c_void_p), ("residual_rows", c_int64),
               ("central", c_void_p), ("central_rows", c_int64), ("central_stride", c_int64),
               ("central_dtype", c_int32), ("center_of", c_void_p), ("center_of_dtype", c_int32),
               ("neighbors", c_void_p), ("n_neighbors", c_int32), ("neighbors_stride", c_int64),
               ("neighbor_weights", c_void_p), ("neighbor_weights_stride", c_int64), ("map_version", c_uint64),
               ("center_major", c_int32))
Tables = struct("resembed_tables", ("tables", POINTER(POINTER(Table))), ("n_tables", c_int32), ("set", c_void_p))
Feature = struct("resembed_feature", ("table", c_int32), ("pooling", c_int32),
                 ("ids", c_void_p), ("n_ids", c_int64), ("id_dtype", c_int32),
                 ("offsets", c_void_p), ("offset_dtype", c_int32), ("n_bags", c_int64), ("bag_length", c_int64),
                 ("weights", c_void_p), ("has_padding", c_int32), ("padding_id", c_int64),
                 ("output", c_void_p), ("output_stride", c_int64), ("output_dtype", c_int32),
                 ("saved_argmax", c_void_p), ("query", c_void_p),
                 ("query_stride", c_int64), ("attention_activation", c_int32), ("attention_scale", c_float),
                 ("saved_attention", c_void_p))
FeatureGrad = struct("resembed_feature_grad", ("grad_output", c_void_p), ("grad_output_stride", c_int64),
                     ("grad_output_dtype", c_int32), ("grad_weights", c_void_p),
                     ("grad_query", c_void_p), ("grad_query_stride", c_int64), ("grad_scores", c_void_p),
                     ("grad_scores_ready", c_int32))
Optimizer = struct("resembed_optimizer", ("kind", c_int32), ("lr", c_float), ("beta1", c_float), ("beta2", c_float),
                   ("eps", c_float), ("weight_decay", c_float), ("decay", c_int32), ("max_row_norm", c_float),
                   ("grad_scale", c_float), ("step", c_int64), ("lr_device", c_void_p), ("step_device", c_void_p),
                   ("inv_scale_device", c_void_p), ("found_inf_device", c_void_p), ("n_skipped_rows", c_void_p),
                   ("state1", c_void_p), ("state1_stride", c_int64), ("state2", c_void_p), ("state2_stride", c_int64),
                   ("state_dtype", c_int32), ("stochastic_rounding", c_int32), ("seed", c_uint64))
TableStep = struct("resembed_table_step", ("residual", POINTER(Optimizer)), ("central", POINTER(Optimizer)),
                   ("table_number", c_int32))
PlanHeader = struct("resembed_plan_header", ("memory", c_void_p), ("memory_bytes", c_size_t), ("backend", c_int32),
                    ("device", c_int32), ("n_tables", c_int32), ("n_features", c_int32), ("fingerprint", c_uint64),
                    ("layout", c_void_p))
PlanArgs = struct("resembed_plan_args", ("tables", POINTER(Tables)), ("features", POINTER(POINTER(Feature))),
                  ("n_features", c_int32), ("bounds", c_int32), ("bad_ids", c_void_p), ("max_unique", c_void_p),
                  ("max_unique_central", c_void_p), ("skip_central", c_int32), ("layout", c_void_p),
                  ("layout_bytes", c_size_t))
ForwardArgs = struct("resembed_forward_args", ("tables", POINTER(Tables)), ("features", POINTER(POINTER(Feature))),
                     ("n_features", c_int32), ("bounds", c_int32), ("bad_ids", c_void_p), ("numerics", c_int32),
                     ("plan", POINTER(PlanHeader)), ("expected_unique", c_int64), ("coherent_bags", c_int32))
BackwardStepArgs = struct("resembed_backward_step_args", ("plan", POINTER(PlanHeader)), ("tables", POINTER(Tables)),
                          ("features", POINTER(POINTER(Feature))), ("n_features", c_int32),
                          ("feature_grads", POINTER(POINTER(FeatureGrad))), ("steps", POINTER(POINTER(TableStep))))
STRUCTS = [Place, Table, Tables, Feature, FeatureGrad, Optimizer, TableStep, PlanHeader, PlanArgs, ForwardArgs,
           BackwardStepArgs]


def check_against_header():
    """The structs above have the fields of types.h, in its order."""
    path = pathlib.Path(__file__).resolve().parents[2] / "include" / "resembed" / "types.h"
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
    for declared in STRUCTS:
        body = re.search(rf"typedef struct {declared.__name__} \{{(.*?)\}} {declared.__name__};", text, re.S).group(1)
        names = [re.search(r"(\w+)\s*$", part).group(1)
                 for line in body.split(";") if line.strip() for part in line.split(",")]
        assert names == [field[0] for field in declared._fields_], (declared.__name__, names)


class Library:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.resembed_last_error_message.restype = c_char_p
        self.place = Place(backend=CPU)

    def call(self, name, *arguments):
        function = getattr(self.lib, "resembed_" + name)
        function.restype = c_int32
        status = function(*arguments)
        if status != 0:
            raise RuntimeError(f"{status}: {self.lib.resembed_last_error_message().decode()}")

    def run(self, name, arguments):
        """Size query, workspace, call."""
        size = c_size_t()
        self.call(name + "_workspace_size", byref(arguments), byref(self.place), byref(size))
        workspace = aligned(size.value)
        self.call(name, byref(arguments), workspace.ctypes.data_as(c_void_p), size, byref(self.place))


def aligned(n_bytes):
    """n_bytes of memory on a multiple of 64."""
    memory = np.empty(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + n_bytes]


def address(array):
    return array.ctypes.data


def pointers(*structs):
    """An array of pointers; keeps the structs alive."""
    kind = POINTER(type(structs[0]))
    return (kind * len(structs))(*(ctypes.pointer(s) for s in structs))
