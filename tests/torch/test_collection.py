# SPDX-License-Identifier: Apache-2.0
"""The table-batched collection: layout, exact fused optimizers, states, learning rates, files."""
import itertools
import tempfile
import unittest
from pathlib import Path

import torch

import resembed
from support import FUSIONS, Problem, TestCase, item_embeddings, pooled

OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad", "adam", "adamw", "partial_rowwise_adam")
FEATURES = [0, 1, 0]  # two features read table 0


def make(fusions=("gcn", "none"), **kwargs):
    problems = [Problem(fusion, dim=4 + number, seed=number) for number, fusion in enumerate(fusions)]
    specs = [resembed.TableConfig(*problem.weight.shape, **problem.central_kwargs()) for problem in problems]
    collection = resembed.ResidualEmbeddingBagCollection(specs, FEATURES, **kwargs)
    for weight, problem in zip(collection.split_embedding_weights(), problems):
        weight.copy_(problem.weight)
    return collection, problems


def batch(n_bags=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 6, (len(FEATURES) * n_bags,), generator=draw)
    ids = torch.randint(0, 23, (int(lengths.sum()),), generator=draw)
    return ids, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]), torch.rand(ids.shape, generator=draw)


def reference(tables, problems, ids, offsets, samples, mode):
    """Feature by feature, with the surrogate; tables: [(R, C or None)]."""
    n_bags = (offsets.numel() - 1) // len(FEATURES)
    out = []
    for feature, table in enumerate(FEATURES):
        spans = offsets[feature * n_bags:(feature + 1) * n_bags + 1]
        own = slice(int(spans[0]), int(spans[-1]))
        out.append(pooled(*tables[table], problems[table].map, problems[table].neighbor_weights,
                          problems[table].fusion, ids[own], spans - spans[0], None if samples is None else samples[own],
                          mode, include_last_offset=True))
    return torch.cat(out, 1)


class Optimizer:
    """The formulas of include/resembed/types.h in float64, for rows with a gradient."""

    def __init__(self, kind, lr, eps, decay, decoupled):
        self.kind, self.lr, self.eps, self.decay, self.decoupled = kind, lr, eps, decay, decoupled
        self.first, self.second = 0, 0

    def step(self, row, grad, touched, t):
        b1, b2 = 0.9, 0.999
        g = grad if self.decoupled else grad + self.decay * row
        base = row * (1 - self.lr * self.decay) if self.decoupled else row
        mean = (g * g).mean(1, keepdim=True)
        if self.kind == "sgd":
            update = g
        elif self.kind in ("adagrad", "rowwise_adagrad"):
            self.first = self.first + touched * (g * g if self.kind == "adagrad" else mean)
            update = g / (torch.as_tensor(self.first).sqrt() + self.eps)
        else:
            square = mean if self.kind == "partial_rowwise_adam" else g * g
            self.first = torch.where(touched, b1 * self.first + (1 - b1) * g, torch.as_tensor(self.first, dtype=g.dtype))
            self.second = torch.where(touched, b2 * self.second + (1 - b2) * square,
                                      torch.as_tensor(self.second, dtype=g.dtype))
            update = self.first / (1 - b1**t) / ((self.second / (1 - b2**t)).sqrt() + self.eps)
        return torch.where(touched, base - self.lr * update, row)


