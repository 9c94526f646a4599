"""Gradients of inputs of earlier tokens: what a token found of the one before it is added to that one's."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["T", "H"])
def add_earlier(
    sources,  # of each [B, T, H, W]: the gradients that tokens found of others, the lag before
    targets,  # of each [B, T, H, W]
    lags,
    widths,  # W of each
    cu_seqlens,  # [N + 1], read if PACKED
    chunk_table,  # [chunks, 2], the sequence of each chunk (-1: none) and its number there, read if PACKED
    T,
    H,
    C: tl.constexpr,
    BW: tl.constexpr,
    PACKED: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """target[t] += source[t + lag] for every array, where there is such a token in the sequence.

    Grid: (chunks, H); a program has one chunk of one head.
    """
    i_k, i_h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    if PACKED:
        i_n = tl.load(chunk_table + i_k * 2).to(tl.int64)
        i_t = tl.load(chunk_table + i_k * 2 + 1).to(tl.int64)
        bos = tl.load(cu_seqlens + i_n, mask=i_n >= 0, other=0).to(tl.int64)
        length = tl.load(cu_seqlens + i_n + 1, mask=i_n >= 0, other=0).to(tl.int64) - bos
    else:
        i_n, i_t = i_k // tl.cdiv(T, C), i_k % tl.cdiv(T, C)
        bos, length = i_n * T, T
    o_c = i_t * C + tl.arange(0, C)
    for i_x in tl.static_range(len(sources)):
        o_s = o_c + lags[i_x]
        o_t = bos + (length - 1 - o_c if REVERSE else o_c)
        o_f = bos + (length - 1 - o_s if REVERSE else o_s)
        for i_w in range(0, widths[i_x], BW):
            o_w = i_w + tl.arange(0, BW)
            m = (o_s < length)[:, None] & (o_w < widths[i_x])[None, :]
            p_x = targets[i_x] + (o_t * H + i_h)[:, None] * widths[i_x] + o_w[None, :]
            p_y = sources[i_x] + (o_f * H + i_h)[:, None] * widths[i_x] + o_w[None, :]
            b_x = tl.load(p_x, mask=m, other=0.0).to(tl.float32)
            b_x += tl.load(p_y, mask=m, other=0.0).to(tl.float32)
            tl.store(p_x, b_x.to(targets[i_x].dtype.element_ty), mask=m)
