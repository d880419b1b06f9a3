# SPDX-License-Identifier: Apache-2.0
"""Values and gradients against the float64 surrogate of support.py, which gradcheck verifies."""
import itertools
import unittest

import torch
from hypothesis import given
from hypothesis import strategies as st

from support import FUSIONS, OPS, Problem, TestCase, pooled


def doubles(problem):
    """The surrogate's leaves: float64 copies of R, C and the per-sample weights, and weights of neighbors."""
    return [None if tensor is None else tensor.double().requires_grad_()
            for tensor in (problem.weight, problem.central, problem.samples, problem.neighbor_weights)]


class Surrogate(TestCase):
    def test_passes_gradcheck(self):
        for fusion, mode in itertools.product(FUSIONS, ("sum", "mean", "max")):
            problem = Problem(fusion, items=6, dim=3, bags=3, longest=4)
            weight, central, samples, stored = doubles(problem)
            samples = None if mode == "max" else samples
            leaves = [leaf for leaf in (weight, central, samples, stored) if leaf is not None]

            def function(*_):
                return pooled(weight, central, problem.map, stored, fusion, problem.indices, problem.offsets, samples,
                              mode, padding_idx=2)
            with self.subTest(fusion=fusion, mode=mode):
                self.assertTrue(torch.autograd.gradcheck(function, leaves))


