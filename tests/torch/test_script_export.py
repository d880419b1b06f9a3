# SPDX-License-Identifier: Apache-2.0
"""TorchScript (script, save, load) and torch.export, AOTInductor included."""
import io
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn

import resembed
from support import FUSIONS, Problem, TestCase
from test_collection import batch, make


@unittest.skipIf(sys.version_info >= (3, 14), "torch.jit.script is not supported on Python 3.14")
class Script(TestCase):
    def reload(self, module):
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(module), buffer)
        buffer.seek(0)
        return torch.jit.load(buffer)

    def test_bags_of_every_fusion(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            module = problem.bag(mode="sum", padding_idx=3)
            loaded = self.reload(module)
            with self.subTest(fusion=fusion):
                expected = module(problem.indices, problem.offsets, problem.samples)
                self.equal(loaded(problem.indices, problem.offsets, problem.samples), expected)
                expected.sin().sum().backward()
                loaded(problem.indices, problem.offsets, problem.samples).sin().sum().backward()
                grads = dict(loaded.named_parameters())
                for name, parameter in module.named_parameters():
                    self.equal(grads[name].grad, parameter.grad)
                self.assertEqual(set(loaded.state_dict()), set(module.state_dict()))

    def test_bags_without_padding_or_with_options(self):
        matrix = torch.randint(0, 23, (4, 3))
        for options in ({}, {"mode": "max"}, {"output_dtype": torch.float16}, {"sparse": True},
                        {"bounds_check_mode": "skip"}):
            module = Problem("assign").bag(**options)
            with self.subTest(options=options):
                self.equal(self.reload(module)(matrix), module(matrix))

    def test_sequences_in_a_model(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.items = resembed.ResidualEmbedding(23, 6, **Problem("att").central_kwargs())
                self.head = nn.Linear(6, 1)

            def forward(self, ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
                rows = self.items(ids)
                if mask is not None:
                    rows = rows * mask.unsqueeze(-1)
                return self.head(rows).squeeze(-1)
        model = Model()
        ids = torch.randint(0, 23, (2, 5))
        self.equal(self.reload(model)(ids, torch.ones(2, 5)), model(ids))

    def test_a_collection_for_serving(self):
        collection, _ = make(("gcn", "assign"))
        collection.eval()
        ids, offsets, samples = batch()
        self.equal(self.reload(collection)(ids, offsets, samples), collection(ids, offsets, samples))

    def test_the_operation_in_a_scripted_function(self):
        @torch.jit.script
        def pool(weight: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
            return torch.ops.resembed.embedding_bag(weight, ids, offsets, mode="sum", padding_idx=1)
        weight, ids, offsets = torch.randn(5, 3), torch.tensor([0, 1, 2]), torch.tensor([0, 2])
        self.equal(pool(weight, ids, offsets), torch.stack([weight[0], weight[2]]))

    def test_trace(self):
        module = Problem("gcn").bag()
        traced = torch.jit.trace(module, (torch.randint(0, 23, (4, 3)),))
        ids = torch.randint(0, 23, (6, 2))
        self.equal(traced(ids), module(ids))


class Export(TestCase):
    def export(self, module):
        return torch.export.export(module, (torch.randint(0, 23, (4, 3)),),
                                   dynamic_shapes=({0: torch.export.Dim("bags", min=2), 1: torch.export.Dim("length", min=2)},))

    def test_dynamic_shapes(self):
        for fusion in FUSIONS:
            module = Problem(fusion).bag().eval()
            program = self.export(module)
            for shape in ((2, 2), (9, 5)):
                ids = torch.randint(0, 23, shape)
                with self.subTest(fusion=fusion, shape=shape):
                    self.equal(program.module()(ids), module(ids))

    def test_save_and_load(self):
        module = Problem("gcn").bag().eval()
        buffer = io.BytesIO()
        torch.export.save(self.export(module), buffer)
        buffer.seek(0)
        ids = torch.randint(0, 23, (7, 4))
        self.equal(torch.export.load(buffer).module()(ids), module(ids))

    def test_bags_with_offsets(self):
        module = Problem("assign").bag(mode="sum").eval()
        ids, offsets = torch.randint(0, 23, (12,)), torch.tensor([0, 5, 5, 9])
        program = torch.export.export(module, (ids, offsets, torch.rand(12)),
                                      dynamic_shapes={"input": {0: torch.export.Dim("ids")}, "offsets":
                                                      {0: torch.export.Dim("bags")}, "per_sample_weights":
                                                      {0: torch.export.Dim("ids")}})
        ids, offsets, samples = torch.randint(0, 23, (31,)), torch.arange(0, 30, 3), torch.rand(31)
        self.equal(program.module()(ids, offsets, samples), module(ids, offsets, samples))

    @unittest.skipUnless(shutil.which("g++") or shutil.which("clang++"), "AOTInductor needs a C++ compiler")
    def test_aotinductor_package(self):
        module = nn.Sequential(Problem("gcn").bag(), nn.Linear(6, 1), nn.Sigmoid()).eval()
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            path = torch._inductor.aoti_compile_and_package(self.export(module),
                                                            package_path=str(Path(folder) / "model.pt2"))
            runner = torch._inductor.aoti_load_package(path)
            for shape in ((2, 2), (9, 5)):
                ids = torch.randint(0, 23, shape)
                self.same(runner(ids), module(ids))


if __name__ == "__main__":
    unittest.main()
