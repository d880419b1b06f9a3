# SPDX-License-Identifier: Apache-2.0
"""Trains a residual-embedding model from Python with ctypes and numpy alone, no framework.

    python_client.py LIBRESEMBED.SO

e_i = sum_k w_ik C[n_ik] + R[i]; score = (weighted mean of the history's e) . (target's e); logistic loss; row-wise
Adagrad on C and on R, L2 on R. 100 steps; loss and tables are compared with the same in numpy's float64.
"""
import ctypes
import sys
from ctypes import byref, c_size_t, c_void_p

try:
    import numpy as np
except ImportError:
    print("SKIP: this Python has no numpy")
    sys.exit(77)

from c_api import (BackwardStepArgs, FORM_STORED, Feature, FeatureGrad, ForwardArgs, I32, I64, Library, OUT_OF_RANGE,
                   Optimizer, POOLING_MEAN, POOLING_SUM, PlanArgs, PlanHeader, ROWWISE_ADAGRAD,
                   Table, TableStep, Tables, address, aligned, check_against_header, pointers)  # noqa: E402 (needs numpy)

N_ITEMS, DIM, K, N_INTERESTS, N_BAGS, STEPS = 60, 8, 3, 6, 32, 100
LR, EPS, LAMBDA, STATE0 = 0.1, 1e-8, 0.001, 0.001


class Model:
    """Tables in fp32 for the library, and the same numbers in float64 for the reference."""

    def __init__(self, random):
        self.c = (0.2 * random.standard_normal((N_ITEMS, DIM))).astype(np.float32)
        self.r = (0.1 * random.standard_normal((N_ITEMS, DIM))).astype(np.float32)
        self.c_state = np.full(N_ITEMS, STATE0, np.float32)
        self.r_state = np.full(N_ITEMS, STATE0, np.float32)
        # Three others of the item's own interest; item 0 has none, item 1 only one.
        self.neighbors = np.full((N_ITEMS, K), -1, np.int32)
        self.weights = random.uniform(0.2, 0.5, (N_ITEMS, K)).astype(np.float32)
        for item in range(1, N_ITEMS):
            same = [j for j in range(item % N_INTERESTS, N_ITEMS, N_INTERESTS) if j != item]
            count = 1 if item == 1 else K
            self.neighbors[item, :count] = random.choice(same, count, replace=False)
        self.exact = {name: getattr(self, name).astype(np.float64) for name in ("c", "r", "c_state", "r_state")}
        self.w = np.zeros((N_ITEMS, N_ITEMS))
        for item in range(N_ITEMS):
            for slot in range(K):
                if self.neighbors[item, slot] >= 0:
                    self.w[item, self.neighbors[item, slot]] = self.weights[item, slot]


