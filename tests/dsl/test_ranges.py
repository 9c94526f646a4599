"""Inferred ranges: tight where a kernel depends on it, sound on random expressions."""

import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import Diagnostic
from rnnc.dsl.expression import (
    Add,
    Call,
    Constant,
    Delay,
    Expression,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Size,
    Sum,
    walk,
)
from rnnc.dsl.interval import REAL, Interval
from rnnc.dsl.parser import parse
from rnnc.dsl.ranges import check_ranges, environment, infer
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.witness import evaluate

DECLARED = """recurrence t[K, V]:
    input k[K], p[K], v[V], x, y, z
    input f, g in (0, 1)
    input b in (0, 2)
    input s in [0, inf)
    input c in [-1, 1]
    input d[K] in (-inf, 0]
    param A_log ~ log_uniform(1, 16)
{body}
    state S[K, V]
    S <- S + k @ v.T
    output o[V]
    o <- S.T @ p
"""


def recurrence(*lines: str) -> Recurrence:
    return check(parse(DECLARED.format(body="\n".join(f"    {line}" for line in lines))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 - f", "(0, 1)"),
        ("re(complex(x, y))", "(-inf, inf)"),
        ("f * (1 - f)", "(0, 0.25]"),
        ("f - f**2", "(0, 0.25]"),
        ("(1 - f) * f * g", "(0, 0.25)"),
        ("2 * sigmoid(x) - 1", "(-1, 1)"),
        ("exp(-exp(A_log) * softplus(x + y))", "(0, 1)"),
        ("exp(-softplus(x))", "(0, 1)"),
        ("exp(logsigmoid(x) / 16)", "(0, 1)"),
        ("exp(d)", "(0, 1]"),
        ("sigmoid(x)**(1/16)", "(0, 1)"),
        ("1 - exp(-softplus(x))", "(0, 1)"),
        ("unit(k)", "(-1, 1)"),
        ("unit(k).T @ unit(k)", "[0, 1)"),
        ("unit(k).T @ unit(p)", "(-1, 1)"),
        ("1 - b * (unit(k).T @ unit(k))", "(-1, 1]"),
        ("f * (1 - b * (unit(k).T @ unit(k)))", "(-1, 1)"),
        ("f - b * f * (unit(k).T @ unit(k))", "(-1, 1)"),
        ("f * c + (1 - f) * c", "[-1, 1]"),
        ("f * c + (1 - f) * tanh(x)", "(-1, 1)"),
        ("x * x", "[0, inf)"),
        ("x * x + 1", "[1, inf)"),
        ("x**2 - 2 * x", "[-1, inf)"),
        ("(x * x)**0.5", "[0, inf)"),
        ("x - x", "[0, 0]"),
        ("x / x", "[1, 1]"),
        ("s - 2 * s", "(-inf, 0]"),
        ("s * f - s", "(-inf, 0]"),
        ("abs(c) - 1", "[-1, 0]"),
        ("max(x, 1)", "[1, inf)"),
        ("min(max(x, 0), 1)", "[0, 1]"),
        ("softmax(k, K)", "(0, 1]"),
        ("sum(softmax(k, K), K)", "[1, 1]"),
        ("softmax(k, K).T @ tanh(p)", "(-1, 1)"),
        ("K**-0.5", "(0, 1]"),
        ("K * K**-0.5", "[1, inf)"),
        ("sum(d, K)", "(-inf, 0]"),
        ("k.T @ k + 1", "[1, inf)"),
        ("prev(f)", "[0, 1)"),
        ("1 / (1 + exp(x))", "(0, 1)"),
        ("rsqrt(k.T @ k + 1)", "(0, 1]"),
        ("x", "(-inf, inf)"),
    ],
)
def test_tight(text: str, expected: str) -> None:
    assert str(environment(recurrence(f"let found = {text}"))["found"]) == expected


def test_lets_are_looked_through() -> None:
    found = environment(recurrence("let h = 1 - f", "let r = h + f", "let n = unit(k)", "let m = n.T @ n"))
    assert str(found["r"]) == "[1, 1]"
    assert str(found["m"]) == "[0, 1)"


def test_an_initialiser_promises_nothing() -> None:
    assert environment(recurrence())["A_log"] == REAL


def test_both_kinds_of_context() -> None:
    name = Name("f", ())
    assert infer(name, {"f": Interval(0, 1)}) == Interval(0, 1)
    assert str(infer(name, recurrence())) == "(0, 1)"
    assert infer(Name("unknown", ()), {}) == REAL


def test_growing_lets_stay_cheap() -> None:
    lets = ["let x0 = sigmoid(x)"]
    lets += [f"let x{i} = x{i - 1} * sigmoid(x{i - 1} + x{i - 1} * y)" for i in range(1, 30)]
    found = environment(recurrence(*lets))
    assert found["x29"].within(Interval(0, 1))


