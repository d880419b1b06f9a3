# SPDX-License-Identifier: Apache-2.0
"""On a GPU: what the CPU gives, on the current stream, without waiting, and in captured graphs; opcheck there."""
import unittest
from unittest import mock

import torch
from torch.utils._pytree import tree_map

import resembed
import test_ops
from support import FUSIONS, OPS, Problem, TestCase, call
from test_collection import FEATURES, OPTIMIZERS, batch, make


def gradients(problem, mode="sum", sparse=False):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (problem.weight, problem.central, problem.samples)
              if tensor is not None]
    central = leaves[1] if problem.central is not None else None
    samples = None if sparse or mode == "max" else leaves[-1]
    out = OPS.embedding_bag(leaves[0], problem.indices, problem.offsets, samples, central, problem.map,
                            problem.neighbor_weights, problem.fusion, mode, sparse=sparse)
    wanted = leaves if samples is not None else leaves[:-1]
    return out, *torch.autograd.grad(out.sin().sum(), wanted)


def lengths_of(offsets):
    n_bags = (offsets.numel() - 1) // len(FEATURES)
    ends = offsets[::n_bags].tolist()
    return [end - begin for begin, end in zip(ends[:-1], ends[1:])]


def moved(name, args, kwargs, device):
    """The arguments of test_ops for an operation on a device. With several features on CUDA their lengths are asked
    for; the graph services are the CPU's."""
    def move(value):
        if not isinstance(value, torch.Tensor):
            return value
        return value.detach().to(device, copy=True).requires_grad_(value.requires_grad)

    if "graph" in name:
        return args, kwargs
    names = [argument.name for argument in getattr(OPS, name).default._schema.arguments]
    given = {**dict(zip(names, args)), **kwargs}
    if "feature_lengths" in names and "feature_lengths" not in given:
        ends = given["offsets"][::(given["offsets"].numel() - 1) // len(given["feature_table"])].tolist()
        kwargs = {**kwargs, "feature_lengths": [end - begin for begin, end in zip(ends[:-1], ends[1:])]}
    return tree_map(move, tuple(args)), tree_map(move, kwargs)


@unittest.skipUnless(torch.cuda.is_available(), "no GPU")
class CudaOpcheck(test_ops.Opcheck):
    """The cases of test_ops with their tensors on the GPU."""
    device = "cuda"

    def setUp(self):
        super().setUp()
        check = test_ops.check
        patch = mock.patch.object(test_ops, "check", lambda name, args, kwargs=None: check(
            name, *moved(name, args, kwargs or {}, self.device)))
        patch.start()
        self.addCleanup(patch.stop)


@unittest.skipUnless(torch.cuda.is_available(), "no GPU")
class Cuda(TestCase):
    def both(self, fusion, **kwargs):
        problem, other = Problem(fusion, **kwargs), Problem(fusion, device="cuda", **kwargs)
        return problem, other

    def close(self, fusion, cuda, cpu):
        """The bits of the CPU, but where exp is involved (attention) or sin was."""
        self.same(cuda.cpu(), cpu, rtol=2e-5, atol=2e-5)

    def test_forward_has_the_bits_of_the_cpu(self):
        for fusion in FUSIONS:
            for mode in ("sum", "mean", "max"):
                problem, other = self.both(fusion, dim=32)
                with self.subTest(fusion=fusion, mode=mode):
                    cpu, cuda = (call(p, samples=mode != "max", mode=mode) for p in (problem, other))
                    (self.close if fusion == "att" else lambda _, a, b: self.equal(a.cpu(), b))(fusion, cuda, cpu)

    def test_gradients(self):
        for fusion in FUSIONS:
            for mode in ("sum", "mean", "max"):
                problem, other = self.both(fusion)
                with self.subTest(fusion=fusion, mode=mode):
                    for cuda, cpu in zip(gradients(other, mode), gradients(problem, mode)):
                        self.close(fusion, cuda, cpu)
            for cuda, cpu in zip(gradients(other, sparse=True)[1:], gradients(problem, sparse=True)[1:]):
                self.assertTrue(cuda.is_sparse and cuda.is_coalesced())
                self.close(fusion, cuda.to_dense(), cpu.to_dense())

    def test_collection_trains_as_on_the_cpu(self):
        for name in OPTIMIZERS:
            collection, other = make(optimizer=name)[0], make(optimizer=name)[0]
            other.load_state_dict(collection.state_dict())
            other.cuda()
            for seed in range(5):
                ids, offsets, samples = batch(seed=seed)
                collection(ids, offsets, samples).square().sum().backward()
                other(ids.cuda(), offsets.cuda(), samples.cuda(), lengths_of(offsets)).square().sum().backward()
            with self.subTest(optimizer=name):
                for key, tensor in collection.state_dict().items():
                    self.same(other.state_dict()[key].cpu(), tensor, rtol=1e-5, atol=1e-6)

    def test_nothing_waits_for_the_device(self):
        module = Problem("gcn", device="cuda").bag(mode="sum")
        problem = Problem("gcn", device="cuda")
        collection = make()[0].cuda()
        ids, offsets, _ = batch()
        lengths = lengths_of(offsets)
        ids, offsets = ids.cuda(), offsets.cuda()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            module(problem.indices, problem.offsets, problem.samples).sum().backward()
            collection(ids, offsets, None, lengths).sum().backward()
            module.bad_ids(problem.indices)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_runs_on_the_current_stream(self):
        problem = Problem("avg", device="cuda", items=1000, dim=64, bags=2000)
        expected = call(problem)
        stream = torch.cuda.Stream()
        weight = problem.weight.clone()
        problem.weight.zero_()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # an operation on another stream would read the zeros
            problem.weight.copy_(weight)
            out = call(problem)
        stream.synchronize()
        self.equal(out, expected)

    def test_a_captured_graph_replays_with_other_ids(self):
        problem = Problem("gcn", device="cuda")
        module = problem.bag(mode="sum")
        call(problem)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            out = module(problem.indices, problem.offsets)
        problem.indices.copy_(torch.randint_like(problem.indices, 23))
        graph.replay()
        with torch.no_grad():
            self.equal(out, module(problem.indices, problem.offsets))

    def test_bad_ids_are_recorded_and_contribute_nothing(self):
        module = resembed.ResidualEmbeddingBag(5, 3, mode="sum", device="cuda")
        ids = torch.tensor([[0, 7, 2, -3]], device="cuda")
        self.equal(module(ids), module(ids[:, ::2]))
        self.assertEqual(module.bad_ids(ids).tolist(), [2, 0, 1, 7])

    def test_feature_lengths_are_asked_for(self):
        collection = make()[0].cuda()
        ids, offsets, _ = batch()
        self.rejects("feature_lengths is None; needs", collection, ids.cuda(), offsets.cuda())

    def test_inputs_on_another_device_are_refused(self):
        module = resembed.ResidualEmbeddingBag(5, 3, device="cuda")
        self.rejects("indices.device is cpu; needs cuda:0", module, torch.tensor([[1]]))

    def test_autocast_casts_no_table(self):
        module = Problem("gcn", device="cuda").bag()
        with torch.autocast("cuda", dtype=torch.float16):
            self.assertEqual(module(torch.tensor([[1, 2]], device="cuda")).dtype, torch.float32)

    def test_compiled(self):
        module = Problem("gcn", device="cuda").bag()
        compiled = torch.compile(module, fullgraph=True, dynamic=True)
        for shape in ((3, 4), (5, 2)):
            ids = torch.randint(0, 23, shape, device="cuda")
            self.same(compiled(ids), module(ids))


if __name__ == "__main__":
    unittest.main()
