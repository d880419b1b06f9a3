# SPDX-License-Identifier: Apache-2.0
"""Two ranking models over one residual embedding: the trainer's mlp head, and DIN (target attention)."""

from typing import Tuple

import torch
from protocol import N_REPEAT_FEATURES
from resembed import ResidualEmbedding
from torch import Tensor, nn

ATTENTION_HIDDEN, HIDDEN_1, HIDDEN_2 = 16, 128, 64
# Name: (fusion, residual, penalty, dim factor), as in resembed-train.
VARIANTS = {
    "plain": (None, True, False, 1),
    "plain_l2": (None, True, True, 1),
    "plain_2x": (None, True, False, 2),
    "central": ("avg", False, False, 1),
    "avg": ("avg", True, True, 1),
    "gcn": ("gcn", True, True, 1),
    "att": ("att", True, True, 1),
    "assign": ("assign", True, True, 1),
}


def make_items(variant: str, n_items: int, dim: int, init: float, graph) -> ResidualEmbedding:
    """The table of a variant. graph: tensors of graph.safetensors. Tables start as N(0, init^2 / dim), R as 0."""
    fusion, residual, _, factor = VARIANTS[variant]
    options = {}
    if fusion == "assign":
        options = {"assignment": graph["center_of"], "centers": max(1, int(graph["center_of"].max()) + 1)}
    elif fusion is not None:
        options = {"neighbors": graph["neighbors"], "centers": n_items}
        if fusion == "gcn":
            options["neighbor_weights"] = graph["gcn_weights"]
    items = ResidualEmbedding(n_items, dim * factor, sparse=True, fusion=fusion, **options)
    drawn = items.weight if fusion is None else items.central_weight
    nn.init.normal_(drawn, std=init * (dim * factor) ** -0.5)
    items.weight.requires_grad_(residual)
    return items


class Attention(nn.Module):
    """What DIN's activation unit adds to the logit of a history position: a small network of (e_history, e_candidate,
    e_history * e_candidate), zero at the start. e_history [B, T, dim], e_candidates [B, M, dim] -> [B, M, T]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.of_history = nn.Linear(dim, ATTENTION_HIDDEN)
        self.of_candidate = nn.Linear(dim, ATTENTION_HIDDEN, bias=False)
        self.of_product = nn.Parameter(torch.randn(dim, ATTENTION_HIDDEN))  # rows of e have norm 1, not variance 1
        self.out = nn.Parameter(torch.zeros(ATTENTION_HIDDEN))
        nn.init.normal_(self.of_history.weight)
        nn.init.normal_(self.of_candidate.weight)
        nn.init.zeros_(self.of_history.bias)

    def forward(self, e_history: Tensor, e_candidates: Tensor) -> Tensor:
        # The first layer in three parts: only the product's is a matter of pairs.
        hidden = (e_history.unsqueeze(1) * e_candidates.unsqueeze(2)) @ self.of_product  # [B, M, T, A]
        hidden = hidden + self.of_history(e_history).unsqueeze(1) + self.of_candidate(e_candidates).unsqueeze(2)
        return torch.relu(hidden) @ self.out


class Ranker(nn.Module):
    """Logits of "the candidate follows".

    mlp   the history is a sum of its embeddings, with weights decay^j / sum
    din   each candidate has its own sum: its weights are a softmax over log decay^j plus Attention's logit, so
          that training starts where mlp is

    Shapes: history [B, T] item ids, newest first; length [B]; candidates [B, M]; repeat [B, M, 10] -> [B, M].
    """

    def __init__(self, items: ResidualEmbedding, head: str, history: int, decay: float) -> None:
        super().__init__()
        self.items = items
        dim = items.embedding_dim
        self.register_buffer("log_decay", torch.arange(history) * torch.tensor(decay).log())
        self.attention = Attention(dim) if head == "din" else None
        self.of_history = nn.Linear(dim, HIDDEN_1, bias=False)
        self.of_candidate = nn.Linear(dim, HIDDEN_1)
        self.of_repeat = nn.Linear(N_REPEAT_FEATURES, HIDDEN_1, bias=False)
        self.hidden = nn.Linear(HIDDEN_1, HIDDEN_2)
        self.out = nn.Linear(HIDDEN_2, 1)
        # He et al. 2015; the first layer has two inputs of dim.
        for layer, std in ((self.of_history, (1 / dim) ** 0.5), (self.of_candidate, (1 / dim) ** 0.5),
                           (self.of_repeat, 0.1), (self.hidden, (2 / HIDDEN_1) ** 0.5),
                           (self.out, (1 / HIDDEN_2) ** 0.5)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, history: Tensor, length: Tensor, candidates: Tensor, repeat: Tensor) -> Tensor:
        # One lookup for history and candidates: one gradient, in which duplicates are summed once.
        n, history_length = history.shape
        rows = self.items(torch.cat([history.reshape(-1), candidates.reshape(-1)]))
        e_history = rows[:n * history_length].view(n, history_length, -1)
        e_candidates = rows[n * history_length:].view(n, candidates.size(1), -1)
        return self.rank(e_history, length, e_candidates, repeat)

    def rank(self, e_history: Tensor, length: Tensor, e_candidates: Tensor, repeat: Tensor) -> Tensor:
        """The same from embeddings: e_history [B, T, dim], e_candidates [B, M, dim]."""
        gone = torch.arange(e_history.size(1), device=length.device) >= length.unsqueeze(1)  # [B, T]
        weights = self.log_decay.masked_fill(gone, -1e9).unsqueeze(1)  # [B, 1, T]
        if self.attention is not None:
            weights = weights + self.attention(e_history, e_candidates)  # [B, M, T]
        weights = weights.softmax(2) * (length > 0).to(weights.dtype).view(-1, 1, 1)
        pooled = torch.bmm(weights, e_history)  # [B, M or 1, dim]
        first = torch.relu(self.of_history(pooled) + self.of_candidate(e_candidates) + self.of_repeat(repeat))
        return self.out(torch.relu(self.hidden(first))).squeeze(2)

    @torch.jit.export
    def example(self) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs of forward, made up: what a program that knows nothing of the log can call it with."""
        n_items, history_length = self.items.weight.size(0), self.log_decay.size(0)
        history = torch.arange(2 * history_length).remainder(n_items).view(2, history_length)
        candidates = torch.arange(6).remainder(n_items).view(2, 3)
        repeat = torch.zeros(2, 3, self.of_repeat.weight.size(1))
        return history, torch.tensor([history_length, 1]), candidates, repeat


class TableAdam:
    """Adam of a table's parameters from their sparse gradients: lazy, rows a step does not touch stay as they are.
    weight_decay: lambda of lambda / 2 times the sum of squares of the touched rows of R."""

    def __init__(self, items: ResidualEmbedding, weight_decay: float) -> None:
        self.parts = [(table, torch.zeros_like(table), torch.zeros_like(table), decay)
                      for table, decay in ((items.weight, weight_decay), (items.central_weight, 0.0))
                      if table is not None and table.requires_grad]
        self.steps = torch.zeros(1, dtype=torch.int64)

    def step(self, lr: float) -> None:
        self.steps += 1
        rate = torch.tensor([lr])
        for table, mean, square, decay in self.parts:
            gradient = table.grad.coalesce()  # it is already
            rows, ids = gradient.values(), gradient.indices()[0]
            table.grad = None
            torch.ops.resembed.step(table.detach(), mean, square, ids, rows, torch.tensor([len(ids)]), rate, self.steps,
                                    optimizer="adam", weight_decay=decay)
