# SPDX-License-Identifier: Apache-2.0
"""Many tables and features in one call, and the optimizer in backward."""
import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import files
from .central import bounds_name
from .graph import InterestGraph
from .tables import ResidualTable

# Our name of each optimizer: (that of the operation, decoupled decay).
_OPTIMIZERS = {"sgd": ("sgd", False), "adagrad": ("adagrad", False), "rowwise_adagrad": ("rowwise_adagrad", False),
               "adam": ("adam", False), "adamw": ("adam", True), "partial_rowwise_adam": ("partial_rowwise_adam", False),
               "exact_sgd": ("sgd", False), "exact_adagrad": ("adagrad", False),
               "exact_rowwise_adagrad": ("rowwise_adagrad", False)}
_DECAYS = {"l2": "l2", "decoupled": "decoupled", "decouple": "decoupled", "none": "l2"}
_STATES = ("state1", "state2", "central_state1", "central_state2")


@dataclasses.dataclass
class TableConfig:
    """One table of a collection; the arguments of ResidualTable, and a name for state_dict and files."""

    num_embeddings: int
    embedding_dim: int
    name: Optional[str] = None
    centers: Union[int, Tensor, None] = None
    neighbors: Optional[Tensor] = None
    neighbor_weights: Optional[Tensor] = None
    assignment: Optional[Tensor] = None
    graph: Optional[InterestGraph] = None
    fusion: Optional[str] = None
    dtype: Optional[torch.dtype] = None


Spec = Union[TableConfig, Tuple[int, int], Mapping[str, Any]]


def _config(spec: Spec) -> TableConfig:
    if isinstance(spec, TableConfig):
        return spec
    return TableConfig(**spec) if isinstance(spec, Mapping) else TableConfig(*spec)


class _Table(ResidualTable):
    """A table with optimizer states, which stay float32 whatever the table becomes."""

    state1: Optional[Tensor]
    state2: Optional[Tensor]
    central_state1: Optional[Tensor]
    central_state2: Optional[Tensor]

    def add_states(self, optimizer: str) -> None:
        for part, weight in (("", self.weight), ("central_", self.central_weight)):
            for name, shape in zip(("state1", "state2"), self._state_shapes(optimizer, weight)):
                state = None if shape is None else torch.zeros(shape, dtype=torch.float32, device=self.weight.device)
                self.register_buffer(part + name, state)

    @staticmethod
    def _state_shapes(optimizer: str, weight: Optional[Tensor]) -> Tuple[Any, Any]:
        if weight is None:
            return None, None
        row, matrix = weight.shape[:1], weight.shape
        return {"sgd": (None, None), "adagrad": (matrix, None), "rowwise_adagrad": (row, None),
                "adam": (matrix, matrix), "partial_rowwise_adam": (matrix, row)}[optimizer]

    def _apply(self, fn: Any, recurse: bool = True) -> "_Table":
        kept = {name: getattr(self, name) for name in _STATES if getattr(self, name) is not None}
        super()._apply(fn, recurse)
        for name, state in kept.items():
            moved = getattr(self, name)
            if moved.dtype != torch.float32:
                setattr(self, name, state.to(moved.device))
        return self


