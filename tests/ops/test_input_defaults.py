"""Inputs with a default may be left out: of calls, steps, layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rnnc.dsl.diagnostics import SpecError
from rnnc.ops.errors import ArgumentTypeError
from rnnc.ops.operator import compile  # noqa: A004

SPEC = """
recurrence left_out[K, V]:
    input decay per group in (0, 1) = 1/2
    input q[K]
    input scale = K**-0.5
    input w[V] = 2
    input k[K], v[V]
    state S[K, V]
    S <- decay * S + k @ v.T
    output o[V]
    o <- scale * w * (S.T @ q)
    layer:
        q, k, v = linear(x)
        y = linear(o)
"""
DELAYED = SPEC.replace("k @ v.T", "prev(k) @ v.T")
STAGES = SPEC.replace("state S", "state m\n    m <- 0.5 * m + 0.5 * scale\n    state S").replace(
    "+ k", "+ m * k"
)


def arguments(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {name: torch.randn(2, 11, 2, 4, dtype=dtype) for name in "qkv"}


def given(call: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    lead, dtype = (2, 11, 2), call["q"].dtype
    numbers = torch.float32 if dtype == torch.bfloat16 else dtype
    return {
        **call,
        "decay": torch.full(lead, 0.5, dtype=numbers),
        "scale": torch.full(lead, 0.5, dtype=numbers),
        "w": torch.full((*lead, 4), 2.0, dtype=dtype),
    }


@pytest.mark.parametrize("text", [SPEC, DELAYED, STAGES])
def test_calls_and_steps(text: str) -> None:
    op = compile(text)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        call = arguments(dtype)
        found, expected = op(**call)[0], op(**given(call))[0]
        assert isinstance(found, torch.Tensor)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    call, state = arguments(), None
    for t in range(11):
        found, state = op.step(**{name: x[:, t] for name, x in call.items()}, state=state)
    torch.testing.assert_close(found, op.reference(**call)[0][:, -1])  # type: ignore[index]
    with torch.autocast("cpu", torch.bfloat16):
        assert op(**call)[0].dtype == torch.bfloat16  # type: ignore[union-attr]


def test_layers() -> None:
    layer: Any = compile(SPEC).Layer(8, 2)
    x = torch.randn(2, 6, 8)
    whole = layer(x)
    with torch.no_grad():
        _, state = layer(x[:, :5], return_state=True)
        last, _ = layer(x[:, 5:], state, return_state=True)  # one token: a step
    torch.testing.assert_close(last, whole[:, 5:])


@pytest.mark.smoke
def test_what_cannot_be_left_out() -> None:
    text = "recurrence a[K]:\n    input x = 1\n    input y[K] = 2\n    state h[K]\n    h <- x * y + 0.5 * h\n"
    op = compile(f"{text}    output o[K]\n    o <- h\n")
    with pytest.raises(ArgumentTypeError, match="missing: one of x, y"):
        op()
    with pytest.raises(ArgumentTypeError, match="missing: 'y', as nothing else shows the size of K"):
        op(x=torch.ones(1, 2, 3))
    torch.testing.assert_close(op(y=torch.ones(1, 1, 1, 2))[0], torch.ones(1, 1, 1, 2))
    with pytest.raises(SpecError, match="the default of 'decay' lies outside its promised range"):
        compile(SPEC.replace("= 1/2", "= 2"))
