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


@triton.jit
def softplus(x):
    """log(1 + exp(x)), to a few units in the last place: where exp(x) is small too, and 1 + exp(x) would keep
    few of its digits.

    log(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3.
    """
    e = tl.exp(-tl.abs(x))
    s = e / (2 + e)
    t = s * s
    series = 1 / 9 + t * (1 / 11 + t * (1 / 13 + t * (1 / 15 + t / 17)))
    series = 1 + t * (1 / 3 + t * (1 / 5 + t * (1 / 7 + t * series)))
    return tl.maximum(x, 0.0) + 2 * s * series
