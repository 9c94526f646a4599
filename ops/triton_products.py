"""Triton: products of decays of any sign between tokens, without a logarithm or a division.

A decay of exactly 0 is a reset: what lies across it is exactly 0, and the derivative by it is exact. Scalar
decays give the C x C matrix of products; decays per channel go by dyadic levels, as in `triton_decays`: in a
block of 2h tokens the factor of a row i of the upper half is the product from the cut to i, that of a column
j of the lower half the product from j to the cut. Nothing depends on a token after its pair.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sum_of(taken, x):
    """taken [C, C], of zeros and ones, @ x [C, K], to float32's precision: the zeros and ones are exact in
    tf32, so two products do for three."""
    high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    low = tl.dot(taken, x - high, input_precision="tf32")
    return tl.dot(taken, high, low, input_precision="tf32")


@triton.jit
def neighbour(x, C: tl.constexpr, NEXT: tl.constexpr):
    """For every token of x [C] or [C, K] the value before it (NEXT: after it); 1 beyond the end."""
    o_c = tl.arange(0, C)
    source = tl.minimum(o_c + 1, C - 1) if NEXT else tl.maximum(o_c - 1, 0)
    beyond = o_c == C - 1 if NEXT else o_c == 0
    if len(x.shape) == 2:
        source = source[:, None] + tl.zeros(x.shape, tl.int32)
        beyond = beyond[:, None]
    return tl.where(beyond, 1.0, tl.gather(x, source, 0))


@triton.jit
def running_product(d, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Products of d [C] or [C, K] over the tokens up to each one (SUFFIX: from it on), without itself if
    EXCLUSIVE.
    """
    if EXCLUSIVE:
        d = neighbour(d, C, SUFFIX)
    return tl.cumprod(d, 0, reverse=SUFFIX)


@triton.jit
def after(d, x, e, y):
    """S -> d S + x, then S -> e S + y, as one."""
    return d * e, e * x + y


@triton.jit
def linear_scan(d, x, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """y[i] = d[i] y[i-1] + x[i] from zero, d, x [C, K]; SUFFIX: y[i] = d[i+1] y[i+1] + x[i].

    EXCLUSIVE: y[i] = d[i-1] y[i-1] + x[i-1]; with SUFFIX y[i] = d[i+1] y[i+1] + x[i+1].
    """
    o_c = tl.arange(0, C)[:, None]
    if SUFFIX and not EXCLUSIVE:
        d = neighbour(d, C, True)
    if EXCLUSIVE:  # of the neighbours
        d = neighbour(d, C, SUFFIX)
        x = tl.where(o_c == (C - 1 if SUFFIX else 0), 0.0, neighbour(x, C, SUFFIX))
    _, y = tl.associative_scan((d, x), 0, after, reverse=SUFFIX)
    return y


@triton.jit
def path(d, C: tl.constexpr, EXCLUSIVE: tl.constexpr, STRICT: tl.constexpr):
    """T[i,j] = the product of d[t] over j < t <= i (EXCLUSIVE: t < i), 0 above the diagonal (STRICT: and on
    it).

    By halves, from vectors: running products of a [C, C] tile would take a register for every row.
    """
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    o_c = tl.arange(0, C)
    row, column = o_c[:, None], o_c[None, :]
    out = tl.zeros([C, C], tl.float32)
    if not (EXCLUSIVE or STRICT):
        out += tl.where(row == column, 1.0, 0.0)
    suffix = d * 0.0 + 1.0
    prefix = suffix if EXCLUSIVE else d
    whole = d
    for level in range(LEVELS):
        pairs = (((row ^ column) >> level) == 1) & (row > column)
        out += tl.where(pairs, prefix[:, None] * suffix[None, :], 0.0)
        upper = ((o_c >> level) & 1) == 1
        other = tl.gather(whole, o_c ^ (1 << level), 0)
        prefix, suffix = tl.where(upper, prefix * other, prefix), tl.where(upper, suffix, suffix * other)
        whole *= other
    return out


@triton.jit
def path_grad(d, grad, C: tl.constexpr, EXCLUSIVE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """dd[t] = the sum of T[i,t] dT[i,j] T[t-1,j] over i >= t > j (EXCLUSIVE: i > t); no other dT is read."""
    o_c = tl.arange(0, C)
    grad = tl.where(o_c[:, None] > o_c[None, :], grad, 0.0)
    before = path(d, C, True, True)
    after = before if EXCLUSIVE else path(d, C, False, False)
    through = tl.dot(grad.to(DOT), tl.trans(before.to(DOT)), input_precision=PRECISION)
    return tl.sum(after * through, 0)


@triton.jit
def running_product_scalar_grad(d, grad, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """The gradient of d [C] from that of `running_product`."""
    others = running_product(d, C, SUFFIX, True)
    if SUFFIX:
        # From i to t lie the decays between the two and, unless EXCLUSIVE, that of i.
        reached = tl.sum(path(d, C, True, True) * (grad if EXCLUSIVE else grad * d)[None, :], 1)
    else:
        reached = tl.sum(path(d, C, EXCLUSIVE, True) * grad[:, None], 0)
    return others * (reached if EXCLUSIVE else reached + grad)


@triton.jit
def other_half(whole, level, C: tl.constexpr):
    """For every token what the other half of its block of 2h tokens, h = 2^level, has in the same place."""
    beside = tl.arange(0, C) ^ (1 << level)
    return tl.gather(whole, beside[:, None] + tl.zeros(whole.shape, tl.int32), 0)


@triton.jit
def widened(prefix, suffix, whole, level, C: tl.constexpr):
    """From blocks of 2^level tokens to blocks of twice as many: the products from a block's start to a token,
    from the token to its end, and over all of it.
    """
    upper = (((tl.arange(0, C) >> level) & 1) == 1)[:, None]
    other = other_half(whole, level, C)
    return tl.where(upper, prefix * other, prefix), tl.where(upper, suffix, suffix * other), whole * other


@triton.jit
def level_pairs(level, C: tl.constexpr):
    """At a level: which rows are in upper halves, and which pairs of tokens belong to it, in either order."""
    o_c = tl.arange(0, C)
    return (((o_c >> level) & 1) == 1)[:, None], ((o_c[:, None] ^ o_c[None, :]) >> level) == 1


@triton.jit
def running_product_grad(d, grad, C: tl.constexpr, SUFFIX: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """The gradient of d [C, K] from that of `running_product`."""
    LEVELS: tl.constexpr = tl.constexpr(C.bit_length() - 1)
    one = d * 0.0 + 1.0
    # The derivative by a product from i to t: without t's own decay, with that of i unless EXCLUSIVE.
    prefix = one if SUFFIX or EXCLUSIVE else d
    suffix = d if SUFFIX and not EXCLUSIVE else one
    whole = d
    reached = grad * 0.0 if EXCLUSIVE else grad
    for level in range(LEVELS):
        upper, pairs = level_pairs(level, C)
        factor = tl.where(upper, prefix, suffix)
        reads = upper if SUFFIX else upper == 0
        taken = tl.where(pairs & reads, 1.0, 0.0)
        reached += factor * sum_of(taken, grad * factor)
        prefix, suffix, whole = widened(prefix, suffix, whole, level, C)
    return running_product(d, C, SUFFIX, True) * reached
