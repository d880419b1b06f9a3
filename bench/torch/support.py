# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of this folder share: ids, tables' first numbers, and what rounds come to."""
import statistics

import numpy as np
import torch


class Zipf:
    """Ids with p(rank r) ~ r^-alpha, ranks scattered over the rows; alpha 0 is uniform."""

    def __init__(self, rows, alpha, seed):
        self.rows, self.pool = rows, None
        self.generator = torch.Generator().manual_seed(seed)
        if alpha > 0:  # as many draws as there are rows, to draw from again
            cumulative = np.cumsum(np.arange(1, rows + 1, dtype=np.float64) ** -alpha)
            random = np.random.default_rng(seed)
            ranks = np.searchsorted(cumulative, random.random(rows) * cumulative[-1])
            self.pool = torch.from_numpy(random.permutation(rows)[ranks])

    def draw(self, shape, dtype=torch.int64):
        at = torch.randint(self.rows, shape, generator=self.generator, dtype=dtype)
        return at if self.pool is None else self.pool[at].to(dtype)


def fill(table):
    """Small random numbers, the same in every block of rows: a fill at the speed of memory."""
    block = (torch.rand(min(4096, table.size(0)), table.size(1)) * 0.2 - 0.1).to(table.device)
    for part in table.detach().split(len(block)):
        part.copy_(block[:len(part)])


def summary(rounds, ours="resembed"):
    """rounds: list of {contender: ms}."""
    out = {}
    for name in rounds[0]:
        times = [one[name] for one in rounds]
        out[name] = {"median_ms": statistics.median(times), "best_ms": min(times)}
        if name != ours:
            out[name]["over_resembed"] = statistics.median(one[name] / one[ours] for one in rounds)
    return out
