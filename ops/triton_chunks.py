"""Where the chunks of packed sequences lie, in one launch: what is on the device is not waited for."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["N", "count"])
def chunk_tables(
    cu_seqlens,  # [N + 1]
    offsets,  # [N]: the number of chunks before each sequence
    table,  # [count, 2]: for each chunk the sequence, or -1 where there is none, and its number there
    N,
    count,
    C: tl.constexpr,
    BN: tl.constexpr,
    BI: tl.constexpr,
):
    """Writes the offsets and the table of chunks of C tokens; a program has BI chunks, for which it goes over
    all sequences, BN at a time.
    """
    i_p = tl.program_id(0)
    o_i = i_p * BI + tl.arange(0, BI)
    b_sequence, b_before = tl.zeros([BI], tl.int32), tl.zeros([BI], tl.int32)
    total = tl.max(b_before, 0)
    written = tl.where(i_p == 0, N, 0)  # one program writes the offsets
    for i_n in range(0, N, BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = o_n < N
        b_first = tl.load(cu_seqlens + o_n, mask=m_n, other=0)
        b_last = tl.load(cu_seqlens + o_n + 1, mask=m_n, other=0)
        b_chunks = tl.cdiv((b_last - b_first).to(tl.int32), C)
        b_ends = total + tl.cumsum(b_chunks, 0)
        tl.store(offsets + o_n, b_ends - b_chunks, mask=o_n < written)
        # The sequences that end before a chunk, and where the last of them does.
        m_before = (b_ends[None, :] <= o_i[:, None]) & m_n[None, :]
        b_sequence += tl.sum(m_before.to(tl.int32), 1)
        b_before = tl.maximum(b_before, tl.max(tl.where(m_before, b_ends[None, :], 0), 1))
        total += tl.sum(b_chunks, 0)
    m_i = o_i < count
    tl.store(table + o_i * 2, tl.where(o_i < total, b_sequence, -1), mask=m_i)
    tl.store(table + o_i * 2 + 1, tl.where(o_i < total, o_i - b_before, 0), mask=m_i)
