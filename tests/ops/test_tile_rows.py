"""Numbers and the layout of rows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck

from rnnc.ops import tiles


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_softplus_is_exact_at_every_size():
    x = torch.tensor([-800.0, -30.0, 0.0, 19.0, 21.0, 100.0], dtype=torch.float64, requires_grad=True)
    expected = [math.log1p(math.exp(v)) if v < 700 else v for v in x.tolist()]
    torch.testing.assert_close(tiles.softplus(x).tolist(), expected, rtol=1e-15, atol=0)
    assert gradcheck(tiles.softplus, (x.detach()[1:].requires_grad_(),))


def test_step_is_one_above_zero_only():
    assert tiles.step(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5)])
@pytest.mark.parametrize("tokens", [1, 2, 16])
def test_at_first_is_the_adjoint_of_the_first_row(shape, tokens):
    x = randn(*shape)
    out = tiles.at_first(x, tokens)
    assert out.shape == (*shape[:2], tokens, *shape[2:])
    assert torch.equal(out[:, :, 0], x)
    assert not out[:, :, 1:].any()


@pytest.mark.parametrize(("shape", "dim"), [((2, 4, 3), -2), ((2, 4), -1), ((2, 3, 4, 5), 2)])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_rows_of_a_token_lie_together(shape, dim, n):
    parts = [randn(*shape, seed=seed) for seed in range(n)]
    out = tiles.interleave(parts, dim)
    assert out.shape[dim] == n * shape[dim]
    for token, part in itertools.product(range(shape[dim]), range(n)):
        assert torch.equal(out.select(dim, n * token + part), parts[part].select(dim, token))
    assert all(map(torch.equal, tiles.deinterleave(out, dim, n), parts))
    assert torch.equal(tiles.rows(parts[0], dim, n), parts[0].repeat_interleave(n, dim))


def test_assembled_blocks_are_found_again():
    blocks = [randn(2, 4, 4, seed=seed) for seed in range(9)]
    out = tiles.assemble(blocks)
    assert out.shape == (2, 12, 12)
    for row, column in itertools.product(range(3), range(3)):
        assert torch.equal(out[..., row::3, column::3], blocks[3 * row + column])


def test_products_and_sums_in_place_are_those_out_of_place():
    x, y, number = randn(2, 3, 4), randn(3, 1), 0.5
    expected = x * y * number * x
    assert torch.equal(tiles.product(x, y, number, x), expected)
    assert torch.equal(tiles.product(y, number, x, x), y * number * x * x)
    with torch.no_grad():
        assert torch.equal(tiles.product(x, y, number, x), expected)
        total = x.clone()
        assert torch.equal(tiles.addcmul_(total, y, x, value=2), torch.addcmul(x, y, x, value=2))
    assert total is not tiles.addcmul_(total, y, x)
