"""Triton: the scan of a state of one number for each head."""

from __future__ import annotations

import triton
import triton.language as tl

from rnnc.ops.triton_products import after, neighbour


@triton.jit
def scalar_scan(d, x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """y[i] = d[i] y[i-1] + x[i] from zero, d, x [C]; SUFFIX: y[i] = d[i+1] y[i+1] + x[i].

    EXCLUSIVE: y[i] = d[i-1] y[i-1] + x[i-1]; with SUFFIX y[i] = d[i+1] y[i+1] + x[i+1].
    """
    if SUFFIX and not EXCLUSIVE:
        d = neighbour(d, C, True)
    if EXCLUSIVE:  # of the neighbours
        d = neighbour(d, C, SUFFIX)
        x = tl.where(tl.arange(0, C) == (C - 1 if SUFFIX else 0), 0.0, neighbour(x, C, SUFFIX))
    _, y = tl.associative_scan((d, x), 0, after, reverse=SUFFIX)
    return y
