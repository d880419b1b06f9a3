# SPDX-License-Identifier: Apache-2.0
"""Row-wise sharded modules against one process: 2 and 4 ranks of gloo on the CPU."""

import os
import sys
import tempfile
import unittest

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F

import resembed
from resembed.sharding import ShardedResidualEmbedding, ShardedResidualEmbeddingBag

N_ITEMS, DIM, N_CENTERS, K = 37, 12, 5, 3
FUSIONS = ("none", "assign", "avg", "gcn")


def maps_of(fusion, generator):
    if fusion == "assign":
        return {"assignment": torch.randint(-1, N_CENTERS, (N_ITEMS,), generator=generator, dtype=torch.int32)}
    if fusion == "none":
        return {}
    neighbors = torch.randint(0, N_ITEMS, (N_ITEMS, K), generator=generator, dtype=torch.int32)
    lengths = torch.randint(0, K + 1, (N_ITEMS, 1), generator=generator)
    neighbors[torch.arange(K) >= lengths] = -1
    maps = {"neighbors": neighbors}
    if fusion == "gcn":
        maps["neighbor_weights"] = torch.rand((N_ITEMS, K), generator=generator)
    return maps


def embeddings_of(fusion, weight, central, maps):
    """All item embeddings [items, dim], by torch alone."""
    if fusion == "none":
        return weight
    if fusion == "assign":
        of = maps["assignment"].long()
        return weight + central[of.clamp(min=0)] * (of >= 0).unsqueeze(1)
    lists = maps["neighbors"].long()
    valid = (lists >= 0).float()
    w = maps["neighbor_weights"] * valid if fusion == "gcn" else valid / valid.sum(1, keepdim=True).clamp(min=1)
    return weight + (central[lists.clamp(min=0)] * w.unsqueeze(2)).sum(1)


class Problem:
    """The same on every rank: tables, maps, and the batch of each rank, of different sizes; one is empty."""

    def __init__(self, fusion, world, seed, sample_weights=False):
        generator = torch.Generator().manual_seed(seed)
        self.fusion, self.maps = fusion, maps_of(fusion, generator)
        self.weight = torch.randn((N_ITEMS, DIM), generator=generator)
        rows = {"none": 0, "assign": N_CENTERS}.get(fusion, N_ITEMS)
        self.central = torch.randn((rows, DIM), generator=generator)
        self.ids, self.offsets, self.samples, self.targets = [], [], [], []
        for rank in range(world):
            n_bags = 0 if rank == 1 and world > 2 else 3 + 2 * rank
            lengths = torch.randint(0, 5, (n_bags,), generator=generator)
            n_ids = int(lengths.sum())
            self.ids.append(torch.randint(0, N_ITEMS, (n_ids,), generator=generator))
            self.offsets.append(torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
            self.samples.append(torch.randn((n_ids,), generator=generator) if sample_weights else None)
            self.targets.append(torch.randn((n_bags, DIM), generator=generator))

    def module(self, kind, **options):
        central = {"centers": self.central, "fusion": self.fusion, **self.maps} if self.fusion != "none" else {}
        module = kind(N_ITEMS, DIM, **central, **options)
        with torch.no_grad():
            module.weight.copy_(module._shard(self.weight))
        return module

    def reference(self):
        return self.weight.clone().requires_grad_(), self.central.clone().requires_grad_()


def close(actual, expected, what):
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5, msg=lambda text: f"{what}: {text}")


def check_gradients(problem, module, weight, central, what, factor=1.0):
    grad = module.weight.grad
    close(grad.to_dense() if grad.is_sparse else grad, module._shard(weight.grad) * factor, what + " dR")
    if problem.fusion == "none":
        return
    grad = module.central_weight.grad
    grad = grad.to_dense() if grad.is_sparse else grad
    if problem.fusion != "assign":
        close(grad, module._shard(central.grad) * factor, what + " dC")
        return
    close(grad, central.grad * factor, what + " dC")
    everyone = [torch.empty_like(grad) for _ in range(module.world)]
    dist.all_gather(everyone, grad)
    assert all(torch.equal(other, grad) for other in everyone), what + ": replicas of dC differ"


