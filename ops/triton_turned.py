"""Matrix products of generated Triton kernels that hold a whole state in registers."""

from __future__ import annotations

import triton
import triton.language as tl

FEW = tl.constexpr(64)  # rows: matrix units take operands of as many from shared memory


@triton.jit
def turned_dot(x, y, WARPS: tl.constexpr, PRECISION: tl.constexpr):
    """x [M, K] @ y [K, N] in float32, formed transposed where M is small and N is not: the operands of a
    product of few rows would fill the registers.
    """
    if x.shape[0] < FEW and y.shape[1] >= FEW:
        return tl.trans(tl.dot(tl.trans(y), tl.trans(x), input_precision=PRECISION))
    else:
        return tl.dot(x, y, input_precision=PRECISION)
