"""The text of passes in C is what calls compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rnnc.ops
from rnnc.ops.c_text import PASSES
from rnnc.ops.errors import ArgumentError, UnavailableError
from rnnc.ops.operator import Operator, compile  # noqa: A004
from rnnc.ops.random_cases import Case, draw_arguments

DELAYED = """
recurrence trapezoid[K, V]:
    input q[K], k[K], v[V]
    state S[K, V]
    S <- S + prev(k) @ prev(v).T + k @ v.T
    output o[V]
    o <- S.T @ q
"""


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("name", ["gla", "delta_product"])
def test_is_what_calls_compile(name: str, dtype: str) -> None:
    op: Operator = getattr(rnnc.ops, name)
    sizes = {axis: 8 if axis in "KV" else 2 for axis in op.recurrence.axes}
    case, kind = Case(0, (128,), False, 2, sizes, {}, False, False, None), torch.float64
    arguments = [
        x.to(kind if dtype == "fp64" else torch.float32) for x in draw_arguments(op.recurrence, case)
    ]
    bound = op._bind(arguments, {}, False)
    assert op.walks is not None
    options = rnnc.ops.options.Options(chunk_size=32)
    found = op.walks._kind(bound, options, None, bound.output_dtype, True)
    for which in PASSES:
        assert op.c_source(which, chunk=32, dtype=dtype, **sizes) == op._generate_c(which, found)


def test_of_stages_and_delays() -> None:
    text = rnnc.ops.gsa.c_source(M=4, K=8, V=8)
    assert text.count("void run(") == len(rnnc.ops.gsa.stages) == 2
    op = compile(DELAYED)
    assert op.c_source(K=8, V=8) == op.inner.c_source(K=8, V=8)
    assert "void run(" in op.c_source("backward", 16, "fp64", K=8, V=8)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"K": 4}, "c_source: the size of V is missing"),
        ({"K": 4, "V": 4, "T": 4}, "c_source: 'T' is not an axis of gla: K, V"),
        ({"K": 4, "V": 0}, "c_source: V: expected a size of at least 1, got 0"),
        ({"K": 4, "V": 4.0}, "c_source: V: expected a size of at least 1, got 4.0"),
        (
            {"which": "back", "K": 4, "V": 4},
            "c_source: which: expected one of forward, states, backward, got 'back'",
        ),
        ({"dtype": "bf16", "K": 4, "V": 4}, "c_source: dtype: expected one of fp32, fp64, got 'bf16'"),
        ({"chunk": 48, "K": 4, "V": 4}, "c_source: chunk: expected one of 16, 32, 64, 128, 256, got 48"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        rnnc.ops.gla.c_source(**options)
    assert str(caught.value) == message


@pytest.mark.smoke
def test_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise NotImplementedError("no C for Something")

    monkeypatch.setattr(rnnc.ops.gla, "_generate_c", refuse)
    with pytest.raises(UnavailableError, match="c_source: no C for gla in this version: no C for Something"):
        rnnc.ops.gla.c_source(K=4, V=4)