def pooled(rank, world):
    """Output, dR, dC and the gradient of per-sample weights of rank's bags, as of all bags in one process."""
    case = 0
    for fusion in FUSIONS:
        for mode, sample_weights, padding, sparse, division in (
                ("sum", False, None, False, False), ("sum", True, 3, True, True), ("mean", False, -2, False, True)):
            case += 1
            what = f"{fusion} {mode} {'weighted ' if sample_weights else ''}padding {padding}"
            problem = Problem(fusion, world, case, sample_weights)
            module = problem.module(ShardedResidualEmbeddingBag, mode=mode, padding_idx=padding, sparse=sparse,
                                    include_last_offset=True, gradient_division=division)
            samples = problem.samples[rank]
            samples = None if samples is None else samples.clone().requires_grad_()
            out = module(problem.ids[rank], problem.offsets[rank], samples)
            (out * problem.targets[rank]).sum().backward()

            weight, central = problem.reference()
            items = embeddings_of(fusion, weight, central, problem.maps)
            loss, wanted_samples = 0, None
            for other in range(world):
                others = problem.samples[other]
                others = None if others is None else others.clone().requires_grad_()
                expected = F.embedding_bag(
                    problem.ids[other], items, problem.offsets[other], mode=mode, per_sample_weights=others,
                    include_last_offset=True, padding_idx=None if padding is None else padding % N_ITEMS)
                loss = loss + (expected * problem.targets[other]).sum()
                if other == rank:
                    close(out, expected.detach(), what)
                    wanted_samples = others
            loss.backward()
            check_gradients(problem, module, weight, central, what, 1 / world if division else 1.0)
            if samples is not None and samples.numel() > 0:
                close(samples.grad, wanted_samples.grad, what + " d samples")


def sequence(rank, world):
    """[B, T] -> [B, T, dim] with padding and repeated ids."""
    for case, fusion in enumerate(FUSIONS):
        for sparse in (False, True):
            problem = Problem(fusion, world, 100 + case)
            generator = torch.Generator().manual_seed(case)
            ids = [torch.randint(0, N_ITEMS, (2 if r > 0 else 0, 4), generator=generator) for r in range(world)]
            ids[-1][:, 1:3] = 7
            targets = [torch.randn((*i.shape, DIM), generator=generator) for i in ids]
            module = problem.module(ShardedResidualEmbedding, padding_idx=7, sparse=sparse, gradient_division=False)
            out = module(ids[rank])
            (out * targets[rank]).sum().backward()
            weight, central = problem.reference()
            items = embeddings_of(fusion, weight, central, problem.maps)
            expected = [items[i] * (i != 7).unsqueeze(-1) for i in ids]
            sum((e * t).sum() for e, t in zip(expected, targets)).backward()
            close(out, expected[rank].detach(), f"sequence {fusion}")
            check_gradients(problem, module, weight, central, f"sequence {fusion}")


