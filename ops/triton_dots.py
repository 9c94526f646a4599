"""Matrix products of generated Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl

from rnnc.codegen.slices import slices

slices_of = triton.constexpr_function(slices)


@triton.jit
def dot(x, y, WARPS: tl.constexpr, PRECISION: tl.constexpr):
    """x [M, K] @ y [K, N] in float32; K in slices, one for each of the WARPS, where M and N are small."""
    SIZE: tl.constexpr = x.dtype.primitive_bitwidth // 8
    SLICES: tl.constexpr = slices_of(x.shape[0], y.shape[1], x.shape[1], WARPS, SIZE)
    if SLICES == 1:
        return tl.dot(x, y, input_precision=PRECISION)
    else:
        left = tl.permute(tl.reshape(x, [x.shape[0], SLICES, x.shape[1] // SLICES]), [1, 0, 2])
        right = tl.reshape(y, [SLICES, y.shape[0] // SLICES, y.shape[1]])
        return tl.sum(tl.dot(left, right, input_precision=PRECISION), 0)
