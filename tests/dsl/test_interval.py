"""Interval arithmetic against sampling: no value escapes, open ends are not reached, known ends are exact."""

import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rnnc.dsl.enclosures import IMAGES, domain, image
from rnnc.dsl.interval import REAL, Interval, point

INFINITY = math.inf
SPECIAL = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -3.0])
MODERATE = st.one_of(SPECIAL, st.floats(-30, 30)).map(lambda x: x if abs(x) > 1e-30 else 0.0)
WIDE = st.one_of(MODERATE, st.floats(-1e30, 1e30))


@st.composite
def members(draw: st.DrawFn, numbers: st.SearchStrategy[float] = WIDE) -> tuple[Interval, float]:
    """An interval and a number in it, often an end or the only number."""
    low, inside, high = sorted([draw(numbers), draw(numbers), draw(numbers)])
    if draw(st.booleans()):
        inside = draw(st.sampled_from([low, high]))
    low = draw(st.sampled_from([low, low, -INFINITY]))
    high = draw(st.sampled_from([high, high, INFINITY]))
    return Interval(
        low, high, draw(st.booleans()) and low < inside, draw(st.booleans()) and inside < high
    ), inside


@given(members(), members())
@example((Interval(0, 0), 0.0), (REAL, 1e30))
@example((Interval(0, 1, True), 1.0), (Interval(0, 2), 0.0))
def test_arithmetic_is_sound(left: tuple[Interval, float], right: tuple[Interval, float]) -> None:
    (x, a), (y, b) = left, right
    p, q = Fraction(a), Fraction(b)
    assert p + q in x + y
    assert p - q in x - y
    assert p * q in x * y
    assert min(a, b) in x.minimum(y)
    assert max(a, b) in x.maximum(y)
    assert abs(a) in abs(x)
    assert a in x.hull(y)
    assert (a in x.intersect(y)) == (a in y)
    if b:
        assert p / q in x / y


@given(members(), st.sampled_from([-3, -2, -1, 0, 1, 2, 3, 4]))
def test_integer_powers_are_sound(member: tuple[Interval, float], exponent: int) -> None:
    x, a = member
    assume(a != 0 or exponent >= 0)
    assert Fraction(a) ** exponent in x**exponent


@given(members(), st.sampled_from([Fraction(1, 2), Fraction(-1, 2), Fraction(3, 2), Fraction(1, 3)]))
def test_roots_are_sound(member: tuple[Interval, float], exponent: Fraction) -> None:
    x, a = member
    assume(a > 0 or (a == 0 and exponent > 0))
    with mpmath.workdps(60):
        value = mpmath.mpf(a) ** (mpmath.mpf(exponent.numerator) / exponent.denominator)
        if a == 0 or exponent.denominator > 2:
            assert _inside(value, x**exponent, slack=1e-50)
        else:
            assert _inside(value, x**exponent)


REFERENCE = {
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "abs": abs,
    "sign": mpmath.sign,
    "step": lambda x: mpmath.mpf(x > 0),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)) if x < 300 else x + mpmath.exp(-x),
    "logsigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "elu": lambda x: x if x >= 0 else mpmath.expm1(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}


def _inside(value: mpmath.mpf, found: Interval, slack: float = 0.0) -> bool:
    low, high = found.low - slack * abs(value), found.high + slack * abs(value)
    above = value > low or (value == low and not found.low_open)
    return bool(above and (value < high or (value == high and not found.high_open)))


def test_every_function_has_a_reference() -> None:
    assert IMAGES.keys() == REFERENCE.keys()


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_images_are_sound(name: str) -> None:
    @settings(max_examples=150)
    @given(members(MODERATE))
    def check(member: tuple[Interval, float]) -> None:
        x, a = member
        assume(a in domain(name) and not (name == "reciprocal" and a == 0))
        with mpmath.workdps(450):
            assert _inside(REFERENCE[name](mpmath.mpf(a)), image(name, x))

    check()


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("sigmoid", REAL, "(0, 1)"),
        ("tanh", REAL, "(-1, 1)"),
        ("softplus", REAL, "(0, inf)"),
        ("logsigmoid", REAL, "(-inf, 0)"),
        ("exp", REAL, "(0, inf)"),
        ("exp", Interval(high=0.0), "(0, 1]"),
        ("exp", Interval(high=0.0, high_open=True), "(0, 1)"),
        ("exp", Interval(0.0), "[1, inf)"),
        ("sigmoid", Interval(0.0, low_open=True), "(0.5, 1)"),
        ("log", Interval(0.0, 1.0), "(-inf, 0]"),
        ("sqrt", Interval(4.0, 9.0, True), "(2, 3]"),
        ("rsqrt", Interval(0.0), "(0, inf)"),
        ("elu", REAL, "(-1, inf)"),
        ("relu", Interval(-1.0, 2.0, True, True), "[0, 2)"),
        ("silu", REAL, "[-0.278465, inf)"),
        ("silu", Interval(high=-10.0), "[-0.000453979, 0)"),
        ("gelu", REAL, "[-0.169971, inf)"),
        ("sin", REAL, "[-1, 1]"),
        ("cos", Interval(-1.0, 0.5), "[0.540302, 1]"),
        ("sign", Interval(0.0, low_open=True), "[1, 1]"),
    ],
)
def test_known_images(name: str, argument: Interval, expected: str) -> None:
    assert str(image(name, argument)) == expected


def test_open_ends() -> None:
    gate = Interval(0.0, 1.0, True, True)
    assert str(1 - gate) == "(0, 1)"
    assert str(gate * Interval(0.0, 2.0)) == "[0, 2)"
    assert str(gate * REAL) == "(-inf, inf)"
    assert point(0) * REAL == point(0)
    assert str(gate.reciprocal()) == "(1, inf)"
    assert str(1 / Interval(high=-2.0)) == "[-0.5, 0)"
    assert Interval(-1.0, 1.0).reciprocal() == REAL
    assert str(Interval(-1.0, 0.5, True) ** 2) == "[0, 1)"
    assert gate.within(Interval(0.0, 1.0))
    assert not Interval(0.0, 1.0).within(gate)
    assert Interval(0.0, 1.0, high_open=True).disjoint(Interval(1.0))
    assert str(gate.hull(point(1))) == "(0, 1]"
    assert gate.maximum(Interval(0.5)) == Interval(0.5)


def test_rounding_is_outward_and_only_where_needed() -> None:
    assert point(0.1) + point(0.2) != point(0.1 + 0.2)
    assert Fraction(0.1) + Fraction(0.2) in point(0.1) + point(0.2)
    assert point(0.5) + point(0.25) == point(0.75)
    third = point(Fraction(1, 3))
    assert third.low < third.high
    assert Fraction(1, 3) in third
    assert (point(1e308) * 10).high == INFINITY
    assert (point(1e308) * 10).low > 1e308


def test_ends_are_checked() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Interval(math.nan, 1.0)
    assert Interval(2.0, 1.0).empty
    assert Interval(1.0, 1.0, True).empty
    assert Interval(low_open=True, high_open=True) == REAL
