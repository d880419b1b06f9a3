# SPDX-License-Identifier: Apache-2.0
"""The interest graph: which items are seen together."""
from typing import Optional, Tuple

import torch
from torch import Tensor

from . import files


class InterestGraph:
    """Top-K co-visit graph of behavior sequences (Zhou et al. 2019, Algorithm 1), in host memory.

    Attributes:
        neighbors: int32 [n_items, K], the K items seen most often near each item; -1 ends a list.
        counts: int64 [n_items, K], how often; 0 past the end. None for a graph that came without them.
        center_of: int32 [n_items], the interest of each item, -1 = none; None until `assign` was called.
        n_centers: number of interests; 0 until `assign` was called.
    """

    neighbors: Tensor
    counts: Optional[Tensor]
    center_of: Optional[Tensor]
    n_centers: int

    def __init__(self, neighbors: Tensor, counts: Optional[Tensor] = None, *, gcn_weights: Optional[Tensor] = None,
                 center_of: Optional[Tensor] = None) -> None:
        """A graph made elsewhere.

        Args:
            neighbors: int32 [n_items, K], 1 <= K <= 64, -1 ends a list.
            counts: int64 [n_items, K] or None; `weights('gcn')` and `assign` need them.
            gcn_weights: float32 [n_items, K] that stand in for those computed from counts.
            center_of: int32 [n_items], -1 = none.

        Raises ValueError for other shapes.
        """
        if neighbors.dim() != 2:
            raise ValueError(f"InterestGraph: neighbors.shape is {tuple(neighbors.shape)}; needs [n_items, K]")
        for name, tensor, shape in (("counts", counts, neighbors.shape), ("gcn_weights", gcn_weights, neighbors.shape),
                                    ("center_of", center_of, neighbors.shape[:1])):
            if tensor is not None and tensor.shape != shape:
                raise ValueError(f"InterestGraph: {name}.shape is {tuple(tensor.shape)}; needs {tuple(shape)}")
        self.neighbors = neighbors.to("cpu", torch.int32).contiguous()
        self.counts = None if counts is None else counts.to("cpu", torch.int64).contiguous()
        self._gcn_weights = None if gcn_weights is None else gcn_weights.to("cpu", torch.float32).contiguous()
        self.center_of = None if center_of is None else center_of.to("cpu", torch.int32).contiguous()
        self.n_centers = int(self.center_of.max()) + 1 if self.center_of is not None and self.n_items > 0 else 0

    @classmethod
    def from_sequences(cls, values: Tensor, offsets: Tensor, window: int = 2, top_k: int = 8, *,
                       n_items: Optional[int] = None) -> "InterestGraph":
        """Counts pairs of items at distance 1 .. window in each sequence, keeps the top_k of each item.

        Args:
            values: int32 or int64 [n_ids], items of all sequences, one after the other, on the CPU.
            offsets: int32 or int64 [n_sequences + 1], where each sequence begins; the last one is n_ids.
            window: largest distance that makes a pair.
            top_k: neighbors kept for an item, 1 .. 64. Ties go to the lower id.
            n_items: items of the table; default: the largest id + 1.

        Raises RuntimeError for ids outside [0, n_items) and offsets that do not fit values.
        """
        if n_items is None:
            n_items = int(values.max()) + 1 if values.numel() > 0 else 0
        neighbors, counts = torch.ops.resembed.interest_graph(values, offsets, n_items, window, top_k)
        return cls(neighbors, counts)

    @property
    def n_items(self) -> int:
        return self.neighbors.size(0)

    @property
    def top_k(self) -> int:
        return self.neighbors.size(1)

    def weights(self, weighting: str = "gcn") -> Tensor:
        """float32 [n_items, K]: 'gcn' Z_ij / sqrt(D_i D_j), 'avg' 1 / number of neighbors; 0 past the end.

        Raises RuntimeError for another weighting, ValueError for 'gcn' of a graph without counts.
        """
        if weighting == "gcn" and self._gcn_weights is not None:
            return self._gcn_weights
        if weighting == "gcn" and self.counts is None:
            raise ValueError("InterestGraph.weights: counts is None; needs counts for 'gcn'")
        made = torch.ops.resembed.graph_weights(self.neighbors, self.counts, weighting)
        if weighting == "gcn":
            self._gcn_weights = made
        return made

    def assign(self, max_center_items: int = 0, max_centers: int = 0, resolution: float = 1.0,
               cold_center: bool = False) -> Tuple[Tensor, int]:
        """One center per item by Louvain modularity, deterministic; kept as `center_of` and `n_centers`.

        Args:
            max_center_items: most items of a center; 0 = no limit.
            max_centers: most centers, the smallest are merged first; 0 = no limit.
            resolution: of modularity; larger means more, smaller centers.
            cold_center: True: items without a neighbor share one more center, the last one; False: they get -1.

        Returns:
            (int32 [n_items] centers numbered by size, number of centers).
        """
        if self.counts is None:
            raise ValueError("InterestGraph.assign: counts is None; needs counts")
        center_of, n_centers = torch.ops.resembed.graph_assign(self.neighbors, self.counts, max_center_items,
                                                               max_centers, resolution, cold_center)
        self.center_of, self.n_centers = center_of, int(n_centers)
        return self.center_of, self.n_centers

    def save(self, path: files.Path) -> None:
        """A safetensors file that `resembed-train --graph` reads: neighbors, counts,
        gcn_weights [n_items, K] and center_of [n_items]. Calls `assign()` when that was not done."""
        if self.center_of is None:
            self.assign()
        assert self.center_of is not None
        tensors = {"neighbors": self.neighbors, "gcn_weights": self.weights("gcn"), "center_of": self.center_of}
        metadata = {"neighbors": str(self.top_k), "centers": str(self.n_centers)}
        if self.counts is not None:
            tensors["counts"] = self.counts
        files.save_file(tensors, path, metadata)

    @classmethod
    def load(cls, path: files.Path) -> "InterestGraph":
        """The graph of a file that `save`, `resembed-train` or `resembed-graph` wrote."""
        tensors, _ = files.load_file(path)
        if "neighbors" not in tensors:
            raise ValueError(f"InterestGraph.load: {path} has no tensor neighbors; needs one [n_items, K]")
        return cls(tensors["neighbors"], tensors.get("counts"), gcn_weights=tensors.get("gcn_weights"),
                   center_of=tensors.get("center_of"))

    def __repr__(self) -> str:
        return f"InterestGraph(n_items={self.n_items}, top_k={self.top_k}, n_centers={self.n_centers})"
