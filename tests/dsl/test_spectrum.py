"""Enclosures of eigenvalues against numpy on random inputs, and the three answers to a claim."""

import math
import random

import numpy as np
import pytest

from rnnc.dsl.checker import check
from rnnc.dsl.expression import Expression
from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.ranges import environment
from rnnc.dsl.spectrum import check_claim, spectrum
from rnnc.dsl.witness import evaluate, find_witness

SPEC = """recurrence t[K, V]:
    input k[K], e[K], x[K], y[K], v[V], a, b, c, g[K]
    input s[K] in (-inf, 0]
    input d in (-1, 1)
    let alpha = exp(-softplus(a))
    let beta = 2 * sigmoid(b)
    let gamma = sigmoid(c)
    let decay = exp(-softplus(g))
    let u = unit(k)
    let w = unit(e)
    state S[K, V]
    S <- {update} + k @ v.T
    output o[V]
    o <- S.T @ x
    {claim}
"""

HOUSEHOLDERS = "(I - beta * w @ w.T) @ ((I - beta * u @ u.T) @ (alpha * S))"

UPDATES = {
    "S": ("[1, 1]", "diagonal", 1.0),
    "alpha * S": ("(0, 1)", "diagonal", 1.0),
    "exp(s) * S": ("(0, 1]", "diagonal", 1.0),
    "d * S": ("(-1, 1)", "diagonal", 1.0),
    "exp(g) * S": ("(0, inf)", "diagonal", math.inf),
    "S - gamma * u @ (S.T @ u).T": ("(0, 1]", "symmetric", 1.0),
    "S - beta * u @ (S.T @ u).T": ("(-1, 1]", "symmetric", 1.0),
    "S - gamma * k @ (S.T @ k).T": ("(-inf, 1]", "symmetric", math.inf),
    "S + gamma * u @ (S.T @ u).T": ("[1, 2)", "symmetric", 2.0),
    "alpha * (I - beta * u @ u.T) @ S": ("(-1, 1)", "symmetric", 1.0),
    "d * (I - beta * u @ u.T) @ S": ("(-1, 1)", "symmetric", 1.0),
    "(1 - gamma) * (I - beta * u @ u.T) @ S": ("(-1, 1)", "symmetric", 1.0),
    "alpha * (S - gamma * u @ (S.T @ u).T - gamma * w @ (S.T @ w).T)": ("(-1, 1)", "symmetric", 1.0),
    "decay * S - gamma * u @ (S.T @ u).T": ("(-1, 1)", "symmetric", 1.0),
    "(I - gamma * u @ u.T) @ (decay * S)": ("(0, 1)", "real", 1.0),
    "(I - u @ (sigmoid(x) * u).T) @ (decay * S)": ("(0, 1)", "real", 2.0),
    "(I - beta * u @ (sigmoid(x) * u).T) @ (decay * S)": ("(-1, 1)", "real", 3.0),
    "(I - beta * u @ u.T) @ (decay * S)": ("(-1, 1)", "real", 1.0),
    "decay * ((I - beta * u @ u.T) @ S)": ("(-1, 1)", "real", 1.0),
    "decay * S - sigmoid(x) * u @ (S.T @ u).T": ("(-1, 1)", "real", 2.0),
    "alpha * S + u @ (w.T @ S)": ("(-1, 2)", "real", 2.0),
    "alpha * S + x @ (y.T @ S)": ("(-inf, inf)", "real", math.inf),
    HOUSEHOLDERS: ("(-1, 1)", "general", 1.0),
    "decay * S + u @ (w.T @ S)": ("(-2, 2)", "general", 2.0),
    "decay * S + x @ (y.T @ S)": ("(-inf, inf)", "general", math.inf),
}


def normal(update: str, claim: str = "") -> Normal:
    stated = f"eigenvalues in {claim}" if claim else ""
    return normalise(check(parse(SPEC.format(update=update, claim=stated))))


@pytest.mark.parametrize("update", UPDATES)
def test_enclosures(update: str) -> None:
    found = spectrum(normal(update))
    assert (str(found.interval), found.kind, found.norm) == UPDATES[update]
    assert found.reasons
    assert found.triangular == (found.kind == "diagonal")


def sampled(ranges: dict[str, Interval], pick: random.Random) -> dict[str, dict[tuple[int, ...], float]]:
    """Random inputs, wide enough to saturate the gates."""
    values: dict[str, dict[tuple[int, ...], float]] = {}
    width = pick.choice([1.0, 5.0, 30.0])
    for name in "kexyv":
        values[name] = {(i,): pick.gauss(0, width) for i in range(2)}
    values["e"] = values["k"] if pick.random() < 0.3 else values["e"]
    values["g"] = {(i,): pick.gauss(0, width) for i in range(2)}
    values["s"] = {(i,): -abs(pick.gauss(0, width)) for i in range(2)}
    for name in "abc":
        values[name] = {(): pick.gauss(0, width)}
    values["d"] = {(): pick.uniform(ranges["d"].low, ranges["d"].high)}
    return values