def draw_batch(random):
    """Histories of 1 to 6 items of one interest; the target shares it in half of the bags."""
    lengths = random.integers(1, 7, N_BAGS)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    interest = random.integers(0, N_INTERESTS, N_BAGS)
    label = random.integers(0, 2, N_BAGS).astype(np.float64)
    target_interest = np.where(label == 1, interest, (interest + random.integers(1, N_INTERESTS, N_BAGS)) % N_INTERESTS)
    pick = lambda interests: (interests + N_INTERESTS * random.integers(0, N_ITEMS // N_INTERESTS, len(interests)))
    history = pick(np.repeat(interest, lengths)).astype(np.int32)
    weights = random.uniform(0.5, 1.5, len(history)).astype(np.float32)
    return offsets, history, weights, pick(target_interest).astype(np.int32), label


def loss_and_gradients(pooled, target, label):
    score = (pooled * target).sum(1)
    loss = np.mean(np.logaddexp(0, score) - label * score)
    slope = (1 / (1 + np.exp(-score)) - label)[:, None] / len(label)
    return loss, slope * target, slope * pooled


def reference_step(model, batch):
    offsets, history, weights, target, label = batch
    exact = model.exact
    e = model.w @ exact["c"] + exact["r"]
    bag = np.repeat(np.arange(N_BAGS), np.diff(offsets))
    share = weights.astype(np.float64) / np.diff(offsets)[bag]
    pooled = np.zeros((N_BAGS, DIM))
    np.add.at(pooled, bag, share[:, None] * e[history])
    loss, d_pooled, d_target = loss_and_gradients(pooled, e[target], label)
    d_e = np.zeros((N_ITEMS, DIM))
    np.add.at(d_e, history, share[:, None] * d_pooled[bag])
    np.add.at(d_e, target, d_target)
    touched = np.unique(np.concatenate([history, target]))
    d_c = model.w.T @ d_e
    for part, gradient, rows, decay in (("c", d_c, np.nonzero(model.w[touched].any(0))[0], 0.0),
                                        ("r", d_e, touched, LAMBDA)):
        g = gradient[rows] + decay * exact[part][rows]
        state = exact[part + "_state"]
        state[rows] += (g * g).mean(1)
        exact[part][rows] -= LR * g / (np.sqrt(state[rows]) + EPS)[:, None]
    return loss


class Trainer:
    """The same step through the C ABI."""

    def __init__(self, library, model):
        self.library = library
        self.table = Table(n_items=N_ITEMS, dim=DIM, form=FORM_STORED, residual=address(model.r),
                           central=address(model.c), central_rows=N_ITEMS, neighbors=address(model.neighbors),
                           n_neighbors=K, neighbor_weights=address(model.weights))
        library.call("check_maps", byref(self.table), byref(library.place))
        self.table_list = pointers(self.table)
        self.tables = Tables(tables=self.table_list, n_tables=1)
        optimizer = dict(kind=ROWWISE_ADAGRAD, lr=LR, eps=EPS)
        self.residual = Optimizer(**optimizer, weight_decay=LAMBDA, state1=address(model.r_state))
        self.central = Optimizer(**optimizer, state1=address(model.c_state))
        self.step_list = pointers(TableStep(residual=ctypes.pointer(self.residual), central=ctypes.pointer(self.central)))
        self.pooled = np.empty((N_BAGS, DIM), np.float32)
        self.target = np.empty((N_BAGS, DIM), np.float32)

    def step(self, batch):
        offsets, history, weights, target, label = batch
        features = pointers(
            Feature(pooling=POOLING_MEAN, ids=address(history), n_ids=len(history), id_dtype=I32,
                    offsets=address(offsets), offset_dtype=I64, n_bags=N_BAGS, weights=address(weights),
                    output=address(self.pooled)),
            Feature(pooling=POOLING_SUM, ids=address(target), n_ids=N_BAGS, id_dtype=I32, n_bags=N_BAGS, bag_length=1,
                    output=address(self.target)))
        self.library.run("forward", ForwardArgs(tables=ctypes.pointer(self.tables), features=features, n_features=2))

        plan_args = PlanArgs(tables=ctypes.pointer(self.tables), features=features, n_features=2)
        plan_bytes, workspace_bytes = c_size_t(), c_size_t()
        place = byref(self.library.place)
        self.library.call("plan_size", byref(plan_args), place, byref(plan_bytes), byref(workspace_bytes))
        memory, workspace = aligned(plan_bytes.value), aligned(workspace_bytes.value)
        plan = PlanHeader()
        self.library.call("plan", byref(plan_args), memory.ctypes.data_as(c_void_p), plan_bytes, byref(plan),
                          workspace.ctypes.data_as(c_void_p), workspace_bytes, place)

        loss, d_pooled, d_target = loss_and_gradients(self.pooled.astype(np.float64), self.target.astype(np.float64), label)
        d_pooled, d_target = d_pooled.astype(np.float32), d_target.astype(np.float32)
        grads = pointers(FeatureGrad(grad_output=address(d_pooled)), FeatureGrad(grad_output=address(d_target)))
        self.library.run("backward_step", BackwardStepArgs(
            plan=ctypes.pointer(plan), tables=ctypes.pointer(self.tables), features=features, n_features=2,
            feature_grads=grads, steps=self.step_list))
        return loss


def check_bad_id_is_refused(trainer, batch):
    offsets, history, weights, target, label = batch
    bad = target.copy()
    bad[5] = N_ITEMS
    before = trainer.pooled.copy()
    try:
        trainer.step((offsets, history, weights, bad, label))
    except RuntimeError as error:
        assert str(error).startswith(f"{OUT_OF_RANGE}: forward: "), error
        assert str(N_ITEMS) in str(error), error
        assert np.array_equal(trainer.pooled, before), "nothing may be written"
    else:
        raise AssertionError("a bad id went through")


def main():
    check_against_header()
    library = Library(sys.argv[1])
    model = Model(np.random.default_rng(1))
    trainer = Trainer(library, model)
    batches = np.random.default_rng(2)
    losses, expected = [], []
    for _ in range(STEPS):
        batch = draw_batch(batches)
        losses.append(trainer.step(batch))
        expected.append(reference_step(model, batch))
    check_bad_id_is_refused(trainer, batch)

    # fp32 rounding (6e-8) of some ten operations a step, over 100 steps of size LR.
    tolerance = STEPS * LR * 10 * 6e-8
    worst = max(np.abs(getattr(model, part) - model.exact[part]).max() for part in ("c", "r"))
    worst_loss = np.abs(np.array(losses) - expected).max()
    first, last = np.mean(losses[:10]), np.mean(losses[-10:])
    print(f"{STEPS} steps, loss {first:.4f} -> {last:.4f}, "
          f"largest difference from float64: tables {worst:.1e}, loss {worst_loss:.1e} (allowed {tolerance:.1e})")
    assert last < 0.5 * first, "the loss does not fall"
    assert worst < tolerance and worst_loss < tolerance, "the tables differ from the reference"


main()
