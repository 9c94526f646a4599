"""Matrix expressions mean what linear algebra says: named axes against plain numpy matrices."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from rnnc.dsl.checker import check
from rnnc.dsl.expression import Add, Constant, Expression, Identity, Multiply, Name, Power, Rename, Sum
from rnnc.dsl.parser import parse
from rnnc.dsl.recurrence import Let

Array = NDArray[np.float64]
SIZES = {"K": 3, "V": 2}
RANDOM = np.random.default_rng(0)
VALUES = {
    "a": RANDOM.normal(size=(1, 1)),
    "k": RANDOM.normal(size=(3, 1)),
    "u": RANDOM.normal(size=(3, 1)),
    "v": RANDOM.normal(size=(2, 1)),
    "S": RANDOM.normal(size=(3, 2)),
    "R": RANDOM.normal(size=(3, 3)),
    "W": RANDOM.normal(size=(2, 2)),
}
SHAPES = {"a": "", "k": "K", "u": "K", "v": "V", "S": "KV", "R": "KK", "W": "VV"}
FRAME = """
recurrence f[K, V]:
    input a, k[K], u[K], v[V]
    param R[K, K], W[V, V]
    state S[K, V]
    S <- S
    let z = {}
    output o
    o <- a
"""

pytestmark = pytest.mark.smoke


def lowered(text: str) -> Expression:
    (let,) = [s for s in check(parse(FRAME.format(text))).statements if isinstance(s, Let)]
    return let.value


def evaluate(expression: Expression) -> tuple[Array, tuple[str, ...]]:
    """The array and the axis each of its dimensions has."""
    match expression:
        case Constant(value):
            return np.array(float(value)), ()
        case Identity(axis):
            return np.eye(SIZES[axis]), expression.axes
        case Name(name, axes):
            return VALUES[name].reshape([SIZES[axis.rstrip("'")] for axis in axes]), axes
        case Add(parts):
            return sum(aligned(part, expression.axes) for part in parts), expression.axes  # type: ignore[return-value]
        case Multiply(parts):
            return np.prod([aligned(part, expression.axes) for part in parts], axis=0), expression.axes
        case Power(base, exponent):
            value, axes = evaluate(base)
            return value ** float(exponent), axes
        case Sum(body, axis):
            value, axes = evaluate(body)
            return value.sum(axes.index(axis)), tuple(other for other in axes if other != axis)
        case Rename(body, old, new):
            value, axes = evaluate(body)
            assert new not in axes
            return value, tuple(new if axis == old else axis for axis in axes)
        case _:
            raise AssertionError(expression)


def aligned(expression: Expression, axes: tuple[str, ...]) -> Array:
    """The array with dimensions in the order of the axes, all of their full size."""
    value, own = evaluate(expression)
    value = value.transpose([own.index(axis) for axis in axes if axis in own])
    value = value[tuple(slice(None) if axis in own else None for axis in axes)]
    return np.broadcast_to(value, [SIZES[axis.rstrip("'")] for axis in axes])


def drawn(rows: str, columns: str, depth: int, source: random.Random) -> tuple[str, Array]:
    """A random expression for a matrix of these axes ("" for a single row or column), and its value."""
    pick = source.randrange(7) if depth else 0
    match pick:
        case 1 | 2 | 3:  # a product over an axis, or an outer product
            inner = source.choice(["K", "V"] if not (rows and columns) else ["K", "V", ""])
            left, x = drawn(rows, inner, depth - 1, source)
            right, y = drawn(inner, columns, depth - 1, source)
            return (
                f"({left} @ {right})" if rows + inner and inner + columns else f"({left} * {right})"
            ), x @ y
        case 4:
            text, x = drawn(columns, rows, depth - 1, source)
            return (f"{text}.T" if rows + columns else text), x.T
        case 5:
            left, x = drawn(rows, columns, depth - 1, source)
            right, y = drawn(rows, columns, depth - 1, source)
            return f"({left} - 2 * {right})", x - 2 * y
        case 6:
            left, x = drawn(rows, columns, depth - 1, source)
            right, y = drawn("", "", depth - 1, source)
            return f"({right} * {left})", x * y
        case _:
            return leaf(rows, columns, source)


def leaf(rows: str, columns: str, source: random.Random) -> tuple[str, Array]:
    names = [name for name, shape in SHAPES.items() if shape == rows + columns and (rows or not columns)]
    if names:
        name = source.choice(names)
        if rows == columns and rows and source.randrange(3) == 0:
            return f"({name} + a * I)", VALUES[name] + VALUES["a"] * np.eye(SIZES[rows])
        return name, VALUES[name]
    text, value = leaf(columns, rows, source)
    return f"{text}.T", value.T


@pytest.mark.parametrize("seed", range(300))
def test_named_axes_agree_with_matrices(seed: int) -> None:
    source = random.Random(seed)
    rows, columns = source.choice(["", "K", "V"]), source.choice(["", "K", "V"])
    text, expected = drawn(rows, columns, 4, source)
    expression = lowered(text)
    axes = tuple(axis for axis in (rows, columns) if axis)
    if len(axes) == 2 and rows == columns:
        axes = (rows, rows + "'")
    assert sorted(expression.axes) == sorted(axes)
    np.testing.assert_allclose(
        aligned(expression, axes), expected.reshape(aligned(expression, axes).shape), rtol=1e-9
    )
