"""Tile operations of one chunk, in torch: running sums, decays between tokens, the triangular inverse.

Time is an axis of C tokens, a power of two where tokens are paired, and K is the key axis; all axes before these are
batch axes and broadcast. Decays come as logarithms to base 2 (`g`, at most 0; -inf is a reset) or as themselves
(`d`, of any sign; 0 is a reset). In the pair (i, j), j <= i, token i reads what token j wrote:

    segment_sum   L[i,j] = sum_{j < t <= i} g[t]
    path          T[i,j] = prod_{j < t <= i} d[t]
    decay_dot     A[i,j] = sum_k x[i,k] y[j,k] F[i,j,k]         F = 2^L or T, one for every k
      _rows       R[i,k] = sum_j m[i,j] y[j,k] F[i,j,k]
      _columns    R[j,k] = sum_i m[i,j] x[i,k] F[i,j,k]
      _decay      R[t,k] = the derivative of sum m * A by g[t,k] or d[t,k]
    inverse       (I - P)^-1, P strictly lower triangular

`exclusive` ends the interval one token earlier (t <= i - 1: what i reads is the state before it) and takes only pairs
with j < i; `strict` leaves out j = i. Pairs left out are 0, in `segment_sum` -inf.

No exponent is a difference of running sums, nothing is divided by a decay, and no factor of a pair depends on a token
after it. Instead time is halved again and again. In every block of 2h tokens, h = C/2, ..., 1, the pairs of the upper
with the lower half factor at the cut between them,

    F[i,j] = row[i] column[j],      row[i] = prod_{cut <= t <= i} D[t],      column[j] = prod_{j < t < cut} D[t],

so that a level is one batched matrix product. Prefixes (row) and suffixes (column) in blocks of 2h tokens come from
those in blocks of h and from the blocks' totals. Hence one g = -1000 among weak ones costs no accuracy, a reset gives
exact zeros, and the derivative at D = 0 is exact.

Where a choice was made for speed, times are in units of the product [256, 64, 128] @ [256, 128, 64] in float32 on a
CPU; a pass over such an operand takes 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LOWER, UPPER = 0, 1  # the halves of a block: columns are in the lower, rows in the upper
Merge = Callable[..., Tensor]  # torch.add for logarithms, torch.mul for the decays themselves; addcmul in adjoints
Direction = Literal["prefix", "suffix"]
LN2 = math.log(2.0)
LOG2E = 1.0 / LN2
LEAF = 16  # the triangular inverse's blocks up to this size are merged as one product per level


# Running sums, rows of micro-steps --------------------------------------------------------------------------


def prefix_sum(x: Tensor, dim: int, exclusive: bool = False) -> Tensor:
    """Sums of x over the tokens up to each token, along `dim`; `exclusive`: before it."""
    # torch accumulates in float64 here (0.4; a product with a triangle of ones takes 0.8 and makes NaN of -inf).
    total = x.cumsum(dim)
    if not exclusive:
        return total
    zero = torch.zeros_like(x.narrow(dim, 0, 1))
    return torch.cat((zero, total.narrow(dim, 0, x.shape[dim] - 1)), dim)


def suffix_sum(x: Tensor, dim: int, exclusive: bool = False) -> Tensor:
    """Sums of x over the tokens from each token on, along `dim`; `exclusive`: after it."""
    return prefix_sum(x.flip(dim), dim, exclusive).flip(dim)


def rows(x: Tensor, dim: int, n: int) -> Tensor:
    """Every token of axis `dim` n times in a row: C tokens become C * n rows."""
    return interleave([x] * n, dim)


def interleave(parts: Sequence[Tensor], dim: int) -> Tensor:
    """The n parts as n rows per token: axis `dim` of C tokens becomes C * n rows, a token's rows together."""
    axis = dim % parts[0].ndim
    return torch.stack(tuple(parts), axis + 1).flatten(axis, axis + 1)


