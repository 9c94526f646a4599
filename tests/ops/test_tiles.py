"""Sums and decays against their definitions in loops, their gradients, and cases that break shortcuts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from rnnc.ops import tiles

SIZES = (1, 2, 4, 16)
FLAGS = list(itertools.product((False, True), (False, True)))  # exclusive, strict
BATCHES = ((), (3,), (2, 3))


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def logs(*shape, seed=0, dtype=torch.float64):
    return -randn(*shape, seed=seed, dtype=dtype).abs()


def factors(decays, product, exclusive):
    return tiles.product_factors(decays, exclusive) if product else tiles.decay_factors(decays, exclusive)


def pairs(decays, product, exclusive, strict=False):
    """F[..., i, j, k] by its definition; None where the pair is left out."""
    tokens = decays.shape[-2]
    rows = []
    for i in range(tokens):
        row = []
        for j in range(tokens):
            between = decays[..., j + 1 : i if exclusive else i + 1, :]
            factor = between.prod(-2) if product else torch.exp2(between.sum(-2))
            left_out = j > i or (j == i and (exclusive or strict))
            row.append(torch.zeros_like(factor) if left_out else factor)
        rows.append(torch.stack(row, -2))
    return torch.stack(rows, -3)


def trilinear(m, x, y, factor):
    return torch.einsum("...ij,...ik,...jk,...ijk->...", m, x, y, factor)


def gradients(value, inputs):
    """Derivatives of the definition, zero where it does not read an input."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)


def relative(found, expected):
    """The largest error in units of the largest value."""
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


def close(found, expected, tolerance=1e-13):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# Running sums and products


@pytest.mark.parametrize(("shape", "dim"), [((7,), 0), ((3, 8), -1), ((2, 8, 5), -2), ((2, 3, 8, 5), 2)])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_sums(shape, dim, exclusive):
    x, size = randn(*shape), shape[dim]
    first = 0 if exclusive else 1
    prefix = [x.narrow(dim, 0, t + first).sum(dim) for t in range(size)]
    suffix = [x.narrow(dim, t + 1 - first, size - t - 1 + first).sum(dim) for t in range(size)]
    close(tiles.prefix_sum(x, dim, exclusive), torch.stack(prefix, dim))
    close(tiles.suffix_sum(x, dim, exclusive), torch.stack(suffix, dim))


@pytest.mark.parametrize("sums", [tiles.prefix_sum, tiles.suffix_sum])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_sums_past_a_reset(sums, exclusive):
    x = logs(8)
    x[3] = -math.inf
    decay = torch.exp2(sums(x, 0, exclusive))
    assert not decay.isnan().any()
    beyond = range(4, 8) if sums is tiles.prefix_sum else range(3)
    assert (decay == 0).nonzero().flatten().tolist() == sorted({*beyond, *([] if exclusive else [3])})


