"""Elementwise functions of kernels keep their digits near 0, where differences of others lose them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from rnnc.ops.triton_functions import expm1, softplus, tanh

EPSILON = 2.0**-23


@triton.jit
def values(x, of_tanh, of_expm1, of_softplus, N: tl.constexpr):
    o = tl.arange(0, N)
    b_x = tl.load(x + o)
    tl.store(of_tanh + o, tanh(b_x))
    tl.store(of_expm1 + o, expm1(b_x))
    tl.store(of_softplus + o, softplus(b_x))


def _softplus(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=0) + x.abs().neg().exp().log1p()


def test_relative_errors() -> None:
    sizes = torch.logspace(-30, 1.5, 2048, dtype=torch.float64).float()
    x = torch.cat([sizes, -sizes])
    found = [torch.full_like(x, torch.nan) for _ in range(3)]
    values[(1,)](x, *found, N=len(x))
    for value, function in zip(found, (torch.tanh, torch.expm1, _softplus), strict=True):
        expected = function(x.double())
        assert float(((value - expected) / expected).abs().max()) < 3 * EPSILON


@pytest.mark.parametrize(("x", "expected"), [(0.0, 0.0), (torch.inf, 1.0), (-torch.inf, -1.0)])
def test_limits(x: float, expected: float) -> None:
    given, out = torch.full((16,), x), [torch.empty(16) for _ in range(3)]
    launch: Any = values[(1,)]
    launch(given, *out, N=16)
    assert torch.equal(out[0], torch.full((16,), expected))
    assert torch.isnan(out[0]).sum() == 0
