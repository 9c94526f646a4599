"""Triton: products over pairs of tokens under a decay per channel.

Time is halved again and again. In a block of 2h tokens, h = 1, 2, ..., C/2, the pairs of a row i in the
upper half with a column j in the lower half factor at the cut between the halves: the exponent of i sums
the logarithms from the cut to i, that of j from j to the cut. Both are at most 0, no exponent is a
difference of running sums, and none depends on a token after its pair. Logarithms to base 2 end at -32768,
where 2^x is 0.

At a level every token is in one half only, so one tile holds x in the upper halves and y in the lower ones,
and one product serves both. The levels are a loop of the kernel, not unrolled, and sums over tokens are
formed by doubling, not as products with masks: tiles [C, C] that live from level to level do not fit the
registers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def from_tokens(x, o_from):
    """The rows of x [C, K] at the tokens `o_from` [C]."""
    return tl.gather(x, tl.broadcast_to(o_from[:, None], x.shape), 0)


@triton.jit
def running_sum(x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Sums of x [C, K] over the tokens up to each one (SUFFIX: from it on), without itself if EXCLUSIVE.

    The exclusive sums are those of the neighbours, not a difference: one large logarithm would cost the rest.
    """
    o_c = tl.arange(0, C)
    x = tl.maximum(x, -32768.0)
    if EXCLUSIVE and SUFFIX:
        x = tl.where((o_c < C - 1)[:, None], from_tokens(x, tl.minimum(o_c + 1, C - 1)), 0.0)
    elif EXCLUSIVE:
        x = tl.where((o_c > 0)[:, None], from_tokens(x, tl.maximum(o_c - 1, 0)), 0.0)
    return tl.cumsum(x, 0, reverse=SUFFIX)


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
    """The derivatives by logarithms, given those by the exponents at a level, which are sums of them [C, K].

    A token of an upper half gets the slopes from it on in its half, of a lower half those before it.
    """
    upper = (((tl.arange(0, C) >> level) & 1) == 1)[:, None]
    before, after = slope * 0.0, slope * 0.0
    for below in range(level):
        before, after = next_level(slope, before, after, below, C)
    return tl.where(upper, after if EXCLUSIVE else after + slope, before)


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
