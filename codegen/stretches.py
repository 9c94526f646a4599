"""Whether sequences are split into stretches that are walked beside each other, and into how many.

A split makes the chain of chunks shorter and the work larger: every stretch is walked from zero for what it
adds to the state, a kernel walks it from the identity for what it makes of the state, a short chain combines
both, and it is walked again from the state at its start. That pays where heads, sequences and tiles of the
values are too few programs for the machine. Unlike tiles the choice depends on a call's batch and length; it
compiles nothing that depends on them. Packed sequences are not split unless asked for: their lengths are
known on the device alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import Configuration
from rnnc.codegen.tiling import best
from rnnc.codegen.tiling_record import Choice, Findings, Tiling, TooLarge
from rnnc.codegen.times import times
from rnnc.codegen.work import Work

COUNTS = (2, 4, 8, 16)
SHORTEST = 4  # chunks of a stretch
LAUNCH = 4e-6  # seconds until a kernel that waits for the one before it has begun
GAIN = 0.8  # the part of the time that a split must leave at most: it is an estimate
BLOCK = 64  # rows and columns that a combination works on at a time


class Load(NamedTuple):
    """A call: heads of all sequences together, tokens of each sequence."""

    heads: int
    length: int


class Splitting(NamedTuple):
    """`parts` stretches of each sequence (1: no split), the estimated seconds of the walks of a forward and a
    backward pass, `whole` and with the split, and how the kernel runs that forms what stretches make of the
    state.
    """

    parts: int
    whole: float
    seconds: float
    configurations: Mapping[str, Configuration]


class Maps(NamedTuple):
    """What stretches make of the state: by name the kernel that forms it, none where they keep the state;
    whether that only scales its rows; `known`: what is known of that kernel; `chosen`: how it runs, where
    that is chosen.
    """

    works: Mapping[str, Work]
    scaling: bool
    key_axis: str
    value_axis: str
    known: Mapping[str, Findings] = MappingProxyType({})
    chosen: Mapping[str, Choice] | None = None

    def sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes of axes of that kernel: its columns are those of the identity."""
        columns = 1 if self.scaling else sizes[self.key_axis]
        return {**sizes, self.value_axis: columns}

    def choices(
        self, sizes: Mapping[str, int], size: int, hardware: Hardware, chunk: int
    ) -> Mapping[str, Choice]:
        """How the kernel runs, for chunks of that many tokens. Raises TooLarge."""
        if self.chosen is not None:
            return self.chosen
        own = self.sizes(sizes)
        given = own, size, hardware, chunk
        return {name: best(work, *given, self.known.get(name, {})) for name, work in self.works.items()}


def split(
    tiling: Tiling,
    works: Mapping[str, Work],
    maps: Maps,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    load: Load,
) -> Splitting:
    """The number of stretches that is estimated to take the least time; see also `forced`."""
    walks = {name: work for name, work in works.items() if work.serial}

    def walked(count: int) -> float:
        """Seconds of the walks of both passes, over that many stretches of each sequence."""
        return sum(_seconds(walks[n], sizes, tiling.kernels[n], hardware, size, load, count) for n in walks)

    whole = walked(1)
    try:
        chosen = maps.choices(sizes, size, hardware, tiling.chunk)
    except TooLarge:
        return Splitting(1, whole, whole, {})
    configurations = {name: choice.configuration for name, choice in chosen.items()}
    found = [Splitting(1, whole, whole * GAIN, configurations)]
    own = maps.sizes(sizes)
    for count in COUNTS:
        if count * SHORTEST * tiling.chunk > load.length:
            break
        summaries = sum(
            _seconds(maps.works[n], own, choice, hardware, size, load, count) for n, choice in chosen.items()
        )
        launches = (2 * len(walks) + len(chosen)) * LAUNCH
        combined = len(walks) * count * _step(maps, sizes, hardware)
        seconds = 2 * walked(count) + summaries + launches + combined
        found.append(Splitting(count, whole, seconds, configurations))
    least = min(found, key=lambda each: each.seconds)
    return least if least.parts > 1 else least._replace(seconds=whole)


def forced(
    count: int,
    tiling: Tiling,
    maps: Maps,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    length: int,
) -> Splitting:
    """So many stretches, or as many as there are chunks. Raises TooLarge."""
    chosen = maps.choices(sizes, size, hardware, tiling.chunk)
    count = max(1, min(count, -(-length // tiling.chunk)))
    return Splitting(count, 0.0, 0.0, {name: choice.configuration for name, choice in chosen.items()})


def _seconds(
    work: Work,
    sizes: Mapping[str, int],
    choice: Choice,
    hardware: Hardware,
    size: int,
    load: Load,
    count: int,
) -> float:
    """Of a walk over all stretches at once."""
    heads, length = load.heads * count, -(-load.length // count)
    each = times(work, sizes, choice.configuration, choice.need, hardware, size, (heads, length))
    return each.seconds * heads * length


def _step(maps: Maps, sizes: Mapping[str, int], hardware: Hardware) -> float:
    """Seconds of one stretch in the chain that combines them."""
    if not maps.works or maps.scaling:
        return 2 * hardware.memory_latency
    blocks = -(-sizes[maps.key_axis] // BLOCK)
    return hardware.memory_latency + blocks**2 * (hardware.memory_latency + hardware.product_latency)
