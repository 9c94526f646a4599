"""Triton: products over pairs of tokens, or of their rows, under a decay per channel.

Time is halved again and again, as in `triton_decays` and `triton_products`: in a block of 2h tokens, h = 1,
2, ..., C/2, the pairs of a row of the upper half with one of the lower half factor at the cut between the
halves. At a level every token is in one half only, so one tile holds x in the upper halves and y in the lower
ones, and one product serves both. The levels are a loop of the kernel, not unrolled: tiles [C, C] that live
from level to level do not fit the registers.

Decays are per token, so factors are formed for tokens and repeated for their rows. The rows of one token meet
without a decay. `x` is over rows [C N, K] or over tokens [C, K], `y` over rows; of x over rows, a row meets
those before it (STRICT: not itself), of x over tokens, the rows of the tokens up to it (STRICT, EXCLUSIVE:
not its own). Where a token has one row, N = 1, rows are tokens.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rnnc.ops.triton_decays import next_level, slope_sums
from rnnc.ops.triton_products import other_half, widened
from rnnc.ops.triton_rows import over_steps, repeat


@triton.jit
def row_pairs(X: tl.constexpr, Y: tl.constexpr, C: tl.constexpr, STRICT: tl.constexpr):
    """The tokens of X rows [X, 1] and Y columns [1, Y], and which pairs of one token meet."""
    row, column = tl.arange(0, X)[:, None], tl.arange(0, Y)[None, :]
    token, other = row // (X // C), column // (Y // C)
    if X == Y:
        meets = (token == other) & (row > column if STRICT else row >= column)
    else:
        meets = (token == other) & (not STRICT)
    return token, other, meets


@triton.jit
def upper_half(tokens, level):
    """Which tokens are in the upper half of their block of 2h tokens, h = 2^level."""
    return ((tokens >> level) & 1) == 1


@triton.jit
def level_dot(x, y, factor, level, C: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """The products of a level between rows of upper and of lower halves, given the factors [C, K] of tokens;
    other pairs hold something else.
    """
    N: tl.constexpr = y.shape[0] // C
    factors = repeat(factor, N, 0)
    if x.shape[0] == y.shape[0]:
        upper = upper_half(tl.arange(0, C * N) // N, level)[:, None]
        z = (tl.where(upper, x, y) * factors).to(DOT)
        return tl.dot(z, tl.trans(z), input_precision=PRECISION)
    else:
        right = tl.trans((y * factors).to(DOT))
        return tl.dot((x * factor).to(DOT), right, input_precision=PRECISION)


@triton.jit
def level_weights(m, X: tl.constexpr, Y: tl.constexpr, C: tl.constexpr, DOT: tl.constexpr):
    """What of m [X, Y] is read: below the diagonal, and for two tiles that are one the same mirrored."""
    token, other, _ = row_pairs(X, Y, C, True)
    return tl.where(token > other, m, tl.trans(m) if X == Y else 0.0).to(DOT)


@triton.jit
def level_grads(weights, x, y, factor, level, C: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """The derivatives of sum m * level_dot by x, y and the factors [C, K], given `level_weights` of m."""
    N: tl.constexpr = y.shape[0] // C
    factors = repeat(factor, N, 0)
    token, other, _ = row_pairs(x.shape[0], y.shape[0], C, True)
    weights = tl.where((token >> level) == ((other >> level) ^ 1), weights, 0.0).to(DOT)
    if x.shape[0] == y.shape[0]:
        upper = upper_half(tl.arange(0, C * N) // N, level)[:, None]
        z = tl.where(upper, x, y)
        slope = tl.dot(weights, (z * factors).to(DOT), input_precision=PRECISION)
        dz, dfactors = factors * slope, z * slope
        dx, dy = tl.where(upper, dz, 0.0), tl.where(upper, 0.0, dz)
        return dx, dy, dfactors if N == 1 else over_steps(dfactors, N, N, 0, False)
    else:
        dx = tl.dot(weights, (y * factors).to(DOT), input_precision=PRECISION)
        dy = tl.dot(tl.trans(weights), (x * factor).to(DOT), input_precision=PRECISION)
        return factor * dx, factors * dy, x * dx + over_steps(y * dy, N, N, 0, False)


@triton.jit
def token_dot(x, y, C: tl.constexpr, BELOW: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """The products of rows of the same token."""
    X: tl.constexpr = x.shape[0]
    Y: tl.constexpr = y.shape[0]
    _, _, meets = row_pairs(X, Y, C, BELOW)
    if Y > C:
        return tl.where(meets, tl.dot(x.to(DOT), tl.trans(y.to(DOT)), input_precision=PRECISION), 0.0)
    elif BELOW:
        return tl.zeros([X, Y], tl.float32)
    else:
        return tl.where(meets, tl.sum(x * y, 1)[:, None], 0.0)


@triton.jit
def token_grads(m, x, y, C: tl.constexpr, BELOW: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """The derivatives of sum m * token_dot by x and y."""
    _, _, meets = row_pairs(x.shape[0], y.shape[0], C, BELOW)
    if y.shape[0] > C:
        weights = tl.where(meets, m, 0.0).to(DOT)
        dx = tl.dot(weights, y.to(DOT), input_precision=PRECISION)
        return dx, tl.dot(tl.trans(weights), x.to(DOT), input_precision=PRECISION)
    elif BELOW:
        return x * 0.0, y * 0.0
    else:
        diagonal = tl.sum(tl.where(meets, m, 0.0), 1)[:, None]
        return diagonal * y, diagonal * x


@triton.jit
def decay_dot(
    x,
    y,
    g,
    C: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A[m,l] = sum_k x[m,k] y[l,k] 2^(sum of g[t,k] over t(l) < t <= t(m)), lower triangular."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    g = tl.maximum(g, -32768.0)
    token, other, _ = row_pairs(x.shape[0], y.shape[0], C, True)
    out = token_dot(x, y, C, STRICT or EXCLUSIVE, DOT, PRECISION)
    before, after = g * 0.0, g * 0.0
    for level in range(LEVELS):
        upper = upper_half(tl.arange(0, C), level)[:, None]
        factor = tl.exp2(tl.where(upper, before if EXCLUSIVE else before + g, after))
        pairs = (((token ^ other) >> level) == 1) & (token > other)
        out += tl.where(pairs, level_dot(x, y, factor, level, C, DOT, PRECISION), 0.0)
        before, after = next_level(g, before, after, level, C)
    return out


@triton.jit
def decay_dot_grads(
    m,
    x,
    y,
    g,
    C: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The derivatives of sum m * decay_dot(x, y, g) by x, y and g."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    g = tl.maximum(g, -32768.0)
    dx, dy = token_grads(m, x, y, C, STRICT or EXCLUSIVE, DOT, PRECISION)
    weights = level_weights(m, x.shape[0], y.shape[0], C, DOT)
    dg = g * 0.0
    before, after = g * 0.0, g * 0.0
    for level in range(LEVELS):
        upper = upper_half(tl.arange(0, C), level)[:, None]
        factor = tl.exp2(tl.where(upper, before if EXCLUSIVE else before + g, after))
        x_part, y_part, slope = level_grads(weights, x, y, factor, level, C, DOT, PRECISION)
        dx += x_part
        dy += y_part
        dg += slope_sums(factor * slope, level, C, EXCLUSIVE)
        before, after = next_level(g, before, after, level, C)
    return dx, dy, 0.6931471805599453 * dg


@triton.jit
def product_dot(
    x,
    y,
    d,
    C: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A[m,l] = sum_k x[m,k] y[l,k] (product of d[t,k] over t(l) < t <= t(m)), lower triangular."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    token, other, _ = row_pairs(x.shape[0], y.shape[0], C, True)
    out = token_dot(x, y, C, STRICT or EXCLUSIVE, DOT, PRECISION)
    suffix = d * 0.0 + 1.0
    prefix = suffix if EXCLUSIVE else d
    whole = d
    for level in range(LEVELS):
        factor = tl.where(upper_half(tl.arange(0, C), level)[:, None], prefix, suffix)
        pairs = (((token ^ other) >> level) == 1) & (token > other)
        out += tl.where(pairs, level_dot(x, y, factor, level, C, DOT, PRECISION), 0.0)
        prefix, suffix, whole = widened(prefix, suffix, whole, level, C)
    return out


@triton.jit
def product_dot_grads(
    m,
    x,
    y,
    d,
    C: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The derivatives of sum m * product_dot(x, y, d) by x, y and d.

    From wide blocks to narrow ones; `dprefix`, `dsuffix` and `dwhole` are the derivatives by a half's
    products up to a token, from a token on, and over all of it.
    """
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    o_c = tl.arange(0, C)
    one = d * 0.0 + 1.0
    dx, dy = token_grads(m, x, y, C, STRICT or EXCLUSIVE, DOT, PRECISION)
    weights = level_weights(m, x.shape[0], y.shape[0], C, DOT)
    dprefix, dsuffix, dwhole = d * 0.0, d * 0.0, d * 0.0
    for step in range(LEVELS):
        level = LEVELS - 1 - step
        prefix, suffix, whole = (one if EXCLUSIVE else d), one, d
        for narrow in range(level):
            prefix, suffix, whole = widened(prefix, suffix, whole, narrow, C)
        upper = upper_half(o_c, level)[:, None]
        factor = tl.where(upper, prefix, suffix)
        x_part, y_part, slope = level_grads(weights, x, y, factor, level, C, DOT, PRECISION)
        dx += x_part
        dy += y_part
        across = other_half(whole, level, C)
        half = o_c >> level
        beside = tl.where((half[:, None] ^ half[None, :]) == 1, 1.0, 0.0)
        inside = tl.where(upper, dprefix, dsuffix) * factor
        dwhole = dwhole * across + tl.dot(beside, inside, input_precision=PRECISION)
        dprefix = tl.where(upper, dprefix * across + slope, dprefix)
        dsuffix = tl.where(upper, dsuffix, dsuffix * across + slope)
    return dx, dy, dwhole if EXCLUSIVE else dwhole + dprefix