@pytest.mark.parametrize("update", UPDATES)
def test_numerical_eigenvalues_lie_inside(update: str) -> None:
    form = normal(update)
    found, ranges, pick = spectrum(form), environment(form.recurrence), random.Random(1)
    low, high = found.interval.low - 1e-9, found.interval.high + 1e-9
    for _ in range(60):
        values = sampled(ranges, pick)

        def entry(expression: Expression | None, i: int) -> float:
            assert expression is not None
            value = evaluate(expression, values, {"K": i})  # noqa: B023
            return (value.low + value.high) / 2

        decay = [1.0 if form.decay is None else entry(form.decay, i) for i in range(2)]
        matrix = np.diag(decay)
        for write in form.reads:
            matrix += np.outer(
                [entry(write.key, i) for i in range(2)], [entry(write.read, i) for i in range(2)]
            )
        scale = 1 + np.abs(matrix).max()
        for value in np.linalg.eigvals(matrix):
            if abs(value.imag) > 1e-6 * scale:
                assert not found.real
                assert low <= -abs(value)
                assert abs(value) <= high
            else:
                assert low - 1e-7 * scale <= value.real <= high + 1e-7 * scale
        assert np.linalg.norm(matrix, 2) <= found.norm * (1 + 1e-9)


def test_the_spelling_does_not_matter() -> None:
    spellings = [
        "alpha * (I - beta * u @ u.T) @ S",
        "alpha * S - alpha * beta * u @ (S.T @ u).T",
        "alpha * (S - beta * u @ (u.T @ S))",
        "(I - beta * u @ u.T) @ (alpha * S)",
    ]
    assert len({spectrum(normal(update)).reasons for update in spellings}) == 1


@pytest.mark.parametrize(
    ("update", "claim"),
    [
        ("alpha * (I - beta * u @ u.T) @ S", "(-1, 1)"),
        ("alpha * (I - beta * u @ u.T) @ S", "[-1, 1]"),
        ("S - gamma * u @ (S.T @ u).T", "(0, 1]"),
        ("exp(s) * S", "[0, 1]"),
        (HOUSEHOLDERS, "(-1, 1)"),
    ],
)
def test_proven(update: str, claim: str) -> None:
    assert check_claim(normal(update, claim)) == []


@pytest.mark.parametrize(
    ("update", "claim", "witness"),
    [
        ("alpha * (I - beta * u @ u.T) @ S", "(0, 1)", "an eigenvalue is -"),
        ("S - gamma * u @ (S.T @ u).T", "(0, 1)", "1 is an eigenvalue for every input with K > 1"),
        ("S", "(-1, 1)", "1 is an eigenvalue for every input with K > 0"),
        ("exp(s) * S", "(0, 1)", "s = [0, 0]: an eigenvalue is 1"),
        ("S - gamma * k @ (S.T @ k).T", "[-1, 1]", "an eigenvalue is -"),
        (HOUSEHOLDERS, "(0, 1)", "an eigenvalue is -"),
        ("k @ (e.T @ S) - e @ (k.T @ S)", "[-1, 1]", "complex eigenvalues of modulus"),
    ],
)
def test_refuted_with_a_witness(update: str, claim: str, witness: str) -> None:
    form = normal(update, claim)
    (found,) = check_claim(form)
    assert (found.code, found.severity) == ("eigenvalue-claim", "error")
    assert found.span.line == 15
    assert witness in found.label


def test_not_proven_is_a_warning() -> None:
    update = "decay * S + gamma * 0.1 * u @ (w.T @ S) - 0.1 * gamma * w @ (u.T @ S)"
    (found,) = check_claim(normal(update, "(-1.15, 1.15)"))
    assert (found.code, found.severity) == ("eigenvalues-not-proven", "warning")
    assert found.message == "not proven that the eigenvalues lie in (-1.15, 1.15)"
    assert found.label == "proven is (-1.2, 1.2)"


def test_hints() -> None:
    (found,) = check_claim(normal("S - gamma * k @ (S.T @ k).T", "[-1, 1]"))
    assert found.hints == ("normalise k: let u = unit(k)",)
    (found,) = check_claim(normal("exp(g) * S", "[-1, 1]"))
    assert found.hints == ("promise a range for g, as in `input g in (-inf, 0]`, or bound it by a function",)


def test_saturated_gates_are_no_witness() -> None:
    """sigmoid(20) is 1 in float32, yet not the number 1: the claim's open end is not reached."""
    form = normal("alpha * S")
    assert find_witness(form, environment(form.recurrence), Interval(0, 1, True, True)) is None