class _FusedLookup(torch.autograd.Function):
    """Forward is a lookup; backward updates the tables and returns the gradient of per_sample_weights alone."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, collection: "ResidualEmbeddingBagCollection", indices: Tensor,
                offsets: Tensor, per_sample_weights: Optional[Tensor], feature_lengths: Optional[List[int]]) -> Tensor:
        ctx.save_for_backward(indices, offsets, per_sample_weights)
        ctx.collection, ctx.feature_lengths = collection, feature_lengths
        return collection.lookup(indices, offsets, per_sample_weights, feature_lengths)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        indices, offsets, per_sample_weights = ctx.saved_tensors
        grad = None
        if ctx.needs_input_grad[4]:  # before the tables change
            grad = ctx.collection._sample_gradient(grad_output, indices, offsets, per_sample_weights,
                                                   ctx.feature_lengths).to(per_sample_weights.dtype)
        ctx.collection.step(grad_output, indices, offsets, per_sample_weights, ctx.feature_lengths)
        return None, None, None, None, grad, None


class ResidualEmbeddingBagCollection(nn.Module):
    """Bags of F features over T tables in one call, with the optimizer fused into backward.

    Exact: the gradients of all uses of a row in a call are summed first, over features that share a table as well,
    then the row is updated once. Rows no id of the call touches stay as they are (Adam is lazy).

    Eager training: `forward` in training mode with gradients on; `loss.backward()` then updates the tables. Tables have
    requires_grad False and get no `.grad`: give the other parameters to torch.optim. In eval mode, or without
    gradients, nothing is updated. Loss scaling (GradScaler) would scale the update: train in bfloat16.

    Under torch.compile backward may not write to tables: call `lookup`, get the gradient of its output, and call
    `step`, which compiles as an operation of its own. `forward` raises there in training mode.

    Attributes:
        embedding_bags: ModuleDict, one ResidualTable per name ('0', '1', ... where none is given).
    """

    fusions: List[str]
    feature_table_map: List[int]
    learning_rate_tensor: Tensor
    central_learning_rate_tensor: Tensor
    iterations: Tensor

    def __init__(self, embedding_specs: Sequence[Spec], feature_table_map: Optional[Sequence[int]] = None, *,
                 pooling_mode: str = "sum", optimizer: str = "rowwise_adagrad", learning_rate: float = 0.01,
                 eps: float = 1e-8, beta1: float = 0.9, beta2: float = 0.999, weight_decay: float = 0.0,
                 central_weight_decay: float = 0.0, central_learning_rate: Optional[float] = None,
                 weight_decay_mode: str = "l2", stochastic_rounding: bool = True, bounds_check_mode: str = "check",
                 weights_precision: torch.dtype = torch.float32, output_dtype: torch.dtype = torch.float32,
                 seed: int = 0, first_table_number: int = 0, device: Any = None) -> None:
        """
        Args:
            embedding_specs: one entry per table: (rows, dim), a TableConfig, or a dict of its fields.
            feature_table_map: table of each feature; default: one feature per table.
            pooling_mode: 'sum', 'mean' or 'max', of all features.
            optimizer: 'sgd', 'adagrad', 'rowwise_adagrad', 'adam', 'adamw' (decoupled decay) or
                'partial_rowwise_adam'; FBGEMM's 'exact_...' are accepted.
            learning_rate, central_learning_rate: of R, and of C (None: the same, also after set_learning_rate).
            weight_decay, central_weight_decay: lambda of R and of C, for rows touched by the step.
            weight_decay_mode: 'l2' (lambda * row joins the gradient) or 'decoupled'.
            stochastic_rounding: of 16-bit tables; float32 tables are not rounded.
            bounds_check_mode: as ResidualEmbeddingBag.
            weights_precision: dtype of tables whose spec has none.
            seed, first_table_number: of stochastic rounding; collections with the same seed need table numbers
                of their own.

        Raises ValueError for arguments that contradict each other, RuntimeError for maps out of range.
        """
        super().__init__()
        op = type(self).__name__
        if not embedding_specs:
            raise ValueError(f"{op}: embedding_specs has 0 entries; needs 1 or more")
        name = str(getattr(optimizer, "name", optimizer)).lower()
        if name not in _OPTIMIZERS:
            raise ValueError(f"{op}: optimizer is '{optimizer}'; needs one of {', '.join(_OPTIMIZERS)}")
        decay = str(getattr(weight_decay_mode, "name", weight_decay_mode)).lower()
        if decay not in _DECAYS:
            raise ValueError(f"{op}: weight_decay_mode is '{weight_decay_mode}'; needs 'l2' or 'decoupled'")
        mode = str(getattr(pooling_mode, "name", pooling_mode)).lower()
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"{op}: pooling_mode is '{pooling_mode}'; needs 'sum', 'mean' or 'max'")
        self.optimizer, decoupled = _OPTIMIZERS[name]
        self.decay = "decoupled" if decoupled else _DECAYS[decay]
        self.pooling_mode = mode
        self.bounds_check_mode = bounds_name(op, bounds_check_mode)
        self.output_dtype = output_dtype
        self.eps, self.beta1, self.beta2 = float(eps), float(beta1), float(beta2)
        self.weight_decay, self.central_weight_decay = float(weight_decay), float(central_weight_decay)
        self.stochastic_rounding, self.seed = stochastic_rounding, seed
        self.first_table_number = first_table_number

        self.embedding_bags = nn.ModuleDict()
        self.fusions = []
        self.feature_table_map = (list(range(len(embedding_specs))) if feature_table_map is None
                                  else [int(table) for table in feature_table_map])
        for number, spec in enumerate(embedding_specs):
            config = _config(spec)
            table_name = str(number) if config.name is None else config.name
            if table_name in self.embedding_bags:
                raise ValueError(f"{op}: embedding_specs[{number}].name is '{table_name}' again; needs unique names")
            table = _Table(config.num_embeddings, config.embedding_dim, centers=config.centers,
                           neighbors=config.neighbors, neighbor_weights=config.neighbor_weights,
                           assignment=config.assignment, graph=config.graph, fusion=config.fusion, device=device,
                           dtype=config.dtype or weights_precision)
            table.requires_grad_(False)
            table.add_states(self.optimizer)
            self.embedding_bags[table_name] = table
            self.fusions.append(table.fusion)
        for number, feature_table in enumerate(self.feature_table_map):
            if not 0 <= feature_table < len(embedding_specs):
                raise ValueError(f"{op}: feature_table_map[{number}] is {feature_table}; needs 0 .. "
                                 f"{len(embedding_specs) - 1} (tables)")
        self.any_central = any(fusion != "none" for fusion in self.fusions)
        self.n_states = sum(getattr(self._tables()[0], state) is not None for state in ("state1", "state2"))
        place = self._tables()[0].weight.device
        # Read on the device by the step: changing them compiles nothing again.
        self.register_buffer("learning_rate_tensor", torch.full((1,), float(learning_rate), device=place,
                                                                dtype=torch.float32))
        central_rate = learning_rate if central_learning_rate is None else central_learning_rate
        self._central_follows = central_learning_rate is None
        self.register_buffer("central_learning_rate_tensor", torch.full((1,), float(central_rate), device=place,
                                                                        dtype=torch.float32))
        self.register_buffer("iterations", torch.zeros(1, dtype=torch.int64, device=place))

    def _apply(self, fn: Any, recurse: bool = True) -> "ResidualEmbeddingBagCollection":
        rates = self.learning_rate_tensor, self.central_learning_rate_tensor
        super()._apply(fn, recurse)
        place = self.learning_rate_tensor.device
        self.learning_rate_tensor, self.central_learning_rate_tensor = (rate.to(place) for rate in rates)
        return self

    def _tables(self) -> List[Any]:
        return list(self.embedding_bags.values())

    def _table(self, table: Union[int, str]) -> Any:
        return self.embedding_bags[table] if isinstance(table, str) else self._tables()[table]

    def _named(self) -> List[Tuple[str, Any]]:
        return list(self.embedding_bags.items())

    def _part(self, name: str) -> List[Tensor]:
        """A list of the tables' parts called `name`, empty tensors for absent ones; [] where no table has one."""
        parts = [getattr(table, name) for table in self._tables()]
        if all(part is None for part in parts):
            return []
        return [self.learning_rate_tensor.new_empty(0) if part is None else part for part in parts]

    def lookup(self, indices: Tensor, offsets: Tensor, per_sample_weights: Optional[Tensor] = None,
               feature_lengths: Optional[List[int]] = None) -> Tensor:
        """forward without an update; the gradient reaches per_sample_weights alone. For torch.compile."""
        weights: List[Tensor] = []
        central_weights: List[Tensor] = []
        maps: List[Tensor] = []
        neighbor_weights: List[Tensor] = []
        for table in self.embedding_bags.values():
            weights.append(table.weight)  # type: ignore[arg-type]
            absent = self.learning_rate_tensor.new_empty([0])
            central: Optional[Tensor] = table.central_weight  # type: ignore[assignment]
            central_map: Optional[Tensor] = table._central_map()  # type: ignore[operator]
            stored: Optional[Tensor] = table.neighbor_weights  # type: ignore[assignment]
            central_weights.append(absent if central is None else central)
            maps.append(absent if central_map is None else central_map)
            neighbor_weights.append(absent if stored is None else stored)
        return torch.ops.resembed.table_batched(
            weights, indices, offsets, per_sample_weights, central_weights, maps, neighbor_weights, self.fusions,
            self.feature_table_map, self.pooling_mode, self.bounds_check_mode, feature_lengths, self.output_dtype)

    def forward(self, indices: Tensor, offsets: Tensor, per_sample_weights: Optional[Tensor] = None,
                feature_lengths: Optional[List[int]] = None) -> Tensor:
        """Pools the bags of all features.

        Args:
            indices: int32 or int64 [n_ids], feature by feature.
            offsets: int32 or int64 [F * B + 1]; bag b of feature f is indices[offsets[f * B + b] : offsets[f * B + b + 1]].
            per_sample_weights: floating [n_ids]; not with pooling_mode 'max'.
            feature_lengths: number of ids of each feature. Needed on CUDA with more than one feature, because
                nothing there waits for offsets.

        Returns:
            [B, sum of the features' dims], features side by side, of output_dtype.

        Raises RuntimeError for other shapes, dtypes or devices, for bad ids on the CPU, and in training mode under
        torch.compile.
        """
        if not torch.jit.is_scripting():
            if self.training and torch.is_grad_enabled():
                if torch.compiler.is_compiling():
                    raise RuntimeError("ResidualEmbeddingBagCollection: forward is compiled in training mode, where "
                                       "backward cannot write to tables; needs lookup(), then step() with the "
                                       "gradient of its output")
                anchor = torch.empty(0, requires_grad=True)
                return _FusedLookup.apply(anchor, self, indices, offsets, per_sample_weights, feature_lengths)
        return self.lookup(indices, offsets, per_sample_weights, feature_lengths)

    def _sample_gradient(self, grad_output: Tensor, indices: Tensor, offsets: Tensor, per_sample_weights: Tensor,
                         feature_lengths: Optional[List[int]]) -> Tensor:
        maps = [table._central_map() for table in self._tables()]
        maps = [self.learning_rate_tensor.new_empty(0) if part is None else part for part in maps]
        return torch.ops.resembed.table_batched_backward(
            self._part("weight"), grad_output, indices, offsets, per_sample_weights, self._part("central_weight"),
            maps, self._part("neighbor_weights"), self.fusions, self.feature_table_map, self.pooling_mode,
            self.bounds_check_mode, feature_lengths, False, False, True)[2]

    @torch.no_grad()
    def step(self, grad_output: Tensor, indices: Tensor, offsets: Tensor,
             per_sample_weights: Optional[Tensor] = None, feature_lengths: Optional[List[int]] = None) -> None:
        """One update of the tables from the gradient of forward's output [B, sum of dims], by its arguments.

        Mutates tables, states and `iterations`; compiles (fullgraph) as one operation. Eager training needs no call:
        backward makes it.
        """
        maps = [table._central_map() for table in self._tables()]
        maps = [self.learning_rate_tensor.new_empty(0) if part is None else part for part in maps]
        self.iterations.add_(1)
        torch.ops.resembed.table_batched_step(
            self._part("weight"), self._part("central_weight"), self._part("state1"), self._part("state2"),
            self._part("central_state1"), self._part("central_state2"), grad_output, indices, offsets,
            per_sample_weights, self.learning_rate_tensor, self.central_learning_rate_tensor, self.iterations, maps,
            self._part("neighbor_weights"), self.fusions, self.feature_table_map, self.pooling_mode,
            self.bounds_check_mode, feature_lengths, self.optimizer, self.beta1, self.beta2, self.eps, self.decay,
            self.weight_decay, self.central_weight_decay, self.stochastic_rounding, self.seed,
            self.first_table_number)

    def bad_ids(self, indices: Tensor, offsets: Tensor) -> Tensor:
        """int64 [4] on the device: number of ids outside their tables; feature, position in `indices` and value of
        the first one (-1, -1, 0 when there is none)."""
        return torch.ops.resembed.bad_ids(self._part("weight"), indices, offsets, self.feature_table_map, None)

    def set_learning_rate(self, learning_rate: float, central_learning_rate: Optional[float] = None) -> None:
        """For the next steps; compiled code is not compiled again. C follows R unless the constructor or this call
        gives it a rate of its own."""
        self.learning_rate_tensor.fill_(learning_rate)
        if central_learning_rate is not None:
            self._central_follows = False
            self.central_learning_rate_tensor.fill_(central_learning_rate)
        elif self._central_follows:
            self.central_learning_rate_tensor.fill_(learning_rate)

    def split_embedding_weights(self) -> List[Tensor]:
        """R of each table [rows, dim]: the memory of the tables, not a copy."""
        return [table.weight.detach() for table in self._tables()]

    def split_central_weights(self) -> List[Optional[Tensor]]:
        """C of each table [central_rows, dim], None where there is none: the memory of the tables."""
        return [None if table.central_weight is None else table.central_weight.detach() for table in self._tables()]

    def split_optimizer_states(self) -> List[Tuple[Tensor, ...]]:
        """States of R of each table, float32: () for SGD, (sum,) for Adagrad [rows, dim] and row-wise Adagrad
        [rows], (first, second moment) for Adam [rows, dim] twice and partial row-wise Adam [rows, dim], [rows]."""
        return [self._states(table, "") for table in self._tables()]

    def split_central_optimizer_states(self) -> List[Tuple[Tensor, ...]]:
        """The same of C; () for a table without one."""
        return [self._states(table, "central_") for table in self._tables()]

    @staticmethod
    def _states(table: Any, part: str) -> Tuple[Tensor, ...]:
        states = (getattr(table, part + "state1"), getattr(table, part + "state2"))
        return tuple(state for state in states if state is not None)

    def materialize(self, table: Union[int, str] = 0, **kwargs: Any) -> Tensor:
        """[rows, dim], the item embeddings of one table, by number or name; arguments of ResidualTable.materialize."""
        return self._table(table).materialize(**kwargs)

    def envelope(self, table: Union[int, str] = 0, **kwargs: Any) -> Any:
        """ResidualTable.envelope of one table, by number or name."""
        return self._table(table).envelope(**kwargs)

    def save(self, path: files.Path) -> None:
        """A safetensors file with tables, maps and optimizer states; names as those of resembed-train after
        '<table>.': residual, central, residual_state1, central_state1, ..."""
        tensors: Dict[str, Tensor] = {"iterations": self.iterations}
        for name, table in self._named():
            tensors.update(table.file_tensors(name + "."))
            tensors.update(self._file_states(name, table))
        files.save_file(tensors, path, {"optimizer": self.optimizer, "tables": ",".join(self.embedding_bags)})

    @staticmethod
    def _file_states(name: str, table: Any) -> Dict[str, Tensor]:
        named = {"residual_state1": table.state1, "residual_state2": table.state2,
                 "central_state1": table.central_state1, "central_state2": table.central_state2}
        return {f"{name}.{key}": state for key, state in named.items() if state is not None}

    @torch.no_grad()
    def load(self, path: files.Path) -> None:
        """Reads what `save` wrote. States and `iterations` come with it when the file is of the same optimizer, else
        they stay. Raises ValueError when a table does not fit."""
        tensors, metadata = files.load_file(path)
        for name, table in self._named():
            table.read_tensors(tensors, name + ".")
        if metadata.get("optimizer") != self.optimizer:
            return
        for name, table in self._named():
            for key, state in self._file_states(name, table).items():
                if key not in tensors or tensors[key].shape != state.shape:
                    raise ValueError(f"{type(self).__name__}.load: {key} is missing or of another shape; needs "
                                     f"{tuple(state.shape)}")
                state.copy_(tensors[key])
        self.iterations.copy_(tensors["iterations"])

    def extra_repr(self) -> str:
        return (f"optimizer='{self.optimizer}', pooling_mode='{self.pooling_mode}', "
                f"feature_table_map={self.feature_table_map}")
