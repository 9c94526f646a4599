"""Triton: products over pairs of tokens under a decay per channel.

Time is halved again and again. In a block of 2h tokens, h = 1, 2, ..., C/2, the pairs of a row i in the
upper half with a column j in the lower half factor at the cut between the halves: the exponent of i sums
the logarithms from the cut to i, that of j from j to the cut. Both are at most 0, no exponent is a
difference of running sums, and none depends on a token after its pair. Logarithms to base 2 end at -32768,
where 2^x is 0.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def running_sum(x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Sums of x [C, K] over the tokens up to each one (SUFFIX: from it on), without itself if EXCLUSIVE."""
    o_c = tl.arange(0, C)
    row, token = o_c[:, None], o_c[None, :]
    if SUFFIX:
        taken = token > row if EXCLUSIVE else token >= row
    else:
        taken = token < row if EXCLUSIVE else token <= row
    return tl.dot(tl.where(taken, 1.0, 0.0), tl.maximum(x, -32768.0), input_precision="tf32x3")


@triton.jit
def level_masks(level: tl.constexpr, C: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """At a level: which rows are upper, which pairs belong to it, and which tokens a row's exponent sums."""
    o_c = tl.arange(0, C)
    upper = (o_c >> level) % 2 == 1
    block = o_c >> (level + 1)
    cut = (block << (level + 1)) + (1 << level)
    row, token = o_c[:, None], o_c[None, :]
    last = token < row if EXCLUSIVE else token <= row
    above = (token >= cut[:, None]) & last & upper[:, None]
    below = (token > row) & (token < cut[:, None]) & (~upper)[:, None]
    pairs = (block[:, None] == block[None, :]) & upper[:, None] & (~upper)[None, :]
    return upper, pairs, tl.where(above | below, 1.0, 0.0)


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
    o_c = tl.arange(0, C)
    g = tl.maximum(g, -32768.0)
    out = tl.zeros([C, C], tl.float32)
    if not (STRICT or EXCLUSIVE):
        out += tl.where(o_c[:, None] == o_c[None, :], tl.sum(x * y, 1)[:, None], 0.0)
    for level in tl.static_range(0, 8):
        if (1 << level) < C:
            _, pairs, sums = level_masks(level, C, EXCLUSIVE)
            factor = tl.exp2(tl.dot(sums, g, input_precision="tf32x3"))
            products = tl.dot((x * factor).to(DOT), tl.trans((y * factor).to(DOT)), input_precision=PRECISION)
            out += tl.where(pairs, products, 0.0)
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
    o_c = tl.arange(0, C)
    g = tl.maximum(g, -32768.0)
    dx, dy, dg = x * 0.0, y * 0.0, g * 0.0
    if not (STRICT or EXCLUSIVE):
        diagonal = tl.sum(tl.where(o_c[:, None] == o_c[None, :], m, 0.0), 1)
        dx += diagonal[:, None] * y
        dy += diagonal[:, None] * x
    for level in tl.static_range(0, 8):
        if (1 << level) < C:
            upper, pairs, sums = level_masks(level, C, EXCLUSIVE)
            factor = tl.exp2(tl.dot(sums, g, input_precision="tf32x3"))
            weights = tl.where(pairs, m, 0.0).to(DOT)
            read = factor * tl.dot(weights, (y * factor).to(DOT), input_precision=PRECISION)
            written = factor * tl.dot(tl.trans(weights), (x * factor).to(DOT), input_precision=PRECISION)
            dx += read
            dy += written
            slopes = tl.where(upper[:, None], x * read, y * written)
            dg += 0.6931471805599453 * tl.dot(tl.trans(sums), slopes, input_precision="tf32x3")
    return dx, dy, dg
