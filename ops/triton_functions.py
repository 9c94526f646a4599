"""Elementwise functions of generated Triton kernels that need more than a line, in float32."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def expm1(x):
    """exp(x) - 1; near 0, where the difference would keep few digits, by its series."""
    series = 1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8))))))
    return tl.where(tl.abs(x) < 0.5, x * series, tl.exp(x) - 1)


@triton.jit
def tanh(x):
    """The hyperbolic tangent, to a few units in the last place everywhere."""
    e = expm1(-2 * tl.abs(x))
    return tl.where(x < 0, 1.0, -1.0) * (e / (e + 2))