class Layout(TestCase):
    def test_forward_is_feature_major(self):
        for fusions, mode in itertools.product((("none", "none"), ("gcn", "assign"), ("att", "avg")),
                                               ("sum", "mean", "max")):
            collection, problems = make(fusions, pooling_mode=mode)
            ids, offsets, samples = batch()
            samples = None if mode == "max" else samples
            tables = [(problem.weight, problem.central) for problem in problems]
            with self.subTest(fusions=fusions, mode=mode):
                out = collection(ids, offsets, samples)
                self.assertEqual(out.shape, (3, 4 + 5 + 4))
                self.same(out.detach(), reference(tables, problems, ids, offsets, samples, mode), rtol=1e-5, atol=1e-5)
                self.equal(collection.eval()(ids.int(), offsets.int(), samples), out.detach())

    def test_specs_in_three_spellings(self):
        for spec in ((7, 3), resembed.TableConfig(7, 3), {"num_embeddings": 7, "embedding_dim": 3, "name": "0"}):
            collection = resembed.ResidualEmbeddingBagCollection([spec])
            self.assertEqual(list(collection.state_dict())[0], "learning_rate_tensor")
            self.assertIn("embedding_bags.0.weight", collection.state_dict())
            self.assertEqual(collection.split_embedding_weights()[0].shape, (7, 3))

    def test_output_dtype_and_precision(self):
        collection = resembed.ResidualEmbeddingBagCollection([(7, 3)], weights_precision=torch.float16,
                                                             output_dtype=torch.bfloat16)
        self.assertEqual(collection.split_embedding_weights()[0].dtype, torch.float16)
        self.assertEqual(collection(torch.tensor([1]), torch.tensor([0, 1])).dtype, torch.bfloat16)


