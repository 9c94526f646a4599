"""Triton: products over pairs of tokens under a decay per channel.

Time is halved again and again. In a block of 2h tokens, h = 1, 2, ..., C/2, the pairs of a row i in the
upper half with a column j in the lower half factor at the cut between the halves: the exponent of i sums
the logarithms from the cut to i, that of j from j to the cut. Both are at most 0, no exponent is a
difference of running sums, and none depends on a token after its pair. Logarithms to base 2 end at -32768,
where 2^x is 0.

At a level every token is in one half only, so one tile holds x in the upper halves and y in the lower ones,
and one product serves both. The levels are a loop of the kernel, not unrolled, and sums over tokens are
scans, not products with masks: tiles [C, C] that live from level to level do not fit the registers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def append(before, last, more, newest):
    """The sum of all tokens but the last, and the last one, of two stretches joined."""
    return before + last + more, newest


@triton.jit
def restart(total, ends, more, begins):
    """Sums of two stretches joined; a stretch that begins a block forgets what was before."""
    return tl.where(begins != 0, more, total + more), ends | begins


@triton.jit
def running_sum(x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Sums of x [C, K] over the tokens up to each one (SUFFIX: from it on), without itself if EXCLUSIVE.

    Without itself is no difference: one large logarithm would cost the rest.
    """
    x = tl.maximum(x, -32768.0)
    if EXCLUSIVE:
        sums, _ = tl.associative_scan((x * 0.0, x), 0, append, reverse=SUFFIX)
    else:
        sums = tl.cumsum(x, 0, reverse=SUFFIX)
    return sums


@triton.jit
def from_tokens(x, o_from):
    """The rows of x [C, K] at the tokens `o_from` [C]."""
    return tl.gather(x, tl.broadcast_to(o_from[:, None], x.shape), 0)


@triton.jit
def next_level(g, before, after, level, C: tl.constexpr):
    """The sums of g [C, K] before and after each token in its block of twice the size.

    What is added is the sum of the other half, which any of its tokens has: before + g + after.
    """
    o_c = tl.arange(0, C)
    upper = (((o_c >> level) & 1) == 1)[:, None]
    other = from_tokens(before + g + after, o_c ^ (1 << level))
    return before + tl.where(upper, other, 0.0), after + tl.where(upper, 0.0, other)


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
    """A[i,j] = sum_k x[i,k] y[j,k] 2^(sum of g[t,k] over j < t <= i), lower triangular (STRICT: below it)."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    o_c = tl.arange(0, C)
    row, column = o_c[:, None], o_c[None, :]
    g = tl.maximum(g, -32768.0)
    out = tl.zeros([C, C], tl.float32)
    if not (STRICT or EXCLUSIVE):
        out += tl.where(row == column, tl.sum(x * y, 1)[:, None], 0.0)
    before, after = g * 0.0, g * 0.0
    for level in range(LEVELS):
        upper = (((o_c >> level) & 1) == 1)[:, None]
        factor = tl.exp2(tl.where(upper, before if EXCLUSIVE else before + g, after))
        z = (tl.where(upper, x, y) * factor).to(DOT)
        pairs = (((row ^ column) >> level) == 1) & (row > column)
        out += tl.where(pairs, tl.dot(z, tl.trans(z), input_precision=PRECISION), 0.0)
        before, after = next_level(g, before, after, level, C)
    return out


@triton.jit
def slope_sums(slope, level, C: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """The derivatives by the logarithms of what exponents at a level are sums of them, given those by the
    exponents [C, K]: a token of an upper half gets those from it on in its half, of a lower half those
    before it.
    """
    o_c = tl.arange(0, C)
    upper = (((o_c >> level) & 1) == 1)[:, None]
    rises, falls = tl.where(upper, slope, 0.0), tl.where(upper, 0.0, slope)
    starts = (o_c & ((1 << level) - 1)) == 0
    ends = ((o_c + 1) & ((1 << level) - 1)) == 0
    falls = tl.where(starts[:, None], 0.0, from_tokens(falls, tl.maximum(o_c - 1, 0)))
    if EXCLUSIVE:
        rises = tl.where(ends[:, None], 0.0, from_tokens(rises, tl.minimum(o_c + 1, C - 1)))
    starts = tl.broadcast_to(starts[:, None].to(tl.int32), slope.shape)
    ends = tl.broadcast_to(ends[:, None].to(tl.int32), slope.shape)
    rises, _ = tl.associative_scan((rises, ends), 0, restart, reverse=True)
    falls, _ = tl.associative_scan((falls, starts), 0, restart)
    return rises + falls


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
    o_c = tl.arange(0, C)
    row, column = o_c[:, None], o_c[None, :]
    g = tl.maximum(g, -32768.0)
    dx, dy, dg = x * 0.0, y * 0.0, g * 0.0
    if not (STRICT or EXCLUSIVE):
        diagonal = tl.sum(tl.where(row == column, m, 0.0), 1)
        dx += diagonal[:, None] * y
        dy += diagonal[:, None] * x
    both = tl.where(row > column, m, tl.trans(m)).to(DOT)
    before, after = g * 0.0, g * 0.0
    for level in range(LEVELS):
        upper = (((o_c >> level) & 1) == 1)[:, None]
        factor = tl.exp2(tl.where(upper, before if EXCLUSIVE else before + g, after))
        z = tl.where(upper, x, y)
        weights = tl.where(((row ^ column) >> level) == 1, both, 0.0)
        dz = factor * tl.dot(weights.to(DOT), (z * factor).to(DOT), input_precision=PRECISION)
        dx += tl.where(upper, dz, 0.0)
        dy += tl.where(upper, 0.0, dz)
        dg += slope_sums(z * dz, level, C, EXCLUSIVE)
        before, after = next_level(g, before, after, level, C)
    return dx, dy, 0.6931471805599453 * dg
