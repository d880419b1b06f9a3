# SPDX-License-Identifier: Apache-2.0
"""Residual embeddings in PyTorch: an interest graph from click sequences, and a bag of items that trains with it."""
import torch
import resembed

n_items, dim = 1000, 16
torch.manual_seed(1)
clicks = torch.randint(0, n_items // 10, (5000,)) * 10 + torch.randint(0, 10, (5000,))  # 500 sessions of 10 items
sessions = torch.arange(0, 5001, 10)
graph = resembed.InterestGraph.from_sequences(clicks, sessions, window=2, top_k=8, n_items=n_items)

items = resembed.ResidualEmbeddingBag(n_items, dim, mode="mean", graph=graph, fusion="gcn")  # as nn.EmbeddingBag
model = torch.nn.Sequential(items, torch.nn.Linear(dim, 1))
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
history, clicked = clicks.reshape(500, 10), torch.rand(500).round()
for epoch in range(20):
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(history).squeeze(1), clicked)
    optimizer.zero_grad()
    (loss + 1e-4 * items.weight.square().sum()).backward()  # the residual is the regularized part
    optimizer.step()
compiled = torch.jit.script(model)  # or torch.compile(model, fullgraph=True), torch.export
assert torch.equal(compiled(history), model(history))
print(f"loss {loss.item():.3f} after 20 epochs, {graph}, {items}")
