"""Time halved again and again: decays between all pairs of tokens, without a difference or a division.

In every block of 2h tokens, h = C/2, ..., 2, 1, the pairs of the upper half with the lower half factor at the
cut between the halves,

    F[i,j] = row[i] column[j],    row[i] = prod_{cut <= t <= i} D[t],    column[j] = prod_{j < t < cut} D[t],

so that a level is one batched product. Rows are prefixes of the upper halves, columns suffixes of the lower
ones; those in blocks of 2h tokens come from those in blocks of h and from the totals of these. The decays are
multiplied, or their logarithms added. Nothing depends on a token after i.

A chunk is [..., C, K], C a power of two; level l has blocks of 2h tokens, h = 2^l.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# The halves of a block: columns are in the lower, rows in the upper one.
LOWER = 0
UPPER = 1

# torch.add for logarithms, torch.mul for decays; torch.addcmul where gradients are collected.
Merge = Callable[..., Tensor]


class Factors(NamedTuple):
    """What decays contribute to the pairs of a chunk, computed once for all products over these pairs."""

    rows: tuple[Tensor, ...]  # per level, [..., C/2h, h, K]: from the cut to i
    columns: tuple[Tensor, ...]  # per level, [..., C/2h, h, K]: from j to the cut
    totals: tuple[Tensor, ...]  # per level, [..., C/h, K]: of the halves; empty where logarithms were summed
    exclusive: bool  # the rows end one token earlier, before i

    @property
    def tokens(self) -> int:
        """The number of tokens in the chunk."""
        return 2 ** len(self.rows)

    def levels(self) -> list[tuple[int, Tensor, Tensor]]:
        """h, rows and columns, the narrowest blocks first."""
        sides = zip(self.rows, self.columns, strict=True)
        return [(2**level, row, column) for level, (row, column) in enumerate(sides)]


def half(x: Tensor, h: int, side: int) -> Tensor:
    """One half of every block, a view: [..., C, K] -> [..., C/2h, h, K]."""
    return x.unflatten(-2, (x.shape[-2] // (2 * h), 2, h)).select(-3, side)


def cross(a: Tensor, h: int, width: int | None = None) -> Tensor:
    """The pairs of the upper with the lower half of every block, a view: [..., C, C] -> [..., C/2h, h, h].

    Where rows or columns are several for a token, h rows and `width` columns are half a block.
    """
    width = h if width is None else width
    upper = a.unflatten(-2, (a.shape[-2] // (2 * h), 2, h)).select(-3, UPPER)  # [..., C/2h, h, C]
    lower = upper.unflatten(-1, (a.shape[-1] // (2 * width), 2, width)).select(-2, LOWER)
    return lower.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def own(a: Tensor, tokens: int) -> Tensor:
    """The pairs of every token with itself, a view: [..., C * n, C * m] -> [..., C, n, m]."""
    blocks = a.unflatten(-1, (tokens, a.shape[-1] // tokens)).unflatten(-3, (tokens, a.shape[-2] // tokens))
    return blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def repeat(x: Tensor, n: int) -> Tensor:
    """Every token of [..., h, K] n times in a row: [..., h * n, K]."""
    return x if n == 1 else x.repeat_interleave(n, -2)


def merge_half(x: Tensor, h: int, side: int, merge: Merge, *values: Tensor) -> Tensor:
    """x, a temporary of the caller, with values merged into one half of every block."""
    if not torch.is_grad_enabled():  # in place takes a quarter of the time, and happens at every level
        part = half(x, h, side)
        merge(part, *values, out=part)
        return x
    halves = [half(x, h, LOWER), half(x, h, UPPER)]
    halves[side] = merge(halves[side], *values)
    return torch.stack(halves, -3).flatten(-4, -2)


def sum_tokens(x: Tensor) -> Tensor:
    """x.sum(-2). Over few tokens torch's own takes up to five times as long as additions."""
    if x.shape[-2] > 4:
        return x.sum(-2)
    total = x[..., 0, :]
    for token in x.unbind(-2)[1:]:
        total = total + token
    return total


def level_count(tokens: int) -> int:
    """log2 of the number of tokens. Raises ValueError if that is no whole number."""
    if tokens < 1 or tokens & (tokens - 1):
        raise ValueError(f"a chunk has a power of two tokens, not {tokens}")
    return tokens.bit_length() - 1


