"""Triton: products over pairs of tokens under a decay per channel.

Time is halved again and again. In a block of 2h tokens, h = 1, 2, ..., C/2, the pairs of a row i in the
upper half with a column j in the lower half factor at the cut between the halves: the exponent of i sums
the logarithms from the cut to i, that of j from j to the cut. Both are at most 0, no exponent is a
difference of running sums, and none depends on a token after its pair. Logarithms to base 2 end at -32768,
where 2^x is 0.

At a level every token is in one half only, so one tile holds x in the upper halves and y in the lower ones,
and one product serves both. The levels are a loop of the kernel, not unrolled: unrolled, they compile twenty
times as long and their tiles do not fit the registers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sum_of(taken, x):
    """taken [C, C], of zeros and ones, @ x [C, K], to float32's precision: the zeros and ones are exact in
    tf32, so two products do for three."""
    high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    low = tl.dot(taken, x - high, input_precision="tf32")
    return tl.dot(taken, high, low, input_precision="tf32")


@triton.jit
def running_sum(x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Sums of x [C, K] over the tokens up to each one (SUFFIX: from it on), without itself if EXCLUSIVE."""
    o_c = tl.arange(0, C)
    row, token = o_c[:, None], o_c[None, :]
    if SUFFIX:
        taken = token > row if EXCLUSIVE else token >= row
    else:
        taken = token < row if EXCLUSIVE else token <= row
    return sum_of(tl.where(taken, 1.0, 0.0), tl.maximum(x, -32768.0))


@triton.jit
def level_bounds(level, C: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """At a level: which tokens are in upper halves, and where its exponent starts and ends."""
    o_c = tl.arange(0, C)
    upper = ((o_c >> level) & 1) == 1
    cut = ((o_c >> level) | 1) << level
    first = tl.where(upper, cut, o_c + 1)
    end = tl.where(upper, o_c if EXCLUSIVE else o_c + 1, cut)
    return upper, first, end


@triton.jit
def level_factor(g, first, end, C: tl.constexpr):
    """2^(the sum of g [C, K] over the tokens from `first` to before `end`)."""
    token = tl.arange(0, C)[None, :]
    taken = (token >= first[:, None]) & (token < end[:, None])
    return tl.exp2(sum_of(tl.where(taken, 1.0, 0.0), g))


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
    for level in range(LEVELS):
        upper, first, end = level_bounds(level, C, EXCLUSIVE)
        z = (tl.where(upper[:, None], x, y) * level_factor(g, first, end, C)).to(DOT)
        pairs = (((row ^ column) >> level) == 1) & (row > column)
        out += tl.where(pairs, tl.dot(z, tl.trans(z), input_precision=PRECISION), 0.0)
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
    o_c = tl.arange(0, C)
    row, column = o_c[:, None], o_c[None, :]
    g = tl.maximum(g, -32768.0)
    dx, dy, dg = x * 0.0, y * 0.0, g * 0.0
    if not (STRICT or EXCLUSIVE):
        diagonal = tl.sum(tl.where(row == column, m, 0.0), 1)
        dx += diagonal[:, None] * y
        dy += diagonal[:, None] * x
    both = tl.where(row > column, m, tl.trans(m)).to(DOT)
    for level in range(LEVELS):
        upper, first, end = level_bounds(level, C, EXCLUSIVE)
        factor = level_factor(g, first, end, C)
        z = tl.where(upper[:, None], x, y)
        weights = tl.where(((row ^ column) >> level) == 1, both, 0.0)
        dz = factor * tl.dot(weights.to(DOT), (z * factor).to(DOT), input_precision=PRECISION)
        dx += tl.where(upper[:, None], dz, 0.0)
        dy += tl.where(upper[:, None], 0.0, dz)
        taken = tl.where((row >= first[None, :]) & (row < end[None, :]), 1.0, 0.0)
        dg = tl.dot(taken, z * dz, dg, input_precision=PRECISION)
    return dx, dy, 0.6931471805599453 * dg