class Fused(TestCase):
    def test_every_optimizer_follows_the_formulas(self):
        """Three steps; one feature shares a table with another, so duplicates are summed across features."""
        for name, fusions in itertools.product(OPTIMIZERS, (("gcn", "none"), ("att", "assign"))):
            collection, problems = make(fusions, optimizer=name, learning_rate=0.1, weight_decay=0.2,
                                        central_weight_decay=0.05, central_learning_rate=0.03, eps=1e-3)
            kind = "adam" if name == "adamw" else name
            rules = [[Optimizer(kind, 0.1, 1e-3, 0.2, name == "adamw"), Optimizer(kind, 0.03, 1e-3, 0.05, name == "adamw")]
                     for _ in problems]
            tables = [[problem.weight.double(), None if problem.central is None else problem.central.double()]
                      for problem in problems]
            for t in range(1, 4):
                ids, offsets, samples = batch(seed=t)
                out = collection(ids, offsets, samples)
                out.sin().sum().backward()
                leaves = [[None if matrix is None else matrix.detach().requires_grad_() for matrix in table]
                          for table in tables]
                reference(leaves, problems, ids, offsets, samples.double(), "sum").sin().sum().backward()
                used = self.touched(problems, ids, offsets)
                tables = [[None if leaf is None else rule.step(leaf.detach(), leaf.grad, mask, t)
                           for leaf, rule, mask in zip(pair, rules[number], used[number])]
                          for number, pair in enumerate(leaves)]
            with self.subTest(optimizer=name, fusions=fusions):
                for own, (residual, central) in zip(collection._tables(), tables):
                    self.same(own.weight.double(), residual, rtol=1e-4, atol=1e-4)
                    if central is not None:
                        self.same(own.central_weight.double(), central, rtol=1e-4, atol=1e-4)

    def touched(self, problems, ids, offsets):
        """[(items of each table in the batch, central rows they use)], as masks [rows, 1]."""
        n_bags = (offsets.numel() - 1) // len(FEATURES)
        masks = []
        for table, problem in enumerate(problems):
            items = torch.zeros(problem.weight.size(0), dtype=torch.bool)
            for feature, owner in enumerate(FEATURES):
                if owner == table:
                    items[ids[int(offsets[feature * n_bags]):int(offsets[(feature + 1) * n_bags])]] = True
            central = None
            if problem.central is not None:
                central = torch.zeros(problem.central.size(0), dtype=torch.bool)
                rows = problem.map[items].long()
                central[rows[rows >= 0]] = True
                if problem.fusion == "att":
                    central[:items.numel()] |= items & (problem.map >= 0).any(1)
                central = central[:, None]
            masks.append((items[:, None], central))
        return masks

    def test_the_tables_get_no_gradient_and_per_sample_weights_do(self):
        collection, problems = make()
        ids, offsets, samples = batch()
        tables = [(problem.weight.double(), None if problem.central is None else problem.central.double())
                  for problem in problems]
        double = samples.double().requires_grad_()
        reference(tables, problems, ids, offsets, double, "sum").square().sum().backward()
        samples.requires_grad_()
        collection(ids, offsets, samples).square().sum().backward()
        self.same(samples.grad.double(), double.grad, rtol=1e-4, atol=1e-4)
        self.assertTrue(all(parameter.grad is None for parameter in collection.parameters()))

    def test_nothing_is_updated_in_eval_mode_or_without_gradients(self):
        collection, _ = make()
        before = {name: tensor.clone() for name, tensor in collection.state_dict().items()}
        ids, offsets, samples = batch()
        with torch.no_grad():
            collection(ids, offsets)
        collection.eval()
        samples.requires_grad_()
        collection(ids, offsets, samples).sum().backward()
        self.assertIsNotNone(samples.grad)
        for name, tensor in collection.state_dict().items():
            self.equal(tensor, before[name])

    def test_equals_dense_gradients_and_torch_optim(self):
        """SGD and Adagrad update only rows with a gradient, so the dense way gives the same table."""
        for name, optim in (("sgd", torch.optim.SGD), ("adagrad", torch.optim.Adagrad)):
            collection, problems = make(optimizer=name, learning_rate=0.05, eps=1e-10)
            bags = [problem.bag(mode="sum", include_last_offset=True) for problem in problems]
            optimizer = optim([p for bag in bags for p in bag.parameters()], lr=0.05)
            for seed in range(5):
                ids, offsets, samples = batch(seed=seed)
                collection(ids, offsets, samples).sin().sum().backward()
                outs = []
                for feature, table in enumerate(FEATURES):
                    spans = offsets[feature * 3:feature * 3 + 4]
                    own = slice(int(spans[0]), int(spans[-1]))
                    outs.append(bags[table](ids[own], spans - spans[0], samples[own]))
                optimizer.zero_grad()
                torch.cat(outs, 1).sin().sum().backward()
                optimizer.step()
            with self.subTest(optimizer=name):
                for own, bag in zip(collection._tables(), bags):
                    self.same(own.weight, bag.weight.detach(), rtol=1e-5, atol=1e-6)
                self.same(collection.split_central_weights()[0], bags[0].central_weight.detach(), rtol=1e-5, atol=1e-6)

    def test_backward_of_two_calls_steps_twice(self):
        collection, _ = make()
        (collection(*batch(seed=1)).sum() + collection(*batch(seed=2)).sum()).backward()
        self.assertEqual(int(collection.iterations), 2)

    def test_stochastic_rounding_keeps_small_updates_alive(self):
        kept = {}
        for rounding in (False, True):
            collection = resembed.ResidualEmbeddingBagCollection(
                [(4, 64)], optimizer="sgd", learning_rate=1e-4, weights_precision=torch.bfloat16,
                stochastic_rounding=rounding)
            collection.split_embedding_weights()[0].fill_(1)
            for _ in range(200):
                collection(torch.arange(4), torch.arange(5)).sum().backward()
            kept[rounding] = collection.split_embedding_weights()[0].float()
        self.equal(kept[False], torch.ones(4, 64))  # 1e-4 is below half a step of bfloat16 at 1
        self.same(kept[True].mean(), torch.tensor(0.98), rtol=0, atol=2e-3)

    def test_learning_rates(self):
        collection, _ = make(optimizer="sgd", learning_rate=0.5)
        self.assertEqual(float(collection.central_learning_rate_tensor), 0.5)
        collection.set_learning_rate(0.0)
        before = [weight.clone() for weight in collection.split_embedding_weights()]
        central = collection.split_central_weights()[0].clone()
        collection(*batch()).sum().backward()
        for weight, old in zip(collection.split_embedding_weights(), before):
            self.equal(weight, old)
        self.equal(collection.split_central_weights()[0], central)
        collection.set_learning_rate(0.0, 0.5)
        collection(*batch()).sum().backward()
        self.equal(collection.split_embedding_weights()[0], before[0])
        self.assertFalse(torch.equal(collection.split_central_weights()[0], central))
        collection.set_learning_rate(0.25)
        self.assertEqual(float(collection.central_learning_rate_tensor), 0.5)


