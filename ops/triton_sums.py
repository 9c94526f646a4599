"""The sums after the backward kernels, all in one launch: of parameters' gradients over the chunks, of the
gradients of grouped inputs over the heads of a group.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sums(sources, targets, rows, widths, sizes, BR: tl.constexpr, BN: tl.constexpr):
    """out[e, i] = sum over r of x[e, r, i], for every x [outer, rows, width] of `sources`.

    `sizes` are outer * width. The order is fixed: the same bits in every run.
    """
    # One program: BN sums of one array.
    i_p = tl.program_id(0).to(tl.int64)
    for i_x in tl.static_range(len(sources)):
        blocks = tl.cdiv(sizes[i_x], BN)
        if (i_p >= 0) & (i_p < blocks):
            o_n = i_p * BN + tl.arange(0, BN)
            m_n = o_n < sizes[i_x]
            first = o_n // widths[i_x] * widths[i_x] * rows[i_x] + o_n % widths[i_x]
            b_sum = tl.zeros([BN], tl.float32)
            for i_r in range(0, rows[i_x], BR):
                o_r = (i_r + tl.arange(0, BR)).to(tl.int64)
                m_x = (o_r[:, None] < rows[i_x]) & m_n[None, :]
                p_x = sources[i_x] + first[None, :] + o_r[:, None] * widths[i_x]
                b_sum += tl.sum(tl.load(p_x, mask=m_x, other=0.0).to(tl.float32), 0)
            tl.store(targets[i_x] + o_n, b_sum.to(targets[i_x].dtype.element_ty), mask=m_n)
        i_p -= blocks
