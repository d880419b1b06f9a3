# SPDX-License-Identifier: Apache-2.0
"""One computation, y_b = sum over the bag of sum_k w_ik C[n_ik] + R[i], by several means, and its training step.

All contenders of a problem read and write the same two tables.
"""
from types import SimpleNamespace

import torch
from resembed import ResidualEmbeddingBagCollection, TableConfig
from torch import nn

from support import Zipf, fill

try:
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        BoundsCheckMode, ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen)
except ImportError:
    SplitTableBatchedEmbeddingBagsCodegen = None

LEARNING_RATE, EPS = 0.01, 1e-8
OPS = torch.ops.resembed


class Batch:
    """2,048 bags of 20, and the same with each id's neighbors written out."""

    def __init__(self, problem, ids):
        bags, length = ids.shape
        k, device = problem.neighbors.size(1), problem.residual.device
        self.ids = ids.reshape(-1).to(device)
        self.offsets = torch.arange(0, bags * length + 1, length, device=device)
        self.lists = problem.neighbors[self.ids].reshape(-1).long()
        self.list_weights = problem.neighbor_weights[self.ids].reshape(-1)
        self.list_offsets = self.offsets * k
        self.both = torch.cat([self.ids, self.lists])  # feature-major, for the table-batched operation
        self.both_offsets = torch.cat([self.offsets, self.offsets[-1] + self.list_offsets[1:]])
        self.both_weights = torch.cat([torch.ones(self.ids.shape, device=device), self.list_weights])
        self.grad = torch.full((bags, problem.dim), 1e-3, device=device)
        self.grad += torch.arange(problem.dim, device=device) * 1e-5


class Problem:
    def __init__(self, rows, dim, k, alpha, bags, length, n_batches, device="cpu"):
        self.rows, self.dim = rows, dim
        self.fbgemm = None
        if SplitTableBatchedEmbeddingBagsCodegen is not None and device == "cpu":
            self.fbgemm = SplitTableBatchedEmbeddingBagsCodegen(
                [(rows, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)] * 2,
                optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD, learning_rate=LEARNING_RATE, eps=EPS,
                pooling_mode=PoolingMode.SUM, bounds_check_mode=BoundsCheckMode.NONE)
            self.residual, self.central = self.fbgemm.split_embedding_weights()
        else:
            self.residual, self.central = (torch.empty(rows, dim, device=device) for _ in range(2))
        for table in (self.residual, self.central):
            fill(table)
        source = Zipf(rows, alpha, 1)
        self.neighbors = source.draw((rows, k), torch.int32).to(device)
        self.neighbor_weights = (torch.rand(rows, k) / k).to(device)
        self.batches = [Batch(self, source.draw((bags, length))) for _ in range(n_batches)]


# ---- forward: function(problem) -> call(batch) -> [B, dim]

def separate_calls(problem):
    """Gather, weigh, add, pool, each an operation of its own. Bags have one length, which pooling may use."""
    def call(batch):
        rows = problem.central[problem.neighbors[batch.ids]]  # [n, K, dim]
        items = (rows * problem.neighbor_weights[batch.ids].unsqueeze(2)).sum(1) + problem.residual[batch.ids]
        return items.view(batch.grad.size(0), -1, problem.dim).sum(1)
    return call


def two_bags(problem):
    """Two embedding_bag calls; the neighbor lists were written out before, outside the time."""
    def call(batch):
        return (torch.nn.functional.embedding_bag(batch.ids, problem.residual, batch.offsets, mode="sum",
                                                  include_last_offset=True) +
                torch.nn.functional.embedding_bag(batch.lists, problem.central, batch.list_offsets, mode="sum",
                                                  per_sample_weights=batch.list_weights, include_last_offset=True))
    return call


def two_bags_expanding(problem):
    """The same with the neighbor lists written out inside the time: what a caller with ids has to do."""
    def call(batch):
        lists = problem.neighbors[batch.ids].reshape(-1).long()
        weights = problem.neighbor_weights[batch.ids].reshape(-1)
        return (torch.nn.functional.embedding_bag(batch.ids, problem.residual, batch.offsets, mode="sum",
                                                  include_last_offset=True) +
                torch.nn.functional.embedding_bag(lists, problem.central, batch.offsets * problem.neighbors.size(1),
                                                  mode="sum", per_sample_weights=weights, include_last_offset=True))
    return call