def codes(found: list[Diagnostic]) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in found]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("let e = log(-exp(x))", "'log' of a value that is never positive"),
        ("let e = sqrt(-1 - x * x)", "'sqrt' of a value that is never positive"),
        ("let e = rsqrt(-softplus(x))", "'rsqrt' of a value that is never positive"),
        ("let e = 1 / (x - x)", "division by zero"),
        ("let e = (-exp(x))**0.5", "the power 1/2 of a value that is never positive"),
    ],
)
def test_outside_the_domain(line: str, message: str) -> None:
    spec = recurrence(line)
    found = check_ranges(spec)
    assert codes(found) == [("range", message)]
    assert found[0].span.line == 9
    assert spec.source.splitlines()[8] in found[0].render(spec.source, "t.rnn")


def test_nothing_to_complain_about() -> None:
    assert check_ranges(recurrence("let e = log(x) + sqrt(y) + 1 / z")) == []


def test_a_default_outside_its_range() -> None:
    (found,) = check_ranges(recurrence("param scale in (0, 1) = 1 + 1"))
    assert found.message == "the default of 'scale' lies outside its promised range (0, 1)"
    assert found.label == "in [2, 2]"
    assert check_ranges(recurrence("param scale in (0, 1] = K**-0.5")) == []


NUMBERS = st.sampled_from(["-2", "-1", "1/2", "1", "2", "3"]).map(lambda text: Constant(Fraction(text)))
SCALARS = {
    "f": Interval(0, 1, True, True),
    "c": Interval(-1, 1),
    "s": Interval(0, math.inf),
    "n": Interval(-math.inf, 0, False, True),
    "x": REAL,
}
VECTORS = {"k": REAL, "d": Interval(-2, 0), "e": Interval(0, 1)}
SMOOTH = ("exp", "sigmoid", "tanh", "softplus", "silu", "abs", "relu")


def vector(expression: Expression) -> Expression:
    return expression if expression.axes else Multiply((expression, Name("e", ("K",))))


def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        several.map(Add),
        several.map(Multiply),
        st.tuples(inner, st.sampled_from([Fraction(2), Fraction(3), Fraction(-1)])).map(lambda p: Power(*p)),
        st.tuples(st.sampled_from(SMOOTH), inner).map(lambda p: Call(p[0], (p[1],))),
        inner.map(vector).map(lambda e: Sum(e, "K")),
        inner.map(vector).map(lambda e: Call("unit", (e,), "K")),
        inner.map(vector).map(lambda e: Call("softmax", (e,), "K")),
    )


EXPRESSIONS = st.recursive(
    st.one_of(
        NUMBERS,
        st.sampled_from([Name(name, ()) for name in SCALARS]),
        st.sampled_from([Name(name, ("K",)) for name in VECTORS]),
        st.just(Size("K")),
    ),
    grown,
    max_leaves=7,
)


def drawn(draw: st.DrawFn, found: Interval) -> float:
    low, high = max(found.low, -5.0), min(found.high, 5.0)
    value = draw(st.one_of(st.sampled_from([low, high, (low + high) / 2]), st.floats(low, high)))
    return value if value in found else (low + high) / 2


@st.composite
def values(draw: st.DrawFn) -> dict[str, dict[tuple[int, ...], float]]:
    found: dict[str, dict[tuple[int, ...], float]]
    found = {name: {(): drawn(draw, interval)} for name, interval in SCALARS.items()}
    return found | {
        name: {(i,): drawn(draw, interval) for i in range(2)} for name, interval in VECTORS.items()
    }


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EXPRESSIONS, values())
def test_no_value_escapes(expression: Expression, at: dict[str, dict[tuple[int, ...], float]]) -> None:
    found = infer(expression, SCALARS | VECTORS)
    # 0 / 0 is no value
    inverses = [x.base for x in walk(expression) if isinstance(x, Power) and x.exponent < 0]
    for i in range(2):
        assume(not any(0.0 in evaluate(x, at, {"K": i} if x.axes else {}) for x in inverses))
        value = evaluate(expression, at, {"K": i} if expression.axes else {})
        assert not value.disjoint(found), (value, found)


def test_micro_steps_and_delays() -> None:
    k = Name("k", ("n", "K"))
    step = Select(k, "n", "i")
    known = {"k": Interval(1, 2)}
    assert infer(Add((step, Multiply((Constant(Fraction(-1)), step)))), known) == Interval(0, 0)
    assert infer(Delay(step, 1), known) == Interval(0, 2)
    assert infer(Rename(step, "K", "K'"), known) == Interval(1, 2)
