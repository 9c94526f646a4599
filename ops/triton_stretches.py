"""Sequences in stretches, walked beside each other: where stretches begin, and what is launched for them.

Each stretch is walked twice: once from zero for what it adds to the state, writing nothing else, and again
from the state at its start, which `combine` finds in between from what the stretches make of the state. To
the kernels that walk the chunks, stretches are packed sequences; chunks are numbered as without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnc.codegen.resources import Configuration, cover

MAP = "@M"  # among the arrays of a call: what each stretch makes of the incoming state
COMBINED = (64, 32)  # entries of K and of V that `combine` works on at a time


class Split(NamedTuple):
    """`parts` stretches of each sequence, of all together where they are packed, which may leave one more to
    each; how the kernel runs that forms what they make of the state, by its name.
    """

    parts: int
    configurations: Mapping[str, Configuration]


WHOLE = Split(1, {})


class Tables(NamedTuple):
    """Where the stretches lie. `bounds` [stretches + 1]: their first tokens, in the order of memory; `chunks`
    [stretches]: the number of the first chunk of each; `offsets` [N + 1]: of stretches before each sequence.
    """

    stretches: int
    bounds: Tensor
    chunks: Tensor
    offsets: Tensor


def tables(bounds: Tensor, total: int, count: int, length: int, chunk: int, reverse: bool) -> Tables:
    """Of sequences with the limits `bounds` [N + 1], in stretches of `length` tokens, a multiple of a chunk;
    there are at most `count`, and those beyond are empty.

    Made on the device. `total`: tokens of all sequences.
    """
    each = (bounds.diff() + length - 1) // length
    ends = each.cumsum(0)
    index = torch.arange(count, device=bounds.device)
    sequence = torch.searchsorted(ends, index, right=True)
    exists, sequence = sequence < each.shape[0], sequence.clamp(max=each.shape[0] - 1)
    place = index - (ends - each)[sequence]
    number = each[sequence] - 1 - place if reverse else place
    first, last = bounds[:-1][sequence], bounds[1:][sequence]
    starts = torch.maximum(first, last - (number + 1) * length) if reverse else first + number * length
    chunks = (bounds.diff() + chunk - 1) // chunk
    before = (chunks.cumsum(0) - chunks)[sequence] + number * (length // chunk)
    starts = torch.where(exists, starts, total)
    return Tables(
        count,
        torch.cat([starts, torch.full_like(starts[:1], total)]),
        torch.where(exists, before, 0),
        torch.cat([torch.zeros_like(ends[:1]), ends]),
    )


def split_tables(
    bounds: Tensor | None,
    batch: int,
    length: int,
    chunk: int,
    count: int,
    reverse: bool,
    device: torch.device,
) -> Tables:
    """Of a call: `batch` sequences of that length in `count` stretches each, or packed ones, of that length
    together, in as many together and one more for each.
    """
    chunks = -(-length // chunk)
    tokens = -(-chunks // count) * chunk
    if bounds is None:
        each = -(-length // tokens)
        equal = torch.arange(batch + 1, device=device) * length
        return tables(equal, batch * length, batch * each, tokens, chunk, reverse)
    return tables(bounds, length, length // tokens + bounds.shape[0] - 1, tokens, chunk, reverse)


def combined(
    module: Any,
    found: Tables,
    arrays: Mapping[str, Tensor],
    summaries: Tensor,
    start: Tensor | None,
    end: Tensor | None,
    back: bool,
    reverse: bool,
    precision: str,
    options: Mapping[str, Any],
) -> Tensor:
    """The state at the start of every stretch [stretches, H, K, V], given what each adds to the state, of
    that shape, and the states [N, H, K, V] at the start of the sequences, if any; `end` takes those at their
    ends.

    `back`: of the gradients, from the last stretch to the first.
    """
    _, heads, *axes = summaries.shape
    key, value = reversed(axes) if module.RIGHT else axes
    starts = torch.empty_like(summaries)
    tile = min(COMBINED[1], cover(value))
    sequences = found.offsets.shape[0] - 1
    module.combine[(-(-value // tile) * sequences * heads,)](
        m=arrays.get(MAP),
        n=summaries,
        h0=summaries if start is None else start,
        ht=summaries if end is None else end,
        starts=starts,
        offsets=found.offsets,
        H=heads,
        K=key,
        V=value,
        BK=min(COMBINED[0], cover(key)),
        BV=tile,
        HAS_START=start is not None,
        HAS_END=end is not None,
        BACK=back,
        DOWN=back != reverse,
        SCALING=module.SCALING,
        RIGHT=module.RIGHT,
        PRECISION=precision,
        **options,
    )
    return starts
