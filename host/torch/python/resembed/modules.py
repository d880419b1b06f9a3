# SPDX-License-Identifier: Apache-2.0
"""nn.EmbeddingBag and nn.Embedding with a central part."""
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from .central import bounds_name
from .graph import InterestGraph
from .tables import ResidualTable

_SPARSE = "sparse=True makes COO gradients, which torch.compile does not take; needs sparse=False or eager mode"


def _refuse(op: str, max_norm: Optional[float], scale_grad_by_freq: bool) -> None:
    if max_norm is not None:
        raise ValueError(f"{op}: max_norm is {max_norm}; needs None (a lookup never writes to a table)")
    if scale_grad_by_freq:
        raise ValueError(f"{op}: scale_grad_by_freq is True; needs False (gradients are those of the loss)")


def _padding(op: str, padding_idx: Optional[int], num_embeddings: int) -> Optional[int]:
    if padding_idx is None:
        return None
    if not -num_embeddings <= padding_idx < num_embeddings:
        raise ValueError(f"{op}: padding_idx is {padding_idx}; needs {-num_embeddings} .. {num_embeddings - 1}")
    return padding_idx + num_embeddings if padding_idx < 0 else padding_idx


class _Lookup(ResidualTable):
    """What the two modules share: padding, sparse gradients, bounds, output dtype."""

    padding_idx: Optional[int]
    sparse: bool
    bounds_check_mode: str
    output_dtype: Optional[torch.dtype]

    def _set_rules(self, padding_idx: Optional[int], sparse: bool, bounds_check_mode: str,
                   output_dtype: Optional[torch.dtype], keep_padding_row: bool) -> None:
        op = type(self).__name__
        self.padding_idx = _padding(op, padding_idx, self.num_embeddings)
        self.sparse = sparse
        self.bounds_check_mode = bounds_name(op, bounds_check_mode)
        self.output_dtype = output_dtype
        if self.padding_idx is not None and not keep_padding_row:
            with torch.no_grad():
                self.weight[self.padding_idx].zero_()

    def bad_ids(self, input: Tensor) -> Tensor:
        """int64 [4] on the device: the number of ids outside [0, num_embeddings), and of the first one the feature
        (0), position and value; -1, -1 and 0 when there is none. Nothing waits for the device until it is read."""
        return torch.ops.resembed.bad_ids([self.weight], input, None, [0], self.padding_idx)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        return text + (", sparse=True" if self.sparse else "")


class ResidualEmbeddingBag(_Lookup):
    """nn.EmbeddingBag over item embeddings e_i = central part of i + R[i]; one pass, e is never stored.

    Without a central part it is nn.EmbeddingBag. Differences: `max_norm` and `scale_grad_by_freq` are refused; with
    mode 'mean' per_sample_weights are allowed (the divisor is still the number of items); a bad id on the CPU raises
    RuntimeError with position and value before anything is written.

    Shapes:
        input: int32 or int64 [n_ids] with offsets, or [B, N] without.
        offsets: int32 or int64 [B], or [B + 1] with include_last_offset.
        per_sample_weights: floating, the shape of input; not with mode 'max'.
        output: [B, embedding_dim]; an empty bag gives zeros.
    """

    __constants__ = ["num_embeddings", "embedding_dim", "fusion", "mode", "padding_idx", "include_last_offset",
                     "sparse", "bounds_check_mode", "output_dtype"]

    mode: str
    include_last_offset: bool

    def __init__(self, num_embeddings: int, embedding_dim: int, max_norm: Optional[float] = None,
                 norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                 _weight: Optional[Tensor] = None, include_last_offset: bool = False,
                 padding_idx: Optional[int] = None, device: Any = None, dtype: Optional[torch.dtype] = None, *,
                 centers: Union[int, Tensor, None] = None, neighbors: Optional[Tensor] = None,
                 neighbor_weights: Optional[Tensor] = None, assignment: Optional[Tensor] = None,
                 graph: Optional[InterestGraph] = None, fusion: Optional[str] = None,
                 bounds_check_mode: str = "check", output_dtype: Optional[torch.dtype] = None) -> None:
        """
        Args:
            num_embeddings .. dtype: as nn.EmbeddingBag. norm_type is ignored. `sparse=True` gives coalesced COO
                gradients: eager mode only, waits for the device once a backward, not with mode 'max'.
            centers, neighbors, neighbor_weights, assignment, graph, fusion: see ResidualTable.
            bounds_check_mode: 'check': a bad id raises RuntimeError on the CPU, on CUDA it contributes nothing and
                `bad_ids` tells; 'skip': it contributes nothing; 'trust': undefined. Of FBGEMM's names 'FATAL' is
                'check' and 'NONE' is 'trust'.
            output_dtype: default: that of `weight`.

        Raises ValueError for arguments that contradict each other, RuntimeError for maps out of range.
        """
        _refuse("ResidualEmbeddingBag", max_norm, scale_grad_by_freq)
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"ResidualEmbeddingBag: mode is '{mode}'; needs 'sum', 'mean' or 'max'")
        if sparse and mode == "max":
            raise ValueError("ResidualEmbeddingBag: sparse is True with mode 'max'; needs False")
        super().__init__(num_embeddings, embedding_dim, centers=centers, neighbors=neighbors,
                         neighbor_weights=neighbor_weights, assignment=assignment, graph=graph, fusion=fusion,
                         device=device, dtype=dtype, _weight=_weight)
        self.mode = mode
        self.include_last_offset = include_last_offset
        self._set_rules(padding_idx, sparse, bounds_check_mode, output_dtype, keep_padding_row=_weight is not None)

    def forward(self, input: Tensor, offsets: Optional[Tensor] = None,
                per_sample_weights: Optional[Tensor] = None) -> Tensor:
        """Pools bags; shapes above. Raises RuntimeError for inputs of another shape, dtype or device, and for bad
        ids on the CPU."""
        if not torch.jit.is_scripting():
            if self.sparse and torch.compiler.is_compiling():
                raise RuntimeError(f"ResidualEmbeddingBag: {_SPARSE}")
        return torch.ops.resembed.embedding_bag(
            self.weight, input, offsets, per_sample_weights, self.central_weight, self._central_map(),
            self.neighbor_weights, self.fusion, self.mode, self.padding_idx, self.include_last_offset, self.sparse,
            self.bounds_check_mode, self.output_dtype)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, max_norm: Optional[float] = None,
                        norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean",
                        sparse: bool = False, include_last_offset: bool = False, padding_idx: Optional[int] = None, *,
                        centers: Union[int, Tensor, None] = None, **kwargs: Any) -> "ResidualEmbeddingBag":
        """A module whose `materialize()` equals `embeddings` [num_embeddings, embedding_dim] (to rounding, where
        there is a central part; see `set_embeddings`).

        Args:
            freeze .. padding_idx: as nn.EmbeddingBag.from_pretrained; freeze holds for R and C.
            centers: as in the constructor; a tensor is kept as it is.
            kwargs: neighbors, neighbor_weights, assignment, graph, fusion, bounds_check_mode, output_dtype.
        """
        _check_pretrained(cls.__name__, embeddings)
        made = cls(embeddings.size(0), embeddings.size(1), max_norm, norm_type, scale_grad_by_freq, mode, sparse,
                   embeddings.detach().clone(), include_last_offset, padding_idx, centers=centers, **kwargs)
        return _pretrained(made, embeddings, freeze, isinstance(centers, Tensor))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode='{self.mode}'"


