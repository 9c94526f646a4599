"""Tile operations of one chunk, in torch: running sums, decays between tokens, the triangular inverse.

Time is an axis of C tokens, a power of two where tokens are paired; K is the key axis; all axes before these
are batch axes, and broadcast. Decays come as logarithms to base 2 (`g`, at most 0; -inf is a reset) or as
themselves (`d`, of any sign; 0 is a reset). In the pair (i, j), j <= i, token i reads what token j wrote:

    segment_sum   L[i,j] = sum_{j < t <= i} g[t]
    path          T[i,j] = prod_{j < t <= i} d[t]
    decay_dot     A[i,j] = sum_k x[i,k] y[j,k] F[i,j,k]         F = 2^L or T, one for every k
      _rows       R[i,k] = sum_j m[i,j] y[j,k] F[i,j,k]
      _columns    R[j,k] = sum_i m[i,j] x[i,k] F[i,j,k]
      _decay      R[t,k] = the derivative of sum a * A by g[t,k] or d[t,k]
    inverse       (I - P)^-1, P strictly lower triangular

`exclusive` ends the interval one token earlier (t <= i - 1: what i reads is the state before it) and takes
only pairs with j < i; `strict` leaves out j = i. Pairs left out are 0, in `segment_sum` -inf; gradients do
not read them.

One g = -1000 among weak ones costs no accuracy, a reset gives exact zeros, the derivative at d = 0 is exact,
and nothing depends on tokens after the pair: `halving` tells how. All can be differentiated, twice too.

Times in comments are in units of the product [256, 64, 128] @ [256, 128, 64] in float32 on a CPU, where a
pass over an operand takes 0.1 to 0.2.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rnnc.ops.arrays import addcmul_ as addcmul_
from rnnc.ops.arrays import addmm_ as addmm_
from rnnc.ops.arrays import apply_ as apply_
from rnnc.ops.arrays import assemble as assemble
from rnnc.ops.arrays import at_first as at_first
from rnnc.ops.arrays import deinterleave as deinterleave
from rnnc.ops.arrays import interleave as interleave
from rnnc.ops.arrays import product as product
from rnnc.ops.arrays import product_ as product_
from rnnc.ops.arrays import rows as rows
from rnnc.ops.arrays import scale_ as scale_
from rnnc.ops.arrays import softplus as softplus
from rnnc.ops.arrays import step as step
from rnnc.ops.arrays import sum_squares as sum_squares
from rnnc.ops.halving import (
    LOWER,
    UPPER,
    DecayGradient,
    Factors,
    Merge,
    cross,
    half,
    half_totals,
    make_factors,
    merge_half,
    own,
    repeat,
    running,
    sum_tokens,
)
from rnnc.ops.triangular import inverse as inverse
from rnnc.ops.triangular import inverse_grad as inverse_grad

Direction = Literal["prefix", "suffix"]
LN2 = math.log(2.0)
LOG2E = 1 / LN2

# Logarithms to base 2 below this are as good as -inf: 2^FLOOR is 0, in float64 too.
FLOOR = -32768.0


# Running sums and products ----------------------------------------------------------------------------------


def prefix_sum(x: Tensor, dim: int, exclusive: bool = False) -> Tensor:
    """Sums of x over the tokens up to each token, along `dim`; `exclusive`: before it."""
    # torch adds in float64 here (0.5; a product with a triangle of ones takes 0.8, and makes NaN of -inf)
    total = x.cumsum(dim)
    if not exclusive:
        return total
    zero = torch.zeros_like(x.narrow(dim, 0, 1))
    return torch.cat((zero, total.narrow(dim, 0, x.shape[dim] - 1)), dim)


def suffix_sum(x: Tensor, dim: int, exclusive: bool = False) -> Tensor:
    """Sums of x over the tokens from each token on, along `dim`; `exclusive`: after it."""
    return prefix_sum(x.flip(dim), dim, exclusive).flip(dim)


def running_product(d: Tensor, dim: int, direction: Direction = "prefix", exclusive: bool = False) -> Tensor:
    """Products of d over the tokens up to (suffix: from) each token along `dim`; `exclusive`: without it."""
    side = UPPER if direction == "prefix" else LOWER
    *_, product = running(half_totals(_keyed(d, dim), torch.mul), torch.mul, side, exclusive)
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
    for h, row, column in product_factors(_keyed(d, dim), exclusive).levels():
        later = sum_tokens(half(x, h, UPPER) * row).unsqueeze(-2)
        after = merge_half(after, h, LOWER, torch.addcmul, column, later)
    return running_product(d, dim, "prefix", True) * _unkeyed(after, grad, dim)


def linear_scan(d: Tensor, x: Tensor, dim: int, suffix: bool = False, exclusive: bool = False) -> Tensor:
    """y[i] = d[i] y[i-1] + x[i] along `dim`, from zero; suffix: y[i] = d[i+1] y[i+1] + x[i].

    `exclusive`: y[i] = d[i-1] y[i-1] + x[i-1] (suffix: y[i] = d[i+1] y[i+1] + x[i+1]). Spans of 1, 2, 4, ...
    tokens are joined, each a pair of a decay and a value: as many passes as C has bits.
    """
    if suffix:
        d, x = d.flip(dim), x.flip(dim)
    if suffix and not exclusive:
        d = _later(d, dim, 1)
    size, width = x.shape[dim], 1
    while width < size:
        x = x + _later(x, dim, width) * d
        d = d * _later(d, dim, width) if 2 * width < size else d
        width *= 2
    x = _later(x, dim, 1) if exclusive else x
    return x.flip(dim) if suffix else x


def _later(x: Tensor, dim: int, count: int) -> Tensor:
    """x moved on by `count` tokens, the first ones 0."""
    kept = x.narrow(dim, 0, x.shape[dim] - count)
    return torch.cat((torch.zeros_like(x.narrow(dim, 0, count)), kept), dim)


def _keyed(x: Tensor, dim: int) -> Tensor:
    """x with its axis `dim` of time brought to [..., C, K], K = 1 where time is the last axis."""
    return x.unsqueeze(-1) if dim % x.ndim == x.ndim - 1 else x.movedim(dim, -2)


def _unkeyed(x: Tensor, like: Tensor, dim: int) -> Tensor:
    return x.squeeze(-1) if dim % like.ndim == like.ndim - 1 else x.movedim(-2, dim)


# Decays that are the same for every key ---------------------------------------------------------------------


def segment_sum(x: Tensor, exclusive: bool = False, strict: bool = False) -> Tensor:
    """L[i,j] = sum_{j < t <= i} x[t], -inf for pairs left out: [..., C] -> [..., C, C]. x may hold -inf.

    Differences of running sums after all, but in float64, of logarithms that end at FLOOR: 2^FLOOR is 0, and
    what the sums lose is below 1e-9. (A few operations: 0.15; from halves, without a difference, 0.3 and five
    times as many operations.)
    """
    total = x.to(torch.float64).clamp(min=FLOOR).cumsum(-1)
    upper = F.pad(total[..., :-1], (1, 0)) if exclusive else total
    pairs = _differences(upper, total, x.dtype)
    strict = exclusive or strict
    # masked_fill_ takes four times as long; tril_ first: a NaN must not reach the tokens before it
    return pairs.tril_(-1 if strict else 0).add_(_no_pairs(x.shape[-1], strict, x.dtype, x.device))


def _differences(upper: Tensor, lower: Tensor, dtype: torch.dtype) -> Tensor:
    """upper[i] - lower[j] as [..., C, C] of the dtype, without an array of float64 where none is recorded."""
    if torch.is_grad_enabled():
        return (upper.unsqueeze(-1) - lower.unsqueeze(-2)).to(dtype)
    pairs = torch.empty(*upper.shape, lower.shape[-1], dtype=dtype, device=upper.device)
    return torch.sub(upper.unsqueeze(-1), lower.unsqueeze(-2), out=pairs)


def segment_sum_grad(grad: Tensor, exclusive: bool = False) -> Tensor:
    """dx[t] = sum_{i >= t > j} dL[i,j] (exclusive: i > t): [..., C, C] -> [..., C]. No other is read."""
    before = grad.cumsum(-1).tril(-2 if exclusive else -1).sum(-2)  # [j]: over i >= t = j + 1, up to j
    return F.pad(before[..., :-1], (1, 0))


@lru_cache(maxsize=32)
def _no_pairs(tokens: int, strict: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0, and -inf for the pairs that `_left_out` names."""
    with torch.inference_mode(False):  # it outlives the call
        zeros = torch.zeros(tokens, tokens, dtype=dtype, device=device)
        return zeros.masked_fill(_left_out(tokens, strict, device), -math.inf)


