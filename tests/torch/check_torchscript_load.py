# SPDX-License-Identifier: Apache-2.0
"""docs/examples/torchscript_load.cc, built: what it prints for a scripted model is what Python computes.

    check_torchscript_load.py PROGRAM LIBRARY
"""
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Tuple

import torch

torch.ops.load_library(sys.argv[2])
warnings.filterwarnings("ignore", message=".*torch.jit.*")


class Model(torch.nn.Module):
    """A residual table over centers, pooled, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weight = torch.nn.Parameter(torch.randn(20, 6, generator=generator))
        self.central_weight = torch.nn.Parameter(torch.randn(4, 6, generator=generator))
        self.register_buffer("assignment", torch.arange(20, dtype=torch.int32).remainder(5) - 1)
        self.out = torch.nn.Linear(6, 2)

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        pooled = torch.ops.resembed.embedding_bag(self.weight, ids, offsets, None, self.central_weight, self.assignment,
                                                  None, "assign", "mean")
        return pooled, self.out(pooled)

    @torch.jit.export
    def example(self) -> Tuple[torch.Tensor, torch.Tensor]:
        return torch.arange(12), torch.tensor([0, 5, 5])


def printed(*command):
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[0].startswith("resembed "), lines[0]
    for line in lines[1:]:
        shape, values = line.split(":")
        yield torch.tensor([float(value) for value in values.split()]).view(eval(shape))


def main():
    program = sys.argv[1]
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        path, inputs = Path(folder, "model.pt"), Path(folder, "inputs.pt")
        torch.jit.script(model).save(path)
        other = (torch.tensor([19, 0, 3, 3]), torch.tensor([0, 1]))
        torch.save(other, inputs)
        for arguments, command in ((model.example(), (program, path)), (other, (program, path, inputs))):
            expected = model(*arguments)
            actual = list(printed(*command))
            assert len(actual) == len(expected) == 2
            for one, two in zip(actual, expected):
                torch.testing.assert_close(one, two.detach(), rtol=1e-6, atol=1e-6)
        bad = subprocess.run((program, inputs), capture_output=True, text=True, check=False)
        assert bad.returncode == 1 and bad.stderr, bad
    print("torchscript_load: 2 models' outputs equal Python's; a file that is no model is refused")


if __name__ == "__main__":
    main()
