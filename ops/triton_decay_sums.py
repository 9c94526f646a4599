"""Triton: sums over tokens under a decay per channel, weighted by a matrix between tokens, or their rows.

    rows:     out[i,k] = sum_j m[i,j] z[j,k] E[i,j,k]        columns:  out[j,k] = sum_i m[i,j] z[i,k] E[i,j,k]

E is 2^(sum of g[t,k] over j < t <= i), or the product of decays d[t,k], and the pairs are lower triangular
(STRICT, EXCLUSIVE: below it). As in `triton_decays` and `triton_products`, time is halved again and again:
what one half gives to the other has its factors at the cut between the two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rnnc.ops.triton_decay_dots import row_pairs, upper_half
from rnnc.ops.triton_decays import next_level
from rnnc.ops.triton_products import widened
from rnnc.ops.triton_rows import repeat


@triton.jit
def beside(
    m,
    z,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    BELOW: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What the rows of one token, between which there is no decay, give each other."""
    X: tl.constexpr = m.shape[0]
    Y: tl.constexpr = m.shape[1]
    _, _, meets = row_pairs(X, Y, C, BELOW)
    weights = tl.where(meets, m, 0.0)
    if X == C and Y == C:
        return tl.sum(weights, 1)[:, None] * z
    elif COLUMNS:
        return tl.dot(tl.trans(weights).to(DOT), z.to(DOT), input_precision=PRECISION)
    else:
        return tl.dot(weights.to(DOT), z.to(DOT), input_precision=PRECISION)


@triton.jit
def across(
    m,
    z,
    factor,
    level,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What lower halves give to upper ones at a level, or, to columns, upper ones to lower ones."""
    X: tl.constexpr = m.shape[0]
    Y: tl.constexpr = m.shape[1]
    token, other, _ = row_pairs(X, Y, C, True)
    weights = tl.where((((token ^ other) >> level) == 1) & (token > other), m, 0.0)
    if COLUMNS:
        given = (z * repeat(factor, X // C, 0)).to(DOT)
        return repeat(factor, Y // C, 0) * tl.dot(tl.trans(weights).to(DOT), given, input_precision=PRECISION)
    else:
        given = (z * repeat(factor, Y // C, 0)).to(DOT)
        return repeat(factor, X // C, 0) * tl.dot(weights.to(DOT), given, input_precision=PRECISION)


@triton.jit
def decay_sum(
    m,
    z,
    g,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The sums under 2^(sums of g [C, K]), over rows, or over columns."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    TARGETS: tl.constexpr = m.shape[1] if COLUMNS else m.shape[0]
    g = tl.maximum(g, -32768.0)
    if TARGETS == C and (STRICT or EXCLUSIVE):
        out = tl.zeros(g.shape, tl.float32)
    else:
        out = beside(m, z, C, COLUMNS, STRICT or EXCLUSIVE, DOT, PRECISION)
    before, after = g * 0.0, g * 0.0
    for level in range(LEVELS):
        upper = upper_half(tl.arange(0, C), level)[:, None]
        factor = tl.exp2(tl.where(upper, before if EXCLUSIVE else before + g, after))
        out += across(m, z, factor, level, C, COLUMNS, DOT, PRECISION)
        before, after = next_level(g, before, after, level, C)
    return out


@triton.jit
def product_sum(
    m,
    z,
    d,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The sums under products of d [C, K], over rows, or over columns."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    TARGETS: tl.constexpr = m.shape[1] if COLUMNS else m.shape[0]
    if TARGETS == C and (STRICT or EXCLUSIVE):
        out = tl.zeros(d.shape, tl.float32)
    else:
        out = beside(m, z, C, COLUMNS, STRICT or EXCLUSIVE, DOT, PRECISION)
    suffix = d * 0.0 + 1.0
    prefix = suffix if EXCLUSIVE else d
    whole = d
    for level in range(LEVELS):
        factor = tl.where(upper_half(tl.arange(0, C), level)[:, None], prefix, suffix)
        out += across(m, z, factor, level, C, COLUMNS, DOT, PRECISION)
        prefix, suffix, whole = widened(prefix, suffix, whole, level, C)
    return out
