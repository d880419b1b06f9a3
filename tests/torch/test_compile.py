# SPDX-License-Identifier: Apache-2.0
"""torch.compile(fullgraph=True, dynamic=True): one graph for all batch sizes, and training that equals eager."""
import copy
import unittest

import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import resembed
from support import FUSIONS, OPS, Problem, TestCase
from test_collection import FEATURES, make

# No size is one of another tensor: dynamo would take them for the same number, and compile again when they differ.
SIZES = [(4, 9), (7, 31), (5, 12), (16, 2), (3, 40)]  # bags, ids


def batch(n_bags, n_ids, seed=0, items=23):
    draw = torch.Generator().manual_seed(seed)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64),
                         torch.randint(0, n_ids + 1, (n_bags - 1,), generator=draw).sort().values])
    return torch.randint(0, items, (n_ids,), generator=draw), offsets, torch.rand(n_ids, generator=draw)


class Compiled(TestCase):
    """A second compilation of a function raises."""

    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        patch = torch._dynamo.config.patch(error_on_recompile=True)
        patch.__enter__()
        self.addCleanup(patch.__exit__, None, None, None)
        self.counter = CompileCounterWithBackend("aot_eager")

    def compile(self, function, backend="aot_eager"):
        self.counter.backend = backend
        return torch.compile(function, fullgraph=True, dynamic=True, backend=self.counter)

    def again(self):
        """Another case, with nothing compiled yet."""
        self.assertGreater(self.counter.frame_count, 0)
        torch._dynamo.reset()
        self.counter.clear()


class Lookup(Compiled):
    def test_a_second_compilation_would_be_seen(self):
        fixed = torch.compile(Problem("none").bag(), dynamic=False, backend=self.counter)
        fixed(torch.zeros(3, 4, dtype=torch.int64))
        self.rejects("(?i)recompil", fixed, torch.zeros(5, 4, dtype=torch.int64), error=Exception)

    def test_changing_batches_compile_once(self):
        for fusion in FUSIONS:
            module = Problem(fusion).bag(mode="sum")
            compiled = self.compile(module)
            for seed, (n_bags, n_ids) in enumerate(SIZES):
                ids, offsets, samples = batch(n_bags, n_ids, seed)
                grads = []
                for function in (module, compiled):
                    module.zero_grad()
                    own = samples.clone().requires_grad_()
                    out = function(ids, offsets, own)
                    out.sin().sum().backward()
                    grads.append([out, own.grad, *(parameter.grad for parameter in module.parameters())])
                with self.subTest(fusion=fusion, n_bags=n_bags):
                    for compiled_one, eager in zip(grads[1], grads[0]):
                        self.equal(compiled_one, eager)
            self.again()

    def test_matrices_and_sequences_compile_once(self):
        bag, sequence = Problem("gcn").bag(padding_idx=2), resembed.ResidualEmbedding(
            23, 6, 2, **Problem("gcn").central_kwargs())
        for module in (bag, sequence):
            compiled = self.compile(module)
            for rows, columns in ((3, 5), (4, 2), (8, 9)):
                ids = torch.randint(0, 23, (rows, columns))
                self.equal(compiled(ids), module(ids))
            self.again()

    def test_the_operation_itself_with_inductor(self):
        problem = Problem("avg")

        @torch.compile(fullgraph=True, dynamic=True)
        def score(weight, central, ids, offsets):
            pooled = OPS.embedding_bag(weight, ids, offsets, None, central, problem.map, None, "avg", "mean")
            return (pooled * 2 + 1).relu().sum(1)
        for seed, (n_bags, n_ids) in enumerate(SIZES):
            ids, offsets, _ = batch(n_bags, n_ids, seed)
            leaves = [problem.weight.clone().requires_grad_(), problem.central.clone().requires_grad_()]
            out = score(*leaves, ids, offsets)
            grads = torch.autograd.grad(out.sum(), leaves)
            eager = [leaf.detach().requires_grad_() for leaf in leaves]
            pooled = OPS.embedding_bag(*eager[:1], ids, offsets, None, eager[1], problem.map, None, "avg", "mean")
            self.same(out, (pooled * 2 + 1).relu().sum(1))
            for own, wanted in zip(grads, torch.autograd.grad((pooled * 2 + 1).relu().sum(), eager)):
                self.same(own, wanted)

    def test_sparse_gradients_are_refused_with_the_reason(self):
        module = resembed.ResidualEmbeddingBag(5, 3, sparse=True)
        with self.assertRaisesRegex(Exception, "sparse=True makes COO gradients, which torch.compile does not take"):
            self.compile(module)(torch.tensor([[1, 2]]))