@lru_cache(maxsize=32)
def _left_out(tokens: int, strict: bool, device: torch.device) -> Tensor:
    """The pairs (i, j) with j > i, or j >= i."""
    with torch.inference_mode(False):  # it outlives the call
        return torch.ones(tokens, tokens, dtype=torch.bool, device=device).triu(0 if strict else 1)


def path(d: Tensor, exclusive: bool = False, strict: bool = False) -> Tensor:
    """T[i,j] = prod_{j < t <= i} d[t], 0 for pairs left out: [..., C] -> [..., C, C]."""
    f = product_factors(d.unsqueeze(-1), exclusive)
    return _pairs(d, f, torch.mul, 0.0, 0.0 if exclusive or strict else 1.0)


def path_grad(d: Tensor, grad: Tensor, exclusive: bool = False) -> Tensor:
    """dd[t] = sum_{i >= t > j} T[i,t] dT[i,j] T[t-1,j]: [..., C] and [..., C, C] -> [..., C]."""
    f = product_factors(d.unsqueeze(-1), exclusive)
    dd, one = DecayGradient(torch.zeros_like(grad[..., :1]), f), grad.new_ones(())
    for h, row, column in reversed(f.levels()):
        pairs = cross(grad, h)
        drow, dcolumn = (pairs * column.mT).sum(-1, keepdim=True), (pairs * row).sum(-2).unsqueeze(-1)
        dd.descend(h, (drow, one), (dcolumn, one))
    return dd.result(exclusive).squeeze(-1)