class States(TestCase):
    def test_shapes(self):
        rows, dim = 23, 4
        shapes = {"sgd": [], "adagrad": [(rows, dim)], "rowwise_adagrad": [(rows,)], "adam": [(rows, dim)] * 2,
                  "adamw": [(rows, dim)] * 2, "partial_rowwise_adam": [(rows, dim), (rows,)]}
        for name, expected in shapes.items():
            collection, _ = make(optimizer=name)
            with self.subTest(optimizer=name):
                states = collection.split_optimizer_states()
                self.assertEqual([tuple(state.shape) for state in states[0]], expected)
                self.assertEqual(len(states), 2)
                self.assertEqual([tuple(state.shape) for state in collection.split_central_optimizer_states()[0]], expected)
                self.assertEqual(collection.split_central_optimizer_states()[1], ())

    def test_are_views_of_what_training_writes(self):
        collection, _ = make()
        (state,) = collection.split_optimizer_states()[0]
        collection(*batch()).sum().backward()
        self.assertGreater(float(state.sum()), 0)

    def test_state_dict_and_files_continue_training(self):
        for name in OPTIMIZERS:
            first, _ = make(optimizer=name)
            for seed in range(3):
                first(*batch(seed=seed)).sin().sum().backward()
            by_dict, by_file = make(optimizer=name)[0], make(optimizer=name)[0]
            by_dict.load_state_dict(first.state_dict())
            with tempfile.TemporaryDirectory() as folder:
                first.save(Path(folder) / "tables.safetensors")
                by_file.load(Path(folder) / "tables.safetensors")
                names = set(resembed.load_file(Path(folder) / "tables.safetensors")[0])
            self.assertLessEqual({"0.residual", "0.central", "0.neighbors", "0.gcn_weights", "1.residual"}, names)
            for collection in (first, by_dict, by_file):
                collection(*batch(seed=9)).sin().sum().backward()
            with self.subTest(optimizer=name):
                for key, tensor in first.state_dict().items():
                    self.equal(by_dict.state_dict()[key], tensor)
                    self.equal(by_file.state_dict()[key], tensor)

    def test_materialize_and_envelope_of_a_table(self):
        collection, problems = make(("assign", "none"))
        expected = item_embeddings(problems[0].weight, *problems[0].central_args())
        self.same(collection.materialize(0), expected)
        self.same(collection.materialize("1", n_items=2), problems[1].weight[:2])
        self.assertEqual(int(collection.envelope(0).count.sum()), int((problems[0].map >= 0).sum()))

    def test_states_and_rates_stay_float_when_tables_narrow(self):
        collection, _ = make()
        collection.to(torch.bfloat16)
        self.assertEqual(collection.split_embedding_weights()[0].dtype, torch.bfloat16)
        self.assertEqual(collection.split_optimizer_states()[0][0].dtype, torch.float32)
        self.assertEqual(collection.learning_rate_tensor.dtype, torch.float32)
        collection(*batch()).sum().backward()


class Every(TestCase):
    def test_fusion_trains(self):
        for fusion in FUSIONS:
            collection, _ = make((fusion, "none"), optimizer="rowwise_adagrad", learning_rate=0.1)
            ids, offsets, _ = batch()
            losses = []
            for _ in range(20):
                loss = (collection(ids, offsets) - 1).square().mean()
                loss.backward()
                losses.append(float(loss.detach()))
            with self.subTest(fusion=fusion):
                self.assertLess(losses[-1], 0.5 * losses[0])


if __name__ == "__main__":
    unittest.main()
