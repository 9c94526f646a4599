"""The serial part of a pass: its steps one after the other, and what they hand out in one array.

Sequences and heads are one axis here, [n * H, axes...], which `torch.bmm` takes without further ado; every
operation counts, for there are as many of them as chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor


def flat(states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """States [N, H, axes...] as [N * H, axes...]."""
    return tuple(state.flatten(0, 1) for state in states)


def each(
    steps: Sequence[tuple[int, int]], heads: int, values: Sequence[Tensor], backwards: bool = False
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """n * H of every step, and its rows of the values [M or 1, H or 1, axes...] as [n * H, axes...]."""
    counts = [(b - a) * heads for a, b in steps]
    lead = (steps[-1][1], heads)
    whole = [value if value.shape[:2] == lead else value.expand(*lead, *value.shape[2:]) for value in values]
    if len(counts) == 1:  # a token of decoding, where little else is done
        return iter(((counts[0], tuple(value.flatten(0, 1) for value in whole)),))
    parts = [_parts(value, steps, counts) for value in whole]
    found = zip(counts, zip(*parts, strict=True) if parts else repeat((), len(counts)), strict=True)
    return reversed(list(found)) if backwards else iter(found)


def _parts(value: Tensor, steps: Sequence[tuple[int, int]], counts: list[int]) -> Sequence[Tensor]:
    """The steps of [M, H, axes...], each [n * H, axes...]: views, also of what is no array of such rows."""
    if value.stride(0) == value.shape[1] * value.stride(1) or counts[0] != value.shape[1]:
        return value.flatten(0, 1).split(counts)
    return value.unbind(0)


def scale(state: Tensor, factor: Tensor | float, own: bool, rows: Rows | None = None) -> Tensor:
    """factor * state. Unless the gradient is recorded: where the next step's state is kept in `rows`, there;
    else in the state itself if it is the scan's `own`.
    """
    if torch.is_grad_enabled():
        return state * factor
    if rows is not None:
        return torch.mul(state, factor, out=rows.room(state.shape[0]))
    return state.mul_(factor) if own else state * factor


def addmm(x: Tensor, left: Tensor, right: Tensor, alpha: float = 1, beta: float = 1) -> Tensor:
    """beta * x + alpha * left @ right, in x (a new array) unless the gradient is recorded."""
    if torch.is_grad_enabled():
        return torch.baddbmm(x, left, right, beta=beta, alpha=alpha)
    return x.baddbmm_(left, right, beta=beta, alpha=alpha)


class Rows:
    """One value of every step. They are written to one array, or joined where the gradient is recorded."""

    def __init__(self, steps: Sequence[tuple[int, int]], heads: int, backwards: bool = False) -> None:
        self.heads, self.backwards = heads, backwards
        self.counts = [(b - a) * heads for a, b in steps]
        self.parts: list[Tensor] = []
        self.array: Tensor | None = None
        self.rooms: list[Tensor] = []  # of the steps to come, the next one last

    def room(self, n: int) -> Tensor | None:
        """Where the next value may be computed if it has n rows; None before there is an array."""
        return self.rooms[-1] if self.rooms and self.rooms[-1].shape[0] == n else None

    def put(self, x: Tensor) -> None:
        """Takes the value of the step at hand."""
        if torch.is_grad_enabled():
            self.parts.append(x)
            return
        if self.array is None:
            single = len(self.counts) == 1
            self.array = x if single else x.new_empty((sum(self.counts), *x.shape[1:]))
            rooms = (x,) if single else self.array.split(self.counts)
            self.rooms = list(rooms if self.backwards else rooms[::-1])
        room = self.rooms.pop()
        if room is not x:
            room.copy_(x)

    def joined(self) -> Tensor:
        """The values of all steps, [M, H, axes...]."""
        parts = self.parts[::-1] if self.backwards else self.parts
        array = torch.cat(parts) if self.array is None else self.array
        return array.unflatten(0, (-1, self.heads))
