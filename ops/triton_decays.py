"""Triton: sums of logarithms of decays per channel, over tokens and over blocks of them.

For products over pairs of tokens time is halved again and again. In a block of 2h tokens, h = 1, 2, ..., C/2,
the pairs of a row i in the upper half with a column j in the lower half factor at the cut between the
halves: the exponent of i sums the logarithms from the cut to i, that of j from j to the cut. Both are at most
0, no exponent is a difference of running sums, and none depends on a token after its pair. Logarithms to base
2 end at -32768, where 2^x is 0. Sums over tokens are formed by doubling, not as products with masks: tiles
[C, C] do not fit the registers beside those of a kernel.
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
def slope_sums(slope, level, C: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """The derivatives by logarithms, given those by the exponents at a level, which are sums of them [C, K].

    A token of an upper half gets the slopes from it on in its half, of a lower half those before it.
    """
    upper = (((tl.arange(0, C) >> level) & 1) == 1)[:, None]
    before, after = slope * 0.0, slope * 0.0
    for below in range(level):
        before, after = next_level(slope, before, after, below, C)
    return tl.where(upper, after if EXCLUSIVE else after + slope, before)
