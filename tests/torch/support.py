# SPDX-License-Identifier: Apache-2.0
"""What the torch tests share: problems, and the formulas in plain float64 torch.

The library computes in float32. Its surrogate in float64 is `pooled` below: the same formulas, written as torch
operations, which autograd differentiates and gradcheck verifies. Gradients of the operations are compared with the
surrogate's.
"""
import os
import tempfile
import unittest
import warnings

# Hypothesis keeps files: not in the tree.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tempfile.gettempdir(), "resembed-hypothesis"))

import hypothesis  # noqa: E402
import torch  # noqa: E402

import resembed  # noqa: E402,F401  registers torch.ops.resembed

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None, max_examples=100,
                                     suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.load_profile("tests")
warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)

OPS = torch.ops.resembed
FUSIONS = ("none", "assign", "avg", "gcn", "att")


class Problem:
    """A small table with maps, some of whose items have no center or no neighbors, and a batch of bags."""

    def __init__(self, fusion, *, items=23, dim=6, bags=5, longest=7, seed=0, dtype=torch.float32, device="cpu",
                 index_dtype=torch.int64, uint16=False):
        draw = torch.Generator().manual_seed(seed)
        self.fusion, self.device = fusion, device
        rows = {"none": 0, "assign": 4}.get(fusion, items)
        self.weight = torch.randn(items, dim, generator=draw).to(device, dtype)
        self.central = torch.randn(rows, dim, generator=draw).to(device, dtype) if rows else None
        self.map = self.neighbor_weights = None
        if fusion == "assign":
            self.map = torch.randint(-1, rows, (items,), generator=draw, dtype=torch.int32).to(device)
            if uint16:
                self.map = torch.where(self.map < 0, 65535, self.map).to(torch.uint16)
        elif fusion != "none":
            slots = 3
            self.map = torch.randint(0, rows, (items, slots), generator=draw, dtype=torch.int32)
            ends = torch.randint(0, slots + 1, (items, 1), generator=draw)
            self.map = self.map.masked_fill(torch.arange(slots) >= ends, -1).to(device)
            if fusion == "gcn":
                self.neighbor_weights = torch.rand(items, slots, generator=draw).to(device)
        lengths = torch.randint(0, longest + 1, (bags,), generator=draw)
        lengths[0] = 0  # an empty bag
        self.indices = torch.randint(0, items, (int(lengths.sum()),), generator=draw).to(device, index_dtype)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])[:-1].to(device, index_dtype)
        self.samples = torch.rand(self.indices.shape, generator=draw).to(device)

    def central_args(self):
        return self.central, self.map, self.neighbor_weights, self.fusion

    def central_kwargs(self):
        """For the constructors of modules."""
        given = {"centers": self.central, "neighbor_weights": self.neighbor_weights}
        if self.fusion == "none":
            return {}
        given["assignment" if self.fusion == "assign" else "neighbors"] = self.map
        return {**given, "fusion": self.fusion}

    def bag(self, **kwargs):
        return resembed.ResidualEmbeddingBag(*self.weight.shape, _weight=self.weight.clone(),
                                             **self.central_kwargs(), **kwargs)


def item_embeddings(weight, central, central_map, neighbor_weights, fusion):
    """e [items, dim] = central part + R, differentiable in any floating type."""
    if fusion == "none":
        return weight
    rows = torch.as_tensor(central_map).to(torch.int64)
    if central_map.dtype == torch.uint16:
        rows = rows.masked_fill(rows == 65535, -1)
    if fusion == "assign":
        rows = rows[:, None]
    has = rows >= 0
    gathered = central[rows.clamp(min=0)]  # [items, K, dim]
    if fusion == "assign":
        weights = has.to(weight.dtype)
    elif fusion == "avg":
        weights = has.to(weight.dtype) / has.sum(1, keepdim=True).clamp(min=1)
    elif fusion == "gcn":
        weights = neighbor_weights.to(weight.dtype) * has
    else:
        scores = (central[: rows.size(0), None] * gathered).sum(-1)
        scores = scores.masked_fill(~has, -torch.inf).masked_fill(~has.any(1, keepdim=True), 0)
        weights = scores.softmax(1) * has
    return (weights[..., None] * gathered).sum(1) + weight


def pooled(weight, central, central_map, neighbor_weights, fusion, indices, offsets=None, samples=None, mode="sum",
           padding_idx=None, include_last_offset=False):
    """y [B, dim] by loops over bags; an empty bag gives zeros."""
    rows = item_embeddings(weight, central, central_map, neighbor_weights, fusion)
    if indices.dim() == 2:
        lists = list(indices)
        weights = [None] * len(lists) if samples is None else list(samples)
    else:
        ends = offsets.tolist() + ([] if include_last_offset else [indices.numel()])
        spans = list(zip(ends[:-1], ends[1:]))
        lists = [indices[begin:end] for begin, end in spans]
        weights = [None if samples is None else samples[begin:end] for begin, end in spans]
    out = []
    for ids, a in zip(lists, weights):
        keep = torch.ones_like(ids, dtype=torch.bool) if padding_idx is None else ids != padding_idx
        values = rows[ids[keep].to(torch.int64)]
        if a is not None:
            values = values * a[keep].to(values.dtype)[:, None]
        if values.size(0) == 0:
            out.append(values.sum(0))
        elif mode == "max":
            out.append(values.max(0).values)
        else:
            out.append(values.sum(0) / (values.size(0) if mode == "mean" else 1))
    return torch.stack(out) if out else rows.new_zeros((0, rows.size(1)))


def call(problem, *, samples=True, mode="sum", output_dtype=None, bounds="check", **kwargs):
    """embedding_bag of a problem."""
    return OPS.embedding_bag(problem.weight, problem.indices, problem.offsets,
                             problem.samples if samples else None, *problem.central_args(), mode=mode, bounds=bounds,
                             output_dtype=output_dtype, **kwargs)


class TestCase(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)

    def same(self, actual, expected, **kwargs):
        torch.testing.assert_close(actual, expected, **kwargs)

    def equal(self, actual, expected):
        """In all bits."""
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)

    def rejects(self, pattern, function, *args, error=RuntimeError, **kwargs):
        with self.assertRaisesRegex(error, pattern):
            function(*args, **kwargs)
