"""Tile operations that generated Triton kernels call: sums of logarithms between tokens, the triangular
inverse.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.constexpr_function
def compiled_for_cuda():
    """Whether this is neither interpreted nor for another make of GPU."""
    return not triton.knobs.runtime.interpret and tl.target_info.is_cuda()


@triton.constexpr_function
def predicates_assembly():
    """Whether loops with assembly that is not pure can be pipelined: up to Triton 3.6 they do not compile."""
    return triton.__version__[:4] not in ("3.4.", "3.5.", "3.6.")


@triton.jit
def anew(i):
    """An index as it is, of which the compiler knows nothing more.

    What is computed from it afterwards is not taken from before: addresses of tiles that are read again, or
    in every step of a loop, would be held in registers instead, one for every row. (Where assembly has to be
    pure, the compiler may move it out of a loop or join it with another.)
    """
    IS_PURE: tl.constexpr = not predicates_assembly()
    if compiled_for_cuda():
        if i.dtype == tl.int64:
            i = tl.inline_asm_elementwise("mov.b64 $0, $1;", "=l,l", [i], tl.int64, is_pure=IS_PURE, pack=1)
        else:
            i = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [i], tl.int32, is_pure=IS_PURE, pack=1)
    return i


@triton.jit
def entries(i, SIZE: tl.constexpr):
    """The numbers of the entries of a tile, computed where they stand (see `anew`); `i`: any index."""
    return anew(i * 0) + tl.arange(0, SIZE)


@triton.jit
def running_scalar(x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Sums of x [C] over the tokens up to each one (SUFFIX: from it on), without itself if EXCLUSIVE.

    The exclusive sums are those of the neighbours, not a difference: one large logarithm would cost the rest.
    """
    o_c = tl.arange(0, C)
    if EXCLUSIVE and SUFFIX:
        x = tl.where(o_c < C - 1, tl.gather(x, tl.minimum(o_c + 1, C - 1), 0), 0.0)
    elif EXCLUSIVE:
        x = tl.where(o_c > 0, tl.gather(x, tl.maximum(o_c - 1, 0), 0), 0.0)
    return tl.cumsum(x, 0, reverse=SUFFIX)


@triton.jit
def prefix_pair(x, C: tl.constexpr):
    """The running sums of x [C] as a pair of float32 whose sum holds them to float64's precision.

    Logarithms to base 2 are clamped where 2^x is 0, so that -inf, a reset, takes part like any other.
    """
    total = tl.cumsum(tl.maximum(x, -32768.0).to(tl.float64), 0)
    high = total.to(tl.float32)
    return high, (total - high.to(tl.float64)).to(tl.float32)


@triton.jit
def segment_sum(x, C: tl.constexpr, EXCLUSIVE: tl.constexpr, STRICT: tl.constexpr):
    """L[i,j] = the sum of x[t] over j < t <= i (EXCLUSIVE: t < i), -inf above the diagonal (STRICT: and on
    it).
    """
    o_c = tl.arange(0, C)
    high, low = prefix_pair(x, C)
    upper, lower = high, low
    if EXCLUSIVE:
        before = tl.maximum(x, -32768.0)
        strict = tl.sum(tl.where(o_c[None, :] < o_c[:, None], before[None, :].to(tl.float64), 0.0), 1)
        upper = strict.to(tl.float32)
        lower = (strict - upper.to(tl.float64)).to(tl.float32)
    pairs = (upper[:, None] - high[None, :]) + (lower[:, None] - low[None, :])
    below = EXCLUSIVE or STRICT
    kept = o_c[:, None] > o_c[None, :] if below else o_c[:, None] >= o_c[None, :]
    return tl.where(kept, pairs, float("-inf"))


@triton.jit
def segment_sum_grad(grad, C: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """dx[t] = the sum of dL[i,j] over i >= t > j (EXCLUSIVE: i > t)."""
    o_c = tl.arange(0, C)
    below = tl.cumsum(grad, 0, reverse=True)
    if EXCLUSIVE:
        below -= grad
    return tl.sum(tl.where(o_c[:, None] > o_c[None, :], below, 0.0), 1)


@triton.jit
def inverse(p, C: tl.constexpr):
    """(I - P)^-1 for strictly lower triangular P [C, C]; no other entry of P is read.

    X <- X + X P_off X over blocks of 2, 4, ..., C, P_off the lower left quarter of every block: only true
    inverses appear on the way. (Powers of P overflow where keys are correlated.) Up to 16, all blocks on the
    diagonal are one batch of small products.
    """
    EXACT: tl.constexpr = "tf32x3" if compiled_for_cuda() else "ieee"
    N: tl.constexpr = C // 16
    o_c, o_b, o_n = tl.arange(0, C), tl.arange(0, 16), tl.arange(0, N)
    same = o_n[:, None, None, None] == o_n[None, None, :, None]
    diagonal = tl.sum(tl.where(same, tl.reshape(p, [N, 16, N, 16]), 0.0), 2)
    x = tl.where((o_b[:, None] == o_b[None, :])[None, :, :], 1.0, 0.0) + tl.zeros([N, 16, 16], tl.float32)
    for level in tl.static_range(0, 4):
        block = o_b >> level
        quarter = (block[:, None] % 2 == 1) & (block[:, None] - 1 == block[None, :])
        off = tl.where(quarter[None, :, :], diagonal, 0.0)
        if level == 0:
            x += off
        else:
            x += tl.dot(tl.dot(x, off, input_precision=EXACT), x, input_precision=EXACT)
    y = tl.reshape(tl.where(same, x[:, :, None, :], 0.0), [C, C])
    for level in tl.static_range(4, 8):
        if (1 << level) < C:
            block = o_c >> level
            quarter = (block[:, None] % 2 == 1) & (block[:, None] - 1 == block[None, :])
            off = tl.where(quarter, p, 0.0)
            y += tl.dot(tl.dot(y, off, input_precision=EXACT), y, input_precision=EXACT)
    return y


@triton.jit
def inverse_grad(x, grad, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """The gradient of P from that of x = (I - P)^-1, both [C, C]: what x^T grad x^T has below the diagonal.

    That depends on no entry of `grad` above it.
    """
    o_c = tl.arange(0, x.shape[0])
    across = tl.trans(x.to(DOT))
    inner = tl.dot(across, grad.to(DOT), input_precision=PRECISION)
    outer = tl.dot(inner.to(DOT), across, input_precision=PRECISION)
    return tl.where(o_c[:, None] > o_c[None, :], outer, 0.0)


@triton.jit
def substitute(p, N: tl.constexpr):
    """(I - P)^-1 for the part of p [B, B] below the diagonal, of its first N rows, one after the other."""
    o = tl.arange(0, p.shape[0])
    p = tl.where((o[:, None] > o[None, :]) & (o[:, None] < N), p, 0.0)
    x = tl.where(o[:, None] == o[None, :], 1.0, 0.0)
    for i in tl.static_range(1, N):
        row = tl.sum(tl.where(o[:, None] == i, p, 0.0), 0)
        x += tl.where(o[:, None] == i, tl.sum(row[:, None] * x, 0)[None, :], 0.0)
    return x