def training(rank, world):
    """Ten steps of SparseAdam and of SGD on shards end where one process ends."""
    for fusion, sparse in (("assign", True), ("gcn", True), ("avg", False)):
        problem = Problem(fusion, world, 7)
        module = problem.module(ShardedResidualEmbeddingBag, mode="mean", sparse=sparse, include_last_offset=True)
        weight, central = problem.reference()

        def optimizer_of(parameters):
            return torch.optim.SparseAdam(parameters, lr=0.05) if sparse else torch.optim.SGD(parameters, lr=0.5)
        mine, whole = optimizer_of(list(module.parameters())), optimizer_of([weight, central])
        for step in range(10):
            turn = [(rank_ + step) % world for rank_ in range(world)]
            out = module(problem.ids[turn[rank]], problem.offsets[turn[rank]])
            mine.zero_grad()
            (out - problem.targets[turn[rank]]).square().sum().backward()
            mine.step()
            items = embeddings_of(fusion, weight, central, problem.maps)
            loss = 0
            for other in range(world):
                expected = F.embedding_bag(problem.ids[other], items, problem.offsets[other], mode="mean",
                                           include_last_offset=True)
                loss = loss + (expected - problem.targets[other]).square().sum()
            whole.zero_grad()
            (loss / world).backward()
            if sparse:  # SparseAdam leaves rows alone whose gradient is not there
                for table in (weight, central):
                    table.grad = table.grad.to_sparse(1)
            whole.step()
        state = module.full_state_dict()
        torch.testing.assert_close(state["weight"], weight.detach(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(state["central_weight"], central.detach(), rtol=1e-3, atol=1e-3)
        for name, value in problem.maps.items():
            assert torch.equal(state[name], value), name


def whole_modules(rank, world):
    """from_module takes a ResidualEmbeddingBag or ResidualEmbedding apart; full_state_dict puts it together."""
    for fusion in ("assign", "gcn"):
        problem = Problem(fusion, world, 21)
        whole = resembed.ResidualEmbeddingBag(N_ITEMS, DIM, mode="mean", include_last_offset=True,
                                              centers=problem.central, fusion=fusion, **problem.maps)
        with torch.no_grad():
            whole.weight.copy_(problem.weight)
        sharded = ShardedResidualEmbeddingBag.from_module(whole)
        close(sharded(problem.ids[rank], problem.offsets[rank]).detach(),
              whole(problem.ids[rank], problem.offsets[rank]).detach(), f"from_module {fusion}")
        state, wanted = sharded.full_state_dict(), whole.state_dict()
        assert sorted(state) == sorted(wanted), (sorted(state), sorted(wanted))
        for name, value in wanted.items():
            assert torch.equal(state[name], value), name


def refusals(rank, world):
    """Reasons, on every rank alike; an id that nobody owns ends nothing but the call."""
    problem = Problem("avg", world, 3)

    def refused(kind, expected, call):
        try:
            call()
        except kind as error:
            assert expected in str(error), str(error)
        else:
            raise AssertionError(f"no {kind.__name__} with {expected!r}")
    refused(ValueError, "maximum over items", lambda: ShardedResidualEmbeddingBag(N_ITEMS, DIM, mode="max"))
    refused(ValueError, "softmax over an item's neighbors", lambda: ShardedResidualEmbeddingBag(
        N_ITEMS, DIM, fusion="att", neighbors=problem.maps["neighbors"]))
    refused(ValueError, "neighbor_weights is None with fusion 'gcn'", lambda: ShardedResidualEmbeddingBag(
        N_ITEMS, DIM, fusion="gcn", neighbors=problem.maps["neighbors"]))
    module = problem.module(ShardedResidualEmbeddingBag, mode="mean")
    weighted = module(torch.tensor([[1, 5]]), None, torch.tensor([[1.0, 3.0]])).detach()
    each = module(torch.tensor([[1], [5]])).detach()
    close(weighted[0], (each[0] + 3 * each[1]) / 2, "a mean divides by the number of items")
    refused(RuntimeError, f"indices[1] is {N_ITEMS}", lambda: module(torch.tensor([[0, N_ITEMS]])))
    close(module(torch.zeros((2, 0), dtype=torch.int64)).detach(), torch.zeros((2, DIM)), "empty bags")
    assert module(torch.zeros((0, 3), dtype=torch.int64)).shape == (0, DIM)


def work(rank, world, store, check):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        for name in check.split():
            globals()[name](rank, world)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # Without the end of the interpreter: a gloo thread that drops the last collective's tensors while it ends asks for
    # its lock, and that aborts the process (torch 2.11).
    sys.stdout.flush()
    os._exit(0)


class Sharding(unittest.TestCase):
    def spawn(self, world, checks):
        if not dist.is_available() or not dist.is_gloo_available():
            self.skipTest("this torch has no gloo")
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.spawn(work, (world, os.path.join(folder, "store"), checks), nprocs=world)

    def test_two_ranks_equal_one_process(self):
        self.spawn(2, "pooled sequence training whole_modules refusals")

    def test_four_ranks_equal_one_process(self):
        self.spawn(4, "pooled sequence training")


if __name__ == "__main__":
    unittest.main()
