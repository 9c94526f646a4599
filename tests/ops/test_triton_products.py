"""Products of decays in Triton's interpreter against the torch tile operations in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from rnnc.ops import tiles

pytest.importorskip("triton")

import triton
import triton.language as tl

from rnnc.ops import triton_decay_dots as decay_dots
from rnnc.ops import triton_products as products

C, K = 16, 16
FLAGS = list(itertools.product((False, True), (False, True)))
KINDS = {
    "signs": lambda d: d.clamp(-1, 1),
    "zeros": lambda d: d.clamp(-1, 1) * (d.abs() > 0.4),
    "near zero": lambda d: 1e-4 * d,
    "ones": lambda d: d.sign(),
    "all zero": lambda d: 0 * d,
}


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-6) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def single(*xs: torch.Tensor) -> list[torch.Tensor]:
    return [x.float().contiguous() for x in xs]


@triton.jit
def scalar_kernel(
    d,
    grad,
    running,
    drunning,
    C: tl.constexpr,
    SUFFIX: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
):
    o_c = tl.arange(0, C)
    b_d, b_grad = tl.load(d + o_c), tl.load(grad + o_c)
    tl.store(running + o_c, products.running_product(b_d, C, SUFFIX, EXCLUSIVE))
    tl.store(drunning + o_c, products.running_product_scalar_grad(b_d, b_grad, C, SUFFIX, EXCLUSIVE))


@triton.jit
def path_kernel(d, grad, path, dd, C: tl.constexpr, EXCLUSIVE: tl.constexpr, STRICT: tl.constexpr):
    o_c = tl.arange(0, C)
    pairs = o_c[:, None] * C + o_c[None, :]
    b_d = tl.load(d + o_c)
    tl.store(path + pairs, products.path(b_d, C, EXCLUSIVE, STRICT))
    tl.store(dd + o_c, products.path_grad(b_d, tl.load(grad + pairs), C, EXCLUSIVE, tl.float32, "ieee"))


@triton.jit
def channel_kernel(
    d,
    grad,
    running,
    drunning,
    C: tl.constexpr,
    K: tl.constexpr,
    SUFFIX: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
):
    o = tl.arange(0, C)[:, None] * K + tl.arange(0, K)[None, :]
    b_d, b_grad = tl.load(d + o), tl.load(grad + o)
    tl.store(running + o, products.running_product(b_d, C, SUFFIX, EXCLUSIVE))
    tl.store(drunning + o, products.running_product_grad(b_d, b_grad, C, SUFFIX, EXCLUSIVE))


@triton.jit
def dot_kernel(
    m,
    x,
    y,
    d,
    dot,
    dx,
    dy,
    dd,
    C: tl.constexpr,
    K: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    STRICT: tl.constexpr,
):
    o_c = tl.arange(0, C)
    o = o_c[:, None] * K + tl.arange(0, K)[None, :]
    pairs = o_c[:, None] * C + o_c[None, :]
    b_m, b_x, b_y, b_d = tl.load(m + pairs), tl.load(x + o), tl.load(y + o), tl.load(d + o)
    found = decay_dots.product_dot(b_x, b_y, b_d, C, EXCLUSIVE, STRICT, tl.float32, "ieee")
    tl.store(dot + pairs, found)
    b_dx, b_dy, b_dd = decay_dots.product_dot_grads(
        b_m, b_x, b_y, b_d, C, EXCLUSIVE, STRICT, tl.float32, "ieee"
    )
    tl.store(dx + o, b_dx)
    tl.store(dy + o, b_dy)
    tl.store(dd + o, b_dd)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suffix", "exclusive"), FLAGS)
def test_running_products(kind: str, suffix: bool, exclusive: bool) -> None:
    direction = "suffix" if suffix else "prefix"
    for shape, kernel in (((C,), scalar_kernel), ((C, K), channel_kernel)):
        d, grad = single(KINDS[kind](randn(*shape)), randn(*shape, seed=1))
        found, dd = torch.full_like(d, torch.nan), torch.full_like(d, torch.nan)
        kernel[(1,)](d, grad, found, dd, *shape, suffix, exclusive)
        wide, wide_grad = d.double(), grad.double()
        close(found, tiles.running_product(wide, 0, direction, exclusive))  # type: ignore[arg-type]
        close(dd, tiles.running_product_grad(wide, wide_grad, 0, direction, exclusive))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("exclusive", "strict"), FLAGS)
def test_path(kind: str, exclusive: bool, strict: bool) -> None:
    d, m = single(KINDS[kind](randn(C)), randn(C, C, seed=1))
    spoilt = m.where(torch.ones(C, C, dtype=torch.bool).tril(-1), torch.nan)  # what is left out is not read
    found, dd = torch.full_like(m, torch.nan), torch.full_like(d, torch.nan)
    path_kernel[(1,)](d, spoilt, found, dd, C, exclusive, strict)
    close(found, tiles.path(d.double(), exclusive, strict))
    close(dd, tiles.path_grad(d.double(), m.double(), exclusive))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("exclusive", "strict"), FLAGS)
def test_product_dot(kind: str, exclusive: bool, strict: bool) -> None:
    d, x, y = single(KINDS[kind](randn(C, K)), randn(C, K, seed=1), randn(C, K, seed=2))
    m = randn(C, C, seed=3).float()
    kept = torch.ones(C, C, dtype=torch.bool).tril(-1 if strict or exclusive else 0)
    found = torch.full_like(m, torch.nan)
    grads = [torch.full_like(d, torch.nan) for _ in range(3)]
    dot_kernel[(1,)](m.where(kept, torch.nan), x, y, d, found, *grads, C, K, exclusive, strict)
    f = tiles.product_factors(d.double(), exclusive)
    wide = [value.double() for value in (m, x, y)]
    close(found, tiles.decay_dot(*wide[1:], f, strict), 1e-5)
    for one, other in zip(grads, tiles.decay_dot_grads(*wide, f, strict), strict=True):
        close(one, other, 1e-5)


def test_nothing_depends_on_later_tokens() -> None:
    x, y, d, other = single(*(randn(C, K, seed=seed) for seed in range(4)))
    m = randn(C, C, seed=5).tril().float()
    m[9:] = 0
    results = []
    for later in (d, other):
        decays, keys = torch.cat((d[:9], later[9:])), torch.cat((y[:9], later[9:]))
        found, grads = torch.empty(C, C), [torch.empty(C, K) for _ in range(3)]
        dot_kernel[(1,)](m, x, keys, decays, found, *grads, C, K, False, False)
        results.append([found[:9, :9], *(grad[:9] for grad in grads)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