def compiled(problem):
    """separate_calls as one graph of torch.compile, which fuses what it can."""
    torch._dynamo.reset()  # a problem's sizes are constants of its graph, and graphs of one function are limited
    return torch.compile(separate_calls(problem), fullgraph=True)


def fbgemm(problem):
    """The table-batched operation over two tables, lists written out before, and an addition."""
    if problem.fbgemm is None:
        return None

    def call(batch):
        out = problem.fbgemm(batch.both, batch.both_offsets, per_sample_weights=batch.both_weights)
        return out[:, :problem.dim] + out[:, problem.dim:]
    return call


def ours(problem):
    def call(batch):
        return OPS.embedding_bag(problem.residual, batch.ids, batch.offsets, None, problem.central, problem.neighbors,
                                 problem.neighbor_weights, "gcn", "sum", None, True)
    return call


FORWARD = {"separate_calls": separate_calls, "two_bags": two_bags, "two_bags_expanding": two_bags_expanding,
           "fbgemm": fbgemm, "resembed": ours}
# On a GPU. The compiled one is last: what keeps it from compiling shows before its time is taken.
CUDA_FORWARD = {"separate_calls": separate_calls, "two_bags": two_bags, "two_bags_expanding": two_bags_expanding,
                "resembed": ours, "compiled": compiled}


# ---- step: function(problem) -> (forward(batch), finish(batch, output)); finish is backward and the update

def torch_step(problem):
    """Two nn.EmbeddingBag with sparse gradients and torch.optim.Adagrad (which has no row-wise form)."""
    residual = nn.EmbeddingBag.from_pretrained(problem.residual.detach(), freeze=False, mode="sum", sparse=True,
                                               include_last_offset=True)
    central = nn.EmbeddingBag.from_pretrained(problem.central.detach(), freeze=False, mode="sum", sparse=True,
                                              include_last_offset=True)
    optimizer = torch.optim.Adagrad([residual.weight, central.weight], lr=LEARNING_RATE, eps=EPS)

    def forward(batch):
        return residual(batch.ids, batch.offsets) + central(batch.lists, batch.list_offsets, batch.list_weights)

    def finish(batch, output):
        optimizer.zero_grad()
        output.backward(batch.grad)
        optimizer.step()
    return forward, finish


def compiled_step(problem):
    """The compiled composition with torch.optim.Adagrad. Its gradients are dense, there are no others under
    torch.compile, so that every row is read and written."""
    residual, central = (nn.Parameter(table.detach()) for table in (problem.residual, problem.central))
    tables = SimpleNamespace(residual=residual, central=central, neighbors=problem.neighbors,
                             neighbor_weights=problem.neighbor_weights, dim=problem.dim)
    optimizer = torch.optim.Adagrad([residual, central], lr=LEARNING_RATE, eps=EPS)

    def finish(batch, output):
        optimizer.zero_grad()
        output.backward(batch.grad)
        optimizer.step()
    return compiled(tables), finish


def fbgemm_step(problem):
    """Row-wise Adagrad, fused into backward."""
    if problem.fbgemm is None:
        return None
    return fbgemm(problem), lambda batch, output: output.backward(batch.grad)


def our_step(problem):
    """Row-wise Adagrad, fused into backward."""
    collection = collection_over(problem)
    return (lambda batch: collection(batch.ids, batch.offsets)), lambda batch, output: output.backward(batch.grad)


def collection_over(problem):
    """A collection of one table whose R and C are the problem's."""
    small = torch.zeros(1, problem.neighbors.size(1), dtype=torch.int32)
    spec = TableConfig(1, problem.dim, centers=1, neighbors=small, neighbor_weights=torch.zeros(small.shape))
    collection = ResidualEmbeddingBagCollection(
        [spec], optimizer="rowwise_adagrad", learning_rate=LEARNING_RATE, eps=EPS, device=problem.residual.device)
    table = collection.embedding_bags["0"]
    table.num_embeddings = problem.rows
    table.weight.data, table.central_weight.data = problem.residual.detach(), problem.central.detach()
    table.neighbors, table.neighbor_weights = problem.neighbors, problem.neighbor_weights
    table.state1, table.central_state1 = (torch.zeros(problem.rows, device=problem.residual.device) for _ in range(2))
    return collection


STEP = {"torch_sparse_adagrad": torch_step, "fbgemm": fbgemm_step, "resembed": our_step}
CUDA_STEP = {"torch_sparse_adagrad": torch_step, "resembed": our_step, "compiled_dense_adagrad": compiled_step}
