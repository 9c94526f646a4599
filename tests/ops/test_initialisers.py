"""What initialisers draw, against the distributions that the papers state."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import softplus

from rnnc.ops import initialisers as init

pytestmark = pytest.mark.smoke
MANY = (20_000,)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_log_is_the_logarithm_of_a_uniform_draw() -> None:
    a = init.init_log(init.init_uniform(1, 16, MANY)).exp()
    assert 1 <= a.min() < 1.1
    assert 15.9 < a.max() <= 16
    assert abs(a.mean() - 8.5) < 0.1


def test_dt_bias_gives_log_uniform_steps() -> None:
    dt = softplus(init.init_inv_softplus(init.init_log_uniform(0.001, 0.1, MANY)).double())
    assert 0.00099 < dt.min() < 0.0011
    assert 0.09 < dt.max() < 0.1001
    assert abs(dt.log10().mean() + 2) < 0.02


def test_retention_decay() -> None:
    expected = torch.tensor([31 / 32, 63 / 64, 127 / 128])
    assert torch.equal(init.init_retention_decay((3,)), expected)
    assert torch.equal(init.init_retention_decay((3, 2)), expected[:, None].expand(3, 2))


def test_the_rest() -> None:
    assert init.init_linspace(-1, 1, (2, 3)).tolist() == [[-1, 0, 1], [-1, 0, 1]]
    assert init.init_linspace(0, 1, (2,)).tolist() == [0, 1]
    assert init.init_log_linspace(1, 100, (3,)).tolist() == pytest.approx([1, 10, 100])
    assert init.init_constant(0.85, (2,)).tolist() == pytest.approx([0.85, 0.85])
    assert init.init_zeros((1,)).item() == 0
    assert init.init_ones((1,)).item() == 1
    assert abs(init.init_normal(1, 2, MANY).std() - 2) < 0.05
    torch.testing.assert_close(init.init_logit(torch.tensor(0.25)).sigmoid(), torch.tensor(0.25))
    assert init.init_negate(init.init_exp(torch.zeros(1))).item() == -1


@pytest.mark.parametrize("shape", [(), (0,), (2,), (2, 3)])
def test_shapes(shape: tuple[int, ...]) -> None:
    sources = [
        init.init_zeros(shape),
        init.init_ones(shape),
        init.init_constant(2, shape),
        init.init_uniform(0, 1, shape),
        init.init_log_uniform(1, 2, shape),
        init.init_normal(0, 1, shape),
        init.init_linspace(0, 1, shape),
        init.init_log_linspace(1, 2, shape),
        init.init_retention_decay(shape),
    ]
    assert all(x.shape == shape and x.is_contiguous() for x in sources)
