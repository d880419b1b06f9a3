# SPDX-License-Identifier: Apache-2.0
"""Modules with a central part: constructors, initial values, pretrained tables, files, graph, envelope."""
import ctypes
import json
import os
import struct
import tempfile
import unittest
from pathlib import Path

import torch

import resembed
from resembed import _library
from support import FUSIONS, Problem, TestCase, item_embeddings

CENTRAL = FUSIONS[1:]


def sequences(n_items=40, n_sequences=30, seed=0):
    """Walks inside blocks of eight items: interests that are easy to see."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 12, (n_sequences,), generator=draw)
    block = torch.randint(0, n_items // 8, (n_sequences,), generator=draw)
    ids = [8 * int(start) + torch.randint(0, 8, (int(length),), generator=draw)
           for start, length in zip(block, lengths)]
    return torch.cat(ids), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


class Constructor(TestCase):
    def test_initial_values(self):
        module = resembed.ResidualEmbeddingBag(3000, 16, assignment=torch.arange(3000, dtype=torch.int32) % 1000)
        self.equal(module.weight.detach(), torch.zeros(3000, 16))
        self.assertEqual(module.central_weight.shape, (1000, 16))
        self.assertAlmostEqual(float(module.central_weight.detach().std()), 16 ** -0.5, delta=0.01)
        self.assertAlmostEqual(float(module.central_weight.detach().mean()), 0, delta=0.01)
        plain = resembed.ResidualEmbeddingBag(3000, 16)
        self.assertAlmostEqual(float(plain.weight.detach().std()), 1, delta=0.02)
        self.assertIsNone(plain.central_weight)

    def test_maps_are_persistent_buffers(self):
        for fusion in CENTRAL:
            problem = Problem(fusion)
            module = problem.bag()
            names = {"assign": {"assignment"}, "gcn": {"neighbors", "neighbor_weights"}}.get(fusion, {"neighbors"})
            with self.subTest(fusion=fusion):
                self.assertEqual(set(module.state_dict()), {"weight", "central_weight"} | names)
                other = Problem(fusion, seed=1).bag()
                other.load_state_dict(module.state_dict())
                ids = torch.arange(23)[None]
                self.equal(other(ids), module(ids))

    def test_fusion_follows_from_the_maps(self):
        lists, weights = torch.zeros(4, 2, dtype=torch.int32), torch.ones(4, 2)
        make = resembed.ResidualEmbeddingBag
        self.assertEqual(make(4, 2).fusion, "none")
        self.assertEqual(make(4, 2, neighbors=lists).fusion, "avg")
        self.assertEqual(make(4, 2, neighbors=lists, neighbor_weights=weights).fusion, "gcn")
        self.assertEqual(make(4, 2, neighbors=lists, fusion="att").fusion, "att")
        self.assertEqual(make(4, 2, assignment=torch.zeros(4, dtype=torch.int64), centers=7).central_weight.shape, (7, 2))
        centers = torch.randn(3, 2, dtype=torch.float64).to(torch.bfloat16)
        module = make(4, 2, assignment=torch.zeros(4, dtype=torch.int32), centers=centers)
        self.equal(module.central_weight.detach(), centers)
        self.assertEqual((module.weight.dtype, module.central_weight.dtype), (torch.float32, torch.bfloat16))

    def test_refusals(self):
        make = resembed.ResidualEmbeddingBag
        lists, weights = torch.zeros(4, 2, dtype=torch.int32), torch.ones(4, 2)
        center_of = torch.zeros(4, dtype=torch.int32)
        cases = [
            ("max_norm is 1.0; needs None", {"max_norm": 1.0}),
            ("scale_grad_by_freq is True; needs False", {"scale_grad_by_freq": True}),
            ("mode is 'median'; needs", {"mode": "median"}),
            ("padding_idx is 4; needs -4 .. 3", {"padding_idx": 4}),
            ("centers is given alone; needs assignment", {"centers": 3}),
            ("fusion is 'concat'; needs one of avg, gcn, att, assign", {"neighbors": lists, "fusion": "concat"}),
            ("fusion is 'gcn' without", {"fusion": "gcn"}),
            ("neighbor_weights is None with fusion 'gcn'", {"neighbors": lists, "fusion": "gcn"}),
            ("neighbor_weights is given with fusion 'avg'",
             {"neighbors": lists, "neighbor_weights": weights, "fusion": "avg"}),
            ("neighbor_weights is given with fusion 'att'",
             {"neighbors": lists, "neighbor_weights": weights, "fusion": "att"}),
            (r"neighbors.shape is \(3, 2\); needs \[4, 1 .. 64\]", {"neighbors": lists[:3]}),
            (r"assignment.shape is \(3,\); needs \[4\]", {"assignment": center_of[:3]}),
            ("assignment.dtype is torch.float32; needs int32", {"assignment": weights[:, 0]}),
            (r"centers is torch.float32 \(3, 5\); needs", {"assignment": center_of, "centers": torch.zeros(3, 5)}),
            ("bounds_check_mode is 'WARNING', which replaces a bad id by item 0", {"bounds_check_mode": "WARNING"}),
            ("bounds_check_mode is 'perhaps'; needs", {"bounds_check_mode": "perhaps"}),
            (r"_weight.shape is \(2, 2\); needs", {"_weight": torch.zeros(2, 2)}),
        ]
        for pattern, arguments in cases:
            with self.subTest(pattern=pattern):
                self.rejects(pattern, make, 4, 2, error=ValueError, **arguments)
        self.rejects("2", make, 4, 2, assignment=torch.tensor([0, 1, 2, 0], dtype=torch.int32), centers=2)
        self.rejects("-3", make, 4, 2, neighbors=lists - 3)

    def test_a_state_dict_with_a_bad_map_is_refused(self):
        module = resembed.ResidualEmbeddingBag(4, 2, assignment=torch.zeros(4, dtype=torch.int32), centers=2)
        state = {**module.state_dict(), "assignment": torch.full((4,), 9, dtype=torch.int32)}
        self.rejects("9", module.load_state_dict, state)

    def test_names_of_fbgemm_bounds_modes(self):
        for theirs, ours in (("FATAL", "check"), ("NONE", "trust"), ("skip", "skip")):
            self.assertEqual(resembed.ResidualEmbeddingBag(3, 2, bounds_check_mode=theirs).bounds_check_mode, ours)

    def test_types_move_but_weights_of_neighbors_stay_float(self):
        module = Problem("gcn").bag().to(torch.bfloat16)
        self.assertEqual((module.weight.dtype, module.central_weight.dtype), (torch.bfloat16, torch.bfloat16))
        self.assertEqual(module.neighbor_weights.dtype, torch.float32)
        self.equal(module.neighbor_weights, Problem("gcn").neighbor_weights)
        self.assertEqual(module(torch.tensor([[1, 2]])).dtype, torch.bfloat16)


class Pretrained(TestCase):
    def test_materialize_is_the_formula(self):
        for fusion in FUSIONS:
            problem = Problem(fusion)
            expected = item_embeddings(problem.weight, *problem.central_args())
            with self.subTest(fusion=fusion):
                self.same(problem.bag().materialize(), expected)
                self.same(problem.bag().materialize(3, 5), expected[3:8])
                self.same(problem.bag().materialize(20, dtype=torch.float16), expected[20:].half(), rtol=2e-3, atol=2e-3)

    def test_materialize_equals_what_was_given(self):
        rows = torch.randn(23, 6) + 2
        for fusion in FUSIONS:
            arguments = Problem(fusion).central_kwargs()
            for centers in (arguments.pop("centers", None), None):
                for make in (resembed.ResidualEmbeddingBag, resembed.ResidualEmbedding):
                    with self.subTest(fusion=fusion, given=centers is not None, make=make.__name__):
                        module = make.from_pretrained(rows, centers=centers, **arguments)
                        self.same(module.materialize(), rows, rtol=0, atol=5e-7)
                        if centers is not None:
                            self.equal(module.central_weight.detach(), centers)
        module = resembed.ResidualEmbeddingBag.from_pretrained(rows, assignment=torch.arange(23, dtype=torch.int32) % 4)
        self.same(module.central_weight.detach()[1], rows[1::4].mean(0))
        self.assertFalse(module.central_weight.requires_grad)

    def test_envelope(self):
        module = Problem("assign", items=60).bag()
        center_of = module.assignment.long()
        envelope = module.envelope(quantiles=[0.5, 1])
        rows, residual = module.materialize(), module.weight.detach()
        for center in range(4):
            members = rows[center_of == center]
            distance = (members - members.mean(0)).norm(dim=1)
            self.assertEqual(int(envelope.count[center]), members.size(0))
            self.same(envelope.radius[center], distance.max())
            self.same(envelope.radius_quantiles[center, 1], distance.max())
            self.same(envelope.residual_norm[center], residual[center_of == center].norm(dim=1).mean())
        self.rejects("interest_of is None; needs", Problem("avg").bag().envelope, error=ValueError)
        interests = torch.arange(23, dtype=torch.int32) % 2
        self.assertEqual(Problem("avg").bag().envelope(interests).count.tolist(), [12, 11])


class Graph(TestCase):
    def test_counts_are_those_of_a_double_loop(self):
        values, offsets = sequences()
        counts = torch.zeros(40, 40, dtype=torch.int64)
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
            for at in range(begin, end):
                for other in range(max(begin, at - 2), min(end, at + 3)):
                    if values[at] != values[other]:
                        counts[values[at], values[other]] += 1
        graph = resembed.InterestGraph.from_sequences(values, offsets, top_k=4, n_items=40)
        for item in range(40):
            order = sorted((-int(count), other) for other, count in enumerate(counts[item]) if count > 0)[:4]
            kept = [(-int(count), int(other)) for other, count in zip(graph.neighbors[item], graph.counts[item])
                    if other >= 0]
            with self.subTest(item=item):
                self.assertEqual(kept, order)

    def test_weights(self):
        values, offsets = sequences()
        graph = resembed.InterestGraph.from_sequences(values, offsets, top_k=4)
        degree = graph.counts.sum(1).double()
        has = graph.neighbors >= 0
        gcn = graph.counts / (degree[:, None] * degree[graph.neighbors.clamp(min=0).long()]).sqrt().clamp(min=1e-9)
        self.same(graph.weights("gcn").double(), gcn * has, rtol=1e-6, atol=1e-6)
        self.same(graph.weights("avg"), has / has.sum(1, keepdim=True).clamp(min=1))
        self.rejects("weighting is 'pagerank'", graph.weights, "pagerank")

    def test_makes_every_central_part(self):
        values, offsets = sequences()
        graph = resembed.InterestGraph.from_sequences(values, offsets, top_k=4, n_items=40)
        center_of, n_centers = graph.assign()
        self.assertGreater(n_centers, 1)
        same_block = center_of[:8].unique()
        self.assertEqual(same_block.numel(), 1)  # a block of the walks is an interest
        for fusion in CENTRAL:
            module = resembed.ResidualEmbeddingBag(40, 5, graph=graph, fusion=fusion)
            with self.subTest(fusion=fusion):
                self.assertEqual(module.central_weight.shape, (n_centers if fusion == "assign" else 40, 5))
                expected = item_embeddings(module.weight, module.central_weight, module._central_map(),
                                           module.neighbor_weights, fusion)
                self.same(module.materialize(), expected.detach())
        self.assertEqual(resembed.ResidualEmbeddingBag(40, 5, graph=graph).fusion, "gcn")
        self.rejects("graph has 40 items; needs 39", resembed.ResidualEmbeddingBag, 39, 5, graph=graph, error=ValueError)

    def test_refusals(self):
        make = resembed.InterestGraph.from_sequences
        self.rejects("7", make, torch.tensor([0, 7]), torch.tensor([0, 2]), n_items=5)
        self.rejects("offsets", make, torch.tensor([0, 1]), torch.tensor([0, 3]))
        self.rejects("top_k", make, torch.tensor([0, 1]), torch.tensor([0, 2]), top_k=65)
        self.rejects("counts is None", resembed.InterestGraph(torch.zeros(3, 2, dtype=torch.int32)).assign,
                     error=ValueError)
        self.rejects(r"counts.shape is \(2, 2\)", resembed.InterestGraph, torch.zeros(3, 2, dtype=torch.int32),
                     torch.zeros(2, 2), error=ValueError)

    def test_file_has_what_the_trainer_reads(self):
        values, offsets = sequences()
        graph = resembed.InterestGraph.from_sequences(values, offsets, top_k=4)
        with tempfile.TemporaryDirectory() as folder:
            graph.save(Path(folder) / "graph.safetensors")
            tensors, metadata = resembed.load_file(Path(folder) / "graph.safetensors")
            self.assertEqual({name: tensor.dtype for name, tensor in tensors.items()},
                             {"neighbors": torch.int32, "counts": torch.int64, "gcn_weights": torch.float32,
                              "center_of": torch.int32})
            self.assertEqual(metadata["centers"], str(graph.n_centers))
            again = resembed.InterestGraph.load(Path(folder) / "graph.safetensors")
        for name in ("neighbors", "counts", "center_of", "n_centers"):
            self.assertTrue(torch.equal(torch.as_tensor(getattr(again, name)), torch.as_tensor(getattr(graph, name))))


def c_library():
    """libresembed.so of a build: RESEMBED_LIBRARY, else one beside the adapter or in build/cpu."""
    folders = [_library.find().parent, Path(__file__).resolve().parents[2] / "build" / "cpu"]
    found = [os.environ["RESEMBED_LIBRARY"]] if "RESEMBED_LIBRARY" in os.environ else []
    found += [str(folder / place) for folder in folders for place in ("libresembed.so", "host/libresembed.so")
              if (folder / place).is_file()]
    return ctypes.CDLL(found[0]) if found else None


class Files(TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "table.safetensors"

    def test_round_trip(self):
        for fusion in FUSIONS:
            for dtype in (torch.float32, torch.bfloat16):
                module = Problem(fusion, dtype=dtype).bag()
                module.save(self.path)
                other = Problem(fusion, dtype=dtype, seed=5).bag()
                other.load(self.path)
                with self.subTest(fusion=fusion, dtype=dtype):
                    for name, tensor in module.state_dict().items():
                        self.equal(other.state_dict()[name], tensor)
        uint16 = Problem("assign", uint16=True).bag()
        uint16.save(self.path)
        self.equal(resembed.load_file(self.path)[0]["center_of"].int(), uint16.assignment.int())

    def test_format_is_as_others_read_it(self):
        tensors = {"narrow": torch.arange(5, dtype=torch.uint8), "wide": torch.tensor([1, -2, 1 << 40]),
                   "turned": torch.arange(6.0).reshape(2, 3).T, "none": torch.empty(0, 4)}
        resembed.save_file(tensors, self.path, {"who": "resembed"})
        with open(self.path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            data = file.read()
        self.assertEqual(length % 8, 0)
        self.assertEqual(header.pop("__metadata__"), {"who": "resembed"})
        begin, end = header["wide"]["data_offsets"]
        self.assertEqual((begin % 8, header["wide"]["dtype"]), (0, "I64"))
        self.assertEqual(struct.unpack("<3q", data[begin:end]), (1, -2, 1 << 40))
        begin, end = header["turned"]["data_offsets"]
        self.assertEqual(struct.unpack("<6f", data[begin:end]), (0, 3, 1, 4, 2, 5))
        self.assertEqual(header["turned"]["shape"], [3, 2])
        again, metadata = resembed.load_file(self.path)
        self.assertEqual(metadata, {"who": "resembed"})
        for name, tensor in tensors.items():
            self.equal(again[name], tensor.contiguous())
        self.assertEqual([path.name for path in self.path.parent.iterdir()], [self.path.name])

    def test_the_library_reads_them(self):
        library = c_library()
        if library is None:
            self.skipTest("no libresembed.so beside the adapter or in build/cpu; RESEMBED_LIBRARY names one")
        module = Problem("gcn", dtype=torch.bfloat16).bag()
        module.save(self.path)
        file, value = ctypes.c_void_p(), ctypes.c_char_p()
        self.assertEqual(library.resembed_file_open(os.fsencode(self.path), ctypes.byref(file)), 0)
        for name, tensor in module.file_tensors().items():
            index, read = ctypes.c_int32(-1), torch.empty_like(tensor)
            self.assertEqual(library.resembed_file_find(file, name.encode(), ctypes.byref(index)), 0)
            n_bytes = tensor.numel() * tensor.element_size()
            with self.subTest(name=name):
                self.assertEqual(library.resembed_file_read(file, index, ctypes.c_void_p(read.data_ptr()),
                                                            ctypes.c_int64(0), ctypes.c_size_t(n_bytes)), 0)
                self.equal(read, tensor)
        self.assertEqual(library.resembed_file_metadata(file, b"central_form", ctypes.byref(value)), 0)
        self.assertEqual(value.value, b"stored")
        library.resembed_file_close(file)

    def test_malformed_files_are_refused(self):
        resembed.save_file({"a": torch.arange(4)}, self.path)
        whole = self.path.read_bytes()
        for name, data in {"empty": b"", "header": whole[:12], "data": whole[:-1], "more": whole + b"x",
                           "length": b"\xff" * 8 + whole[8:], "text": whole[:8] + b"!" + whole[9:],
                           "dtype": whole.replace(b"I64", b"I99"), "shape": whole.replace(b"[4]", b"[5]")}.items():
            self.path.write_bytes(data)
            with self.subTest(damage=name):
                self.rejects("load_file", resembed.load_file, self.path, error=ValueError)
        self.rejects("a.dtype is torch.bool; needs", resembed.save_file, {"a": torch.ones(2) > 0}, self.path,
                     error=ValueError)

    def test_files_of_the_trainer(self):
        """Names of resembed-train: residual and central; the maps are in the graph's file."""
        rows, centers = torch.randn(23, 6), torch.randn(4, 6)
        resembed.save_file({"residual": rows, "central": centers}, self.path, {"central_form": "assignment"})
        module = Problem("assign").bag()
        module.load(self.path)
        self.equal(module.weight.detach(), rows)
        self.equal(module.central_weight.detach(), centers)
        resembed.save_file({"central": centers}, self.path, {"central_form": "assignment"})
        module.load(self.path)  # its variant without residuals
        self.equal(module.weight.detach(), torch.zeros(23, 6))

    def test_a_file_of_another_table_is_refused_and_nothing_is_written(self):
        module = Problem("assign").bag()
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        Problem("assign", dim=5).bag().save(self.path)
        self.rejects(r"residual.shape is \(23, 5\); needs \(23, 6\)", module.load, self.path, error=ValueError)
        Problem("avg").bag().save(self.path)
        self.rejects("central_form is uniform; needs assignment", module.load, self.path, error=ValueError)
        resembed.save_file({"other": torch.zeros(2)}, self.path)
        self.rejects("has no tensor", module.load, self.path, error=ValueError)
        for name, tensor in module.state_dict().items():
            self.equal(tensor, before[name])


if __name__ == "__main__":
    unittest.main()
