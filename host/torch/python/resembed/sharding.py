# SPDX-License-Identifier: Apache-2.0
"""Row-wise sharded residual embeddings on torch.distributed: tables larger than one device, batches split over ranks.

Rank r of W owns rows [r * ceil(N / W), (r + 1) * ceil(N / W)) of R [N, dim]. Each rank looks up its own bags:

    ids to their owners (all_to_all) -> local lookup: a partial sum of each bag -> partial sums back (reduce_scatter)

and backward is the mirror image: gradients to all owners (all_gather), each updates the rows it owns. A mean is
divided once, by the bag's own count, after the partial sums have met.

  assign           C is replicated, as center tables are small: the owner of an item composes its embedding. Every rank
                   then holds a part of dC; the parts are gathered and summed in rank order by `combine`, so all
                   replicas get the same bits.
  avg, gcn         C is sharded as R is. The requester, who has the lists, expands its ids to weighted lookups of C.
  att, max         refused, see the errors.

What moves are ids, weights and pooled rows; a row of a table never leaves its owner, but for sequence output. The
collectives need sizes on the host, so a lookup waits for the device once or twice. The results equal those of one
process up to the order of sums. All ranks must call forward and backward equally often, whatever their batch
(an empty one is valid).
"""

from typing import Any, List, NamedTuple, Optional, Tuple, Union

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .central import resolve
from .graph import InterestGraph

__all__ = ["ShardedResidualEmbedding", "ShardedResidualEmbeddingBag"]


class _Exchange(torch.autograd.Function):
    """Rows to other ranks, send[r] of them to rank r; their gradients come back the same way."""

    @staticmethod
    def forward(ctx, rows: Tensor, send: List[int], receive: List[int], group):
        ctx.splits, ctx.group = (send, receive), group
        return _all_to_all(rows, send, receive, group)

    @staticmethod
    def backward(ctx, grad: Tensor):
        send, receive = ctx.splits
        return _all_to_all(grad, receive, send, ctx.group), None, None, None


