"""Random calls of an operator: shapes with odd corners, and tensors within the ranges the spec promises."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import torch
from torch import Tensor

from rnnc.dsl.expression import Axes
from rnnc.dsl.interpreter import carried
from rnnc.dsl.interval import Interval
from rnnc.dsl.recurrence import Input, Param, Recurrence, State

LENGTHS = (0, 1, 2, 7, 16, 31, 63, 64, 65, 100, 128, 130)
LONG = 1000
SIZES = (1, 2, 3, 5, 8, 16, 17)
STEPS = (1, 2, 2, 3)  # of an axis that a loop runs over
CHUNKS = (None, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Case:
    """The shape of one call; everything follows from the seed.

    `lengths` holds one length per sequence, all equal unless `packed`; `sizes` the size of every axis and
    `groups` the number of groups of every input that is shared by the heads of a group.
    """

    seed: int
    lengths: tuple[int, ...]
    packed: bool
    H: int
    sizes: dict[str, int]
    groups: dict[str, int]
    initial: bool
    reverse: bool
    chunk_size: int | None

    @property
    def leading(self) -> tuple[int, int]:
        """B and T of the inputs."""
        return (1, sum(self.lengths)) if self.packed else (len(self.lengths), self.lengths[0])

    @property
    def cu_seqlens(self) -> Tensor | None:
        """The boundaries of packed sequences, None for equal lengths."""
        return torch.tensor((0, *self.lengths)).cumsum(0) if self.packed else None

    def __str__(self) -> str:
        B, T = self.leading
        shape = f"packed {list(self.lengths)}" if self.packed else f"B={B} T={T}"
        sizes = " ".join(f"{axis}={size}" for axis, size in self.sizes.items())
        groups = "".join(f" {name}/{count} groups" for name, count in self.groups.items())
        flags = " initial state" * self.initial + " reverse" * self.reverse
        return f"seed {self.seed}: {shape} H={self.H} {sizes}{groups}{flags}"


def draw_case(recurrence: Recurrence, seed: int) -> Case:
    """The case of that seed; every fortieth is long."""
    draw = random.Random(seed)
    packed = draw.random() < 0.4
    if packed:
        lengths = tuple(draw.choice((0, 0, 1, 5, 17, 64, 65)) for _ in range(draw.randint(1, 5)))
    else:
        length = LONG if seed % 40 == 39 else draw.choice(LENGTHS)
        lengths = (length,) * draw.randint(1, 3)
    H = draw.choice((1, 2, 4))
    arrays: list[Input | State | Param] = [*recurrence.inputs, *recurrence.states, *recurrence.params]
    axes = dict.fromkeys(axis for declared in arrays for axis in declared.axes)
    sizes = {axis: draw.choice(STEPS if axis in recurrence.loops else SIZES) for axis in axes}
    steps = prod(sizes[axis] for axis in recurrence.loops)
    return Case(
        seed,
        tuple(-(-length // steps) for length in lengths),  # as many rows as without micro-steps
        packed,
        H,
        sizes,
        {x.name: draw.choice([g for g in (1, 2, 4) if H % g == 0]) for x in recurrence.inputs if x.per_group},
        initial=draw.random() < 0.5,
        reverse=draw.random() < 0.25,
        chunk_size=draw.choice(CHUNKS),
    )


def draw_arguments(recurrence: Recurrence, case: Case, scale: float = 1.0) -> list[Tensor]:
    """Inputs, then parameters, float32; vectors have a norm of about `scale`."""
    source = torch.Generator().manual_seed(case.seed)
    declarations: list[Input | Param] = [*recurrence.inputs, *recurrence.params]
    return [_values(declared, _shape(declared, case), scale, source) for declared in declarations]


def draw_states(recurrence: Recurrence, case: Case) -> list[Tensor]:
    """One float32 array [N, H, axes] per array that is carried."""
    source = torch.Generator().manual_seed(case.seed + 1)
    N = len(case.lengths)
    return [torch.randn(N, case.H, *_sizes(x.axes, case), generator=source) for x in carried(recurrence)]


def _shape(declared: Input | Param, case: Case) -> tuple[int, ...]:
    own = _sizes(declared.axes, case)
    if isinstance(declared, Param):
        return own if declared.shared else (case.H, *own)
    return (*case.leading, case.groups.get(declared.name, case.H), *own)


def _sizes(axes: Axes, case: Case) -> tuple[int, ...]:
    return tuple(case.sizes[axis.rstrip("'")] for axis in axes)


def _values(declared: Input | Param, shape: tuple[int, ...], scale: float, source: Any) -> Tensor:
    if declared.range is not None:
        return within(declared.range, torch.rand(shape, generator=source))
    values = torch.randn(shape, generator=source)
    values += 0.3 * values.sign()  # a vector of size one that is nearly zero has no direction to speak of
    width = prod(shape[-1:]) if declared.axes else 1
    return values * (scale * width**-0.5)


def within(interval: Interval, fraction: Tensor) -> Tensor:
    """Values of the interval, open ends left out, from fractions in [0, 1); infinite ends reach about 2."""
    inner = 0.01 + 0.98 * fraction
    low, high = interval.low, interval.high
    if low == -inf and high == inf:
        return 4 * inner - 2
    if low == -inf:
        return high - 2 * inner
    if high == inf:
        return low + 2 * inner
    return low + (high - low) * inner
