"""Triton: the rows of tokens that have several each: reads that are solved for together, or micro-steps.

Row n * i + r is read, or step, r of token i. Tiles have a power of two rows; n is one.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def alternate_columns(left, right):
    """The columns of two tiles [R, S] in turn: [R, 2 S]."""
    R: tl.constexpr = left.shape[0]
    S: tl.constexpr = left.shape[1]
    return tl.reshape(tl.join(left, right), [R, 2 * S])


@triton.jit
def alternate_rows(upper, lower):
    """The rows of two tiles [R, S] in turn: [2 R, S]."""
    R: tl.constexpr = upper.shape[0]
    S: tl.constexpr = upper.shape[1]
    return tl.reshape(tl.permute(tl.join(upper, lower), (0, 2, 1)), [2 * R, S])


@triton.jit
def block(matrix, row: tl.constexpr, column: tl.constexpr, N: tl.constexpr, C: tl.constexpr):
    """The block [C, C] of a matrix [N C, N C] between row `row` and column `column` of all tokens."""
    o_n = tl.arange(0, N)
    taken = (o_n == row)[None, :, None, None] & (o_n == column)[None, None, None, :]
    return tl.sum(tl.sum(tl.where(taken, tl.reshape(matrix, [C, N, C, N]), 0.0), 3), 1)


@triton.jit
def repeat(x, N: tl.constexpr, AXIS: tl.constexpr):
    """Every entry of x [C], [C, K] or [K, C] N times along the axis of the tokens."""
    C: tl.constexpr = x.shape[AXIS]
    if N == 1:
        return x
    elif len(x.shape) == 1:
        return tl.reshape(tl.broadcast_to(x[:, None], [C, N]), [C * N])
    elif AXIS == 0:
        K: tl.constexpr = x.shape[1]
        return tl.reshape(tl.broadcast_to(x[:, None, :], [C, N, K]), [C * N, K])
    else:
        R: tl.constexpr = x.shape[0]
        return tl.reshape(tl.broadcast_to(x[:, :, None], [R, C, N]), [R, C * N])


@triton.jit
def over_steps(x, STEPS: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr, LARGEST: tl.constexpr):
    """The sums (LARGEST: maxima) of the first STEPS of the N rows of each token, x [C N], [C N, K] or
    [K, C N].
    """
    C: tl.constexpr = x.shape[AXIS] // N
    neutral: tl.constexpr = float("-inf") if LARGEST else 0.0
    o_n = tl.arange(0, N)
    if len(x.shape) == 1:
        y, exists = tl.reshape(x, [C, N]), (o_n < STEPS)[None, :]
    elif AXIS == 0:
        y, exists = tl.reshape(x, [C, N, x.shape[1]]), (o_n < STEPS)[None, :, None]
    else:
        y, exists = tl.reshape(x, [x.shape[0], C, N]), (o_n < STEPS)[None, None, :]
    if N > STEPS:
        y = tl.where(exists, y, neutral)
    along: tl.constexpr = AXIS + 1
    return tl.max(y, along) if LARGEST else tl.sum(y, along)


@triton.jit
def over_tokens(x, N: tl.constexpr):
    """The sums of x [C N] or [C N, K] over tokens: [N] or [N, K]."""
    C: tl.constexpr = x.shape[0] // N
    if len(x.shape) == 1:
        return tl.sum(tl.reshape(x, [C, N]), 0)
    else:
        return tl.sum(tl.reshape(x, [C, N, x.shape[1]]), 0)
