"""Tasks whose answer depends on all tokens so far, and a small model with one operator to learn them.

Every task is the word problem of a group: the product of all elements up to each. Parity is the group of two
elements, counting modulo 3 that of three.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cyclic(order: int) -> Tensor:
    """The table of the integers modulo `order`: [a, b] -> a + b."""
    numbers = torch.arange(order)
    return (numbers[:, None] + numbers) % order


def permutations(points: int, even: bool = False) -> Tensor:
    """The table of the (even) permutations of some points: [a, b] -> first a, then b."""
    elements = list(itertools.permutations(range(points)))
    if even:
        pairs = list(itertools.combinations(range(points), 2))
        elements = [p for p in elements if sum(p[i] > p[j] for i, j in pairs) % 2 == 0]
    number = {element: index for index, element in enumerate(elements)}
    return torch.tensor([[number[tuple(b[i] for i in a)] for b in elements] for a in elements])


TASKS: dict[str, Callable[[], Tensor]] = {
    "parity": lambda: cyclic(2),
    "modulo 3": lambda: cyclic(3),
    "S3": lambda: permutations(3),
    "A5": lambda: permutations(5, even=True),
}


def words(table: Tensor, B: int, T: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """A start token and T random elements [B, 1 + T], and the products of all elements up to each."""
    tokens = torch.randint(len(table), (B, T), generator=source)
    elements = (torch.zeros(B, dtype=torch.long), *tokens.unbind(1))  # 0 is the identity
    answers = itertools.accumulate(elements, lambda product, element: table[product, element])
    return F.pad(tokens, (1, 0), value=len(table)), torch.stack(list(answers), 1)


class Block(nn.Module):
    """The recurrence and an MLP, each behind a norm and beside a shortcut; convolutions begin as identity."""

    def __init__(self, operator: Any, d_model: int, num_heads: int, **sizes: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(d_model)
        self.recurrence = operator.Layer(d_model=d_model, num_heads=num_heads, **sizes)
        up, down = nn.Linear(d_model, 2 * d_model), nn.Linear(2 * d_model, d_model)
        self.mlp = nn.Sequential(nn.RMSNorm(d_model), up, nn.SiLU(), down)
        for name, weight in self.recurrence.named_parameters():
            if name.endswith("conv.weight"):
                weight.data = torch.eye(1, weight.shape[1]).repeat(len(weight), 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.recurrence(self.norm(x))
        return x + self.mlp(x)


def tracker(operator: Any, elements: int, d_model: int, layers: int, **sizes: int) -> nn.Sequential:
    """A model that gives logits of the products, [B, 1 + T, elements]."""
    blocks = (Block(operator, d_model, d_model // 16, **sizes) for _ in range(layers))
    ends = nn.Embedding(elements + 1, d_model), nn.RMSNorm(d_model), nn.Linear(d_model, elements)
    return nn.Sequential(ends[0], *blocks, *ends[1:])


def train(model: nn.Module, table: Tensor, steps: int, rate: float, B: int = 64) -> Iterator[float]:
    """Steps of Adam on words of up to 40 elements, that long in the second half, where labels are smoothed: a
    loss of zero would not correct states that drift too slowly to be wrong by then. Yields the losses.
    """
    source = torch.Generator().manual_seed(torch.initial_seed())
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.95))  # quick to follow small gradients
    for step in range(steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * (step / steps - 0.1) / 0.9)
        optimiser.param_groups[0]["lr"] = rate * max(1e-3, min(10 * step / steps, cosine))
        tokens, answers = words(table, B, min(40, 3 + 80 * step // steps), source)
        logits, smoothing = model(tokens).flatten(0, 1), 0.1 * (2 * step >= steps)
        loss = F.cross_entropy(logits, answers.flatten(), label_smoothing=smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        yield loss.item()


@torch.no_grad()
def accuracy(model: nn.Module, table: Tensor, T: int = 256, B: int = 256) -> Tensor:
    """The share of right products after every element of words of T, [T]; the same words every time."""
    tokens, answers = words(table, B, T, torch.Generator().manual_seed(2))
    return (model(tokens).argmax(-1) == answers).float().mean(0)[1:]
