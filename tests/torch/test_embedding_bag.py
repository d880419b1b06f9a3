# SPDX-License-Identifier: Apache-2.0
"""ResidualEmbeddingBag and ResidualEmbedding against nn.EmbeddingBag and nn.Embedding, over their option spaces."""
import inspect
import unittest

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import resembed
from support import TestCase


@st.composite
def bags(draw):
    """Options of a module, and a batch for it."""
    items, dim = draw(st.integers(1, 12)), draw(st.sampled_from([1, 3, 4, 16, 33]))
    mode = draw(st.sampled_from(["sum", "mean", "max"]))
    options = {"mode": mode, "include_last_offset": draw(st.booleans()),
               "sparse": mode != "max" and draw(st.booleans()),
               "padding_idx": draw(st.none() | st.integers(-items, items - 1))}
    index_dtype = draw(st.sampled_from([torch.int32, torch.int64]))
    if draw(st.booleans()):
        shape = (draw(st.integers(0, 4)), draw(st.integers(1, 5)))  # torch takes no bags of length 0
        options["include_last_offset"] = False
        ids = torch.tensor(draw(st.lists(st.integers(0, items - 1), min_size=shape[0] * shape[1],
                                         max_size=shape[0] * shape[1])), dtype=index_dtype).reshape(shape)
        offsets = None
    else:
        lengths = draw(st.lists(st.integers(0, 5), min_size=0, max_size=5))
        ids = torch.tensor(draw(st.lists(st.integers(0, items - 1), min_size=sum(lengths), max_size=sum(lengths))),
                           dtype=index_dtype)
        ends = [0]
        for length in lengths:
            ends.append(ends[-1] + length)
        offsets = torch.tensor(ends if options["include_last_offset"] else ends[:-1], dtype=index_dtype)
    samples = mode == "sum" and draw(st.booleans())
    return items, dim, options, ids, offsets, samples, draw(st.integers(0, 2**31))


def gradient(parameter):
    return None if parameter.grad is None else parameter.grad.to_dense()


