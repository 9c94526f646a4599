"""What stretches of tokens make of the state, one after the other: the state at the start of each.

A stretch maps the state as S -> M S + N (see `rnnc.codegen.summaries`). The gradient walks back, through M^T.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["H"])
def combine(
    m,  # [stretches, H, K, K], or, if SCALING, [stretches, H, K, 1]; None: the identity
    n,  # [stretches, H, K, V], the end of each stretch run from zero
    h0,  # [N, H, K, V], read if HAS_START
    ht,  # [N, H, K, V], written if HAS_END
    starts,  # [stretches, H, K, V], the state at the start of each stretch, written
    offsets,  # [N + 1], the number of stretches before each sequence
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    HAS_START: tl.constexpr,
    HAS_END: tl.constexpr,
    BACK: tl.constexpr,
    DOWN: tl.constexpr,
    SCALING: tl.constexpr,
    RIGHT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """starts[first] = h0, starts[next] = M starts + N, and ht after the last; BACK: with M^T.

    RIGHT: starts M + N, the states are [V, K].

    Grid: (tiles of V * N * H,); a program walks all stretches of one head of one sequence, in the order in
    which they lie in memory, or, if DOWN, from the last to the first. It reads again what it wrote, in tiles
    of K.
    """
    tiles = tl.cdiv(V, BV)
    i_v, i_nh = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)
    i_n, i_h = i_nh // H, i_nh % H
    first = tl.load(offsets + i_n).to(tl.int64)
    count = tl.load(offsets + i_n + 1).to(tl.int64) - first
    o_V = i_v * BV + tl.arange(0, BV)
    m_V = o_V < V
    SK: tl.constexpr = 1 if RIGHT else V
    SV: tl.constexpr = K if RIGHT else 1

    # The start of the first stretch; of a sequence without any, its end.
    at = (first + (count - 1 if DOWN else 0)) * H + i_h
    for i_r in range(0, K, BK):
        o_r = i_r + tl.arange(0, BK)
        tile, mask = o_r[:, None] * SK + o_V[None, :] * SV, (o_r < K)[:, None] & m_V[None, :]
        b_S = tl.zeros([BK, BV], tl.float32)
        if HAS_START:
            b_S = tl.load(h0 + i_nh * (K * V) + tile, mask=mask, other=0.0)
        if count > 0:
            tl.store(starts + at * (K * V) + tile, b_S, mask=mask)
        elif HAS_END:
            tl.store(ht + i_nh * (K * V) + tile, b_S, mask=mask)
    for i_s in range(count):
        tl.debug_barrier()  # what one thread wrote another may read
        at = (first + (count - 1 - i_s if DOWN else i_s)) * H + i_h
        after = at - H if DOWN else at + H
        for i_r in range(0, K, BK):
            o_r = i_r + tl.arange(0, BK)
            tile, mask = o_r[:, None] * SK + o_V[None, :] * SV, (o_r < K)[:, None] & m_V[None, :]
            # S_next = M S + N
            b_S = tl.load(n + at * (K * V) + tile, mask=mask, other=0.0)
            if m is None:
                b_S += tl.load(starts + at * (K * V) + tile, mask=mask, other=0.0)
            elif SCALING:
                b_m = tl.load(m + at * K + o_r, mask=o_r < K, other=0.0)
                b_S += b_m[:, None] * tl.load(starts + at * (K * V) + tile, mask=mask, other=0.0)
            else:
                for i_c in range(0, K, BK):
                    o_c = i_c + tl.arange(0, BK)
                    o_m = (
                        o_r[:, None] * K + o_c[None, :] if BACK == RIGHT else o_c[None, :] * K + o_r[:, None]
                    )
                    m_m = (o_r < K)[:, None] & (o_c < K)[None, :]
                    b_m = tl.load(m + at * (K * K) + o_m, mask=m_m, other=0.0)
                    p_c = starts + at * (K * V) + o_c[:, None] * SK + o_V[None, :] * SV
                    b_c = tl.load(p_c, mask=(o_c < K)[:, None] & m_V[None, :], other=0.0)
                    b_S += tl.dot(b_m, b_c, input_precision=PRECISION)
            if i_s + 1 < count:
                tl.store(starts + after * (K * V) + tile, b_S, mask=mask)
            elif HAS_END:
                tl.store(ht + i_nh * (K * V) + tile, b_S, mask=mask)
