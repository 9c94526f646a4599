"""Layers of the built-in models: a sequence continued in pieces, packed sequences, saving, how they start."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

import rnnc.ops

NAMES = rnnc.ops.builtin_names()
T = 21


def make(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    layer = getattr(rnnc.ops, name).Layer(d_model=24, num_heads=2, **options).to(dtype)
    for parameter in layer.parameters():  # biases and weights that start at zero or one are used too
        parameter.data += 0.1 * torch.randn_like(parameter)
    return layer


def tokens(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, 24, dtype=dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_prefill_then_token_by_token(name: str, dtype: torch.dtype, limit: float) -> None:
    layer, x = make(name, dtype), tokens(2, T, dtype=dtype)
    with torch.no_grad():
        whole, last = layer(x, return_state=True)
        y, state = layer(x[:, :13], return_state=True)
        parts = [y]
        for t in range(13, T):
            y, state = layer(x[:, t : t + 1], state=state, return_state=True)
            parts.append(y)
    assert relative(torch.cat(parts, 1), whole) < limit
    assert relative(flat(state), flat(last)) < limit


@pytest.mark.parametrize("name", NAMES)
def test_packed_sequences_are_apart(name: str) -> None:
    layer = make(name)
    lengths, more = [5, 0, 1, 9], [2, 3, 1, 4]
    x, x_more = tokens(1, sum(lengths)), tokens(1, sum(more))
    y, state = layer(x, cu_seqlens=bounds(lengths), return_state=True)
    y_more = layer(x_more, state=state, cu_seqlens=bounds(more))
    firsts = zip(x.split(lengths, 1), y.split(lengths, 1), strict=True)
    seconds = zip(x_more.split(more, 1), y_more.split(more, 1), strict=True)
    for (first, y_first), (second, y_second) in zip(firsts, seconds, strict=True):
        expected = layer(torch.cat([first, second], 1))
        torch.testing.assert_close(torch.cat([y_first, y_second], 1), expected)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    layer, x = make(name), tokens(1, T).requires_grad_()
    layer(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    silent = [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_round_trip(name: str) -> None:
    layer, x = make(name), tokens(2, T)
    other = getattr(rnnc.ops, name).Layer(d_model=24, num_heads=2).double()
    other.load_state_dict(pickle.loads(pickle.dumps(layer.state_dict())))
    assert torch.equal(layer(x), other(x))
    assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_gates_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    layer: Any = rnnc.ops.gated_delta_net.Layer(d_model=512, num_heads=512)
    assert layer.A_log.exp().min() >= 1
    assert layer.A_log.exp().max() <= 16
    assert abs(layer.A_log.exp().mean() - 8.5) < 0.7
    assert abs(softplus(layer.dt_bias).log10().mean() + 2) < 0.1


def test_a_fixed_parameter_is_a_buffer() -> None:
    layer: Any = rnnc.ops.retention.Layer(d_model=24, num_heads=2)
    assert "gamma" in dict(layer.named_buffers())
    assert layer.gamma.tolist() == [31 / 32, 63 / 64]


def test_sizes_of_axes_and_groups() -> None:
    layer = make("mamba2", N=5, P=3, num_groups=1)
    assert layer.B_linear.weight.shape == (5, 24)
    assert layer.u_linear.weight.shape == (6, 24)
    assert layer(tokens(2, T)).shape == (2, T, 24)


def test_half_precision() -> None:
    layer = make("gated_delta_net", torch.bfloat16)
    y, state = layer(tokens(2, T, dtype=torch.bfloat16), return_state=True)
    assert y.dtype == torch.bfloat16
    assert state.recurrence.dtype == torch.float32


def test_autocast() -> None:
    layer, x = make("gated_delta_net", torch.float32), tokens(2, T, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert relative(y, layer(x)) < 0.05


def test_no_tokens_leave_the_state_alone() -> None:
    layer = make("gated_delta_net")
    _, state = layer(tokens(2, T), return_state=True)
    y, same = layer(tokens(2, 0), state=state, return_state=True)
    assert y.shape == (2, 0, 24)
    torch.testing.assert_close(flat(same), flat(state), rtol=0, atol=0)


def test_wrong_calls_are_refused_by_name() -> None:
    layer = make("gated_delta_net")
    _, state = layer(tokens(2, T), return_state=True)
    with pytest.raises(ValueError, match=r"state: expected a window \[3, 3, 24\], got \[2, 3, 24\]"):
        layer(tokens(3, T), state=state)
    with pytest.raises(ValueError, match="x: packed sequences are"):
        layer(tokens(2, T), cu_seqlens=bounds([3, T - 3]))
    with pytest.raises(ValueError, match=r"x: expected \[B, T, d_model\] = \[B, T, 24\], got \[2, 5\]"):
        layer(torch.zeros(2, 5))
    with pytest.raises(TypeError, match="state: expected what the layer returned, got Tensor"):
        layer(tokens(2, T), state=state.recurrence)
    with pytest.raises(ValueError, match="cu_seqlens: expected to end at T = 21, got 20"):
        layer(tokens(1, T), cu_seqlens=bounds([3, 17]))
    for wrong in ({"num_heads": 0}, {"num_heads": 2.0}, {"d_model": -1}, {"K": 0}, {"d_model": 1}):
        name = "K" if wrong == {"d_model": 1} else next(iter(wrong))  # one channel for two heads: K is 0
        with pytest.raises(ValueError, match=f"^{name}: expected a whole number above 0, got"):
            rnnc.ops.gated_delta_net.Layer(**{"d_model": 24, "num_heads": 2} | wrong)


def bounds(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def flat(state: Any) -> Tensor:
    recurrence = state.recurrence if isinstance(state.recurrence, tuple) else (state.recurrence,)
    return torch.cat([x.flatten() for x in (*recurrence, *state.windows)])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())
