"""Expressions as text: the language's own notation, few parentheses, and back again."""

from fractions import Fraction

import pytest

from rnnc.dsl.abbreviations import Abbreviations
from rnnc.dsl.checker import check
from rnnc.dsl.expansion import to_expression
from rnnc.dsl.expression import Add, Constant, Expression, Multiply, Name, Rename, Size, Sum
from rnnc.dsl.parser import parse
from rnnc.dsl.pretty import pretty
from rnnc.dsl.ranges import inference
from rnnc.dsl.recurrence import Let, Recurrence

SPEC = """recurrence t[K, V]:
    input k[K], p[K], q[K], v[V], w[V], a, b, c
    param R[K, K]
    let found = {text}
    state S[K, V]
    S <- a * S + k @ v.T
    output o[V]
    o <- S.T @ p
"""


def recurrence(text: str) -> Recurrence:
    return check(parse(SPEC.format(text=text)))


def value(text: str) -> Expression:
    (let,) = (s for s in recurrence(text).statements if isinstance(s, Let))
    return let.value


SAME = [
    "a + b - c",
    "a - (b - c)",
    "a * (b + c)",
    "a / b",
    "1 / a",
    "a / (b * c)",
    "-a",
    "-a * b",
    "(-a)**2",
    "a**2 * b",
    "(a + b)**2",
    "a**-0.5",
    "a**(1 / 3)",
    "2 * sigmoid(a) - 1",
    "exp(-exp(a) * softplus(b + c))",
    "max(a, b + 1)",
    "unit(k)",
    "softmax(k, K)",
    "sum(k, K)",
    "k * p",
    "k.T @ p",
    "k.T @ k",
    "a * (k.T @ p)",
    "(k * p).T @ q",
    "k @ v.T",
    "a * k @ v.T",
    "k * p @ (v * w).T",
    "k @ (v + w).T",
    "K**-0.5 * k",
    "a + 1e-06",
    "R @ k",
    "R.T @ k",
    "a * (I - b * k @ k.T)",
    "(I - b * k @ k.T) @ p",
    "prev(k)",
    "delay(k, 3)",
]


@pytest.mark.parametrize("text", SAME)
def test_the_same_text_comes_back(text: str) -> None:
    assert pretty(value(text)) == text


@pytest.mark.parametrize("text", SAME)
def test_the_text_means_the_same(text: str) -> None:
    again = pretty(value(text))
    known = inference(recurrence("1 + 1"))
    first, second = known.canonical(value(text)), known.canonical(value(again))
    assert first == second


def test_orientation_is_that_of_the_result() -> None:
    assert pretty(value("k @ v.T @ v")) == "k * (v.T @ v)"


def test_products_of_matrices() -> None:
    k, v = Name("k", ("K",)), Name("v", ("V",))
    state, square = Name("S", ("K", "V")), Name("M", ("K", "K'"))
    assert pretty(Sum(Multiply((state, k)), "K")) == "S.T @ k"
    assert pretty(Sum(Multiply((state, v)), "V")) == "S @ v"
    assert pretty(Sum(Multiply((square, Rename(state, "K", "K'"))), "K'")) == "M @ S"
    assert pretty(Multiply((k, Sum(Multiply((state, k)), "K")))) == "k @ (S.T @ k).T"
    assert pretty(Sum(Multiply((state, k, Size("V"))), "K")) == "V * (S.T @ k)"


def test_numbers() -> None:
    a = Name("a", ())
    assert pretty(Constant(Fraction(-3, 2))) == "-1.5"
    assert pretty(Multiply((Constant(Fraction(1, 3)), a))) == "1 / 3 * a"
    assert pretty(Add((a, Constant(Fraction(-1))))) == "a - 1"


def test_abbreviations() -> None:
    spec = check(
        parse(
            """recurrence t[K, V]:
    input k[K], q[K], v[V], a, b
    let alpha = exp(-softplus(a))
    let beta = 2 * sigmoid(b)
    let u = unit(k)
    let rest = 1 - alpha
    state S[K, V]
    let y = S.T @ u
    S <- alpha * S + beta * u @ (rest * v - y).T
    output o[V]
    o <- S.T @ q
"""
        )
    )
    known = inference(spec)
    names = Abbreviations(spec, known)
    k = Name("k", ("K",))
    polynomial = known.canonical(
        Add((Name("alpha", ()), Multiply((Name("beta", ()), Name("alpha", ()), Name("u", ("K",))))))
    )
    assert polynomial is not None
    assert pretty(names.shorten(to_expression(polynomial))) == "alpha * (1 + beta * u)"
    assert names.shorten(k) == k