def mask_tokens(a: Tensor, strict: bool = False) -> Tensor:
    """a [..., C, C * n], n columns for each token, without those of tokens after i (strict: from i on)."""
    tokens = a.shape[-2]
    left_out = _left_out(tokens, strict, a.device)
    return a.masked_fill(left_out.repeat_interleave(a.shape[-1] // tokens, 1), 0)


def _pairs(x: Tensor, f: Factors, merge: Merge, other: float, diagonal: float) -> Tensor:
    """The matrix [..., C, C] of all pairs below the diagonal, with constants on and above it."""
    pairs = x.new_full((*x.shape, x.shape[-1]), other)
    pairs.diagonal(dim1=-2, dim2=-1).fill_(diagonal)
    for h, row, column in f.levels():
        cross(pairs, h).copy_(merge(row, column.mT))
    return pairs


# Decays that differ from key to key -------------------------------------------------------------------------


def decay_factors(g: Tensor, exclusive: bool = False) -> Factors:
    """The factors 2^(sum of g) between tokens, for g [..., C, K] at most 0, -inf for a reset."""
    return make_factors(g, torch.add, exclusive, torch.exp2)


def product_factors(d: Tensor, exclusive: bool = False) -> Factors:
    """The factors prod d between tokens, for d [..., C, K] of any sign, 0 for a reset."""
    return make_factors(d, torch.mul, exclusive, torch.clone)


def decay_dot(x: Tensor, y: Tensor, f: Factors, strict: bool = False) -> Tensor:
    """A[i,j] = sum_k x[i,k] y[j,k] F[i,j,k]: [..., C, K] twice -> [..., C, C].

    Both may have n rows for each token, [..., C * n, K], or y alone; factors are the tokens'.
    """
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], *(row.shape[:-3] for row in f.rows[:1]))
    out = x.new_zeros((*batch, x.shape[-2], y.shape[-2]))
    n, m = _counts(x, y, f)
    if n > 1 or m > 1:
        own(out, f.tokens).copy_(_own_scores(x, y, f, strict))
    elif not (strict or f.exclusive):
        out.diagonal(dim1=-2, dim2=-1).copy_((x * y).sum(-1))
    for h, row, column in f.levels():
        scaled = half(x, h * n, UPPER) * repeat(row, n), half(y, h * m, LOWER) * repeat(column, m)
        cross(out, h * n, h * m).copy_(scaled[0] @ scaled[1].mT)
    return out


def decay_dot_rows(a: Tensor, y: Tensor, f: Factors, strict: bool = False) -> Tensor:
    """R[i,k] = sum_j a[i,j] y[j,k] F[i,j,k]: [..., C, C] and [..., C, K] -> [..., C, K]."""
    out = _own_pairs(a, y, f, strict)
    n, m = _counts(a, y, f)
    for h, row, column in f.levels():
        read = _contract(cross(a, h * n, h * m), half(y, h * m, LOWER) * repeat(column, m))
        out = merge_half(out, h * n, UPPER, torch.addcmul, repeat(row, n), read)
    return out


def decay_dot_columns(a: Tensor, x: Tensor, f: Factors, strict: bool = False) -> Tensor:
    """R[j,k] = sum_i a[i,j] x[i,k] F[i,j,k]: [..., C, C] and [..., C, K] -> [..., C, K]."""
    out = _own_pairs(a.mT, x, f, strict, upper=True)
    n, m = _counts(a, a.mT, f)
    for h, row, column in f.levels():
        read = _contract(cross(a, h * n, h * m).mT, half(x, h * n, UPPER) * repeat(row, n))
        out = merge_half(out, h * m, LOWER, torch.addcmul, repeat(column, m), read)
    return out


