"""The one choice of how kernels run: tokens in a chunk, tiles, warps and stages, by cost under constraints.

Candidates that do not fit the registers of a thread, or the shared memory of a processor, are dropped; of the
others the one that is estimated to take the least time is taken: what it moves through memory and through
the cache, its matrix products, and the chain of what waits for each other, the longest of which counts. What
compilers made of a configuration (`measured`) goes before the estimate of what it needs. The choice depends
on the sizes of axes, not on those of the batch: no head count and no length compiles anything anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import Configuration, Need, extents, need
from rnnc.codegen.times import Times, times
from rnnc.codegen.work import Work

CHUNKS = (16, 32, 64, 128, 256)
TILES = (16, 32, 64, 128)
WARPS = (4, 8, 16)
STAGES = (1, 2, 3)
# Bytes of registers in memory that are let pass: none where every chunk waits for them.
STACK, STACK_SERIAL = 64, 0
CLOSE = 1.4  # times within this factor are alike: then what moves fewer bytes is taken
STEP = 16  # registers: of what does not fit, what is off by less is alike
NEAR = 48  # registers: an estimate that is not off by more may be wrong


class Measured(NamedTuple):
    """What is known of a configuration: registers of a thread, bytes of its stack and shared memory, as a
    compiler says; `seconds` for a token and head, where it has run; `wrong`: it does not compute what it
    should on this device, and is never taken.
    """

    registers: int = 0
    stack: int = 0
    shared: int = 0
    seconds: float | None = None
    wrong: bool = False


Findings = Mapping[Configuration, Measured]


class Choice(NamedTuple):
    """How one kernel runs, what it needs, the time it is estimated to take for a token and head, and how many
    candidates were dropped for want of what. `measured`: what a compiler made of it, if that is known;
    `excess`: registers that do not fit.
    """

    configuration: Configuration
    need: Need
    times: Times
    dropped: tuple[tuple[str, int], ...]
    measured: Measured | None
    excess: float

    @property
    def fits(self) -> bool:
        return self.excess <= 0

    @property
    def seconds(self) -> float:
        """For a token and head: as measured, else as estimated."""
        said = self.measured
        return self.times.seconds if said is None or said.seconds is None else said.seconds


class Tiling(NamedTuple):
    """The choices of all kernels, by name, for chunks of `chunk` tokens."""

    chunk: int
    kernels: Mapping[str, Choice]

    @property
    def seconds(self) -> float:
        """For a token and head, forward and backward."""
        return sum(choice.seconds for choice in self.kernels.values())

    @property
    def memory(self) -> float:
        """Seconds for what goes through memory: unlike the others, not an estimate."""
        return sum(choice.times.memory for choice in self.kernels.values())

    @property
    def excess(self) -> int:
        """How far its kernels are from fitting, in steps."""
        return sum(math.ceil(choice.excess / STEP) for choice in self.kernels.values())

    @property
    def fits(self) -> bool:
        return not self.excess

    @property
    def measured(self) -> bool:
        """Whether all of it has run on the device, and was right."""
        return all(choice.measured and choice.measured.seconds for choice in self.kernels.values())


class Joint(Protocol):
    """Two kernels that may be one launch, and what that is called."""

    @property
    def kernel(self) -> str: ...
    @property
    def first(self) -> str: ...
    @property
    def second(self) -> str: ...


class TooLarge(ValueError):
    """No configuration of a kernel fits the shared memory of a processor."""


def choose(
    works: Mapping[str, Work],
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int | None = None,
    findings: Mapping[str, Findings] | None = None,
    walks: Joint | None = None,
) -> Tiling:
    """The tiling that costs least; `sizes` by axis, `size`: bytes of an entry of a vector.

    With `chunk`, of those for chunks of that many tokens. `findings`: what is known of kernels, by name;
    where times are known of all kernels, only what was measured is compared, each a launch of its own.
    `walks`: two kernels that otherwise may be one launch, which has a choice of its own if it fits as well as
    they do. Raises TooLarge.
    """
    known = findings or {}
    found: list[Tiling] = []
    reason = TooLarge("no kernels")
    for tokens in (chunk,) if chunk else CHUNKS:
        try:
            each = {
                name: best(work, sizes, size, hardware, tokens, known.get(name, {}))
                for name, work in works.items()
            }
        except TooLarge as error:
            reason = error
        else:
            found.append(Tiling(tokens, each))
    if not found:
        raise reason
    measured = [tiling for tiling in found if tiling.measured]
    if measured:
        return min(measured, key=lambda tiling: tiling.seconds)
    tightest = min(tiling.excess for tiling in found)
    fitting = [tiling for tiling in found if tiling.excess == tightest]
    least = min(tiling.seconds for tiling in fitting)
    near = [tiling for tiling in fitting if tiling.seconds <= CLOSE * least]
    least_bytes = min(near, key=lambda tiling: (tiling.memory, tiling.seconds))
    if walks is None:
        return least_bytes
    first, second = walks.first, walks.second
    both = together(
        *((works[first], works[second]), sizes, size, hardware, least_bytes.chunk),
        (known.get(first, {}), known.get(second, {})),
    )
    kernels = least_bytes.kernels
    if both is None or both.excess > max(kernels[first].excess, kernels[second].excess):
        return least_bytes
    return least_bytes._replace(kernels={**kernels, walks.kernel: both})


def longest(works: Mapping[str, Work], sizes: Mapping[str, int], size: int, hardware: Hardware) -> int:
    """The most tokens of a chunk that fit the shared memory of a processor; 0 if none do."""
    fitting = [0]
    for tokens in CHUNKS:
        with suppress(TooLarge):
            fitting.append(choose(works, sizes, size, hardware, tokens).chunk)
    return max(fitting)


def candidates(work: Work, sizes: Mapping[str, int], chunk: int) -> Iterator[Configuration]:
    """All configurations of a kernel, for chunks of that many tokens."""
    tiles: Iterable[int] = (0,)
    if work.tiled:
        tiles = [tile for tile in TILES if tile == TILES[0] or tile < 2 * sizes[work.tiled]]
    for tile in tiles:
        for warps in WARPS:
            for stages in STAGES if work.serial else STAGES[:1]:
                yield Configuration(chunk, tile, warps, stages)


def ranked(
    work: Work, sizes: Mapping[str, int], size: int, hardware: Hardware, chunk: int, findings: Findings
) -> list[Choice]:
    """The candidates that fit the shared memory, the best first: those that fit the registers, by time,
    then those that fit them least badly.

    Raises TooLarge if there is none.
    """
    found: list[tuple[int, float, Choice]] = []
    dropped = {"registers": 0, "shared memory": 0}
    wrong = {each for each, said in findings.items() if said.wrong}
    known = {each: said for each, said in findings.items() if each.chunk == chunk and each not in wrong}
    for configuration in known or candidates(work, sizes, chunk):
        if configuration in wrong:
            continue
        choice = judged(work, sizes, size, hardware, configuration, known.get(configuration))
        if choice.need.shared > hardware.shared_program:
            dropped["shared memory"] += 1
            continue
        dropped["registers"] += not choice.fits
        found.append((math.ceil(choice.excess / STEP), choice.seconds, choice))
    if not found:
        raise TooLarge(f"chunks of {chunk} tokens do not fit the shared memory of {hardware.name}")
    counts = tuple(dropped.items())
    return [choice._replace(dropped=counts) for *_, choice in sorted(found)]


def judged(
    work: Work,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    configuration: Configuration,
    said: Measured | None,
) -> Choice:
    """What a configuration needs and takes; `said`: what a compiler made of it, if that is known."""
    tiles = extents(work, sizes, configuration, size)
    needs = need(work, tiles, configuration, hardware, size)
    if said:
        needs = Need(said.registers, said.shared)
    spent = times(work, sizes, configuration, needs, hardware, size)
    left = excess(work, needs, said, configuration, hardware)
    return Choice(configuration, needs, spent, (), said, left)


def together(
    works: tuple[Work, Work],
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int,
    findings: tuple[Findings, Findings],
) -> Choice | None:
    """How two kernels that are one launch run: in one configuration, which fits both, best of those that a
    compiler has seen for both. None if none fits the shared memory.
    """
    found: list[tuple[int, int, float, Choice]] = []
    for configuration in candidates(works[0], sizes, chunk):
        said = [each.get(configuration) for each in findings]
        if any(known and known.wrong for known in said):
            continue
        one, other = (
            judged(work, sizes, size, hardware, configuration, known)
            for work, known in zip(works, said, strict=True)
        )
        choice = _both(one, other)
        if choice.need.shared <= hardware.shared_program:
            order = math.ceil(choice.excess / STEP), said.count(None)
            found.append((*order, choice.times.seconds, choice))
    return min(found)[-1] if found else None


def _both(one: Choice, other: Choice) -> Choice:
    """Two kernels in one configuration: each program is of one or of the other."""
    measured = None
    if one.measured and other.measured:
        registers, stack, shared = map(max, one.measured[:3], other.measured[:3])
        measured = Measured(registers, stack, shared)
    need = Need(*map(max, one.need, other.need))
    spent = Times(*map(sum, zip(one.times, other.times, strict=True)))
    return Choice(one.configuration, need, spent, (), measured, max(one.excess, other.excess))


def best(
    work: Work, sizes: Mapping[str, int], size: int, hardware: Hardware, chunk: int, findings: Findings
) -> Choice:
    """The first of `ranked`."""
    return ranked(work, sizes, size, hardware, chunk, findings)[0]


def plausible(choices: Iterable[Choice]) -> list[Choice]:
    """The choices whose estimate is not far from what there is, in the order of their times; where there is
    none, the least far.
    """
    by_excess = sorted(choices, key=lambda choice: choice.excess)
    near = [choice for choice in by_excess if choice.excess <= NEAR]
    return sorted(near, key=lambda choice: choice.times.seconds) or by_excess[:1]


def excess(
    work: Work, needs: Need, said: Measured | None, configuration: Configuration, hardware: Hardware
) -> float:
    """How many registers of a thread do not fit; none where its time was measured, which counts."""
    if said and said.seconds is not None:
        return 0.0
    spilled = said.stack / 4 if said else max(0, needs.registers - limit(configuration, hardware))
    return max(0.0, spilled - (STACK_SERIAL if work.serial else STACK) / 4)


def limit(configuration: Configuration, hardware: Hardware) -> int:
    """The registers that a thread may have."""
    each = hardware.registers // (configuration.warps * hardware.lanes)
    return min(hardware.thread_registers, each)
