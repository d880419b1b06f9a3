# SPDX-License-Identifier: Apache-2.0
"""The central part of a table: from the arguments of a constructor to checked tensors."""
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from .graph import InterestGraph

FUSIONS = ("avg", "gcn", "att", "assign")
# FBGEMM's names of bounds_check_mode that mean the same here.
_BOUNDS = {"check": "check", "trust": "trust", "skip": "skip", "none": "trust", "fatal": "check"}


class Central(NamedTuple):
    """fusion 'none': every tensor is None."""

    fusion: str
    weight: Optional[Tensor]  # C [central_rows, dim], initial values; None: to be drawn
    rows: int
    neighbors: Optional[Tensor]  # int32 [items, K]
    neighbor_weights: Optional[Tensor]  # float32 [items, K]
    assignment: Optional[Tensor]  # int32 or uint16 [items]


def bounds_name(op: str, mode: str) -> str:
    """'check', 'trust' or 'skip', from those or from FBGEMM's 'NONE' and 'FATAL'.

    Raises ValueError for FBGEMM's 'WARNING' and 'IGNORE', which replace a bad id by item 0, and for others.
    """
    name = str(getattr(mode, "name", mode)).lower()
    if name in ("warning", "ignore"):
        raise ValueError(f"{op}: bounds_check_mode is '{mode}', which replaces a bad id by item 0; needs 'check', "
                         "'trust' or 'skip' (a bad id contributes nothing)")
    if name not in _BOUNDS:
        raise ValueError(f"{op}: bounds_check_mode is '{mode}'; needs 'check' (FATAL), 'trust' (NONE) or 'skip'")
    return _BOUNDS[name]


def _fusion_of(op: str, fusion: Optional[str], neighbors: bool, weights: bool, assignment: bool, graph: bool) -> str:
    if fusion is None:
        if assignment:
            return "assign"
        if weights or graph:
            return "gcn"
        return "avg" if neighbors else "none"
    if fusion not in FUSIONS:
        raise ValueError(f"{op}: fusion is '{fusion}'; needs one of {', '.join(FUSIONS)}")
    return fusion


def _integers(op: str, name: str, tensor: Tensor, device: Optional[torch.device]) -> Tensor:
    """Of an integer type; int32, but uint16 stays."""
    if tensor.dtype not in (torch.int32, torch.int64, torch.uint16):
        raise ValueError(f"{op}: {name}.dtype is {tensor.dtype}; needs int32" +
                         (", int64 or uint16" if name == "assignment" else " or int64"))
    dtype = tensor.dtype if name == "assignment" and tensor.dtype == torch.uint16 else torch.int32
    return tensor.detach().to(device, dtype).contiguous()


def resolve(op: str, items: int, dim: int, *, centers: Union[int, Tensor, None], neighbors: Optional[Tensor],
            neighbor_weights: Optional[Tensor], assignment: Optional[Tensor], graph: Optional[InterestGraph],
            fusion: Optional[str], device: Optional[torch.device]) -> Central:
    """Checks the arguments that make a central part (see ResidualTable). Raises ValueError."""
    if graph is not None:
        if neighbors is not None or neighbor_weights is not None or assignment is not None:
            raise ValueError(f"{op}: graph is given with neighbors, neighbor_weights or assignment; needs one of them")
        if graph.n_items != items:
            raise ValueError(f"{op}: graph has {graph.n_items} items; needs {items} (num_embeddings)")
    name = _fusion_of(op, fusion, neighbors is not None, neighbor_weights is not None, assignment is not None,
                      graph is not None)
    if name == "none":
        if centers is not None:
            raise ValueError(f"{op}: centers is given alone; needs assignment, neighbors or graph, which say which "
                             "item uses which center")
        return Central("none", None, 0, None, None, None)
    if graph is not None:
        if name == "assign":
            assignment = graph.assign()[0] if graph.center_of is None else graph.center_of
            centers = graph.n_centers if centers is None else centers
        else:
            neighbors = graph.neighbors
            neighbor_weights = graph.weights("gcn") if name == "gcn" else None

    if name == "assign":
        if assignment is None or neighbors is not None or neighbor_weights is not None:
            raise ValueError(f"{op}: fusion is 'assign' {'without' if assignment is None else 'with more than'} an "
                             "assignment; needs assignment [items] alone")
        if assignment.shape != (items,):
            raise ValueError(f"{op}: assignment.shape is {tuple(assignment.shape)}; needs [{items}] (num_embeddings)")
        assignment = _integers(op, "assignment", assignment, device)
        if centers is None:
            used = assignment.to(torch.int32)
            used = used[used != 65535] if assignment.dtype == torch.uint16 else used
            centers = int(used.max()) + 1 if used.numel() > 0 else 0
    else:
        if neighbors is None or assignment is not None:
            raise ValueError(f"{op}: fusion is '{name}' {'without' if neighbors is None else 'with an assignment and'} "
                             "neighbors; needs neighbors [items, K] alone")
        if neighbors.dim() != 2 or neighbors.size(0) != items or not 1 <= neighbors.size(1) <= 64:
            raise ValueError(f"{op}: neighbors.shape is {tuple(neighbors.shape)}; needs [{items}, 1 .. 64]")
        neighbors = _integers(op, "neighbors", neighbors, device)
        if (name == "gcn") != (neighbor_weights is not None):
            raise ValueError(f"{op}: neighbor_weights is {'given' if name != 'gcn' else 'None'} with fusion '{name}'; "
                             f"needs {'None' if name != 'gcn' else 'float32 [items, K]'}")
        if neighbor_weights is not None:
            if neighbor_weights.shape != neighbors.shape:
                raise ValueError(f"{op}: neighbor_weights.shape is {tuple(neighbor_weights.shape)}; needs that of "
                                 f"neighbors, {tuple(neighbors.shape)}")
            neighbor_weights = neighbor_weights.detach().to(device, torch.float32).contiguous()
        if centers is None:
            centers = items

    if isinstance(centers, Tensor):
        if centers.dim() != 2 or centers.size(1) != dim or not centers.is_floating_point():
            raise ValueError(f"{op}: centers is {centers.dtype} {tuple(centers.shape)}; needs a row count or a "
                             f"floating tensor [central_rows, {dim}]")
        return Central(name, centers.detach(), centers.size(0), neighbors, neighbor_weights, assignment)
    if centers < 0:
        raise ValueError(f"{op}: centers is {centers}; needs a row count of 0 or more, or a tensor")
    return Central(name, None, int(centers), neighbors, neighbor_weights, assignment)
