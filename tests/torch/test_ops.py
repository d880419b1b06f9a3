# SPDX-License-Identifier: Apache-2.0
"""opcheck on every operation: schema, autograd registration, shapes without data, tracing with dynamic shapes."""
import unittest

import torch
from torch.library import opcheck

from support import FUSIONS, OPS, Problem, TestCase

# The library's own list, so that a new operation needs a case here.
CHECKED = set()


def check(name, args, kwargs=None):
    CHECKED.add(name)
    opcheck(getattr(OPS, name).default, args, kwargs or {})


def grad(*tensors):
    return [None if tensor is None else tensor.clone().requires_grad_() for tensor in tensors]


class Opcheck(TestCase):
    def test_embedding_bag(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            weight, central, samples = grad(problem.weight, problem.central, problem.samples)
            for mode in ("sum", "mean", "max"):
                with self.subTest(fusion=fusion, mode=mode):
                    check("embedding_bag", (weight, problem.indices, problem.offsets,
                                            None if mode == "max" else samples, central, problem.map,
                                            problem.neighbor_weights, fusion, mode))
            with self.subTest(fusion=fusion, mode="none"):
                check("embedding_bag", (weight, problem.indices, None, None, central, problem.map,
                                        problem.neighbor_weights, fusion, "none", 3))

    def test_embedding_bag_of_matrix_and_last_offset(self):
        problem = Problem("avg", dtype=torch.float16)
        matrix = torch.randint(0, 23, (4, 3))
        check("embedding_bag", (problem.weight, matrix, None, None, *problem.central_args(), "mean"),
              {"output_dtype": torch.float32, "padding_idx": -1})
        ends = torch.cat([problem.offsets, torch.tensor([problem.indices.numel()])])
        check("embedding_bag", (problem.weight, problem.indices, ends, None, *problem.central_args(), "mean"),
              {"include_last_offset": True, "bounds": "skip"})

    def test_backward(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            with self.subTest(fusion=fusion):
                args = (problem.weight, torch.randn(5, 6), problem.indices, problem.offsets, problem.samples,
                        *problem.central_args(), "sum")
                check("embedding_bag_backward", args, {"need_per_sample_weights": True,
                                                       "need_neighbor_weights": fusion == "gcn"})
                check("embedding_bag_backward", args, {"need_weight": False})
                check("embedding_bag_compressed_backward", args)
                check("embedding_bag_compressed_backward", args, {"need_central": False})

    def batched(self):
        """Features 0 and 2 share table 0; table 1 is plain."""
        first, second = Problem("gcn", dim=4), Problem("none", items=9, dim=3, seed=1)
        indices = torch.randint(0, 9, (12,))
        offsets = torch.tensor([0, 2, 5, 5, 8, 9, 12])
        absent = torch.empty(0)
        lists = ([first.central, absent], [first.map, absent], [first.neighbor_weights, absent], ["gcn", "none"])
        return [first.weight, second.weight], indices, offsets, torch.rand(12), lists

    def test_table_batched(self):
        weights, indices, offsets, samples, (central, maps, stored, fusions) = self.batched()
        live = grad(*weights)
        check("table_batched", (live, indices, offsets, samples.requires_grad_(), grad(central[0]) + [central[1]],
                                maps, stored, fusions, [0, 1, 0]), {"mode": "mean"})
        check("table_batched", (weights, indices, offsets, None, [], [], [], []), {"feature_table": [1, 1, 0],
                                                            "feature_lengths": [5, 3, 4],
                                                            "output_dtype": torch.bfloat16})
        samples = samples.detach()
        check("table_batched_backward", (weights, torch.randn(2, 11), indices, offsets, samples, central, maps, stored,
                                         fusions, [0, 1, 0]), {"need_per_sample_weights": True})

    def test_table_batched_step(self):
        weights, indices, offsets, samples, (central, maps, stored, fusions) = self.batched()
        lr, step = torch.full((1,), 0.1), torch.ones(1, dtype=torch.int64)
        for optimizer in ("sgd", "rowwise_adagrad", "adam"):
            with self.subTest(optimizer=optimizer):
                states = [[torch.zeros(matrix.shape[:1] if optimizer == "rowwise_adagrad" else matrix.shape)
                           for matrix in matrices] if optimizer != "sgd" else []
                          for matrices in (weights, central)]
                second = [[state.clone() for state in part] if optimizer == "adam" else [] for part in states]
                check("table_batched_step", ([w.clone() for w in weights], [c.clone() for c in central],
                                             states[0], second[0], states[1], second[1], torch.randn(2, 11), indices,
                                             offsets, samples, lr, lr.clone(), step, maps, stored, fusions,
                                             [0, 1, 0]), {"optimizer": optimizer, "weight_decay": 0.1})

    def test_step_and_combine(self):
        rows, ids, count = torch.randn(4, 6), torch.tensor([1, 5, 7, 0]), torch.tensor([3])
        check("step", (torch.randn(9, 6), torch.zeros(9), None, ids, rows, count, torch.full((1,), 0.1),
                       torch.ones(1, dtype=torch.int64)))
        check("combine", ([ids, ids], [rows, rows.clone()], [count, count], 9))

    def test_tables(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            with self.subTest(fusion=fusion):
                check("materialize", (problem.weight, *problem.central_args()), {"first_item": 2, "n_items": 7})
                check("envelope", (problem.weight, torch.arange(23, dtype=torch.int32) % 3, 3, [0.5],
                                   *problem.central_args()))
                check("check_maps", (problem.weight, *problem.central_args()))
        weights, indices, offsets, _, _ = self.batched()
        check("bad_ids", (weights, indices, offsets, [0, 1, 0]))
        check("bad_ids", (weights[:1], indices))

    def test_graph(self):
        values, offsets = torch.tensor([0, 1, 2, 1, 0, 3]), torch.tensor([0, 3, 6])
        check("interest_graph", (values, offsets, 5), {"top_k": 3})
        neighbors, counts = OPS.interest_graph(values, offsets, 5, 2, 3)
        check("graph_weights", (neighbors, counts))
        check("graph_assign", (neighbors, counts))

    @classmethod
    def tearDownClass(cls):
        names = {schema.name.split("::")[1] for schema in torch._C._jit_get_all_schemas()
                 if schema.name.startswith("resembed::")}
        assert names, "no operation is registered"
        assert CHECKED == names, f"not checked: {sorted(names - CHECKED)}; no longer there: {sorted(CHECKED - names)}"


if __name__ == "__main__":
    unittest.main()
