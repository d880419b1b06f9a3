# SPDX-License-Identifier: Apache-2.0
"""Residual embeddings for PyTorch: e_i = sum_k w_ik C[n_ik] + R[i], looked up and pooled in one pass.

Importing the package registers torch.ops.resembed. Modules:
    ResidualEmbeddingBag            nn.EmbeddingBag with a central part
    ResidualEmbedding               nn.Embedding with a central part
    ResidualEmbeddingBagCollection  many tables in one call, optimizer in backward
    InterestGraph                   which items are seen together; makes the maps of a central part
    resembed.sharding               the lookups with rows spread over the ranks of torch.distributed
"""
from ._library import load as _load

_load()

from .collection import ResidualEmbeddingBagCollection, TableConfig  # noqa: E402
from .files import load_file, save_file  # noqa: E402
from .graph import InterestGraph  # noqa: E402
from .modules import ResidualEmbedding, ResidualEmbeddingBag  # noqa: E402
from .tables import Envelope, ResidualTable  # noqa: E402

__all__ = ["Envelope", "InterestGraph", "ResidualEmbedding", "ResidualEmbeddingBag", "ResidualEmbeddingBagCollection",
           "ResidualTable", "TableConfig", "load_file", "save_file"]
