"""Expressions that are equal as sums of products become equal polynomials, and keep their values."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnc.codegen.exact import TokenLoop, random_fraction, rationals
from rnnc.dsl.algebra import contract, relabel
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.expansion import expand, to_expression
from rnnc.dsl.expression import (
    Add,
    Call,
    Constant,
    Expression,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Size,
    Sum,
)
from rnnc.dsl.interpreter import evaluate
from rnnc.dsl.polynomial import MAX_TERMS, UNIT, ZERO, Atom, Leaf, Polynomial, constant, single

pytestmark = pytest.mark.smoke

A, B = Name("a", ()), Name("b", ())
Q, K, V = Name("q", ("K",)), Name("k", ("K",)), Name("v", ("V",))
R = Name("R", ("K", "K'"))
MINUS = Constant(Fraction(-1))
SIZES = {"K": 3, "V": 2}


def leaf(name: Name) -> Polynomial:
    return single(Atom(Leaf(name.name, name.axes)))


def polynomial(expression: Expression) -> Polynomial:
    return expand(expression, leaf)


def matvec(matrix: Expression, vector: Expression) -> Expression:
    return Sum(Multiply((matrix, Rename(vector, "K", "K'"))), "K'")


def transposed(matrix: Expression) -> Expression:
    return Rename(Rename(Rename(matrix, "K", "K''"), "K'", "K"), "K''", "K'")


SAME = [
    (Multiply((A, B)), Multiply((B, A))),
    (
        Power(Add((A, B)), Fraction(2)),
        Add((Multiply((A, A)), Multiply((A, B, Constant(Fraction(2)))), Power(B, Fraction(2)))),
    ),
    (Sum(Power(matvec(R, K), Fraction(2)), "K"), Sum(Multiply((matvec(R, K), matvec(R, K))), "K")),
    (Add((A, Multiply((MINUS, A)))), Constant(Fraction(0))),
    (Multiply((A, Power(A, Fraction(-1)))), Constant(Fraction(1))),
    (Sum(Multiply((A, Q, K)), "K"), Multiply((A, Sum(Multiply((K, Q)), "K")))),
    (Sum(A, "K"), Multiply((Size("K"), A))),
    (matvec(Identity("K"), Q), Q),
    (matvec(Multiply((A, Identity("K"))), Q), Multiply((A, Q))),
    (Sum(Multiply((Q, matvec(R, K))), "K"), Sum(Multiply((K, matvec(transposed(R), Q))), "K")),
    (matvec(Multiply((Q, Rename(K, "K", "K'"))), K), Multiply((Q, Sum(Multiply((K, K)), "K")))),
    (Call("exp", (Add((A, B)),)), Call("exp", (Add((B, A)),))),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_expressions_are_equal_polynomials(one: Expression, other: Expression) -> None:
    assert polynomial(one) == polynomial(other)
    assert hash(polynomial(one)) == hash(polynomial(other))


def test_different_sums_stay_apart() -> None:
    assert polynomial(matvec(R, K)) != polynomial(matvec(transposed(R), K))
    assert polynomial(Multiply((Q, V))) != polynomial(Multiply((K, V)))


def test_bound_labels_have_no_names() -> None:
    """A chain of matrices is one atom, whatever its labels were called, in whatever order it was summed."""
    chain = K
    for _ in range(5):
        chain = matvec(R, chain)  # type: ignore[assignment]
    (monomial, _), *_ = polynomial(chain).terms
    ((atom, _),) = monomial
    links = [("K", "x1"), ("x1", "x2"), ("x2", "x3"), ("x3", "x4"), ("x4", "x5")]
    for seed in range(4):
        draw = random.Random(seed)
        names = dict(
            zip((f"x{i}" for i in range(1, 6)), draw.sample([f"K$z{i}" for i in range(9)], 5), strict=True)
        )
        body = relabel(single(Atom(Leaf("k", ("x5",)))), names)
        for link in draw.sample(links, 5):
            body = body * relabel(single(Atom(Leaf("R", link))), names)
        bound = draw.sample(list(names.values()), 5)
        assert contract(body, tuple(bound)) == single(atom)


def test_limits() -> None:
    many = Add(tuple(Name(f"x{i}", ()) for i in range(30)))
    with pytest.raises(SpecError, match=f"more than {MAX_TERMS} terms"):
        polynomial(Power(many, Fraction(3)))
    alike = Multiply(tuple(matvec(R, K) for _ in range(4)))
    assert polynomial(Sum(alike, "K")) != ZERO


@st.composite
def scalars(draw: st.DrawFn, depth: int = 3) -> Expression:
    """A random scalar expression."""
    if depth == 0:
        return draw(st.sampled_from([A, B, Constant(Fraction(2, 3)), Size("K")]))
    inner = scalars(depth - 1)
    kind = draw(st.sampled_from(["add", "multiply", "power", "dot", "quadratic", "leaf"]))
    match kind:
        case "add":
            return Add((draw(inner), draw(inner)))
        case "multiply":
            return Multiply((draw(inner), draw(inner)))
        case "power":
            return Power(draw(inner), Fraction(draw(st.integers(1, 2))))
        case "dot":
            return Sum(Multiply((draw(vectors(depth - 1)), draw(vectors(depth - 1)))), "K")
        case "quadratic":
            return Sum(Multiply((Q, matvec(R, draw(vectors(depth - 1))))), "K")
        case _:
            return draw(scalars(0))


@st.composite
def vectors(draw: st.DrawFn, depth: int = 2) -> Expression:
    """A random vector over K."""
    if depth <= 0:
        return draw(st.sampled_from([Q, K]))
    match draw(st.sampled_from(["add", "scale", "matrix"])):
        case "add":
            return Add((draw(vectors(depth - 1)), draw(vectors(depth - 1))))
        case "scale":
            return Multiply((draw(scalars(depth - 1)), draw(vectors(depth - 1))))
        case _:
            return matvec(draw(st.sampled_from([R, transposed(R), Identity("K")])), draw(vectors(depth - 1)))


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(st.one_of(scalars(), vectors()))
def test_values_survive(expression: Expression) -> None:
    """There and back: the expression of the polynomial has the same value, and the same polynomial."""
    found = polynomial(expression)
    again = to_expression(found)
    assert polynomial(again) == found
    draw = random.Random(1)
    shapes = {"a": (), "b": (), "q": (3,), "k": (3,), "R": (3, 3)}
    make = np.vectorize(lambda _: random_fraction(draw), otypes=[object])
    scope = {name: np.asarray(make(np.zeros(shape)), dtype=object) for name, shape in shapes.items()}
    arithmetic = TokenLoop(SIZES, Fraction, rationals(1).apply)
    values = [
        arithmetic.align(evaluate(each, arithmetic, scope), each.axes, expression.axes)
        for each in (expression, again)
    ]
    assert np.all(values[0] == values[1])


def test_constants() -> None:
    assert constant(Fraction(0)) == ZERO
    assert to_expression(ZERO) == Constant(Fraction(0))
    assert polynomial(Power(A, Fraction(0))) == UNIT