def deinterleave(x: Tensor, dim: int, n: int) -> tuple[Tensor, ...]:
    """The n parts that `interleave` put together."""
    axis = dim % x.ndim
    return x.unflatten(axis, (x.shape[axis] // n, n)).unbind(axis + 1)


# Blocks, halves, totals -------------------------------------------------------------------------------------


def _half(x: Tensor, h: int, side: int) -> Tensor:
    """One half of every block of 2h tokens, a view: [..., C, K] -> [..., C/2h, h, K]."""
    return x.unflatten(-2, (x.shape[-2] // (2 * h), 2, h)).select(-3, side)


def _cross(a: Tensor, h: int) -> Tensor:
    """The pairs (upper, lower half) of every block of 2h tokens, a view: [..., C, C] -> [..., C/2h, h, h]."""
    shape = (a.shape[-1] // (2 * h), 2, h)
    upper = a.unflatten(-2, shape).select(-3, UPPER)  # [..., C/2h, h, C]
    return upper.unflatten(-1, shape).select(-2, LOWER).diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def _merge_half(x: Tensor, h: int, side: int, merge: Merge, *values: Tensor) -> Tensor:
    """x, a temporary of the caller, with values merged into one half of every block of 2h tokens."""
    if not torch.is_grad_enabled():  # in place 0.03, by copies 0.13: it happens at every level
        half = _half(x, h, side)
        merge(half, *values, out=half)
        return x
    halves = [_half(x, h, LOWER), _half(x, h, UPPER)]
    halves[side] = merge(halves[side], *values)
    return torch.stack(halves, -3).flatten(-4, -2)


def _levels(tokens: int) -> int:
    if tokens < 1 or tokens & (tokens - 1):
        raise ValueError(f"a chunk has a power of two tokens, not {tokens}")
    return tokens.bit_length() - 1


def _totals(x: Tensor, merge: Merge) -> list[Tensor]:
    """Totals of the blocks of h = 1, 2, ..., C/2 tokens, each [..., C/h, K]."""
    totals = [x]
    for _ in range(1, _levels(x.shape[-2])):
        totals.append(merge(totals[-1][..., 0::2, :], totals[-1][..., 1::2, :]))
    return totals


def _beyond(total: Tensor, side: int) -> Tensor:
    """For one half of every block, the total of the other half: [..., C/h, K] -> [..., C/2h, 1, K]."""
    return total[..., 1 - side :: 2, :].unsqueeze(-2)


def _running(totals: Sequence[Tensor], merge: Merge, side: int, exclusive: bool) -> Iterator[Tensor]:
    """Prefixes (for the UPPER side) or suffixes (LOWER) in blocks of 1, 2, 4, ..., C tokens, each [..., C, K].

    An array holds until the next is asked for: it may grow in place.
    """
    x = totals[0]
    neutral = 1.0 if merge is torch.mul else 0.0
    running = torch.full_like(x, neutral) if exclusive else x.clone(memory_format=torch.contiguous_format)
    yield running
    for level in range(_levels(x.shape[-2])):
        running = _merge_half(running, 2**level, side, merge, _beyond(totals[level], side))
        yield running


# Running products -------------------------------------------------------------------------------------------


def running_product(d: Tensor, dim: int, direction: Direction = "prefix", exclusive: bool = False) -> Tensor:
    """Products of d over the tokens up to (suffix: from) each token along `dim`, itself left out if `exclusive`."""
    if direction == "suffix":
        return running_product(d.flip(dim), dim, "prefix", exclusive).flip(dim)
    *_, product = _running(_totals(_keyed(d, dim), torch.mul), torch.mul, UPPER, exclusive)
    return _unkeyed(product, d, dim)


def running_product_grad(
    d: Tensor, grad: Tensor, dim: int, direction: Direction = "prefix", exclusive: bool = False
) -> Tensor:
    """Gradient of d from that of `running_product`: without division, so exact where d is 0."""
    if direction == "suffix":
        return running_product_grad(d.flip(dim), grad.flip(dim), dim, "prefix", exclusive).flip(dim)
    # dd[t] = P[t-1] after[t], after[t] = sum_{i >= t} F[i,t] dP[i] (exclusive: i > t, and F without d[i])
    x = _keyed(grad, dim)
    after = torch.zeros_like(x) if exclusive else x.clone()
    f = product_factors(_keyed(d, dim), exclusive)
    for level, (row, column) in enumerate(zip(f.rows, f.columns, strict=True)):
        later = _sum_tokens(_half(x, 2**level, UPPER) * row).unsqueeze(-2)
        after = _merge_half(after, 2**level, LOWER, torch.addcmul, column, later)
    return running_product(d, dim, "prefix", True) * _unkeyed(after, grad, dim)


def _keyed(x: Tensor, dim: int) -> Tensor:
    """x with its axis `dim` of time brought to [..., C, K], K = 1 where time is the last axis."""
    return x.unsqueeze(-1) if dim % x.ndim == x.ndim - 1 else x.movedim(dim, -2)


def _unkeyed(x: Tensor, like: Tensor, dim: int) -> Tensor:
    return x.squeeze(-1) if dim % like.ndim == like.ndim - 1 else x.movedim(-2, dim)


# Factors of the pairs ---------------------------------------------------------------------------------------


class Factors(NamedTuple):
    """What decays contribute to the pairs of a chunk, computed once for all the products over these pairs.

    Level l has blocks of 2h tokens, h = 2^l. All are empty for a chunk of one token.
    """

    rows: tuple[Tensor, ...]  # per level, [..., C/2h, h, K]: from the cut to i
    columns: tuple[Tensor, ...]  # per level, [..., C/2h, h, K]: from j to the cut
    totals: tuple[Tensor, ...]  # per level, [..., C/h, K]: whole halves; empty if made from logarithms
    exclusive: bool


def decay_factors(g: Tensor, exclusive: bool = False) -> Factors:
    """The factors 2^(sum of g) between tokens, for g [..., C, K] at most 0, -inf for a reset."""
    rows, columns = _halves(_totals(g, torch.add), torch.add, exclusive, torch.exp2)
    return Factors(rows, columns, (), exclusive)


def product_factors(d: Tensor, exclusive: bool = False) -> Factors:
    """The factors prod d between tokens, for d [..., C, K] of any sign, 0 for a reset."""
    totals = _totals(d, torch.mul)
    rows, columns = _halves(totals, torch.mul, exclusive, torch.clone)
    return Factors(rows, columns, tuple(totals), exclusive)


def _halves(
    totals: Sequence[Tensor], merge: Merge, exclusive: bool, finish: Callable[[Tensor], Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Prefixes of the upper and suffixes of the lower halves at each level, copied by `finish`."""
    levels = range(_levels(totals[0].shape[-2]))
    prefixes = zip(levels, _running(totals, merge, UPPER, exclusive))
    upper = tuple(finish(_half(prefix, 2**level, UPPER)) for level, prefix in prefixes)
    suffixes = zip(levels, _running(totals, merge, LOWER, True))
    lower = tuple(finish(_half(suffix, 2**level, LOWER)) for level, suffix in suffixes)
    return upper, lower


def _widest_first(f: Factors) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Level, row and column, from the widest blocks to the narrowest."""
    return reversed(list(zip(range(len(f.rows)), f.rows, f.columns, strict=True)))


class _DecayGrad:
    """The adjoint of `_halves`: takes the gradients of rows and columns, the widest blocks first."""

    def __init__(self, zero: Tensor, factors: Factors | None) -> None:
        """`zero` is [..., C, K]; the factors are None where logarithms were summed."""
        self.prefix, self.suffix = zero.clone(), zero.clone()
        self.total = zero[..., :1, :]  # of the totals of the blocks reached
        self.factors = factors

    def descend(self, level: int, drow: tuple[Tensor, Tensor], dcolumn: tuple[Tensor, Tensor]) -> None:
        """From the gradients of prefixes, suffixes and totals in blocks of 2h tokens to those in blocks of h.

        The gradients of rows and columns are given as two factors each.
        """
        h = 2**level
        lower = upper = self.total
        dprefix, dsuffix = _half(self.prefix, h, UPPER), _half(self.suffix, h, LOWER)
        if self.factors is not None:
            row, column, total = (part[level] for part in self.factors[:3])
            lower, upper = lower * total[..., 1::2, :], upper * total[..., 0::2, :]
            dprefix, dsuffix = dprefix * row, dsuffix * column
        # a prefix in the upper half has the total of the lower half merged in, a suffix in the lower that of the upper
        lower, upper = lower + _sum_tokens(dprefix), upper + _sum_tokens(dsuffix)
        if self.factors is not None:
            self.prefix = _merge_half(self.prefix, h, UPPER, torch.mul, _beyond(total, UPPER))
            self.suffix = _merge_half(self.suffix, h, LOWER, torch.mul, _beyond(total, LOWER))
        self.prefix = _merge_half(self.prefix, h, UPPER, torch.addcmul, *drow)
        self.suffix = _merge_half(self.suffix, h, LOWER, torch.addcmul, *dcolumn)
        self.total = torch.stack((lower, upper), -2).flatten(-3, -2)

    def result(self, exclusive: bool) -> Tensor:
        """The gradient of the decays [..., C, K], all levels done."""
        return self.total if exclusive else self.total + self.prefix


def _sum_tokens(x: Tensor) -> Tensor:
    """x.sum(-2), which is slow over a few tokens: 0.1 over 1, 0.02 over 16."""
    return x.sum(-2) if x.shape[-2] > 4 else sum(x.unbind(-2)[1:], x[..., 0, :])


def _contract(m: Tensor, x: Tensor) -> Tensor:
    """m @ x; a batched product of 1 x 1 matrices takes 20 times as long as the multiplication."""
    return m * x if m.shape[-1] == 1 else m @ x


# Decays that are the same for every key ---------------------------------------------------------------------


def segment_sum(x: Tensor, exclusive: bool = False, strict: bool = False) -> Tensor:
    """L[i,j] = sum_{j < t <= i} x[t], -inf for pairs left out: [..., C] -> [..., C, C]. x may hold -inf."""
    halves = _halves(_totals(x.unsqueeze(-1), torch.add), torch.add, exclusive, torch.clone)
    return _pairs(x, halves, torch.add, -math.inf, -math.inf if exclusive or strict else 0.0)


def segment_sum_grad(grad: Tensor, exclusive: bool = False) -> Tensor:
    """dx[t] = sum_{i >= t > j} dL[i,j] (exclusive: i > t): [..., C, C] -> [..., C]. No other entry is read."""
    dx, one = _DecayGrad(torch.zeros_like(grad[..., :1]), None), grad.new_ones(())
    for level in reversed(range(_levels(grad.shape[-1]))):
        pairs = _cross(grad, 2**level)
        dx.descend(level, (pairs.sum(-1, keepdim=True), one), (pairs.sum(-2).unsqueeze(-1), one))
    return dx.result(exclusive).squeeze(-1)


def path(d: Tensor, exclusive: bool = False, strict: bool = False) -> Tensor:
    """T[i,j] = prod_{j < t <= i} d[t], 0 for pairs left out: [..., C] -> [..., C, C]. d has any sign, or is 0."""
    halves = _halves(_totals(d.unsqueeze(-1), torch.mul), torch.mul, exclusive, torch.clone)
    return _pairs(d, halves, torch.mul, 0.0, 0.0 if exclusive or strict else 1.0)


def path_grad(d: Tensor, grad: Tensor, exclusive: bool = False) -> Tensor:
    """dd[t] = sum_{i >= t > j} T[i,t] dT[i,j] T[t-1,j]: [..., C] and [..., C, C] -> [..., C]. No other entry is read."""
    f = product_factors(d.unsqueeze(-1), exclusive)
    dd, one = _DecayGrad(torch.zeros_like(grad[..., :1]), f), grad.new_ones(())
    for level, row, column in _widest_first(f):
        pairs = _cross(grad, 2**level)
        drow, dcolumn = (pairs * column.mT).sum(-1, keepdim=True), (pairs * row).sum(-2).unsqueeze(-1)
        dd.descend(level, (drow, one), (dcolumn, one))
    return dd.result(exclusive).squeeze(-1)


def _pairs(
    x: Tensor, halves: tuple[Sequence[Tensor], Sequence[Tensor]], merge: Merge, other: float, diagonal: float
) -> Tensor:
    """The matrix [..., C, C] of all pairs below the diagonal, with constants on and above it."""
    pairs = x.new_full((*x.shape, x.shape[-1]), other)
    pairs.diagonal(dim1=-2, dim2=-1).fill_(diagonal)
    for level, (row, column) in enumerate(zip(*halves, strict=True)):
        _cross(pairs, 2**level).copy_(merge(row, column.mT))
    return pairs


# Decays that differ from key to key -------------------------------------------------------------------------


def decay_dot(x: Tensor, y: Tensor, f: Factors, strict: bool = False) -> Tensor:
    """A[i,j] = sum_k x[i,k] y[j,k] F[i,j,k]: [..., C, K] twice -> [..., C, C]."""
    tokens = x.shape[-2]
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], *(row.shape[:-3] for row in f.rows[:1]))
    a = x.new_zeros((*batch, tokens, tokens))
    if not (strict or f.exclusive):
        a.diagonal(dim1=-2, dim2=-1).copy_((x * y).sum(-1))
    for level, (row, column) in enumerate(zip(f.rows, f.columns, strict=True)):
        h = 2**level
        _cross(a, h).copy_((_half(x, h, UPPER) * row) @ (_half(y, h, LOWER) * column).mT)
    return a


def decay_dot_rows(m: Tensor, y: Tensor, f: Factors, strict: bool = False) -> Tensor:
    """R[i,k] = sum_j m[i,j] y[j,k] F[i,j,k]: [..., C, C] and [..., C, K] -> [..., C, K]."""
    out = _diagonal_product(m, y, f, strict)
    for level, (row, column) in enumerate(zip(f.rows, f.columns, strict=True)):
        h = 2**level
        out = _merge_half(out, h, UPPER, torch.addcmul, row, _contract(_cross(m, h), _half(y, h, LOWER) * column))
    return out


def decay_dot_columns(m: Tensor, x: Tensor, f: Factors, strict: bool = False) -> Tensor:
    """R[j,k] = sum_i m[i,j] x[i,k] F[i,j,k]: [..., C, C] and [..., C, K] -> [..., C, K]."""
    out = _diagonal_product(m, x, f, strict)
    for level, (row, column) in enumerate(zip(f.rows, f.columns, strict=True)):
        h = 2**level
        out = _merge_half(out, h, LOWER, torch.addcmul, column, _contract(_cross(m, h).mT, _half(x, h, UPPER) * row))
    return out


def decay_dot_grads(
    m: Tensor, x: Tensor, y: Tensor, f: Factors, strict: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`decay_dot_rows`, `decay_dot_columns` and `decay_dot_decay` at once, for the price of two of them.

    They are the derivatives of sum m * decay_dot(x, y, f) by x, by y, and by the g or d that f was made from.
    """
    dx, dy = _diagonal_product(m, y, f, strict), _diagonal_product(m, x, f, strict)
    ddecay = _DecayGrad(torch.zeros_like(dx), f if f.totals else None)
    for level, row, column in _widest_first(f):
        h = 2**level
        upper, lower, pairs = _half(x, h, UPPER), _half(y, h, LOWER), _cross(m, h)
        read, write = lower * column, upper * row
        drow, dcolumn = _contract(pairs, read), _contract(pairs.mT, write)
        dx = _merge_half(dx, h, UPPER, torch.addcmul, row, drow)
        dy = _merge_half(dy, h, LOWER, torch.addcmul, column, dcolumn)
        if f.totals:
            ddecay.descend(level, (upper, drow), (lower, dcolumn))
        else:  # row = 2^exponent, and so its derivative is ln 2 times itself
            ddecay.descend(level, (write, drow), (read, dcolumn))
    dd = ddecay.result(f.exclusive)
    return dx, dy, dd if f.totals else dd * LN2


def decay_dot_decay(m: Tensor, x: Tensor, y: Tensor, f: Factors) -> Tensor:
    """The derivative of sum m * decay_dot(x, y, f) by the g or d that f was made from, [..., C, K]."""
    return decay_dot_grads(m, x, y, f, True)[2]


def _diagonal_product(m: Tensor, y: Tensor, f: Factors, strict: bool) -> Tensor:
    """The pairs (i, i): m[i,i] y[i,k], a new array of the shape that the result has."""
    diagonal = m.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    like = diagonal * y
    batch = torch.broadcast_shapes(like.shape[:-2], *(row.shape[:-3] for row in f.rows[:1]))
    if batch != like.shape[:-2]:
        like = like.expand(*batch, *like.shape[-2:]).clone()
    return torch.zeros_like(like) if strict or f.exclusive else like


# The triangular inverse -------------------------------------------------------------------------------------


def inverse(p: Tensor) -> Tensor:
    """(I - P)^-1 for strictly lower triangular p [..., R, R] of any size R; no other entry of p is read.

    By dyadic merges: every block on the way is a true inverse. (The product (I + P)(I + P^2)(I + P^4)... is the same
    in exact arithmetic, but its powers overflow where keys are correlated.)
    """
    size = p.shape[-1]
    if size <= LEAF:
        return _leaf_inverse(p)
    half = 1 << ((size - 1).bit_length() - 1)
    if size & (size - 1):
        first, second = inverse(p[..., :half, :half]), inverse(p[..., half:, half:])
        return _join(first, p[..., half:, :half], second)
    blocks = p.unflatten(-1, (size // LEAF, LEAF)).unflatten(-3, (size // LEAF, LEAF)).diagonal(dim1=-4, dim2=-2)
    x = _leaf_inverse(blocks.movedim(-1, -3))
    h = LEAF
    while h < size:
        x = _join(x[..., 0::2, :, :], _cross(p, h), x[..., 1::2, :, :])
        h *= 2
    return x.squeeze(-3)


def _join(first: Tensor, off: Tensor, second: Tensor) -> Tensor:
    """The inverse of [[I - P1, 0], [-off, I - P2]] from the inverses of its diagonal blocks."""
    n, size = first.shape[-1], first.shape[-1] + second.shape[-1]
    out = off.new_zeros((*off.shape[:-2], size, size))
    out[..., :n, :n] = first
    out[..., n:, n:] = second
    out[..., n:, :n] = second @ off @ first
    return out


def _leaf_inverse(p: Tensor) -> Tensor:
    """X <- X + X P_off X over blocks of 2, 4, ..., 16, P_off the lower left quarters: one batched product per level."""
    index = torch.arange(p.shape[-1], device=p.device)
    x = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
    h = 1
    while h < p.shape[-1]:
        block = index // h
        quarter = (block[:, None] % 2 == 1) & (block[:, None] - 1 == block[None, :])
        off = p.where(quarter, 0)
        x = x + (off if h == 1 else x @ off @ x)
        h *= 2
    return x.expand(p.shape)


# Blocks and small functions -------------------------------------------------------------------------------------------


def assemble(blocks: Sequence[Tensor]) -> Tensor:
    """n * n blocks [..., C, C], row by row, interleaved into one matrix [..., n * C, n * C]."""
    n = math.isqrt(len(blocks))
    shape = torch.broadcast_shapes(*(block.shape for block in blocks))
    whole = [block.expand(shape) for block in blocks]
    stacked = torch.stack([torch.stack(whole[row * n : row * n + n], -1) for row in range(n)], -3)
    return stacked.flatten(-2).flatten(-3, -2)


def at_first(x: Tensor, tokens: int) -> Tensor:
    """x [M, H, ...] in the first of C rows [M, H, C, ...], zero in the others."""
    rest = x.new_zeros((*x.shape[:2], tokens - 1, *x.shape[2:]))
    return torch.cat((x.unsqueeze(2), rest), 2)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp x), accurate for all x: torch's own is cut off at 20."""
    return -F.logsigmoid(-x)


def step(x: Tensor) -> Tensor:
    """1 where x > 0, else 0."""
    return (x > 0).to(x.dtype)