class Operation(TestCase):
    def compare(self, problem, mode, *, matrix=False, padding_idx=None, last=False, samples=True, rtol=2e-5):
        weight, central, sample, stored = doubles(problem)
        indices, offsets = problem.indices, problem.offsets
        if last:
            offsets = torch.cat([offsets, offsets.new_tensor([indices.numel()])])
        if matrix:
            indices, offsets = torch.randint(0, weight.size(0), (4, 5)), None
            sample = torch.rand(4, 5).double().requires_grad_()
        if mode == "max" or not samples:
            sample = None
        expected = pooled(weight, central, problem.map, stored, problem.fusion, indices, offsets, sample, mode,
                          padding_idx, last)
        floats = [None if leaf is None else leaf.detach().to(problem.weight.dtype).requires_grad_()
                  for leaf in (weight, central)]
        floats += [None if leaf is None else leaf.detach().float().requires_grad_() for leaf in (sample, stored)]
        actual = OPS.embedding_bag(floats[0], indices, offsets, floats[2], floats[1], problem.map, floats[3],
                                   problem.fusion, mode, padding_idx, last, output_dtype=torch.float32)
        self.same(actual.double(), expected, rtol=rtol, atol=rtol)
        dy = torch.randn(expected.shape, dtype=torch.float64)
        pairs = [(a, b) for a, b in zip(floats, (weight, central, sample, stored)) if a is not None]
        got = torch.autograd.grad(actual, [a for a, _ in pairs], dy.float())
        wanted = torch.autograd.grad(expected, [b for _, b in pairs], dy, allow_unused=True, materialize_grads=True)
        for own, reference in zip(got, wanted):
            scale = max([1.0, *reference.abs().flatten().tolist()])
            # A gradient has the type of its table: a 16-bit one is rounded once more.
            close = rtol if own.dtype == torch.float32 else 2 * torch.finfo(own.dtype).eps
            self.same(own.double() / scale, reference / scale, rtol=close, atol=close)

    def test_every_fusion_and_mode(self):
        for fusion, mode, seed in itertools.product(FUSIONS, ("sum", "mean", "max"), range(3)):
            with self.subTest(fusion=fusion, mode=mode, seed=seed):
                self.compare(Problem(fusion, seed=seed), mode)

    @given(st.sampled_from(FUSIONS), st.sampled_from(["sum", "mean", "max"]), st.integers(1, 40), st.integers(1, 40),
           st.integers(1, 9), st.integers(0, 40), st.integers(0, 2**31), st.booleans(), st.booleans())
    def test_random_problems(self, fusion, mode, items, dim, bags, longest, seed, padding, narrow):
        problem = Problem(fusion, items=items, dim=dim, bags=bags, longest=longest, seed=seed,
                          index_dtype=torch.int32 if narrow else torch.int64)
        self.compare(problem, mode, padding_idx=seed % items if padding else None, rtol=1e-4)

    def test_matrices_padding_and_last_offset(self):
        for fusion, mode in itertools.product(FUSIONS, ("sum", "mean", "max")):
            with self.subTest(fusion=fusion, mode=mode):
                self.compare(Problem(fusion), mode, matrix=True)
                self.compare(Problem(fusion, items=4, longest=9), mode, padding_idx=1)
                self.compare(Problem(fusion), mode, last=True, samples=False)

    def test_types_of_tables_ids_and_maps(self):
        for fusion, dtype in itertools.product(FUSIONS, (torch.float16, torch.bfloat16)):
            with self.subTest(fusion=fusion, dtype=dtype):
                self.compare(Problem(fusion, dtype=dtype, index_dtype=torch.int32), "mean")
        self.compare(Problem("assign", uint16=True), "sum")

    def test_dims(self):
        for dim in (1, 7, 64, 130):
            with self.subTest(dim=dim):
                self.compare(Problem("gcn", dim=dim), "sum", rtol=1e-4)

    def test_sequence_output(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            weight, central, _, stored = doubles(problem)
            indices = torch.randint(0, 23, (2, 3, 4))
            with self.subTest(fusion=fusion):
                expected = pooled(weight, central, problem.map, stored, fusion, indices.reshape(-1, 1))
                floats = [None if leaf is None else leaf.detach().float().requires_grad_() for leaf in (weight, central)]
                actual = OPS.embedding_bag(floats[0], indices, None, None, floats[1], problem.map,
                                           problem.neighbor_weights, fusion, "none")
                self.assertEqual(actual.shape, (2, 3, 4, 6))
                self.same(actual.double().reshape(-1, 6), expected, rtol=2e-5, atol=2e-5)
                dy = torch.randn(2, 3, 4, 6)
                actual.backward(dy)
                expected.backward(dy.double().reshape(-1, 6))
                self.same(floats[0].grad.double(), weight.grad, rtol=2e-5, atol=2e-5)
                if central is not None:
                    self.same(floats[1].grad.double(), central.grad, rtol=2e-5, atol=2e-5)

    def test_only_what_requires_a_gradient_gets_one(self):
        problem = Problem("gcn")
        tensors = {"weight": problem.weight, "central": problem.central, "samples": problem.samples,
                   "stored": problem.neighbor_weights}
        for wanted in tensors:
            leaves = {name: tensor.clone().requires_grad_(name == wanted) for name, tensor in tensors.items()}
            with self.subTest(wanted=wanted):
                out = OPS.embedding_bag(leaves["weight"], problem.indices, problem.offsets, leaves["samples"],
                                        leaves["central"], problem.map, leaves["stored"], "gcn", "sum")
                out.sum().backward()
                for name, leaf in leaves.items():
                    self.assertEqual(leaf.grad is not None, name == wanted, name)
                self.assertGreater(float(leaves[wanted].grad.abs().sum()), 0)

    def test_the_same_bits_for_any_number_of_threads_and_with_the_deterministic_switch(self):
        problem = Problem("att", items=500, dim=32, bags=200, longest=30)
        threads = torch.get_num_threads()

        def run():
            leaves = [problem.weight.clone().requires_grad_(), problem.central.clone().requires_grad_()]
            out = OPS.embedding_bag(leaves[0], problem.indices, problem.offsets, problem.samples, leaves[1],
                                    problem.map, None, "att", "sum")
            return out, *torch.autograd.grad(out.sin().sum(), leaves)
        expected = run()
        try:
            torch.use_deterministic_algorithms(True)
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                for actual, wanted in zip(run(), expected):
                    self.equal(actual, wanted)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(threads)


if __name__ == "__main__":
    unittest.main()