def half_totals(x: Tensor, merge: Merge) -> list[Tensor]:
    """Totals of the halves at each level, [..., C/h, K]; x itself at the first, even for one token."""
    totals = [x]
    for _ in range(1, level_count(x.shape[-2])):
        totals.append(merge(totals[-1][..., 0::2, :], totals[-1][..., 1::2, :]))
    return totals


def beyond(total: Tensor, side: int) -> Tensor:
    """For one half of every block, the total of its other half: [..., C/h, K] -> [..., C/2h, 1, K]."""
    return total[..., 1 - side :: 2, :].unsqueeze(-2)


def running(totals: Sequence[Tensor], merge: Merge, side: int, exclusive: bool) -> Iterator[Tensor]:
    """Prefixes (side UPPER) or suffixes (LOWER) in blocks of 1, 2, 4, ..., C tokens, each [..., C, K].

    An array holds until the next is asked for: it may grow in place.
    """
    x = totals[0]
    neutral = 1.0 if merge is torch.mul else 0.0
    values = torch.full_like(x, neutral) if exclusive else x.clone(memory_format=torch.contiguous_format)
    yield values
    for level in range(level_count(x.shape[-2])):
        values = merge_half(values, 2**level, side, merge, beyond(totals[level], side))
        yield values


def make_factors(x: Tensor, merge: Merge, exclusive: bool, finish: Callable[[Tensor], Tensor]) -> Factors:
    """The factors of the pairs; `finish` makes a new array of each prefix or suffix."""
    totals = half_totals(x, merge)
    counts = range(level_count(x.shape[-2]))  # the running values of the whole chunk are not asked for
    prefixes = zip(counts, running(totals, merge, UPPER, exclusive), strict=False)
    rows = tuple(finish(half(prefix, 2**level, UPPER)) for level, prefix in prefixes)
    suffixes = zip(counts, running(totals, merge, LOWER, True), strict=False)
    columns = tuple(finish(half(suffix, 2**level, LOWER)) for level, suffix in suffixes)
    return Factors(rows, columns, tuple(totals) if merge is torch.mul else (), exclusive)


class DecayGradient:
    """The adjoint of `make_factors`: takes the gradients of rows and columns, the widest blocks first."""

    def __init__(self, zero: Tensor, factors: Factors | None) -> None:
        """`zero` is [..., C, K]; the factors are None where logarithms were summed."""
        self.prefix, self.suffix = zero.clone(), zero.clone()
        self.total = zero[..., :1, :]
        self.factors = factors if factors and factors.totals else None

    def descend(self, h: int, drow: Sequence[Tensor], dcolumn: Sequence[Tensor]) -> None:
        """From gradients of prefixes, suffixes and totals in blocks of 2h tokens to those in blocks of h.

        A prefix in an upper half has the lower half's total merged in, a suffix in a lower half the upper's.
        The gradients of rows and columns are given as two factors each.
        """
        dprefix, dsuffix = half(self.prefix, h, UPPER), half(self.suffix, h, LOWER)
        if self.factors is None:
            lower, upper = self.total + sum_tokens(dprefix), self.total + sum_tokens(dsuffix)
        else:
            row, column, total = (part[h.bit_length() - 1] for part in self.factors[:3])
            lower = self.total * total[..., 1::2, :] + sum_tokens(dprefix * row)
            upper = self.total * total[..., 0::2, :] + sum_tokens(dsuffix * column)
            self.prefix = merge_half(self.prefix, h, UPPER, torch.mul, beyond(total, UPPER))
            self.suffix = merge_half(self.suffix, h, LOWER, torch.mul, beyond(total, LOWER))
        self.prefix = merge_half(self.prefix, h, UPPER, torch.addcmul, *drow)
        self.suffix = merge_half(self.suffix, h, LOWER, torch.addcmul, *dcolumn)
        self.total = torch.stack((lower, upper), -2).flatten(-3, -2)

    def result(self, exclusive: bool) -> Tensor:
        """The gradient of the decays [..., C, K], after the last level."""
        return self.total if exclusive else self.total + self.prefix
