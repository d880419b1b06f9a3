# SPDX-License-Identifier: Apache-2.0
"""Inputs that are empty, strided, of other types, wrong, or cast by autocast."""
import unittest

import torch

import resembed
from support import FUSIONS, OPS, Problem, TestCase, call


class Empty(TestCase):
    def test_no_bags_no_ids_no_items(self):
        none = torch.empty(0, dtype=torch.int64)
        for fusion in FUSIONS:
            module = Problem(fusion).bag()
            with self.subTest(fusion=fusion):
                self.assertEqual(module(none, none).shape, (0, 6))
                self.assertEqual(module(none.reshape(0, 4)).shape, (0, 6))
                self.equal(module(none.reshape(3, 0)).detach(), torch.zeros(3, 6))
                self.equal(module(none, torch.zeros(2, dtype=torch.int64)).detach(), torch.zeros(2, 6))
        for module in (resembed.ResidualEmbeddingBag(0, 6), resembed.ResidualEmbedding(0, 6)):
            self.assertEqual(module(none.reshape(0, 4)).shape[0], 0)
            self.assertEqual(module.materialize().shape, (0, 6))

    def test_gradients_of_nothing_are_zeros(self):
        for fusion in FUSIONS:
            for ids in (torch.empty(0, 4, dtype=torch.int64), torch.empty(3, 0, dtype=torch.int64)):
                module = Problem(fusion).bag()
                module(ids).sum().backward()
                for name, parameter in module.named_parameters():
                    with self.subTest(fusion=fusion, part=name):
                        self.equal(parameter.grad, torch.zeros_like(parameter))

    def test_empty_bags_give_zeros_with_every_mode(self):
        offsets = torch.tensor([0, 0, 3, 3])
        for mode in ("sum", "mean", "max"):
            out = resembed.ResidualEmbeddingBag(5, 3, mode=mode)(torch.tensor([1, 2, 1]), offsets)
            self.equal(out[[0, 2, 3]].detach(), torch.zeros(3, 3))

    def test_a_collection_without_ids(self):
        collection = resembed.ResidualEmbeddingBagCollection([(5, 3), (6, 2)])
        before = [weight.clone() for weight in collection.split_embedding_weights()]
        none = torch.empty(0, dtype=torch.int64)
        out = collection(none, torch.zeros(7, dtype=torch.int64))
        self.equal(out.detach(), torch.zeros(3, 5))
        out.sum().backward()
        self.assertEqual(collection(none, torch.zeros(1, dtype=torch.int64)).shape, (0, 5))
        for weight, old in zip(collection.split_embedding_weights(), before):
            self.equal(weight, old)


