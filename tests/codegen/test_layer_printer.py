"""Layers as text: shapes that follow from the target, shapes that do not fit, names that would clash."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rnnc
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.layer_lowering import ELEMENTWISE
from rnnc.codegen.layer_printer import print_layer
from rnnc.codegen.names import MODULE_ATTRIBUTES, Names
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.layer_rules import LAYER_FUNCTIONS
from rnnc.dsl.parser import parse

SPEC = """
recurrence plain[K, V]:
    input q[K], v[V], g
    input k[K] per group
    param w[K]
    state S[K, V]
    S <- sigmoid(g) * S + (w * k) @ v.T
    output o[V]
    o <- S.T @ q
"""


def layer_of(*bindings: str) -> str:
    lines = ["layer:", *(f"    {binding}" for binding in bindings)]
    return SPEC + "".join(f"    {line}\n" for line in lines)


def text_of(*bindings: str) -> str:
    return print_layer(check(parse(layer_of(*bindings))))


def refused(*bindings: str) -> str:
    with pytest.raises(SpecError) as caught:
        text_of(*bindings)
    assert [finding.code for finding in caught.value.diagnostics] == ["layer-shape"]
    return str(caught.value)


@pytest.mark.smoke
def test_a_linear_takes_the_shape_of_its_target() -> None:
    text = text_of("q, k, v, g = linear(x)", "y = linear(o)")
    assert "self.q_linear = nn.Linear(d_model, num_heads * K, bias=False)" in text
    assert "self.k_linear = nn.Linear(d_model, num_groups * K, bias=False)" in text
    assert "self.g_linear = nn.Linear(d_model, num_heads, bias=False)" in text
    assert "k = self.k_linear(x).unflatten(-1, (self.num_groups, self.K))" in text
    assert "y = self.y_linear(o.flatten(2))" in text


@pytest.mark.smoke
def test_a_linear_takes_the_shape_of_what_it_meets() -> None:
    text = text_of("q, k, v = linear(x)", "g = linear(x)", "y = linear(o * silu(linear(x)) * linear(x))")
    assert "self.y_linear = nn.Linear(d_model, num_heads * V, bias=False)" in text
    text = text_of("h = silu(linear(x))", "q, k, v, g = linear(h, bias=true)", "y = linear(o) + x")
    assert "self.h_linear = nn.Linear(d_model, d_model, bias=False)" in text
    assert "self.q_linear = nn.Linear(d_model, num_heads * K, bias=True)" in text
    assert "y = self.y_linear(o.flatten(2)) + x" in text


def test_arithmetic_keeps_its_brackets_and_aligns_axes() -> None:
    value = "2 - (1 - linear(x)) / (3 - -conv(linear(x), 2))"
    spec = layer_of("q, k = linear(x)", f"v = {value}", "g = linear(x)", "y = linear(o * 2 + max(o, 0.5))")
    layer: Any = rnnc.compile(spec).Layer(d_model=6, num_heads=2).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    found: dict[str, torch.Tensor] = {}
    operator = layer.operator

    class Spy:
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            found["v"] = arguments[1]
            return operator(*arguments, **options)

    layer.operator = Spy()
    layer(x)
    taps = layer.v_linear_2(x) * layer.v_conv.weight[:, 0]
    taps[:, 1:] += (layer.v_linear_2(x) * layer.v_conv.weight[:, 1])[:, :-1]
    expected = 2 - (1 - layer.v_linear(x)) / (3 + taps)
    torch.testing.assert_close(found["v"].flatten(2), expected)


@pytest.mark.smoke
def test_shapes_that_do_not_fit_are_refused() -> None:
    rest = "k, v, g = linear(x)"
    assert "'q' is [B, T, H, K], this is [B, T, d_model]" in refused("q = x", rest, "y = linear(o)")
    assert "'y' is [B, T, d_model], this is [B, T, H, V]" in refused("q = linear(x)", rest, "y = o")
    assert "does not combine" in refused("q = linear(x)", rest, "y = linear(o * x)")
    assert "needs an axis" in refused("q, k, v = linear(x)", "g = rmsnorm(linear(x))", "y = linear(o)")
    assert "of a number" in refused("q = linear(x)", rest, "y = linear(o * silu(2))")


@pytest.mark.smoke
def test_the_compiler_checks_the_layer() -> None:
    with pytest.raises(SpecError, match="layer-shape"):
        compile_text(layer_of("q = x", "k, v, g = linear(x)", "y = linear(o)"))


@pytest.mark.smoke
def test_no_layer_block() -> None:
    with pytest.raises(SpecError, match="'plain' has no layer block"):
        print_layer(check(parse(SPEC)))


@pytest.mark.smoke
def test_every_function_of_the_language_prints() -> None:
    assert set(ELEMENTWISE) | {"linear", "conv", "shift", "rmsnorm", "unit"} == set(LAYER_FUNCTIONS)


def test_names_of_modules_are_kept_apart() -> None:
    public = {name for name in dir(torch.nn.Module) if not name.startswith("_")}
    assert public - MODULE_ATTRIBUTES == set()
    spec = """
recurrence train[num_heads, state_dict]:
    input x[num_heads], windows[state_dict]
    param forward[num_heads] ~ ones()
    state self[num_heads, state_dict]
    self <- self + (x * forward) @ windows.T
    output torch[state_dict]
    torch <- self.T @ x
    layer:
        x, windows = linear(x)
        y = linear(torch)
"""
    layer: Any = rnnc.compile(spec).Layer(d_model=4, num_heads=2)
    assert layer(torch.randn(1, 3, 4)).shape == (1, 3, 4)
    assert set(layer.state_dict()) == {
        "forward_",
        "x_linear.weight",
        "windows_linear.weight",
        "y_linear.weight",
    }


@pytest.mark.smoke
def test_names() -> None:
    names = Names(["q"])
    assert [names.fresh("q") for _ in range(3)] == ["q_", "q_2", "q_3"]
    assert names.fresh("lambda") == "lambda_"
