"""The triangular inverse, for keys that repeat too."""

from __future__ import annotations

import math

import pytest
import torch

from rnnc.ops import tiles


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 9, 16, 24, 64, 100])
@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_inverse(size, batch):
    p = randn(*batch, size, size).tril(-1) / math.sqrt(size)
    expected = torch.linalg.inv(torch.eye(size, dtype=p.dtype) - p)
    torch.testing.assert_close(tiles.inverse(p), expected, rtol=1e-11, atol=1e-11)
    below = torch.ones(size, size, dtype=torch.bool).tril(-1)
    assert torch.equal(tiles.inverse(p.where(below, math.nan)), tiles.inverse(p))


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("correlation", [0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("decay", [0.9, 0.999, 1.0])
def test_inverse_for_repeating_keys(size, correlation, decay):
    """The delta rule's matrix with beta near 2 and keys that nearly repeat: powers of it overflow float32."""
    noise = randn(8, size, 32)
    keys = correlation * randn(8, 1, 32, seed=1) + math.sqrt(1 - correlation**2) * noise
    keys = keys / keys.norm(dim=-1, keepdim=True)
    index = torch.arange(size)
    p = (-1.99 * (keys @ keys.mT) * decay ** (index[:, None] - index).clamp_min(0)).tril(-1).float()
    expected = torch.linalg.solve_triangular(
        torch.eye(size) - p.double(), torch.eye(size, dtype=torch.float64), upper=False, unitriangular=True
    )
    assert (tiles.inverse(p) - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("kept", [1, 7, 8, 63])
def test_later_rows_change_no_bit_of_the_rows_before(kept):
    p = randn(2, 64, 64).float()
    other = torch.cat((p[:, :kept], randn(2, 64 - kept, 64, seed=1).float()), 1)
    assert torch.equal(tiles.inverse(p)[:, :kept], tiles.inverse(other)[:, :kept])


def test_large_inverse():
    p = randn(520, 520).tril(-1) / 30
    found = tiles.inverse(p)
    torch.testing.assert_close(found - p @ found, torch.eye(520, dtype=p.dtype), rtol=0, atol=1e-11)
