"""Derivatives: the table against sympy and at extreme values, the backward programs against differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from torch import Tensor

from rnnc.codegen.compiler import analyse
from rnnc.codegen.evaluators import FLOAT64, evaluate
from rnnc.codegen.float_functions import FLOAT_FUNCTIONS
from rnnc.codegen.operations import ROW, VALID
from rnnc.codegen.torch_module import Form
from rnnc.codegen.torch_operations import FUNCTIONS as TORCH
from rnnc.dsl.functions import FUNCTIONS
from rnnc.ops import tiles

pytestmark = pytest.mark.smoke

x, y = sympy.symbols("x y", real=True)
SYMBOLIC: dict[str, Any] = {
    "exp": sympy.exp(x),
    "log": sympy.log(x),
    "sqrt": sympy.sqrt(x),
    "rsqrt": 1 / sympy.sqrt(x),
    "abs": sympy.Abs(x),
    "sign": sympy.sign(x),
    "max": sympy.Max(x, y),
    "min": sympy.Min(x, y),
    "sigmoid": 1 / (1 + sympy.exp(-x)),
    "tanh": sympy.tanh(x),
    "relu": sympy.Max(x, 0),
    "silu": x / (1 + sympy.exp(-x)),
    "gelu": x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
    "softplus": sympy.log(1 + sympy.exp(x)),
    "logsigmoid": -sympy.log(1 + sympy.exp(-x)),
    "elu": sympy.Piecewise((x, x > 0), (sympy.exp(x) - 1, True)),
    "erf": sympy.erf(x),
    "sin": sympy.sin(x),
    "cos": sympy.cos(x),
    "step": sympy.Heaviside(x),
    "reciprocal": 1 / x,
    "exp2": 2**x,
    "log2_exp": x / sympy.log(2),
    "log2": sympy.log(x, 2),
}
POSITIVE = {"log", "sqrt", "rsqrt", "reciprocal", "log2"}
EXTREME = (-100.0, -88.0, -20.0, -1.0, -1e-30, 1e-30, 1.0, 20.0, 88.0, 100.0)
GROWS = {"exp", "exp2"}  # to infinity, as they should


def partials(name: str, apply: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    return FUNCTIONS[name].derivative(apply, apply(name, *args), *args)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "select"])
def test_the_table_against_sympy(name: str) -> None:
    def apply(function: str, *args: float) -> float:
        return float(FLOAT_FUNCTIONS[function](*map(float, args)))

    for point in (0.3, 1.7, -0.4, -2.1):
        here = (abs(point) if name in POSITIVE else point, 0.5)[: FUNCTIONS[name].arity]
        values = dict(zip((x, y), here, strict=False))
        assert apply(name, *here) == pytest.approx(float(SYMBOLIC[name].subs(values)))
        for symbol, partial in zip((x, y), partials(name, apply, *here), strict=False):
            expected = sympy.diff(SYMBOLIC[name], symbol).subs(values).doit()
            assert float(partial) == pytest.approx(float(expected), abs=1e-12), (name, here)


@dataclass(frozen=True)
class Number:
    """A tensor that meets fractions."""

    value: Tensor

    def __add__(self, other: Any) -> Number:
        return Number(self.value + plain(other))

    def __mul__(self, other: Any) -> Number:
        return Number(self.value * plain(other))

    def __sub__(self, other: Any) -> Number:
        return Number(self.value - plain(other))

    def __rsub__(self, other: Any) -> Number:
        return Number(plain(other) - self.value)

    __radd__, __rmul__ = __add__, __mul__


def plain(x: Any) -> Any:
    return x.value if isinstance(x, Number) else x if isinstance(x, Tensor) else float(x)


def in_numbers(name: str, *args: Any) -> Number:
    return Number(in_torch(name, *map(plain, args)))


@pytest.mark.parametrize("mark", [0.0, 1.0])
def test_select_is_the_argument_that_is_marked(mark: float) -> None:
    def apply(function: str, *args: float) -> float:
        return float(FLOAT_FUNCTIONS[function](*args))

    assert apply("select", mark, 2.0, 3.0) == 3 - mark
    assert partials("select", apply, mark, 2.0, 3.0) == (0, mark, 1 - mark)


def in_torch(name: str, *args: Any) -> Tensor:
    """A function as it is printed."""
    tensors = [a if isinstance(a, Tensor) else torch.tensor(float(a), dtype=torch.float32) for a in args]
    text = TORCH[name].format(*(f"args[{i}]" for i in range(len(tensors))))
    return eval(text, {"torch": torch, "F": F, "tiles": tiles, "math": math, "args": tensors})  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("step", "select")])
def test_no_derivative_is_nan(name: str) -> None:
    """float32 at extreme values, against autograd in float64."""
    points = [abs(p) if name in POSITIVE else p for p in EXTREME]
    args = [torch.tensor(points), torch.full((len(points),), 0.5)][: FUNCTIONS[name].arity]
    for i, partial in enumerate(map(plain, partials(name, in_numbers, *map(Number, args)))):
        assert not torch.as_tensor(partial).isnan().any(), name
        leaves = [a.double().requires_grad_() for a in args]
        (expected,) = torch.autograd.grad(in_torch(name, *leaves).sum(), leaves[i])
        found = torch.as_tensor(partial, dtype=torch.float64).broadcast_to(expected.shape)
        finite = expected.abs() < (1e30 if name in GROWS | POSITIVE else math.inf)
        torch.testing.assert_close(found[finite], expected[finite], rtol=1e-4, atol=1e-6)


SPECS = {
    "gates": """
    input q[K], k[K], v[V], a, b
    state S[K, V]
    output o[V]
    S <- exp(-softplus(a)) * S - sigmoid(b) * silu(k) @ (unit(k).T @ S) + gelu(k) @ v.T
    o <- tanh(S.T @ softmax(q, K)) * elu(v) + relu(b) * sin(v)