def decay_dot_grads(
    a: Tensor, x: Tensor, y: Tensor, f: Factors, strict: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`decay_dot_rows`, `decay_dot_columns` and `decay_dot_decay` at once, sharing their products.

    They are the derivatives of sum a * decay_dot(x, y, f) by x, by y, and by the g or d that f was made from.
    """
    dx, dy = _own_pairs(a, y, f, strict), _own_pairs(a.mT, x, f, strict, upper=True)
    n, m = _counts(x, y, f)
    batch = torch.broadcast_shapes(dx.shape[:-2], dy.shape[:-2])
    decay = DecayGradient(x.new_zeros((*batch, f.tokens, x.shape[-1])), f)
    for h, row, column in reversed(f.levels()):
        row, column = repeat(row, n), repeat(column, m)
        upper, lower = half(x, h * n, UPPER), half(y, h * m, LOWER)
        scaled_upper, scaled_lower = upper * row, lower * column
        pairs = cross(a, h * n, h * m)
        drow, dcolumn = _contract(pairs, scaled_lower), _contract(pairs.mT, scaled_upper)
        dx = merge_half(dx, h * n, UPPER, torch.addcmul, row, drow)
        dy = merge_half(dy, h * m, LOWER, torch.addcmul, column, dcolumn)
        if f.totals:
            decay.descend(h, _per_token(upper, drow, n), _per_token(lower, dcolumn, m))
        else:  # row = 2^exponent, whose derivative is ln 2 row
            decay.descend(h, _per_token(scaled_upper, drow, n), _per_token(scaled_lower, dcolumn, m))
    ddecay = decay.result(f.exclusive)
    return dx, dy, ddecay if f.totals else ddecay * LN2


def decay_dot_decay(a: Tensor, x: Tensor, y: Tensor, f: Factors) -> Tensor:
    """The derivative of sum a * decay_dot(x, y, f) by the g or d that f was made from, [..., C, K]."""
    return decay_dot_grads(a, x, y, f, strict=True)[2]


def _counts(x: Tensor, y: Tensor, f: Factors) -> tuple[int, int]:
    """How many rows x and y have for each token."""
    return x.shape[-2] // f.tokens, y.shape[-2] // f.tokens


def _per_token(x: Tensor, gradient: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Two factors of x * gradient, summed over the n rows of each token."""
    if n == 1:
        return x, gradient
    return (x * gradient).unflatten(-2, (-1, n)).sum(-2), x.new_ones(())


def _own_scores(x: Tensor, y: Tensor, f: Factors, strict: bool) -> Tensor:
    """x[i] y[j] for the rows of every token [..., C, n, m]; those left out are 0."""
    (n, m), tokens = _counts(x, y, f), f.tokens
    scores = x.unflatten(-2, (tokens, n)) @ y.unflatten(-2, (tokens, m)).mT
    return _kept(scores, f, strict)


def _kept(scores: Tensor, f: Factors, strict: bool) -> Tensor:
    """The pairs of a token with itself, those left out set to 0: of n rows with as many, a triangle."""
    n, m = scores.shape[-2:]
    if f.exclusive or (strict and n != m):
        return torch.zeros_like(scores)
    return scores if n != m else scores.tril(-1 if strict else 0)


def _own_pairs(a: Tensor, y: Tensor, f: Factors, strict: bool, upper: bool = False) -> Tensor:
    """sum_j a[i,j] y[j,k] over the rows j of the token of i; `upper`: a is transposed."""
    n, m = a.shape[-2] // f.tokens, a.shape[-1] // f.tokens
    if n == m == 1:
        result = a.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * y
        left_out = strict or f.exclusive
    else:
        pairs = own(a, f.tokens)
        pairs = _kept(pairs.mT, f, strict).mT if upper else _kept(pairs, f, strict)
        result, left_out = (pairs @ y.unflatten(-2, (f.tokens, m))).flatten(-3, -2), False
    batch = torch.broadcast_shapes(result.shape[:-2], *(row.shape[:-3] for row in f.rows[:1]))
    if left_out:
        return result.new_zeros((*batch, *result.shape[-2:]))
    return result.expand(*batch, *result.shape[-2:]).contiguous()


def _contract(a: Tensor, x: Tensor) -> Tensor:
    """a @ x; torch's batched product of 1 x 1 matrices takes 20 times as long as a multiplication."""
    return a * x if a.shape[-1] == 1 == a.shape[-2] else a @ x
