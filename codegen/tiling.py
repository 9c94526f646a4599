"""The one choice of how kernels run: tokens in a chunk, chunks that a state is kept for, tiles, warps and
stages, by cost under constraints.

Candidates that do not fit the registers of a thread, or the shared memory of a processor, are dropped; of the
others the one that is estimated to take the least time is taken: what it moves through memory and through
the cache, its matrix products, and the chain of what waits for each other, the longest of which counts. What
compilers made of a configuration (`measured`) goes before the estimate of what it needs. The choice depends
on the sizes of axes, not on those of the batch: no head count and no length compiles anything anew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol, TypeVar

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.resources import Configuration, Need, cover, extents, need
from rnnc.codegen.tiling_record import (
    NOTHING,
    STEP,
    Choice,
    Findings,
    Joint,
    Measured,
    Pair,
    Tiling,
    TooLarge,
)
from rnnc.codegen.times import bytes_moved, times
from rnnc.codegen.work import Work

CHUNKS = (16, 32, 64, 128, 256)
SPACINGS = (1, 2, 4)
STANDS = 2  # a spacing: what compilers make of a kernel for it stands for larger ones
TILES = (16, 32, 64, 128)
WARPS = (4, 8, 16)
STAGES = (1, 2, 3)
# Bytes of registers in memory that are let pass: none where every chunk waits for them.
STACK, STACK_SERIAL = 64, 0
CLOSE = 1.4  # times within this factor are alike: then what moves fewer bytes is taken
NEAR = 48  # registers: an estimate that is not off by more may be wrong


NO_OTHERS: Mapping[str, Mapping[str, Work]] = MappingProxyType({})


class InChunks(Protocol):
    """What says how many tokens a chunk has."""

    @property
    def chunk(self) -> int: ...


Chunked = TypeVar("Chunked", bound=InChunks)


def choose(
    works: Mapping[str, Work],
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int | None = None,
    findings: Mapping[str, Findings] | None = None,
    joints: Iterable[Joint] = (),
    spacing: int | None = None,
    others: Mapping[str, Mapping[str, Work]] = NO_OTHERS,
) -> Tiling:
    """The tiling that costs least; `sizes` by axis, `size`: bytes of an entry of a vector.

    With `chunk`, of those for chunks of that many tokens, with `spacing`, of those with a state for so many
    chunks, where it need not be kept for each. `findings`: what is known of kernels, by name: only what
    compilers have seen is compared where they have seen any for all kernels; where times are known of all,
    only what was measured, each a launch of its own.
    `joints`: kernels that otherwise may be one launch, and are if that fits as well as they do. `others`: by
    cut, all kernels where the forward pass is cut in another way. Raises TooLarge.
    """
    known = findings or {}
    found: list[Tiling] = []
    reasons: list[TooLarge] = []
    every = {"": works, **others}
    for tokens, (cut, kernels) in itertools.product((chunk,) if chunk else CHUNKS, every.items()):
        for chunks in spacings(kernels.values(), spacing):
            try:
                each = {
                    name: best(work, sizes, size, hardware, tokens, known.get(name, {}), chunks)
                    for name, work in kernels.items()
                }
            except TooLarge as error:
                reasons.append(error)
            else:
                found.append(Tiling(tokens, chunks, each, cut=cut))
    if not found:
        raise reasons[0]  # of the shortest chunk
    measured = [tiling for tiling in found if tiling.measured]
    if measured:
        least = min(measured, key=lambda tiling: tiling.seconds)
    else:
        least = least_bytes([tiling for tiling in found if tiling.compiled] or found)
    joined = {}
    for joint in joints:
        if not {joint.first, joint.second} <= set(least.kernels):
            continue
        pair = _as_one(joint, least, every[least.cut], sizes, size, hardware, known)
        if pair:
            joined[joint.kernel] = pair
    return least._replace(joined=joined)


def suiting(length: int, choice: Callable[[int | None], Chunked]) -> Chunked:
    """The choice for sequences of that length: they need no longer chunk than what covers them.

    `choice`: that for chunks of so many tokens, or of as many as cost least for long sequences.
    """
    found = choice(None)
    return found if found.chunk <= cover(length) else choice(cover(length))


def least_bytes(tilings: Sequence[Tiling]) -> Tiling:
    """Of those that are nearest to fitting and take about the least time, what moves the fewest bytes."""
    tightest = min(tiling.excess for tiling in tilings)
    fitting = [tiling for tiling in tilings if tiling.excess == tightest]
    seconds = min(tiling.seconds for tiling in fitting)
    near = [tiling for tiling in fitting if tiling.seconds <= CLOSE * seconds]
    return min(near, key=lambda tiling: (tiling.memory, tiling.seconds))


def spacings(works: Collection[Work], spacing: int | None = None) -> tuple[int, ...]:
    """For how many chunks a state may be kept: for each, if no kernel can form one anew, or if one reads at
    the end of a chunk the state that it was in.
    """
    if any(work.crowded for work in works) or not any(work.walks for work in works):
        return (1,)
    return (spacing,) if spacing else SPACINGS


def longest(works: Mapping[str, Work], sizes: Mapping[str, int], size: int, hardware: Hardware) -> int:
    """The most tokens of a chunk that fit the shared memory of a processor; 0 if none do."""
    fitting = [0]
    for tokens in CHUNKS:
        with suppress(TooLarge):
            fitting.append(choose(works, sizes, size, hardware, tokens).chunk)
    return max(fitting)


def candidates(work: Work, sizes: Mapping[str, int], chunk: int, spacing: int = 1) -> Iterator[Configuration]:
    """All configurations of a kernel, for chunks of that many tokens and so many chunks to a state."""
    tiles: Iterable[int] = (0,)
    if work.tiled:
        tiles = [tile for tile in TILES if tile == TILES[0] or tile < 2 * sizes[work.tiled]]
    for tile in tiles:
        for warps in WARPS:
            for stages in STAGES if work.serial else STAGES[:1]:
                yield Configuration(chunk, tile, warps, stages, spacing if work.spaced else 1)


def ranked(
    work: Work,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int,
    findings: Findings,
    spacing: int = 1,
) -> list[Choice]:
    """The candidates that fit the shared memory, the best first: those that fit the registers, by time,
    then those that fit them least badly.

    Raises TooLarge if there is none.
    """
    found: list[tuple[int, float, Choice]] = []
    dropped = {"registers": 0, "shared memory": 0}
    known = _known(work, chunk, findings, spacing)
    wrong = {each for each, said in known.items() if said.wrong}
    known = {each: said for each, said in known.items() if each not in wrong}
    for configuration in known or candidates(work, sizes, chunk, spacing):
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


def _known(work: Work, chunk: int, findings: Findings, spacing: int) -> dict[Configuration, Measured]:
    """What is known of a kernel for chunks of that many tokens and so many chunks to a state: where compilers
    have not seen that spacing, what they made of the one that stands for it.
    """
    own, like = spacing if work.spaced else 1, compiled_for(work, spacing)
    here = {each: said for each, said in findings.items() if each.chunk == chunk}
    known = {each: said for each, said in here.items() if each.spacing == own}
    if any(said.seconds is None and not said.wrong for said in known.values()):
        return known
    alike = {each: said for each, said in here.items() if each.spacing == like and said.seconds is None}
    return {each._replace(spacing=own): said for each, said in alike.items()} | known


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
    through = bytes_moved(work, sizes, configuration, size)
    return Choice(configuration, needs, spent, (), said, left, through)


def _as_one(
    joint: Joint,
    apart: Tiling,
    works: Mapping[str, Work],
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    known: Mapping[str, Findings],
) -> Pair | None:
    """How two kernels run as one launch; None if they are better apart, or if less is known of it."""
    names = joint.first, joint.second
    two = [(works[name], known.get(name, NOTHING), apart.kernels[name]) for name in names]
    said = known.get(joint.kernel, NOTHING)
    if apart.measured:
        said = {how: what for how, what in said.items() if what.seconds is not None}
    found = together(two, joint.beside, sizes, size, hardware, apart.chunk, apart.spacing, said)
    if not found:
        return None
    pair, each = found[0], [apart.kernels[name] for name in names]
    seen = _seen(said, as_one((pair[0].configuration, pair[1].configuration), joint.beside))
    if apart.measured:
        return pair if seen and seen.seconds and seen.seconds <= sum(one.seconds for one in each) else None
    if seen is None and all(one.measured for one in each):
        return None
    return pair if _misfit(pair) <= _misfit(each) else None


def together(
    kernels: Sequence[tuple[Work, Findings, Choice]],
    beside: bool,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int,
    spacing: int = 1,
    said: Findings = NOTHING,
) -> list[Pair]:
    """How two kernels that are one launch may run, the best first: `beside` each other in one configuration;
    in turn, with as many warps, in tiles no larger than they have apart, as each holds a little of the
    other's. Nothing if none fits the shared memory.

    Of each kernel: what it does, what is known of it, its choice when it is apart. What is `said` of the two
    as one launch, if anything is for chunks of that length, goes before what is known of each.
    """
    found: list[tuple[int, int, float, Pair]] = []
    works = [work for work, *_ in kernels]
    each = [
        [
            judged(work, sizes, size, hardware, how, _seen(known, how))
            for how in candidates(work, sizes, chunk, spacing)
            if beside or how.tile <= apart.configuration.tile
        ]
        for work, known, apart in kernels
    ]
    own = spacing if any(work.spaced for work in works) else 1
    here = any(
        how.chunk == chunk and how.spacing in (own, min(own, STANDS)) and not what.wrong
        for how, what in said.items()
    )
    for one, other in itertools.product(*each):
        alike = (c.configuration._replace(spacing=1) for c in (one, other))
        if len({*alike} if beside else {one.configuration.warps, other.configuration.warps}) > 1:
            continue
        what = _seen(said, as_one((one.configuration, other.configuration), beside))
        if what:
            one, other = (
                judged(work, sizes, size, hardware, choice.configuration, what)
                for work, choice in zip(works, (one, other), strict=True)
            )
        elif here or any(choice.measured and choice.measured.wrong for choice in (one, other)):
            continue
        pair = one, other
        fits = max(choice.need.shared for choice in pair) <= hardware.shared_program
        if fits and not (what and what.wrong):
            unseen = sum(choice.measured is None for choice in pair)
            seconds = what.seconds if what and what.seconds else sum(c.times.seconds for c in pair)
            found.append((_misfit(pair), unseen, seconds, pair))
    return [pair for *_, pair in sorted(found)]


def as_one(pair: tuple[Configuration, Configuration], beside: bool) -> Configuration:
    """What stands for the configurations of two kernels that are one launch."""
    one, other = pair
    return one._replace(spacing=max(one.spacing, other.spacing), second=0 if beside else other.tile)


def _seen(said: Findings, how: Configuration) -> Measured | None:
    """What is said of a configuration, or by compilers of what is the same to them."""
    like = said.get(how._replace(spacing=min(how.spacing, STANDS)))
    return said.get(how) or (like if like and like.seconds is None else None)


def _misfit(choices: Iterable[Choice]) -> int:
    """How far the worst of them is from fitting, in steps."""
    return max(math.ceil(choice.excess / STEP) for choice in choices)


def compiled_for(work: Work, spacing: int) -> int:
    """What stands for a spacing until compilers have seen it: they make nearly the same of a kernel for all
    powers of two above 1, but for the stack of some gradient kernels.
    """
    return min(spacing, STANDS) if work.spaced else 1


def best(
    work: Work,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    chunk: int,
    findings: Findings,
    spacing: int = 1,
) -> Choice:
    """The first of `ranked`."""
    return ranked(work, sizes, size, hardware, chunk, findings, spacing)[0]


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
