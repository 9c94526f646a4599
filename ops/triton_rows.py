"""Triton: matrices between the rows of tokens that have several each.

The reads of a token are solved for together: row n * i + r is read r of token i. Tiles have a power of two
rows; n is one.
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
