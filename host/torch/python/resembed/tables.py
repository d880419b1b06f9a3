# SPDX-License-Identifier: Apache-2.0
"""One table: R, C and the map from items to central rows."""
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from . import files
from .central import Central, resolve
from .graph import InterestGraph

# Names of central_form in files of resembed-train.
_FORMS = {"none": "none", "assign": "assignment", "avg": "uniform", "gcn": "stored", "att": "attention"}


class Envelope(NamedTuple):
    """How tight interests lie. Norms are Euclidean, of float32 rows; an interest without items has zeros."""

    count: Tensor  # type: ignore[assignment]  # int64 [n_interests], items
    radius: Tensor  # [n_interests], largest distance of a member to the mean of the members
    radius_quantiles: Tensor  # [n_interests, n_quantiles] of that distance
    residual_norm: Tensor  # [n_interests], mean |R[i]|
    residual_norm_quantiles: Tensor  # [n_interests, n_quantiles]
    central_norm: Tensor  # [n_interests], mean |central part of i|
    ratio: Tensor  # [n_interests], median |R[i]| / |central part of i|
    overall: Tensor  # [4]: RMS distance of items to their mean, mean |R|, mean |central part|, median ratio


class ResidualTable(nn.Module):
    """R, C and maps: e_i = central part of i + R[i]. The base of the lookup modules.

    The central part of an item, by `fusion`:
        'assign'  C[assignment[i]], nothing where that is -1 (int32) or 65535 (uint16)
        'avg'     mean of C[n] over neighbors[i]
        'gcn'     sum of neighbor_weights[i, k] * C[neighbors[i, k]]
        'att'     softmax over k of C[i] . C[neighbors[i, k]], as weights
        'none'    nothing: a plain table

    Attributes:
        weight: R [num_embeddings, embedding_dim].
        central_weight: C [central_rows, embedding_dim], or None.
        neighbors, neighbor_weights, assignment: persistent buffers, or None.
    """

    __constants__ = ["num_embeddings", "embedding_dim", "fusion"]

    num_embeddings: int
    embedding_dim: int
    fusion: str
    weight: Tensor
    central_weight: Optional[Tensor]
    neighbors: Optional[Tensor]
    neighbor_weights: Optional[Tensor]
    assignment: Optional[Tensor]

    def __init__(self, num_embeddings: int, embedding_dim: int, *, centers: Union[int, Tensor, None] = None,
                 neighbors: Optional[Tensor] = None, neighbor_weights: Optional[Tensor] = None,
                 assignment: Optional[Tensor] = None, graph: Optional[InterestGraph] = None,
                 fusion: Optional[str] = None, device: Any = None, dtype: Optional[torch.dtype] = None,
                 _weight: Optional[Tensor] = None) -> None:
        """
        Args:
            num_embeddings, embedding_dim: items and dim.
            centers: number of rows of C, or its initial values [central_rows, dim] (of another dtype than R's,
                if need be). Default: as many as the assignment uses; with neighbors: num_embeddings.
            neighbors: int32 [num_embeddings, K], 1 <= K <= 64, rows of C; -1 ends a list.
            neighbor_weights: float32 [num_embeddings, K]; with fusion 'gcn' and no other.
            assignment: int32 (-1 = none) or uint16 (65535 = none) [num_embeddings], rows of C.
            graph: an InterestGraph in place of the three.
            fusion: 'avg', 'gcn', 'att' or 'assign'. Default: 'assign' with an assignment, 'gcn' with
                neighbor_weights or a graph, 'avg' with neighbors alone.
            device, dtype: of R, and of C unless `centers` is a tensor. float32, float16 or bfloat16.

        R starts at 0 and C ~ N(0, 1/dim); without a central part R ~ N(0, 1).

        Raises ValueError for arguments that contradict each other, RuntimeError for maps out of range.
        """
        super().__init__()
        op = type(self).__name__
        if num_embeddings < 0 or embedding_dim < 1:
            raise ValueError(f"{op}: num_embeddings and embedding_dim are {num_embeddings} and {embedding_dim}; need "
                             "0 or more and 1 or more")
        place = None if device is None else torch.device(device)
        if place is None and _weight is not None:
            place = _weight.device
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        central = resolve(op, num_embeddings, embedding_dim, centers=centers, neighbors=neighbors,
                          neighbor_weights=neighbor_weights, assignment=assignment, graph=graph, fusion=fusion,
                          device=place or torch.get_default_device())
        self.fusion = central.fusion
        if _weight is None:
            self.weight = nn.Parameter(torch.empty((num_embeddings, embedding_dim), device=place, dtype=dtype))
        else:
            if _weight.shape != (num_embeddings, embedding_dim):
                raise ValueError(f"{op}: _weight.shape is {tuple(_weight.shape)}; needs "
                                 f"[{num_embeddings}, {embedding_dim}]")
            self.weight = nn.Parameter(_weight)
        self._add_central(central)
        self.reset_parameters(residual=_weight is None, central=central.weight is None)
        self._check_maps()

    def _add_central(self, central: Central) -> None:
        weight = self.weight
        if central.fusion == "none":
            self.register_parameter("central_weight", None)
        elif central.weight is None:
            self.central_weight = nn.Parameter(weight.new_empty((central.rows, self.embedding_dim)))
        else:
            self.central_weight = nn.Parameter(central.weight.to(weight.device).clone())
        maps = {"neighbors": central.neighbors, "neighbor_weights": central.neighbor_weights,
                "assignment": central.assignment}
        for name in sorted(maps, key=lambda name: maps[name] is None):  # torch.export wants absent ones last
            self.register_buffer(name, maps[name])

    def _check_maps(self) -> None:
        if self.fusion != "none" and self.weight.device.type != "meta":
            torch.ops.resembed.check_maps(self.weight, self.central_weight, self._central_map(),
                                          self.neighbor_weights, self.fusion)

    @torch.no_grad()
    def reset_parameters(self, residual: bool = True, central: bool = True) -> None:
        """Draws the initial values again: R = 0 and C ~ N(0, 1/dim); without a central part R ~ N(0, 1)."""
        if self.central_weight is None:
            if residual:
                self.weight.normal_()
            return
        if residual:
            self.weight.zero_()
        if central:
            self.central_weight.normal_(std=self.embedding_dim ** -0.5)

    def _central_map(self) -> Optional[Tensor]:
        central_map: Optional[Tensor] = None
        if self.neighbors is not None:
            central_map = self.neighbors
        if self.assignment is not None:
            central_map = self.assignment
        return central_map

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "ResidualTable":
        # .half() and the like are for tables: weights of neighbors stay float32.
        weights = self.neighbor_weights
        super()._apply(fn, recurse)
        if weights is not None and self.neighbor_weights is not None and self.neighbor_weights.dtype != weights.dtype:
            self.neighbor_weights = weights.to(self.neighbor_weights.device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._check_maps()

    @torch.no_grad()
    def materialize(self, first_item: int = 0, n_items: Optional[int] = None,
                    dtype: Optional[torch.dtype] = None) -> Tensor:
        """[n_items, dim], the item embeddings of first_item .. first_item + n_items - 1 (default: to the last) as a
        plain table; dtype default: that of `weight`. No gradient. Raises RuntimeError for items out of range."""
        return torch.ops.resembed.materialize(self.weight, self.central_weight, self._central_map(),
                                              self.neighbor_weights, self.fusion, first_item, n_items, dtype)

    @torch.no_grad()
    def envelope(self, interest_of: Optional[Tensor] = None, n_interests: Optional[int] = None,
                 quantiles: Sequence[float] = (0.5, 0.95)) -> Envelope:
        """How tight each interest lies, cheap enough to log.

        Args:
            interest_of: int32 [num_embeddings], -1 = left out. Default: the assignment.
            n_interests: default: the rows of C with an assignment, else the largest interest + 1 (which waits for
                the device).
            quantiles: in [0, 1], nearest rank.

        Raises ValueError without an interest_of where there is no assignment, RuntimeError for other shapes.
        """
        if interest_of is None:
            if self.assignment is None or self.central_weight is None:
                raise ValueError(f"{type(self).__name__}.envelope: interest_of is None; needs int32 "
                                 f"[{self.num_embeddings}] where there is no assignment")
            interest_of = self.assignment
            if interest_of.dtype == torch.uint16:
                interest_of = interest_of.to(torch.int32)
                interest_of = interest_of.masked_fill(interest_of == 65535, -1)
            n_interests = self.central_weight.size(0) if n_interests is None else n_interests
        if n_interests is None:
            n_interests = int(interest_of.max()) + 1 if interest_of.numel() > 0 else 0
        return Envelope(*torch.ops.resembed.envelope(self.weight, interest_of, n_interests, list(quantiles),
                                                     self.central_weight, self._central_map(), self.neighbor_weights,
                                                     self.fusion))

    @torch.no_grad()
    def set_embeddings(self, embeddings: Tensor, *, keep_centers: bool = False) -> None:
        """R and C such that `materialize()` gives `embeddings` [num_embeddings, dim], to rounding of R's dtype.

        C becomes the mean embedding of its items ('assign') or the embeddings themselves (neighbors, where C has a
        row for each item); otherwise, and with keep_centers, it stays. R is what is left.

        Raises ValueError for another shape.
        """
        if embeddings.shape != self.weight.shape:
            raise ValueError(f"{type(self).__name__}: embeddings.shape is {tuple(embeddings.shape)}; needs "
                             f"{tuple(self.weight.shape)}")
        target = embeddings.detach().to(self.weight.device, torch.float32)
        central = self.central_weight
        if central is None:
            self.weight.copy_(target)
            return
        if not keep_centers:
            if self.assignment is not None:
                center_of = self.assignment.to(torch.int64)
                has_center = (center_of >= 0) & (center_of < central.size(0))
                sums = torch.zeros(central.shape, device=target.device)
                sums.index_add_(0, center_of[has_center], target[has_center])
                uses = torch.bincount(center_of[has_center], minlength=central.size(0)).clamp(min=1)
                central.copy_(sums / uses[:, None])
            elif central.shape == target.shape:
                central.copy_(target)
        self.weight.zero_()
        self.weight.copy_(target - self.materialize(dtype=torch.float32))

    def file_tensors(self, prefix: str = "") -> Dict[str, Tensor]:
        """Tensors under the names that resembed-train and resembed-graph give them: residual, central, neighbors,
        gcn_weights, center_of."""
        named = {"residual": self.weight, "central": self.central_weight, "neighbors": self.neighbors,
                 "gcn_weights": self.neighbor_weights, "center_of": self.assignment}
        return {prefix + name: tensor.detach() for name, tensor in named.items() if tensor is not None}

    @torch.no_grad()
    def read_tensors(self, tensors: Dict[str, Tensor], prefix: str = "") -> None:
        """Takes values from `tensors` as `file_tensors` names them: of C and R, and of maps where the file has
        them (files of resembed-train keep those in graph.safetensors). A file without residual: R = 0.

        Raises ValueError, before anything is written, when a tensor has another shape or a needed one is missing.
        """
        op = f"{type(self).__name__}.load"
        own = self.file_tensors()
        found = {name: tensors[prefix + name] for name in own if prefix + name in tensors}
        needed = "central" if "central" in found and "central" in own else "residual"
        missing = [name for name in {"central", needed} if name in own and name not in found]
        if needed not in found or missing:
            raise ValueError(f"{op}: the file has no tensor {prefix}{(missing + [needed])[0]}; needs one")
        for name, tensor in found.items():
            if tensor.shape != own[name].shape:
                raise ValueError(f"{op}: {prefix}{name}.shape is {tuple(tensor.shape)}; needs {tuple(own[name].shape)}")
        for name, target in own.items():
            if name in found:
                target.copy_(found[name])
            elif name == "residual":
                target.zero_()
        self._check_maps()

    def save(self, path: files.Path) -> None:
        """Writes a safetensors file that the library reads (resembed_file_open), with the names of resembed-train:
        residual [num_embeddings, dim], central [central_rows, dim] and the maps."""
        files.save_file(self.file_tensors(), path,
                        {"central_form": _FORMS[self.fusion], "dim": str(self.embedding_dim)})

    def load(self, path: files.Path) -> None:
        """Reads what `save` or resembed-train wrote into this table. Raises ValueError when it does not fit."""
        tensors, metadata = files.load_file(path)
        form = metadata.get("central_form", _FORMS[self.fusion])
        if form != _FORMS[self.fusion]:
            raise ValueError(f"{type(self).__name__}.load: central_form is {form}; needs {_FORMS[self.fusion]} "
                             f"(fusion '{self.fusion}')")
        self.read_tensors(tensors)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.central_weight is not None:
            text += f", centers={self.central_weight.size(0)}, fusion='{self.fusion}'"
        return text
