"""Matrix products of Triton kernels in slices of the axis that they sum over."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

import rnnc.ops
from rnnc.codegen.slices import slices
from rnnc.ops.random_cases import Case
from rnnc.ops.testing import distance
from rnnc.ops.trial import draw_trial

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
dots = pytest.importorskip("rnnc.ops.triton_dots")
SIZES = (16, 32, 64, 128)


@triton.jit
def _product(
    x: Any,
    y: Any,
    out: Any,
    M: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    WARPS: tl.constexpr,
) -> None:
    o_m, o_k, o_n = tl.arange(0, M), tl.arange(0, K), tl.arange(0, N)
    b_x = tl.load(x + o_m[:, None] * K + o_k[None, :])
    b_y = tl.load(y + o_k[:, None] * N + o_n[None, :])
    tl.store(out + o_m[:, None] * N + o_n[None, :], dots.dot(b_x, b_y, WARPS, "ieee"))


@pytest.mark.parametrize(
    ("rows", "inner", "columns", "warps", "parts"),
    [(16, 128, 16, 8, 8), (16, 64, 16, 8, 4), (32, 512, 16, 4, 4), (64, 128, 64, 4, 1), (16, 16, 16, 8, 1)],
)
def test_product(rows: int, inner: int, columns: int, warps: int, parts: int) -> None:
    assert slices(rows, columns, inner, warps, 4) == parts
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(shape, generator=generator) for shape in ((rows, inner), (inner, columns)))
    out = torch.full((rows, columns), torch.nan)
    _product[(1,)](x, y, out, rows, inner, columns, warps)
    torch.testing.assert_close(out, (x.double() @ y.double()).float(), rtol=1e-5, atol=1e-4)


def test_slices_are_whole() -> None:
    """At least 16 entries of the axis in each, no more of them than warps, none for 64 rows."""
    for rows, columns, inner, warps, size in product(SIZES, SIZES, (*SIZES, 512), (4, 8, 16), (2, 4)):
        parts = slices(rows, columns, inner, warps, size)
        assert inner % parts == 0
        assert inner // parts >= 16
        assert parts <= warps
        assert parts == 1 or rows < 64


@pytest.mark.parametrize("name", ["linear_attention", "gated_delta_net", "kda"])
def test_long_axes(name: str) -> None:
    """Kernels with many keys, whose products are in slices: values and all gradients."""
    op = getattr(rnnc.ops, name)
    drawn = draw_trial(op, Case(5, (21,), False, 1, {"K": 100, "V": 20}, {}, True, False, 16))
    found = drawn.to(torch.float32).evaluate("chunked", backend="triton")
    for what, value in found.items():
        limit = 1e-4 if what.startswith("gradient") else 1e-5
        assert distance(value, drawn.expected[what], drawn.scales[what]) <= limit, what