class ResidualEmbedding(_Lookup):
    """nn.Embedding over item embeddings e_i = central part of i + R[i]: one row for each id, for attention over a
    sequence (DIN) and the like.

    Differences to nn.Embedding: `max_norm` and `scale_grad_by_freq` are refused; the row of `padding_idx` is zeros,
    whatever the table holds.

    Shapes:
        input: int32 or int64 [*].
        output: [*, embedding_dim].
    """

    __constants__ = ["num_embeddings", "embedding_dim", "fusion", "padding_idx", "sparse", "bounds_check_mode",
                     "output_dtype"]

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: Optional[int] = None,
                 max_norm: Optional[float] = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                 sparse: bool = False, _weight: Optional[Tensor] = None, _freeze: bool = False, device: Any = None,
                 dtype: Optional[torch.dtype] = None, *, centers: Union[int, Tensor, None] = None,
                 neighbors: Optional[Tensor] = None, neighbor_weights: Optional[Tensor] = None,
                 assignment: Optional[Tensor] = None, graph: Optional[InterestGraph] = None,
                 fusion: Optional[str] = None, bounds_check_mode: str = "check",
                 output_dtype: Optional[torch.dtype] = None) -> None:
        """Arguments as nn.Embedding, then those of ResidualEmbeddingBag. Raises as that does."""
        _refuse("ResidualEmbedding", max_norm, scale_grad_by_freq)
        super().__init__(num_embeddings, embedding_dim, centers=centers, neighbors=neighbors,
                         neighbor_weights=neighbor_weights, assignment=assignment, graph=graph, fusion=fusion,
                         device=device, dtype=dtype, _weight=_weight)
        self._set_rules(padding_idx, sparse, bounds_check_mode, output_dtype, keep_padding_row=_weight is not None)
        if _freeze:
            self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """[*, embedding_dim]. Raises RuntimeError for another dtype or device, and for bad ids on the CPU."""
        if not torch.jit.is_scripting():
            if self.sparse and torch.compiler.is_compiling():
                raise RuntimeError(f"ResidualEmbedding: {_SPARSE}")
        return torch.ops.resembed.embedding_bag(
            self.weight, input, None, None, self.central_weight, self._central_map(), self.neighbor_weights,
            self.fusion, "none", self.padding_idx, False, self.sparse, self.bounds_check_mode, self.output_dtype)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: Optional[int] = None,
                        max_norm: Optional[float] = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                        sparse: bool = False, *, centers: Union[int, Tensor, None] = None,
                        **kwargs: Any) -> "ResidualEmbedding":
        """As ResidualEmbeddingBag.from_pretrained, with the arguments of nn.Embedding.from_pretrained."""
        _check_pretrained(cls.__name__, embeddings)
        made = cls(embeddings.size(0), embeddings.size(1), padding_idx, max_norm, norm_type, scale_grad_by_freq,
                   sparse, embeddings.detach().clone(), centers=centers, **kwargs)
        return _pretrained(made, embeddings, freeze, isinstance(centers, Tensor))


def _check_pretrained(op: str, embeddings: Tensor) -> None:
    if embeddings.dim() != 2 or not embeddings.is_floating_point():
        raise ValueError(f"{op}.from_pretrained: embeddings is {embeddings.dtype} {tuple(embeddings.shape)}; needs a "
                         "floating tensor [num_embeddings, embedding_dim]")


def _pretrained(made: Any, embeddings: Tensor, freeze: bool, keep_centers: bool) -> Any:
    made.set_embeddings(embeddings, keep_centers=keep_centers)
    return made.requires_grad_(not freeze)