""",
    "products": """
    input q[K], k[K], v[V], d[K] in [-1, 1]
    state S[K, V]
    output o[V], p
    o <- erf(S.T @ q)
    S <- d * S + k @ cos(v).T
    p <- log(1 + sum((S.T @ q)**2, V)) + sqrt(1 + sum(k * k, K))
""",
    "two reads": """
    input q[K], k[K], v[V], a, b
    param c[K], e
    state S[K, V]
    output o[V]
    S <- tanh(a) * S - k @ (c.T @ S) - max(b, 0.1) * c @ (k.T @ S) + abs(e) * min(k, c) @ v.T
    o <- S.T @ q / max(abs(b), 1)
""",
}
SIZES = {"K": 3, "V": 2}


def loss(form: Form, loads: dict[str, Any], weights: dict[str, Any]) -> float:
    found = evaluate(form.forward.program, loads, {**SIZES, ROW: 4}, FLOAT64)
    return float(sum((np.asarray(value) * weights[f"d'{name}"]).sum() for name, value in found.items()))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("number", [0, 1], ids=["chunked", "recurrent"])
def test_backward_program_is_the_derivative(spec: str, number: int) -> None:
    compiled = analyse(f"recurrence r[K, V]:{SPECS[spec]}")
    form, recurrence = compiled.forms[number], compiled.recurrence
    source = np.random.default_rng(2)
    time = [4] if form.name == "chunked" else []
    loads = {d.name: source.uniform(-1, 1, [*time, *(SIZES[a] for a in d.axes)]) for d in recurrence.inputs}
    loads |= {d.name: source.uniform(0.2, 1, [SIZES[a] for a in d.axes]) for d in recurrence.params}
    loads |= {"S": source.normal(size=(3, 2)), VALID: np.ones(4)}
    weights = {
        f"d'{o.name}": source.normal(size=[*time, *(SIZES[a] for a in o.axes)]) for o in recurrence.outputs
    }
    weights["d'S"] = source.normal(size=(3, 2))
    gradients = evaluate(form.backward.program, {**loads, **weights}, {**SIZES, ROW: 4}, FLOAT64)
    assert set(gradients) == {f"d'{name}" for name in loads if name != VALID}
    for name in loads.keys() - {VALID}:
        direction = source.normal(size=loads[name].shape)
        ends = [loss(form, loads | {name: loads[name] + step * direction}, weights) for step in (1e-5, -1e-5)]
        node = form.backward.program.results.get(f"d'{name}")
        declared = next(
            (d.axes for d in (*recurrence.inputs, *recurrence.params) if d.name == name), ("K", "V")
        )
        axes = [axis for axis in (ROW, *declared) if node is None or axis in node.axes]
        order = [node.axes.index(axis) for axis in axes] if node is not None else [0, 1]
        along = (gradients[f"d'{name}"].transpose(order) * direction).sum()
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7), name