class _ReduceScatter(torch.autograd.Function):
    """[W * n, dim] partial sums of everybody's bags -> [n, dim], the sums of one's own."""

    @staticmethod
    def forward(ctx, partial: Tensor, group):
        ctx.group = group
        world = dist.get_world_size(group)
        out = partial.new_empty((partial.size(0) // world, partial.size(1)))
        dist.reduce_scatter_tensor(out, partial.contiguous(), group=group)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _all_gather(grad, ctx.group), None


class _ScaleGradient(torch.autograd.Function):
    """The table itself; its gradient, dense or sparse, times a number."""

    @staticmethod
    def forward(ctx, table: Tensor, factor: float):
        ctx.factor = factor
        return table.view_as(table)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * ctx.factor, None


class _AssignedLookup(torch.autograd.Function):
    """Lookup with a local R and a replicated C, whose gradient is that of all ranks."""

    @staticmethod
    def forward(ctx, weight, central_weight, samples, indices, offsets, assignment, mode, sparse, group):
        ctx.mode, ctx.sparse, ctx.group = mode, sparse, group
        ctx.save_for_backward(weight, central_weight, samples, indices, offsets, assignment)
        return torch.ops.resembed.embedding_bag(
            weight, indices, offsets, samples, central_weight, assignment, fusion="assign", mode=mode,
            include_last_offset=offsets is not None, output_dtype=_pooled_dtype(weight, mode))

    @staticmethod
    def backward(ctx, grad):
        weight, central_weight, samples, indices, offsets, assignment = ctx.saved_tensors
        need_weight, need_central, need_samples = ctx.needs_input_grad[:3]
        arguments = dict(
            weight=weight, grad_output=grad.contiguous(), indices=indices, offsets=offsets, per_sample_weights=samples,
            central_weight=central_weight, central_map=assignment, neighbor_weights=None, fusion="assign",
            mode=ctx.mode, padding_idx=None, include_last_offset=offsets is not None, bounds="trust")
        grads = torch.ops.resembed.embedding_bag_compressed_backward(
            **arguments, need_weight=need_weight, need_central=need_central)
        d_weight = d_central = d_samples = None
        if need_weight:
            d_weight = _gradient_of(weight, grads[:3], ctx.sparse)
        if need_central:
            merged = _combine(*grads[3:], central_weight.size(0), ctx.group)
            d_central = _gradient_of(central_weight, merged, ctx.sparse)
        if need_samples:
            d_samples = torch.ops.resembed.embedding_bag_backward(
                **arguments, need_weight=False, need_central=False, need_per_sample_weights=True)[2]
        return d_weight, d_central, d_samples, None, None, None, None, None, None


def _combine(row_ids: Tensor, rows: Tensor, count: Tensor, table_rows: int, group):
    """Compressed gradients of all ranks, summed row by row in the order of ranks: the same bits on each."""
    world = dist.get_world_size(group)
    counts = _all_gather(count, group)
    n_rows = int(counts.max())
    if n_rows > row_ids.size(0):
        more = n_rows - row_ids.size(0)
        row_ids = torch.cat([row_ids, row_ids.new_zeros(more)])
        rows = torch.cat([rows, rows.new_zeros((more, rows.size(1)))])
    all_ids = _all_gather(row_ids[:n_rows], group).chunk(world) if n_rows > 0 else [row_ids[:0]] * world
    all_rows = _all_gather(rows[:n_rows], group).chunk(world) if n_rows > 0 else [rows[:0]] * world
    return torch.ops.resembed.combine(list(all_ids), list(all_rows), list(counts.split(1)), table_rows)


def _gradient_of(table: Tensor, compressed, sparse: bool) -> Tensor:
    row_ids, rows, count = compressed
    if sparse:
        n_rows = int(count)
        return torch.sparse_coo_tensor(
            row_ids[:n_rows].unsqueeze(0), rows[:n_rows].to(table.dtype), table.shape, is_coalesced=True,
            check_invariants=False)
    # Rows past the count are zeros with id 0.
    dense = torch.zeros(table.shape, dtype=rows.dtype, device=table.device)
    return (dense if table.size(0) == 0 else dense.index_add_(0, row_ids, rows)).to(table.dtype)


def _all_to_all(rows: Tensor, send: List[int], receive: List[int], group) -> Tensor:
    out = rows.new_empty((sum(receive),) + rows.shape[1:])
    dist.all_to_all_single(out, rows.contiguous(), receive, send, group=group)
    return out


def _all_gather(rows: Tensor, group) -> Tensor:
    out = rows.new_empty((dist.get_world_size(group) * rows.size(0),) + rows.shape[1:])
    dist.all_gather_into_tensor(out, rows.contiguous(), group=group)
    return out


def _pooled_dtype(weight: Tensor, mode: str):
    return weight.dtype if mode == "none" else torch.float32  # partial sums travel and meet in float32


class _Lookups(NamedTuple):
    """Rows of one table that a rank's bags ask for, whoever owns them."""

    ids: Tensor  # [n] int64
    bags: Tensor  # [n] int64
    weights: Optional[Tensor]  # [n] float32


class _RowWise(nn.Module):
    """What pooled and sequence lookups share: which rank has which rows, initialization, state."""

    neighbors: Optional[Tensor]
    neighbor_weights: Optional[Tensor]
    assignment: Optional[Tensor]

    def __init__(self, num_embeddings: int, embedding_dim: int, *, centers: Union[int, Tensor, None] = None,
                 neighbors: Optional[Tensor] = None, neighbor_weights: Optional[Tensor] = None,
                 assignment: Optional[Tensor] = None, graph: Optional[InterestGraph] = None,
                 fusion: Optional[str] = None, padding_idx: Optional[int] = None, sparse: bool = False,
                 gradient_division: bool = True, process_group: Any = None, device: Any = None,
                 dtype: Optional[torch.dtype] = None) -> None:
        super().__init__()
        op = type(self).__name__
        if fusion == "att":
            raise ValueError(f"{op}: fusion is 'att'; needs 'assign', 'avg' or 'gcn': the softmax over an item's "
                             "neighbors needs all their central rows at once, and they lie on several ranks")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"{op}: padding_idx is {padding_idx}; needs {-num_embeddings} .. {num_embeddings - 1}")
        central = resolve(op, num_embeddings, embedding_dim, centers=centers, neighbors=neighbors,
                          neighbor_weights=neighbor_weights, assignment=assignment, graph=graph, fusion=fusion,
                          device=device)
        self.group = process_group
        self.world, self.rank = dist.get_world_size(process_group), dist.get_rank(process_group)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.fusion, self.central_rows = central.fusion, central.rows
        self.sparse, self.gradient_division = sparse, gradient_division
        self.padding_idx = padding_idx + num_embeddings if padding_idx is not None and padding_idx < 0 else padding_idx
        shard = torch.empty(self._rows_of(num_embeddings), embedding_dim, device=device, dtype=dtype)
        self.weight = nn.Parameter(shard)
        self.register_parameter("central_weight", None)
        if self.fusion != "none":
            rows = self.central_rows if self.fusion == "assign" else self._rows_of(self.central_rows)
            self.central_weight = nn.Parameter(torch.empty(rows, embedding_dim, device=device, dtype=dtype))
        self.register_buffer("neighbors", central.neighbors)
        self.register_buffer("neighbor_weights", central.neighbor_weights)
        self.register_buffer("assignment", None if central.assignment is None else
                             self._shard(central.assignment).clone())
        self.reset_parameters()
        if central.weight is not None:
            with torch.no_grad():
                self.central_weight.copy_(central.weight if self.fusion == "assign" else self._shard(central.weight))

    @classmethod
    def from_module(cls, module: nn.Module, process_group=None, gradient_division: bool = True):
        """Shards a ResidualEmbeddingBag or ResidualEmbedding that every rank holds whole, with the same values."""
        options = {name: getattr(module, name, None) for name in ("neighbors", "neighbor_weights", "assignment")}
        if hasattr(module, "mode") and issubclass(cls, ShardedResidualEmbeddingBag):
            options.update(mode=module.mode, include_last_offset=module.include_last_offset)
        central = getattr(module, "central_weight", None)
        out = cls(module.weight.size(0), module.weight.size(1), centers=None if central is None else central.detach(),
                  fusion=module.fusion if central is not None else None, padding_idx=module.padding_idx,
                  sparse=module.sparse, process_group=process_group, gradient_division=gradient_division,
                  device=module.weight.device, dtype=module.weight.dtype, **options)
        with torch.no_grad():
            out.weight.copy_(out._shard(module.weight))
        return out

    def reset_parameters(self) -> None:
        """C ~ N(0, 1/dim) and R = 0, without a central part R ~ N(0, 1). A replicated C is that of rank 0."""
        with torch.no_grad():
            if self.central_weight is None:
                self.weight.normal_()
                if self.padding_idx is not None:
                    begin = self.rank * self._rows_per_rank(self.num_embeddings)
                    if begin <= self.padding_idx < begin + self.weight.size(0):
                        self.weight[self.padding_idx - begin] = 0
                return
            self.weight.zero_()
            self.central_weight.normal_(std=self.embedding_dim ** -0.5)
            if self.fusion == "assign":
                dist.broadcast(self.central_weight.data, dist.get_global_rank(self.group or dist.group.WORLD, 0),
                               group=self.group)

    def full_state_dict(self) -> dict:
        """State of the unsharded module, the same on every rank: `weight`, `central_weight` and the maps. A
        collective call; each rank needs the memory of the whole tables."""
        state = {"weight": self._gather(self.weight.detach(), self.num_embeddings)}
        if self.central_weight is not None:
            central = self.central_weight.detach()
            state["central_weight"] = central.clone() if self.fusion == "assign" else \
                self._gather(central, self.central_rows)
        if self.assignment is not None:
            state["assignment"] = self._gather(self.assignment, self.num_embeddings)
        for name in ("neighbors", "neighbor_weights"):
            if getattr(self, name) is not None:
                state[name] = getattr(self, name).clone()
        return state

    def extra_repr(self) -> str:
        return (f"{self.num_embeddings}, {self.embedding_dim}, fusion={self.fusion!r}, "
                f"rank {self.rank} of {self.world}: {self.weight.size(0)} rows")

    def _rows_per_rank(self, rows: int) -> int:
        return max(1, -(-rows // self.world))

    def _rows_of(self, rows: int) -> int:
        per_rank = self._rows_per_rank(rows)
        return max(0, min(rows, (self.rank + 1) * per_rank) - self.rank * per_rank)

    def _shard(self, full: Tensor) -> Tensor:
        begin = self.rank * self._rows_per_rank(full.size(0))
        return full.detach()[begin:begin + self._rows_of(full.size(0))]

    def _gather(self, shard: Tensor, rows: int) -> Tensor:
        dtype = torch.int32 if shard.dtype == torch.uint16 else shard.dtype  # what the backends can send
        padded = torch.zeros((self._rows_per_rank(rows),) + shard.shape[1:], dtype=dtype, device=shard.device)
        padded[:shard.size(0)] = shard
        return _all_gather(padded, self.group)[:rows].to(shard.dtype)

    def _table(self, table: Tensor) -> Tensor:
        """The parameter as lookups see it. Ranks' gradients add up; divided, they are the mean of the ranks' losses."""
        return _ScaleGradient.apply(table, 1 / self.world) if self.gradient_division and self.world > 1 else table

    def _known(self, ids: Tensor) -> Tensor:
        """[n] bool: positions that are not padding. Raises on an id that no rank owns."""
        known = torch.ones_like(ids, dtype=torch.bool) if self.padding_idx is None else ids != self.padding_idx
        bad = ((ids < 0) | (ids >= self.num_embeddings)) & known
        if bool(bad.any()):
            position = int(bad.nonzero()[0])
            raise RuntimeError(f"{type(self).__name__}: indices[{position}] is {int(ids[position])}; needs "
                               f"0 .. {self.num_embeddings - 1}")
        return known

    def _lists_of(self, ids: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Neighbors of ids [n]: the position in ids, the central row and the weight of each; -1 ends a list."""
        lists = self.neighbors.index_select(0, ids)
        valid = (lists >= 0).cumprod(1).bool()
        weights = valid / valid.sum(1, keepdim=True).clamp(min=1) if self.neighbor_weights is None else \
            self.neighbor_weights.index_select(0, ids)
        return valid.nonzero()[:, 0], lists[valid].long(), weights[valid].float()

    def _local(self, table: Tensor, part: str, indices: Tensor, offsets: Optional[Tensor],
               samples: Optional[Tensor], mode: str) -> Tensor:
        if part == "residual" and self.fusion == "assign":
            return _AssignedLookup.apply(table, self._table(self.central_weight), samples, indices, offsets,
                                         self.assignment, mode, self.sparse, self.group)
        return torch.ops.resembed.embedding_bag(
            table, indices, offsets, samples, mode=mode, include_last_offset=offsets is not None, sparse=self.sparse,
            output_dtype=_pooled_dtype(table, mode))


class ShardedResidualEmbeddingBag(_RowWise):
    """ResidualEmbeddingBag whose rows lie on the ranks of a process group; see the module's text.

    Arguments as those of ResidualEmbeddingBag, each the whole table's: `neighbors` int32 [items, K] and
    `neighbor_weights` float32 [items, K] are kept by every rank, of `assignment` [items] its own slice. `centers` is
    a row count, or the tensor C [rows, dim].

    gradient_division: gradients of R and C are divided by the number of ranks, as DistributedDataParallel does with
    those of the dense part: each rank then minimizes the mean loss of its own batch. False: they are sums. A
    replicated C has its final gradient when backward ends; keep it out of DistributedDataParallel
    (`_set_params_and_buffers_to_ignore_for_model`), as all of this module.

    Raises ValueError for fusion 'att' and mode 'max', RuntimeError for an id that no rank owns, before anything is
    sent: the other ranks then wait until the group's timeout.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, mode: str = "mean",
                 include_last_offset: bool = False, **options):
        if mode == "max":
            raise ValueError("ShardedResidualEmbeddingBag: mode is 'max'; needs 'sum' or 'mean': the ranks return "
                             "partial sums, and the maximum over items cannot be made of them")
        if mode not in ("sum", "mean"):
            raise ValueError(f"ShardedResidualEmbeddingBag: mode is {mode!r}; needs 'sum' or 'mean'")
        super().__init__(num_embeddings, embedding_dim, **options)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, input: Tensor, offsets: Optional[Tensor] = None,
                per_sample_weights: Optional[Tensor] = None) -> Tensor:
        """This rank's bags, input [n] with offsets [B] (or [B + 1]) or input [B, N] -> [B, dim], as nn.EmbeddingBag.
        Ranks may have different B. per_sample_weights: the shape of input; a mean divides by the number of
        items."""
        ids, bags, n_bags = self._bags(input, offsets)
        samples = None if per_sample_weights is None else per_sample_weights.reshape(-1).float()
        known = self._known(ids)
        if self.padding_idx is not None:
            ids, bags, samples = ids[known], bags[known], None if samples is None else samples[known]
        parts = [("residual", self.num_embeddings, self._table(self.weight), _Lookups(ids, bags, samples))]
        if self.fusion in ("avg", "gcn"):
            at, rows, weights = self._lists_of(ids)
            weights = weights if samples is None else weights * samples[at]
            parts.append(("central", self.central_rows, self._table(self.central_weight),
                          _Lookups(rows, bags[at], weights)))
        sums = self._pooled(parts, n_bags)
        if self.mode == "mean":
            count = torch.bincount(bags, minlength=n_bags).clamp(min=1)
            sums = sums / count.unsqueeze(1)
        return sums.to(self.weight.dtype)

    def _bags(self, input: Tensor, offsets: Optional[Tensor]) -> Tuple[Tensor, Tensor, int]:
        if input.dim() == 2:
            if offsets is not None:
                raise ValueError("ShardedResidualEmbeddingBag: offsets is given; needs None with input of shape [B, N]")
            bags = torch.arange(input.size(0), device=input.device).repeat_interleave(input.size(1))
            return input.reshape(-1).long(), bags, input.size(0)
        if input.dim() != 1 or offsets is None:
            raise ValueError(f"ShardedResidualEmbeddingBag: input.shape is {tuple(input.shape)}; needs [n] with "
                             "offsets, or [B, N]")
        ends = offsets.long() if self.include_last_offset else \
            torch.cat([offsets.long(), offsets.new_full((1,), input.numel(), dtype=torch.int64)])
        n_bags = ends.numel() - 1
        bags = torch.repeat_interleave(torch.arange(n_bags, device=input.device), ends.diff(),
                                       output_size=input.numel())
        return input.long(), bags, n_bags

    def _pooled(self, parts, n_bags: int) -> Tensor:
        """Sums [n_bags, dim] over all parts' lookups, each weighted row added by its owner."""
        outgoing = []
        for _, rows, _, lookups in parts:
            per_rank = self._rows_per_rank(rows)
            owner = torch.div(lookups.ids, per_rank, rounding_mode="floor")
            order = torch.argsort(owner, stable=True)
            outgoing.append((lookups.ids[order] - owner[order] * per_rank, order, owner * n_bags + lookups.bags,
                             torch.bincount(owner, minlength=self.world)))
        sizes = torch.stack([out[3] for out in outgoing] + [torch.full_like(outgoing[0][3], n_bags)], dim=1)
        received = torch.empty_like(sizes)
        dist.all_to_all_single(received, sizes.contiguous(), group=self.group)
        send, receive = sizes.T.tolist(), received.T.tolist()  # the one wait for the device
        most_bags = max(receive[-1])
        if most_bags == 0:
            return sum(table[:0] for _, _, table, _ in parts).float()  # nobody has a bag; keeps the graph connected
        partial = None
        for index, (part, _, table, lookups) in enumerate(parts):
            ids, order, bag_of_owner, _ = outgoing[index]
            lengths = ids.new_zeros((self.world, most_bags))
            lengths[:, :n_bags] = torch.bincount(bag_of_owner, minlength=self.world * n_bags).view(self.world, n_bags)
            here = torch.empty_like(lengths)
            dist.all_to_all_single(here, lengths, group=self.group)
            offsets = torch.cat([here.new_zeros(1), here.view(-1).cumsum(0)])
            indices = _all_to_all(ids.to(torch.int32), send[index], receive[index], self.group)
            samples = None
            if lookups.weights is not None:
                samples = _Exchange.apply(lookups.weights[order], send[index], receive[index], self.group)
            sums = self._local(table, part, indices, offsets, samples, "sum")
            partial = sums if partial is None else partial + sums
        return _ReduceScatter.apply(partial, self.group)[:n_bags]


class ShardedResidualEmbedding(_RowWise):
    """ResidualEmbedding (one row for each id) whose rows lie on the ranks of a process group.

    Arguments as those of ShardedResidualEmbeddingBag, without mode and offsets. Each distinct id travels once, and
    its row comes back by all_to_all; with 'avg' and 'gcn' the distinct central rows do, and are summed here.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input [...] -> [..., dim]; padding gives zeros."""
        flat = input.reshape(-1).long()
        known = self._known(flat)
        unique, inverse = torch.unique(flat[known], return_inverse=True)
        rows = self._fetch("residual", self._table(self.weight), self.num_embeddings, unique)
        if self.fusion in ("avg", "gcn"):
            at, ids, weights = self._lists_of(unique)
            distinct, position = torch.unique(ids, return_inverse=True)
            central = self._fetch("central", self._table(self.central_weight), self.central_rows, distinct)
            offsets = torch.cat([at.new_zeros(1), torch.bincount(at, minlength=unique.numel()).cumsum(0)])
            rows = rows + torch.ops.resembed.embedding_bag(
                central, position, offsets, weights, mode="sum", include_last_offset=True, output_dtype=rows.dtype)
        if self.padding_idx is not None:
            rows = torch.cat([rows, rows.new_zeros((1, self.embedding_dim))])
            inverse = flat.new_full(flat.shape, unique.numel()).masked_scatter(known, inverse)
        return rows.index_select(0, inverse).view(*input.shape, self.embedding_dim)

    def _fetch(self, part: str, table: Tensor, rows: int, unique: Tensor) -> Tensor:
        """Rows [U, dim] of increasing ids, from their owners."""
        per_rank = self._rows_per_rank(rows)
        owner = torch.div(unique, per_rank, rounding_mode="floor")
        sizes = torch.bincount(owner, minlength=self.world)
        received = torch.empty_like(sizes)
        dist.all_to_all_single(received, sizes, group=self.group)
        send, receive = sizes.tolist(), received.tolist()
        wanted = _all_to_all((unique - owner * per_rank).to(torch.int32), send, receive, self.group)
        return _Exchange.apply(self._local(table, part, wanted, None, None, "none"), receive, send, self.group)
