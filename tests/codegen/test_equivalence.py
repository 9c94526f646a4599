"""Pairs of recurrences: equal by spelling, by names, by gates, by functions; different; not decided."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rnnc.codegen.equivalence import Equivalence, Incomparable, compare
from rnnc.dsl.checker import check
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.parser import parse
from rnnc.dsl.renaming import bare, renamed, with_gate
from rnnc.dsl.syntax import Declaration

HEAD = """recurrence {name}[K, V]:
    input q[K], k[K], v[V], a, b
    input d in [-1, 1]
    let u = unit(k)
    state S[K, V]
"""
TAIL = """
    output o[V]
    o <- S.T @ q
    eigenvalues in (-9, 9)
"""
ELEMENTWISE = "recurrence {name}[N]:\n    input x[N], f[N]\n    let z = sigmoid(f)\n    state h[N]\n"


def spec(body: str, name: str = "r") -> Declaration:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    if "h <-" in body:
        return parse(ELEMENTWISE.format(name=name) + lines + "    output o[N]\n    o <- h\n")
    return parse(HEAD.format(name=name) + lines.rstrip("\n") + TAIL)


def compared(left: str, right: str) -> Equivalence:
    return compare(*(check(bare(spec(body))) for body in (left, right)))


SPELLINGS = [
    ("S <- d * S + k @ v.T", "S <- k @ v.T + S * d"),
    ("S <- d * (I - a * u @ u.T) @ S + k @ v.T", "S <- d * S\nS <- S - a * u @ (u.T @ S) + k @ v.T"),
    ("S <- exp(log(d)) * S + k @ v.T", "S <- d * S + k @ v.T"),
    ("S <- S + k @ (v / (1 + exp(a))).T", "S <- S + k @ (v * (1 + exp(a))**-1).T"),
    ("S <- exp(logsigmoid(a)) * S + k @ v.T", "S <- sigmoid(a) * S + k @ v.T"),
    ("h <- z * h + (1 - z) * x", "h <- x + z * (h - x)"),
]
FUNCTIONS = [
    ("S <- tanh(a / 2) * S + k @ v.T", "S <- (2 * sigmoid(a) - 1) * S + k @ v.T"),
    ("S <- (1 - sigmoid(-a)) * S + k @ v.T", "S <- sigmoid(a) * S + k @ v.T"),
    ("S <- softplus(a) * S + k @ v.T", "S <- -logsigmoid(-a) * S + k @ v.T"),
    ("S <- S + k @ silu(v).T", "S <- S + k @ (v * sigmoid(v)).T"),
    ("S <- S + u @ v.T", "S <- S + (k * rsqrt(sum(k * k, K) + 1e-6)) @ v.T"),
    ("S <- S + k @ v.T * K**-0.5", "S <- S + k @ v.T / sqrt(K)"),
]
DIFFERENT = [
    ("S <- d * S + k @ v.T", "S <- d * S + 2 * k @ v.T"),
    ("S <- d * S + k @ v.T", "S <- d**2 * S + k @ v.T"),
    (
        "S <- d * (S - sigmoid(b) * u @ (u.T @ S)) + k @ v.T",
        "S <- d * S - sigmoid(b) * u @ (u.T @ S) + k @ v.T",
    ),
    ("S <- S + sigmoid(b) * u @ v.T", "S <- S + sigmoid(b) * k @ v.T"),
    ("h <- z * h + (1 - z) * x", "h <- z * h + x"),
]


@pytest.mark.parametrize(("left", "right"), SPELLINGS)
def test_equal_by_normal_form(left: str, right: str) -> None:
    found = compared(left, right)
    assert found.verdict == "equal"
    assert "every size" in found.how


@pytest.mark.parametrize(("left", "right"), FUNCTIONS)
def test_equal_by_polynomials(left: str, right: str) -> None:
    found = compared(left, right)
    assert found.verdict == "equal"
    assert "polynomials" in found.how


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_with_a_counterexample(left: str, right: str) -> None:
    found = compared(left, right)
    assert (found.verdict, bool(found)) == ("different", False)
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right
    assert "in the first" in str(found)


def test_a_counterexample_without_functions_is_exact() -> None:
    example = compared(*DIFFERENT[0]).counterexample
    assert example is not None
    values = {name: Fraction(text.strip("[]")) for name, text in example.values}
    assert example.sizes == (("K", 1), ("V", 1))
    assert example.tokens == 1
    assert Fraction(example.left) == values["q"] * values["k"] * values["v"]
    assert Fraction(example.right) == 2 * Fraction(example.left)


def test_what_differs_little_is_told_apart() -> None:
    found = compared("S <- S + u @ v.T", "S <- S + (k / norm(k)) @ v.T").counterexample
    assert found is not None
    assert found.left != found.right


def test_a_difference_in_the_state_needs_a_state() -> None:
    example = compared(*DIFFERENT[1]).counterexample
    assert example is not None
    assert "S at the start" in dict(example.values) or example.tokens > 1
    assert all(-1 <= Fraction(x) <= 1 for x in dict(example.values)["d"].strip("[]").split(", "))


def test_what_is_not_known_is_not_decided() -> None:
    found = compared("S <- S + exp(a + b) * k @ v.T", "S <- S + exp(a) * exp(b) * k @ v.T")
    assert (found.verdict, bool(found)) == ("undecided", False)


def test_names_have_to_match() -> None:
    left, right = spec("S <- S + k @ v.T"), renamed(spec("S <- S + k @ v.T"), {"k": "kappa"})
    with pytest.raises(Incomparable, match="the inputs differ"):
        compare(check(bare(left)), check(bare(right)))


def test_renamed() -> None:
    right = parse(
        "recurrence other[N, P]:\n    input c[N], b[N], x[P], u, e\n    input d in [-1, 1]\n"
        "    let k = unit(b)\n    state h[N, P]\n    h <- d * h + u * k @ x.T\n"
        "    output y[P]\n    y <- h.T @ c\n"
    )
    left = bare(spec("S <- d * S + a * u @ v.T"))
    names = {"q": "c", "k": "b", "v": "x", "a": "u", "b": "e", "S": "h", "o": "y", "K": "N", "V": "P"}
    assert compare(check(renamed(left, names)), check(right))
    assert not compare(check(renamed(left, {**names, "a": "e", "b": "u"})), check(right))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"nothing": "x"}, "'nothing' cannot be renamed"),
        ({"u": "x"}, "'u' cannot be renamed"),
        ({"k": "q"}, "two names would become 'q'"),
    ],
)
def test_wrong_names(names: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        renamed(spec("S <- S + k @ v.T"), names)


def test_a_change_of_gates() -> None:
    left = bare(
        parse(HEAD.format(name="l").replace(", a", "") + "    input g\n    S <- exp(g) * S + k @ v.T" + TAIL)
    )
    right = bare(spec("S <- sigmoid(a) * S + k @ v.T"))
    changed = check(with_gate(left, right, "g", "logsigmoid(a)"))
    assert compare(changed, check(right))
    assert not compare(check(with_gate(left, right, "g", "-softplus(a)")), check(right))
    for text in ("log(", "1\n    let x = 2", ""):
        with pytest.raises(SpecError, match="is not an expression"):
            with_gate(left, right, "g", text)