class Strides(TestCase):
    def test_non_contiguous_inputs_give_the_same(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            expected = call(problem)
            double = {name: getattr(problem, name).repeat_interleave(2)[::2] for name in ("indices", "offsets", "samples")}
            self.assertFalse(double["indices"].is_contiguous())
            with self.subTest(fusion=fusion):
                self.equal(OPS.embedding_bag(problem.weight, double["indices"], double["offsets"], double["samples"],
                                             *problem.central_args(), "sum"), expected)
                # Rows with a stride: columns of a wider table.
                wide = torch.cat([problem.weight, torch.zeros(23, 3)], 1)[:, :6]
                self.equal(OPS.embedding_bag(wide, problem.indices, problem.offsets, problem.samples,
                                             *problem.central_args(), "sum"), expected)
                matrix = torch.randint(0, 23, (4, 3))
                self.equal(OPS.embedding_bag(problem.weight, matrix.T, None, None, *problem.central_args()),
                           OPS.embedding_bag(problem.weight, matrix.T.contiguous(), None, None, *problem.central_args()))

    def test_non_contiguous_gradients_give_the_same(self):
        problem = Problem("gcn")
        grads = []
        for strided in (False, True):
            module = problem.bag(mode="sum")
            out = module(problem.indices, problem.offsets)
            dy = torch.arange(30.0).reshape(6, 5).T if strided else torch.arange(30.0).reshape(6, 5).T.contiguous()
            out.backward(dy)
            grads.append((module.weight.grad, module.central_weight.grad))
        expanded = problem.bag(mode="sum")
        expanded(problem.indices, problem.offsets).sum().backward()  # a gradient of stride 0
        self.assertTrue(torch.isfinite(expanded.weight.grad).all())
        for plain, strided in zip(*grads):
            self.equal(plain, strided)

    def test_rows_that_are_not_contiguous_are_refused(self):
        self.rejects(r"weight.stride\(1\) is 23; needs contiguous rows", OPS.embedding_bag, torch.randn(6, 23).T,
                     torch.tensor([[0]]))

    def test_arguments_are_not_written(self):
        problem = Problem("att")
        before = [tensor.clone() for tensor in (problem.weight, problem.indices, problem.offsets, problem.samples,
                                                problem.central, problem.map)]
        call(problem)
        for tensor, old in zip((problem.weight, problem.indices, problem.offsets, problem.samples, problem.central,
                                problem.map), before):
            self.equal(tensor, old)


class Wrong(TestCase):
    def test_types_shapes_and_devices(self):
        weight, ids, offsets = torch.randn(5, 3), torch.tensor([0, 1, 2]), torch.tensor([0, 2])
        lists = torch.zeros(5, 2, dtype=torch.int32)
        cases = [
            ("weight.dtype is float64; needs float32, float16 or bfloat16", (weight.double(), ids, offsets), {}),
            (r"weight.shape is \[15\]; needs \[rows, dim\]", (weight.reshape(-1), ids, offsets), {}),
            ("indices.dtype is float32; needs int32 or int64", (weight, ids.float(), offsets), {}),
            ("offsets.dtype is int16|offsets.dtype is Short", (weight, ids, offsets.to(torch.int16)), {}),
            (r"indices.shape is \[1, 1, 3\]; needs", (weight, ids[None, None], offsets), {}),
            ("offsets is None; needs", (weight, ids), {}),
            (r"offsets is given; needs None with indices of shape \[B, N\]", (weight, ids[None], offsets), {}),
            (r"per_sample_weights.shape is \[2\]; needs that of indices", (weight, ids, offsets, torch.ones(2)),
             {"mode": "sum"}),
            ("per_sample_weights.dtype is int64; needs a floating type", (weight, ids, offsets, ids), {"mode": "sum"}),
            ("mode is 'median'; needs 'none', 'sum', 'mean' or 'max'", (weight, ids, offsets), {"mode": "median"}),
            ("fusion is 'concat'; needs", (weight, ids, offsets), {"fusion": "concat"}),
            ("bounds is 'clamp'; needs 'check', 'trust' or 'skip'", (weight, ids, offsets), {"bounds": "clamp"}),
            ("central_weight is None; needs a tensor for fusion 'avg'", (weight, ids, offsets, None, None, lists),
             {"fusion": "avg"}),
            ("central_map is None; needs a tensor for fusion 'avg'", (weight, ids, offsets, None, weight),
             {"fusion": "avg"}),
            (r"central_weight.shape is \[5, 2\]; needs rows of dim 3",
             (weight, ids, offsets, None, torch.zeros(5, 2), lists), {"fusion": "avg"}),
            (r"central_map.shape is \[4, 2\]", (weight, ids, offsets, None, weight.clone(), lists[:4]), {"fusion": "avg"}),
            ("central_map.dtype is int64; needs int32", (weight, ids, offsets, None, weight.clone(), lists.long()),
             {"fusion": "avg"}),
            ("neighbor_weights is None; needs a tensor for fusion 'gcn'",
             (weight, ids, offsets, None, weight.clone(), lists), {"fusion": "gcn"}),
            ("padding_idx is 5; needs -5 .. 4", (weight, ids, offsets), {"padding_idx": 5}),
            ("output.dtype is float64", (weight, ids, offsets), {"output_dtype": torch.float64}),
        ]
        for pattern, args, kwargs in cases:
            with self.subTest(pattern=pattern):
                self.rejects("embedding_bag: .*(" + pattern + ")", OPS.embedding_bag, *args, **kwargs)

    def test_offsets_that_do_not_fit(self):
        module = resembed.ResidualEmbeddingBag(5, 3)
        for offsets in ([0, 4], [0, 2, 1], [1, 2], [-1, 2]):
            with self.subTest(offsets=offsets):
                self.rejects("offsets", module, torch.tensor([0, 1, 2]), torch.tensor(offsets))

    def test_per_sample_weights_are_refused_with_max(self):
        self.rejects("max", OPS.embedding_bag, torch.randn(5, 3), torch.tensor([0]), torch.tensor([0]), torch.ones(1),
                     mode="max")

    def test_collection(self):
        collection = resembed.ResidualEmbeddingBagCollection([(5, 3), (6, 2)])
        ids = torch.tensor([0, 1, 2])
        for pattern, args in ((r"offsets.shape is \[4\]; needs \[2 \* B \+ 1\]", (ids, torch.tensor([0, 1, 2, 3]))),
                              (r"indices.shape is \[1, 3\]; needs", (ids[None], torch.tensor([0, 1, 3]))),
                              ("offsets", (ids, torch.tensor([0, 9, 3])))):
            with self.subTest(pattern=pattern):
                self.rejects(pattern, collection, *args)
        self.rejects("feature_lengths add up to 2; needs 3", collection, ids, torch.tensor([0, 1, 3]), None, [1, 1])
        make = resembed.ResidualEmbeddingBagCollection
        for pattern, args, kwargs in (("embedding_specs has 0 entries", ([],), {}),
                                      ("optimizer is 'lamb'; needs", ([(5, 3)],), {"optimizer": "lamb"}),
                                      (r"feature_table_map\[1\] is 1; needs 0 .. 0", ([(5, 3)], [0, 1]), {}),
                                      ("name is 'a' again", ([{"num_embeddings": 2, "embedding_dim": 2, "name": "a"}] * 2,), {}),
                                      ("pooling_mode is 'none'; needs", ([(5, 3)],), {"pooling_mode": "none"})):
            with self.subTest(pattern=pattern):
                self.rejects(pattern, make, *args, error=ValueError, **kwargs)


class BadIds(TestCase):
    def test_check_raises_with_position_and_value_before_anything_is_written(self):
        module = resembed.ResidualEmbeddingBag(5, 3)
        for bad in (-1, 5, 2**40):
            ids = torch.tensor([0, 1, bad, 2])
            with self.subTest(bad=bad):
                self.rejects(f"(?s)(?=.*{bad})(?=.*2)", module, ids, torch.tensor([0]))
                self.assertEqual(module.bad_ids(ids).tolist(), [1, 0, 2, bad])
        self.assertEqual(module.bad_ids(torch.tensor([0, 4])).tolist(), [0, -1, -1, 0])
        collection = resembed.ResidualEmbeddingBagCollection([(5, 3), (3, 2)])
        before = [weight.clone() for weight in collection.split_embedding_weights()]
        ids, offsets = torch.tensor([0, 4, 1, 3]), torch.tensor([0, 2, 4])
        self.rejects("3", collection, ids, offsets)
        self.rejects("3", collection.step, torch.ones(1, 5), ids, offsets)
        for weight, old in zip(collection.split_embedding_weights(), before):
            self.equal(weight, old)
        self.assertEqual(collection.bad_ids(ids, offsets).tolist(), [1, 1, 3, 3])

    def test_skip_leaves_them_out(self):
        for mode in ("sum", "mean", "max"):
            module = resembed.ResidualEmbeddingBag(5, 3, mode=mode, bounds_check_mode="skip")
            out = module(torch.tensor([0, 9, 2, -4]), torch.tensor([0]))
            self.equal(out, module(torch.tensor([0, 2]), torch.tensor([0])))
            out.sum().backward()
            self.assertEqual(float(module.weight.grad[[1, 3, 4]].abs().sum()), 0)


class Autocast(TestCase):
    def test_no_table_is_cast(self):
        problem = Problem("gcn")
        module, linear = problem.bag(mode="sum"), torch.nn.Linear(6, 2)
        expected = module(problem.indices, problem.offsets)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = module(problem.indices, problem.offsets, problem.samples.to(torch.bfloat16))
            plain = module(problem.indices, problem.offsets)
            out = linear(pooled)
        self.assertEqual((pooled.dtype, out.dtype), (torch.float32, torch.bfloat16))
        self.equal(plain, expected)
        out.float().sum().backward()
        self.assertEqual((module.weight.grad.dtype, module.central_weight.grad.dtype), (torch.float32, torch.float32))

    def test_output_dtype(self):
        problem = Problem("avg", dtype=torch.bfloat16)
        wide = problem.bag(output_dtype=torch.float32)(problem.indices, problem.offsets)
        narrow = problem.bag()(problem.indices, problem.offsets)
        self.assertEqual((wide.dtype, narrow.dtype), (torch.float32, torch.bfloat16))
        self.equal(wide.to(torch.bfloat16), narrow)


if __name__ == "__main__":
    unittest.main()