class AgainstTorch(TestCase):
    @given(bags())
    def test_embedding_bag(self, case):
        items, dim, options, ids, offsets, use_samples, seed = case
        torch.manual_seed(seed)
        theirs = nn.EmbeddingBag(items, dim, **options)
        ours = resembed.ResidualEmbeddingBag(items, dim, **options)
        ours.load_state_dict(theirs.state_dict())
        self.assertEqual(ours.padding_idx, theirs.padding_idx)
        samples = [torch.rand(ids.shape).requires_grad_() for _ in range(2)] if use_samples else [None, None]
        if use_samples:
            samples[1].data.copy_(samples[0].data)
        expected, actual = theirs(ids, offsets, samples[0]), ours(ids, offsets, samples[1])
        self.same(actual, expected)
        self.assertEqual(actual.dtype, expected.dtype)
        dy = torch.randn_like(expected)
        expected.backward(dy)
        actual.backward(dy)
        self.assertEqual(ours.weight.grad.is_sparse, options["sparse"])
        self.same(gradient(ours.weight), gradient(theirs.weight))
        if use_samples:
            self.same(samples[1].grad, samples[0].grad)

    @given(st.integers(1, 9), st.integers(1, 20), st.lists(st.integers(0, 2**20), max_size=12),
           st.sampled_from([torch.int32, torch.int64]), st.booleans(), st.booleans())
    def test_embedding(self, items, dim, values, index_dtype, sparse, padding):
        ids = torch.tensor([value % items for value in values], dtype=index_dtype)
        ids = ids.reshape(-1, 2) if len(values) % 2 == 0 else ids
        options = {"sparse": sparse, "padding_idx": items // 2 if padding else None}
        theirs, ours = nn.Embedding(items, dim, **options), resembed.ResidualEmbedding(items, dim, **options)
        ours.load_state_dict(theirs.state_dict())
        expected, actual = theirs(ids), ours(ids)
        self.equal(actual, expected)
        dy = torch.randn_like(expected)
        expected.backward(dy)
        actual.backward(dy)
        self.assertEqual(ours.weight.grad.is_sparse, sparse)
        self.same(gradient(ours.weight), gradient(theirs.weight))

    def test_positional_order_is_that_of_torch(self):
        for ours, theirs in ((resembed.ResidualEmbeddingBag, nn.EmbeddingBag),
                             (resembed.ResidualEmbedding, nn.Embedding)):
            for name in ("__init__", "from_pretrained", "forward"):
                own = inspect.signature(getattr(ours, name)).parameters.values()
                wanted = inspect.signature(getattr(theirs, name)).parameters.values()
                with self.subTest(ours=ours.__name__, name=name):
                    positional = [(p.name, p.default) for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
                    reference = [(p.name, p.default) for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD]
                    self.assertEqual(positional, reference)

    def test_state_dict_is_that_of_torch_without_a_central_part(self):
        ours, theirs = resembed.ResidualEmbeddingBag(5, 3), nn.EmbeddingBag(5, 3)
        self.assertEqual(list(ours.state_dict()), list(theirs.state_dict()))

    def test_padding_row_starts_at_zero(self):
        for module in (resembed.ResidualEmbeddingBag(5, 3, padding_idx=-2), resembed.ResidualEmbedding(5, 3, -2)):
            self.equal(module.weight[3], torch.zeros(3))
            self.assertGreater(float(module.weight[2].detach().abs().sum()), 0)

    def test_from_pretrained(self):
        rows = torch.randn(6, 4)
        for freeze in (True, False):
            module = resembed.ResidualEmbeddingBag.from_pretrained(rows, freeze, mode="sum", padding_idx=1)
            self.equal(module.weight.detach(), rows)
            self.assertEqual(module.weight.requires_grad, not freeze)
            self.equal(module(torch.tensor([[0, 1, 2]])).detach(), (rows[0] + rows[2])[None])
        self.equal(resembed.ResidualEmbedding.from_pretrained(rows)(torch.tensor([3])), rows[3:4])


class SparseGradients(TestCase):
    def train(self, make, module, steps=5):
        optimizer = make(module.parameters())
        torch.manual_seed(1)
        for _ in range(steps):
            ids = torch.randint(0, 11, (4, 6))
            optimizer.zero_grad()
            module(ids).square().sum().backward()
            optimizer.step()
        return module.weight.detach()

    def test_optimizers_of_torch_take_them(self):
        makers = {"SGD": lambda p: torch.optim.SGD(p, lr=0.01), "SparseAdam": lambda p: torch.optim.SparseAdam(p, lr=0.01),
                  "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01)}
        for name, make in makers.items():
            theirs = nn.EmbeddingBag(11, 5, mode="sum", sparse=True)
            ours = resembed.ResidualEmbeddingBag(11, 5, mode="sum", sparse=True)
            ours.load_state_dict(theirs.state_dict())
            before = ours.weight.detach().clone()
            with self.subTest(optimizer=name):
                self.same(self.train(make, ours), self.train(make, theirs))
                self.assertFalse(torch.equal(ours.weight.detach(), before))

    def test_are_coalesced_and_equal_the_dense_ones(self):
        for fusion, maps in {"assign": {"assignment": torch.arange(11, dtype=torch.int32) % 3},
                             "avg": {"neighbors": torch.randint(0, 11, (11, 3), dtype=torch.int32)}}.items():
            sparse = resembed.ResidualEmbeddingBag(11, 5, sparse=True, **maps)
            dense = resembed.ResidualEmbeddingBag(11, 5, **maps)
            dense.load_state_dict(sparse.state_dict())
            ids = torch.randint(0, 11, (2, 7))
            # autograd.grad, because accumulation into .grad forgets the flag.
            grads = [torch.autograd.grad(module(ids).square().sum(), (module.weight, module.central_weight))
                     for module in (sparse, dense)]
            for name, own, wanted in zip(("weight", "central_weight"), *grads):
                with self.subTest(fusion=fusion, part=name):
                    self.assertTrue(own.is_sparse and own.is_coalesced())
                    self.assertEqual(own.indices().shape[0], 1)
                    self.equal(own.indices()[0], own.indices()[0].unique())
                    self.equal(own.to_dense(), wanted)
            self.equal(grads[0][0].indices()[0], ids.unique())

    def test_are_refused_with_max(self):
        self.rejects("sparse is True with mode 'max'", resembed.ResidualEmbeddingBag, 5, 3, mode="max", sparse=True,
                     error=ValueError)


if __name__ == "__main__":
    unittest.main()