class Model(nn.Module):
    def __init__(self, bag):
        super().__init__()
        self.bag, self.head = bag, nn.Linear(6, 1)

    def forward(self, ids, offsets, samples):
        return self.head(self.bag(ids, offsets, samples).relu()).squeeze(1)


class Training(Compiled):
    def test_twenty_dense_steps_equal_eager_ones(self):
        for fusion, optim in (("gcn", torch.optim.Adagrad), ("att", torch.optim.AdamW)):
            eager = Model(Problem(fusion).bag(mode="sum"))
            other = copy.deepcopy(eager)
            compiled = self.compile(other)
            optimizers = [optim(model.parameters(), lr=0.05) for model in (eager, other)]
            for step in range(20):
                ids, offsets, samples = batch(5 + step, 30 + step, step)
                losses = []
                for model, optimizer in zip((eager, compiled), optimizers):
                    loss = nn.functional.softplus(model(ids, offsets, samples)).sum()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(float(loss.detach()))
                self.assertAlmostEqual(*losses, delta=1e-5 * abs(losses[0]))
            self.again()
            for own, wanted in zip(other.parameters(), eager.parameters()):
                self.same(own, wanted, rtol=1e-5, atol=1e-6)

    def steps(self, collection, lookup, update, head, count=20):
        """Training with the lookup and the step as two functions; head is trained, too."""
        optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
        for step in range(count):
            n_bags = 5 + step % 4
            ids, offsets, samples = batch(len(FEATURES) * n_bags, 40 + step, step)
            offsets = torch.cat([offsets, offsets.new_tensor([ids.numel()])])
            rows = lookup(ids, offsets, samples).detach().requires_grad_()
            optimizer.zero_grad()
            head(rows).square().sum().backward()
            optimizer.step()
            update(rows.grad, ids, offsets, samples)
            if step == 10:
                collection.set_learning_rate(0.01)

    def test_twenty_fused_steps_equal_eager_ones(self):
        for optimizer in ("rowwise_adagrad", "adam"):
            rules = {"optimizer": optimizer, "learning_rate": 0.05, "weight_decay": 0.01}
            fused, compiled, head = make(**rules)[0], make(**rules)[0], nn.Linear(13, 1)
            compiled.load_state_dict(fused.state_dict())
            heads = [copy.deepcopy(head) for _ in range(2)]
            self.steps(compiled, self.compile(compiled.lookup), self.compile(compiled.step), heads[0])
            self.again()

            optim = torch.optim.SGD(heads[1].parameters(), lr=0.05)
            for step in range(20):  # the update inside backward
                ids, offsets, samples = batch(len(FEATURES) * (5 + step % 4), 40 + step, step)
                offsets = torch.cat([offsets, offsets.new_tensor([ids.numel()])])
                optim.zero_grad()
                heads[1](fused(ids, offsets, samples)).square().sum().backward()
                optim.step()
                if step == 10:
                    fused.set_learning_rate(0.01)
            with self.subTest(optimizer=optimizer):
                self.assertEqual(int(compiled.iterations), 20)
                for name, tensor in fused.state_dict().items():
                    self.equal(compiled.state_dict()[name], tensor)

    def test_a_whole_training_step_is_one_graph(self):
        for backend in ("aot_eager", "inductor"):
            self.whole_step(backend)

    def whole_step(self, backend):
        rules = {"optimizer": "adagrad", "learning_rate": 0.05}
        collections = [make(("att", "none"), **rules)[0] for _ in range(2)]
        collections[1].load_state_dict(collections[0].state_dict())
        target = torch.randn(13)

        def train(collection):
            def step(ids, offsets):
                rows = collection.lookup(ids, offsets)
                grad = torch.func.grad(lambda pooled: (pooled - target).square().sum())(rows)
                collection.step(grad, ids, offsets)
                return rows
            return step
        functions = train(collections[0]), self.compile(train(collections[1]), backend)
        for step in range(5):
            ids, offsets, _ = batch(len(FEATURES) * (5 + step), 40 + step, step)
            offsets = torch.cat([offsets, offsets.new_tensor([ids.numel()])])
            self.same(functions[1](ids, offsets), functions[0](ids, offsets))
        self.again()
        for name, tensor in collections[0].state_dict().items():
            with self.subTest(backend=backend, name=name):
                self.same(collections[1].state_dict()[name], tensor)

    def test_fused_forward_is_refused_in_training_and_works_otherwise(self):
        collection, _ = make()
        ids, offsets = torch.randint(0, 23, (12,)), torch.tensor([0, 2, 5, 5, 8, 9, 12])
        with self.assertRaisesRegex(Exception, "forward is compiled in training mode"):
            self.compile(collection)(ids, offsets)
        torch._dynamo.reset()
        collection.eval()
        self.equal(self.compile(collection)(ids, offsets), collection(ids, offsets))


if __name__ == "__main__":
    unittest.main()
