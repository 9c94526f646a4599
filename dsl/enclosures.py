"""The image of intervals under the functions of the language, as a table.

Limits at infinity and special values are exact, so that `sigmoid` maps everything into (0, 1) and `exp` maps
(-inf, 0] onto (0, 1]; other values are rounded outward by a relative 1e-12. Arguments outside a function's
domain are left out of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from rnnc.dsl.interval import REAL, Interval, outward, point

Scalar = Callable[[float], float]
Image = Callable[[Interval], Interval]

POSITIVE = Interval(0.0, math.inf, low_open=True)
NEGATIVE = -POSITIVE
UNIT_RANGE = Interval(0.0, 1.0, True, True)
SIGNED_UNIT = Interval(-1.0, 1.0, True, True)


def image(function: str, *arguments: Interval) -> Interval:
    """The values of an elementwise function of `rnnc.dsl.functions` over intervals."""
    if function in ("min", "max"):
        x, y = arguments
        return x.minimum(y) if function == "min" else x.maximum(y)
    if function == "select":
        return arguments[1].hull(arguments[2])
    return IMAGES[function](*arguments) if function in IMAGES else REAL


def domain(function: str) -> Interval:
    """Where a function is defined and finite."""
    return DOMAINS.get(function, REAL)


DOMAINS = {"log": POSITIVE, "log2": POSITIVE, "sqrt": Interval(0.0), "rsqrt": POSITIVE}


def _end(f: Scalar, x: float, up: bool, values: Interval, exact: Mapping[float, float]) -> tuple[float, bool]:
    """f at an end, outward, and whether the limit in `values` took its place (and is not reached)."""
    if x in exact:
        return exact[x], False
    if math.isinf(x):
        return (values.low, True) if x < 0 else (values.high, True)
    try:
        value = f(x)
    except OverflowError:
        value = math.inf
    moved = float(outward(value, up))
    if up and moved >= values.high:
        return values.high, values.high_open
    if not up and moved <= values.low:
        return values.low, values.low_open
    return moved, False


def _increasing(f: Scalar, values: Interval = REAL, exact: Mapping[float, float] | None = None) -> Image:
    """An increasing function whose limits at -inf and inf are the ends of `values`."""
    known = exact or {}

    def apply(x: Interval) -> Interval:
        low, low_limit = _end(f, x.low, False, values, known)
        high, high_limit = _end(f, x.high, True, values, known)
        return Interval(low, high, x.low_open or low_limit, x.high_open or high_limit)

    return apply


def _valley(f: Scalar, bottom: float, least: float) -> Image:
    """f(-inf) = 0 from below, decreasing down to `least` at `bottom`, then increasing without bound."""
    mirrored = _increasing(lambda x: f(-x), Interval(least, 0.0, high_open=True))
    rising = _increasing(f, Interval(least), {0.0: 0.0})

    def apply(x: Interval) -> Interval:
        if x.high <= bottom:
            return mirrored(-x)
        if x.low >= bottom:
            return rising(x)
        left = mirrored(-Interval(x.low, bottom, x.low_open))
        right = rising(Interval(bottom, x.high, False, x.high_open))
        return left.hull(right)

    return apply


def _wave(f: Scalar, first_top: float) -> Image:
    """A function of period 2 pi between -1 and 1, with its tops at first_top + 2 pi k."""

    def reaches(x: Interval, place: float) -> bool:
        near = place + 2 * math.pi * math.floor((x.high - place) / (2 * math.pi) + 1e-9)
        return near >= x.low - 1e-9 * (1 + abs(x.low))

    def apply(x: Interval) -> Interval:
        if not x.finite or x.magnitude > 1e6 or x.high - x.low >= 2 * math.pi:
            return Interval(-1.0, 1.0)
        ends = [f(x.low), f(x.high)]
        low = -1.0 if reaches(x, first_top + math.pi) else max(-1.0, min(ends) - 1e-9)
        high = 1.0 if reaches(x, first_top) else min(1.0, max(ends) + 1e-9)
        return Interval(low, high)

    return apply


def _sign(x: Interval) -> Interval:
    low = 1.0 if x.low > 0 or (x.low == 0 and x.low_open) else 0.0 if x.low == 0 else -1.0
    high = -1.0 if x.high < 0 or (x.high == 0 and x.high_open) else 0.0 if x.high == 0 else 1.0
    return Interval(low, high)


def _step(x: Interval) -> Interval:
    return Interval(1.0 if x.low > 0 or (x.low == 0 and x.low_open) else 0.0, 0.0 if x.high <= 0 else 1.0)


def _logarithm(f: Scalar) -> Image:
    rising = _increasing(f, REAL, {0.0: -math.inf, 1.0: 0.0})

    def apply(x: Interval) -> Interval:
        inside = x.intersect(POSITIVE)
        return REAL if inside.empty else rising(inside)

    return apply


def _elu(x: Interval) -> Interval:
    negative, positive = x.intersect(-Interval(0.0)), x.intersect(Interval(0.0))
    falling = _increasing(math.expm1, Interval(-1.0, math.inf, True), {0.0: 0.0})
    return positive if negative.empty else falling(negative).hull(positive)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def gelu(x: float) -> float:
    return 0.5 * x * math.erfc(-x * math.sqrt(0.5))


IMAGES: dict[str, Image] = {
    "exp": _increasing(math.exp, POSITIVE, {0.0: 1.0}),
    "exp2": _increasing(lambda x: math.pow(2.0, x), POSITIVE, {0.0: 1.0, 1.0: 2.0, -1.0: 0.5}),
    "log": _logarithm(math.log),
    "log2": _logarithm(math.log2),
    "sqrt": lambda x: x ** Fraction(1, 2),
    "rsqrt": lambda x: x ** Fraction(-1, 2),
    "reciprocal": Interval.reciprocal,
    "abs": abs,
    "sign": _sign,
    "step": _step,
    "sigmoid": _increasing(sigmoid, UNIT_RANGE, {0.0: 0.5}),
    "tanh": _increasing(math.tanh, SIGNED_UNIT, {0.0: 0.0}),
    "erf": _increasing(math.erf, SIGNED_UNIT, {0.0: 0.0}),
    "relu": lambda x: x.maximum(point(0)),
    "softplus": _increasing(softplus, POSITIVE),
    "logsigmoid": _increasing(lambda x: -softplus(-x), NEGATIVE),
    "elu": _elu,
    "silu": _valley(lambda x: x * sigmoid(x), -1.278464542761074, -0.278464542761074),
    "gelu": _valley(gelu, -0.751791524693564, -0.16997120747990372),
    "sin": _wave(math.sin, math.pi / 2),
    "cos": _wave(math.cos, 0.0),
}
