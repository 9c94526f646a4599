"""A two-layer character model on the text that every Python brings along: its language reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def reference_text() -> str:
    """The language reference; paragraphs that stand in several topics are kept once."""
    paragraphs = "\n\n".join(topics[name] for name in sorted(topics)).split("\n\n")
    return "\n\n".join(dict.fromkeys(paragraph for paragraph in paragraphs if paragraph.strip()))


class Block(nn.Module):
    """A recurrent layer and an MLP, each behind a norm and beside a shortcut; only the first mixes tokens.

    `gain` scales what the recurrence adds: 0 leaves every token alone.
    """

    def __init__(self, operator: Any, d_model: int, num_heads: int) -> None:
        super().__init__()
        width = d_model // num_heads
        self.norm = nn.RMSNorm(d_model)
        self.recurrence = operator.Layer(d_model=d_model, num_heads=num_heads, K=width, V=width)
        self.mlp = nn.Sequential(
            nn.RMSNorm(d_model), nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model)
        )

    def forward(self, x: Tensor, state: Any, gain: float) -> tuple[Tensor, Any]:
        y, state = self.recurrence(self.norm(x), state=state, return_state=True, chunk_size=32)
        x = x + gain * y
        return x + self.mlp(x), state


class CharacterModel(nn.Module):
    """Embedding, blocks, unembedding: logits of the next character, [B, T, characters]."""

    def __init__(self, operator: Any, characters: int, d_model: int = 128, num_heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, d_model)
        self.blocks = nn.ModuleList([Block(operator, d_model, num_heads) for _ in range(2)])
        self.head = nn.Sequential(nn.RMSNorm(d_model), nn.Linear(d_model, characters))

    def forward(
        self, tokens: Tensor, states: Sequence[Any] | None = None, gain: float = 1.0
    ) -> tuple[Tensor, list[Any]]:
        """Logits, and the states that continue the rows."""
        x, new = self.embedding(tokens), []
        for block, state in zip(self.blocks, states or [None] * len(self.blocks), strict=True):
            x, state = block(x, state, gain)
            new.append(state)
        return self.head(x), new

    def loss(self, tokens: Tensor, gain: float = 1.0) -> Tensor:
        """Nats per character of rows of T + 1 characters."""
        logits, _ = self(tokens[:, :-1], gain=gain)
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(model: CharacterModel, text: Tensor, steps: int, B: int = 16, T: int = 256) -> Iterator[float]:
    """Takes `steps` steps of AdamW on random rows of the text and yields their losses."""
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.1)
    for step in range(steps):
        rate = 6e-3 * min(1, (step + 1) / 20) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
        optimiser.param_groups[0]["lr"] = rate
        start = torch.randint(0, len(text) - T, (B, 1))
        loss = model.loss(text[start + torch.arange(T + 1)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        yield loss.item()


@torch.no_grad()
def evaluate(model: CharacterModel, text: Tensor, gain: float = 1.0, T: int = 256) -> float:
    """Nats per character of a text cut into rows of T; the recurrences' outputs are scaled by `gain`."""
    rows = text[: (len(text) - 1) // T * T + 1].unfold(0, T + 1, T)
    return sum(model.loss(part, gain).item() * len(part) for part in rows.split(32)) / len(rows)


@torch.no_grad()
def sample(model: CharacterModel, prompt: Tensor, temperature: float = 0.6) -> Iterator[int]:
    """Reads the prompt [T] in one call, then yields characters for ever, a `step` of the operator each."""
    logits, states = model(prompt[None])
    while True:
        token = torch.multinomial(F.softmax(logits[:, -1] / temperature, dim=-1), 1)
        yield int(token)
        logits, states = model(token, states)