@pytest.mark.parametrize(("shape", "dim"), [((3, 8), -1), ((2, 8, 5), -2), ((2, 3, 8, 5), 2), ((1,), 0)])
@pytest.mark.parametrize("direction", ["prefix", "suffix"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_products_and_their_gradient(shape, dim, direction, exclusive):
    d = randn(*shape)
    d[..., 0] = 0
    d.requires_grad_()
    size, first = shape[dim], 0 if exclusive else 1
    lengths = [t + first for t in range(size)]
    if direction == "prefix":
        expected = torch.stack([d.narrow(dim, 0, n).prod(dim) for n in lengths], dim)
    else:
        expected = torch.stack([d.narrow(dim, size - n, n).prod(dim) for n in reversed(lengths)], dim)
    grad = randn(*shape, seed=1)
    (dd,) = gradients((expected * grad).sum(), (d,))
    with torch.no_grad():
        close(tiles.running_product(d, dim, direction, exclusive), expected)
        close(tiles.running_product_grad(d, grad, dim, direction, exclusive), dd)
    close(tiles.running_product(d, dim, direction, exclusive), expected)


# Decays that are the same for every key


@pytest.mark.parametrize(("exclusive", "strict"), FLAGS)
@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("batch", BATCHES)
def test_segment_sum_and_its_gradient(tokens, batch, exclusive, strict):
    g = logs(*batch, tokens).requires_grad_()
    expected = pairs(g.unsqueeze(-1), False, exclusive, strict)[..., 0]
    m = randn(*batch, tokens, tokens, seed=1)
    (dg,) = gradients((expected.where(expected > 0, 1).log2() * m).sum(), (g,))
    with torch.no_grad():
        found = tiles.segment_sum(g, exclusive, strict)
        assert (found.isinf() == (expected == 0)).all()
        close(torch.exp2(found), expected)
        close(tiles.segment_sum_grad(m, exclusive), dg, 1e-12)


@pytest.mark.parametrize(("exclusive", "strict"), FLAGS)
@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("batch", BATCHES)
def test_path_and_its_gradient(tokens, batch, exclusive, strict):
    d = randn(*batch, tokens)
    d[..., tokens // 2] = 0
    d.requires_grad_()
    expected = pairs(d.unsqueeze(-1), True, exclusive, strict)[..., 0]
    m = randn(*batch, tokens, tokens, seed=1)
    (dd,) = gradients((expected * m).sum(), (d,))
    with torch.no_grad():
        close(tiles.path(d, exclusive, strict), expected)
        close(tiles.path_grad(d, m, exclusive), dd)


def test_gradients_read_no_pair_that_is_left_out():
    tokens = 8
    m, d = randn(2, tokens, tokens), randn(2, tokens)
    spoilt = m.where(torch.ones(tokens, tokens, dtype=torch.bool).tril(-1), math.nan)
    f = tiles.product_factors(randn(2, tokens, 3))
    x, y = randn(2, tokens, 3), randn(2, tokens, 3)
    assert torch.equal(tiles.segment_sum_grad(m), tiles.segment_sum_grad(spoilt))
    assert torch.equal(tiles.path_grad(d, m), tiles.path_grad(d, spoilt))
    clean_grads, spoilt_grads = (tiles.decay_dot_grads(a, x, y, f, strict=True) for a in (m, spoilt))
    for clean, dirty in zip(clean_grads, spoilt_grads, strict=True):
        assert torch.equal(clean, dirty)


# Decays that differ from key to key


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize(("exclusive", "strict"), FLAGS)
@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("batch", BATCHES)
def test_decay_dot_and_its_three_derivatives(tokens, batch, exclusive, strict, product):
    keys = 5
    x, y = (randn(*batch, tokens, keys, seed=seed).requires_grad_() for seed in (1, 2))
    decays = randn(*batch, tokens, keys) if product else logs(*batch, tokens, keys)
    decays[..., tokens // 2, 1] = 0 if product else -math.inf
    decays.requires_grad_()
    m = randn(*batch, tokens, tokens, seed=3)
    factor = pairs(decays, product, exclusive, strict)
    derivatives = gradients(trilinear(m, x, y, factor).sum(), (x, y, decays))
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            f = factors(decays, product, exclusive)
            close(tiles.decay_dot(x, y, f, strict), torch.einsum("...ik,...jk,...ijk->...ij", x, y, factor))
            for found, expected in zip(tiles.decay_dot_grads(m, x, y, f, strict), derivatives, strict=True):
                close(found, expected, 1e-12)
            close(tiles.decay_dot_rows(m, y, f, strict), derivatives[0])
            close(tiles.decay_dot_columns(m, x, f, strict), derivatives[1])
            close(tiles.decay_dot_decay(m, x, y, f), derivatives[2], 1e-12)


@pytest.mark.parametrize("product", [False, True])
def test_batch_axes_broadcast(product):
    x, y = randn(4, 3, 8, 5, seed=1), randn(1, 3, 8, 5, seed=2)
    decays, m = logs(1, 1, 8, 5), randn(4, 1, 8, 8, seed=3)
    full = factors(decays.expand(4, 3, 8, 5), product, False)
    f = factors(decays, product, False)
    close(tiles.decay_dot(x, y, f), tiles.decay_dot(x, y.expand(4, 3, 8, 5), full))
    wide = (m.expand(4, 3, 8, 8), x, y.expand(4, 3, 8, 5), full)
    for found, expected in zip(tiles.decay_dot_grads(m, x, y, f), tiles.decay_dot_grads(*wide), strict=True):
        close(found.expand(4, 3, 8, 5), expected)


# Differentiable, twice


CALLS = {
    "prefix_sum": lambda x: tiles.prefix_sum(x, -2, True),
    "suffix_sum": lambda x: tiles.suffix_sum(x, -2),
    "running_product": lambda x: tiles.running_product(x, -2, "suffix", True),
    "running_product_grad": lambda x, y: tiles.running_product_grad(x, y, -2),
    "segment_sum": lambda x: tiles.segment_sum(x.mT).exp2(),
    "segment_sum_grad": lambda m: tiles.segment_sum_grad(m, exclusive=True),
    "path": lambda x: tiles.path(x.mT),
    "path_grad": lambda x, m: tiles.path_grad(x[..., 0], m),
    "decay_dot": lambda x, y, d: tiles.decay_dot(x, y, tiles.decay_factors(d)),
    "decay_dot_grads": lambda m, x, y, d: tiles.decay_dot_grads(m, x, y, tiles.decay_factors(d)),
    "product_dot": lambda x, y, d: tiles.decay_dot(x, y, tiles.product_factors(d, exclusive=True)),
    "product_dot_grads": lambda m, x, y, d: tiles.decay_dot_grads(m, x, y, tiles.product_factors(d)),
    "decay_dot_rows": lambda m, x, d: tiles.decay_dot_rows(m, x, tiles.decay_factors(d, exclusive=True)),
    "decay_dot_columns": lambda m, x, d: tiles.decay_dot_columns(m, x, tiles.product_factors(d)),
    "inverse": lambda m: tiles.inverse(m.tril(-1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_first_and_second_derivatives(name):
    call = CALLS[name]
    arguments = []
    for seed, argument in enumerate(call.__code__.co_varnames):
        values = randn(2, 4, 4 if argument == "m" else 3, seed=seed)
        arguments.append(values.requires_grad_())
    assert gradcheck(call, arguments)
    assert gradgradcheck(call, arguments)


def test_zero_decays_have_exact_autograd_gradients():
    d = randn(1, 8, 3)
    d[:, 2], d[:, 5, 0] = 0, 0
    d.requires_grad_()
    x, y = randn(1, 8, 3, seed=1), randn(1, 8, 3, seed=2)
    assert gradcheck(lambda d: tiles.decay_dot(x, y, tiles.product_factors(d)), (d,))
    assert gradgradcheck(lambda d: tiles.path(d[..., 0]), (d,))


# Numerics


GATES = {
    "weak": lambda g: 0.01 * g,
    "strong": lambda g: 20 * g,
    "none": lambda g: 0 * g,
    "one strong among weak": lambda g: torch.where(_at(g, 20), -1000.0, 0.1 * g),
    "one huge among weak": lambda g: torch.where(_at(g, 33), -1e6, 0.1 * g),
    "a reset": lambda g: torch.where(_at(g, 31), -math.inf, 0.1 * g),
    "resets and huge": lambda g: (g - 1e6 * _at(g, 40)).masked_fill(_at(g, 7) | _at(g, 8), -math.inf),
    "a reset first and last": lambda g: torch.where(_at(g, 0) | _at(g, 63), -math.inf, 0.1 * g),
}


def _at(g, token):
    return (torch.arange(64) == token).unsqueeze(-1).expand_as(g)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("name", GATES)
def test_float32_against_float64(name, exclusive):
    tokens, keys = 64, 32
    g = GATES[name](logs(2, tokens, keys, dtype=torch.float32))
    x, y = (randn(2, tokens, keys, seed=seed, dtype=torch.float32) for seed in (1, 2))
    m = randn(2, tokens, tokens, seed=3, dtype=torch.float32)
    wide = [value.double() for value in (m, x, y)]
    f64 = g.double().requires_grad_()
    factor = pairs(f64, False, exclusive)
    f = tiles.decay_factors(g, exclusive)
    dot = torch.einsum("...ik,...jk,...ijk->...ij", *wide[1:], factor)
    assert relative(tiles.decay_dot(x, y, f), dot) < 1e-6
    dx, dy, dg = tiles.decay_dot_grads(m, x, y, f)
    assert relative(dx, torch.einsum("...ij,...jk,...ijk->...ik", wide[0], wide[2], factor)) < 1e-6
    assert relative(dy, torch.einsum("...ij,...ik,...ijk->...jk", wide[0], wide[1], factor)) < 1e-6
    (expected,) = torch.autograd.grad(trilinear(*wide, factor).sum(), f64)
    assert relative(dg, expected) < 1e-6
    assert not dg[g < -1e5].any()

    decay = tiles.segment_sum(g[..., 0], exclusive).exp2()
    assert relative(decay, factor[..., 0].detach()) < 1e-6
    assert not decay[factor[..., 0] < 1e-46].any()


@pytest.mark.parametrize("name", GATES)
def test_strong_decays_leave_no_nan_in_autograd_gradients(name):
    g = GATES[name](logs(64, 3, dtype=torch.float32)).requires_grad_()
    x = randn(64, 3, dtype=torch.float32).requires_grad_()
    out = tiles.decay_dot(x, x, tiles.decay_factors(g)).sum() + tiles.segment_sum(g[:, 0]).exp2().sum()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out, (x, g)))


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("kept", [1, 31, 32, 33, 50])
def test_later_tokens_change_no_bit_of_what_is_before(product, exclusive, kept):
    tokens, keys = 64, 16

    def results(seed):
        x, y, d, m = (randn(2, tokens, keys, seed=s, dtype=torch.float32) for s in (1, 2, 3, 4))
        m = randn(2, tokens, tokens, seed=5, dtype=torch.float32).tril()
        for value in (x, y, d):
            value[:, kept:] = randn(2, tokens - kept, keys, seed=seed, dtype=torch.float32)
        m[:, kept:] = 0  # a cotangent that is zero on what is later
        decays = d if product else -d.abs()
        f = factors(decays, product, exclusive)
        dot, grads = tiles.decay_dot(x, y, f), tiles.decay_dot_grads(m, x, y, f)
        inside = [dot[:, :kept, :kept], *(grad[:, :kept] for grad in grads)]
        line = tiles.path(d[..., 0], exclusive) if product else tiles.segment_sum(decays[..., 0], exclusive)
        running = tiles.running_product(d, -2) if product else tiles.prefix_sum(decays, -2)
        return [*inside, line[:, :kept, :kept], running[:, :kept]]

    for first, second in zip(results(10), results(11), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["decays near 0", "signs", "zeros"])
def test_products_in_float32(kind):
    tokens, keys = 64, 16
    d = {
        "decays near 0": 1e-4 * randn(tokens, keys),
        "signs": randn(tokens, keys).sign() * 0.99,
        "zeros": randn(tokens, keys).clamp(-1, 1) * (randn(tokens, keys, seed=9) > -1),
    }[kind].float()
    x, y = randn(tokens, keys, seed=1).float(), randn(tokens, keys, seed=2).float()
    m = randn(tokens, tokens, seed=3).float()
    exact = d.double().requires_grad_()
    factor = pairs(exact, True, False)
    value = trilinear(m.double(), x.double(), y.double(), factor)
    (expected,) = torch.autograd.grad(value, exact, retain_graph=True)
    f = tiles.product_factors(d)
    assert relative(tiles.decay_dot_grads(m, x, y, f)[2], expected) < 2e-6
    assert not tiles.path(d[:, 0])[factor[..., 0].abs() < 1e-46].any()
    (along,) = torch.autograd.grad((factor[..., 0] * m).sum(), exact)
    assert relative(tiles.path_grad(d[:, 0], m), along[:, 0]) < 2e-6


def test_a_chunk_has_a_power_of_two_tokens():
    with pytest.raises(ValueError, match="a power of two tokens, not 6"):
        tiles.decay_factors(torch.zeros(6, 2))


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize(("exclusive", "strict"), FLAGS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), [(1, 3, 3), (8, 2, 2), (8, 1, 3), (16, 3, 3)])
def test_decay_dot_with_several_rows_for_a_token(tokens, rows, columns, exclusive, strict, product):
    """As with a decay per row that is 1 in all rows but the first of a token."""
    x, y = randn(2, tokens * rows, 5, seed=1), randn(2, tokens * columns, 5, seed=2)
    decays = (randn(2, tokens, 5) if product else logs(2, tokens, 5)).requires_grad_()
    x.requires_grad_()
    y.requires_grad_()
    a = randn(2, tokens * rows, tokens * columns, seed=3)
    factor = pairs(decays, product, exclusive, exclusive)
    factor = factor.repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    if strict or rows == columns:
        before = torch.ones(a.shape[-2:], dtype=a.dtype).tril(-1 if strict else 0)
        own = torch.kron(torch.eye(tokens, dtype=a.dtype), torch.ones(rows, columns, dtype=a.dtype))
        factor = factor * (before if rows == columns else 1 - own)[..., None]
    derivatives = gradients(trilinear(a, x, y, factor).sum(), (x, y, decays))
    f = factors(decays, product, exclusive)
    close(tiles.decay_dot(x, y, f, strict), torch.einsum("...ik,...jk,...ijk->...ij", x, y, factor))
    for found, expected in zip(tiles.decay_dot_grads(a, x, y, f, strict), derivatives, strict=True):
        close(found, expected, 1e-12)
    close(tiles.decay_dot_rows(a, y, f, strict), derivatives[0])
    close(tiles.decay_dot_columns(a, x, f, strict), derivatives[1])


def test_the_columns_of_later_tokens_are_masked():
    a = randn(2, 4, 12)
    tokens = torch.ones(4, 4, dtype=a.dtype)
    for strict in (False, True):
        kept = tokens.tril(-1 if strict else 0).repeat_interleave(3, 1)
        close(tiles.mask_tokens(a, strict), a * kept)
