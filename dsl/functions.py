"""The elementwise functions of the language, with their derivatives.

A derivative is given in terms of the arguments *and the value*, because the textbook form overflows
(d softplus written through exp is NaN in float32 at 100). The rules are written over any arithmetic that
has `+ - *` and an `apply(name, *arguments)`: tile programs, rationals and sympy use the same table,
and sympy checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Apply = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of `arity` arguments; `derivative(apply, value, *arguments)` gives one partial for each."""

    name: str
    arity: int
    derivative: Callable[..., tuple[Any, ...]]
    public: bool = True


def _select(apply: Apply, x: Any, y: Any) -> tuple[Any, ...]:
    """1 where x >= y, else 0, and the rest: the partials of max(x, y), and of min(y, x)."""
    below = apply("step", y - x)
    return 1 - below, below


def _unary(name: str, derivative: Callable[[Apply, Any, Any], Any], public: bool = True) -> Function:
    return Function(name, 1, lambda apply, y, x: (derivative(apply, y, x),), public)


LN2 = 0.6931471805599453
LOG2E = 1.4426950408889634
HALF = Fraction(1, 2)
TWO_OVER_SQRT_PI = Fraction(1.1283791670955126)
SQRT_HALF = Fraction(0.7071067811865476)

FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        _unary("exp", lambda apply, y, x: y),
        _unary("log", lambda apply, y, x: apply("reciprocal", x)),
        _unary("sqrt", lambda apply, y, x: HALF * apply("reciprocal", y)),
        _unary("rsqrt", lambda apply, y, x: -HALF * y * y * y),
        _unary("abs", lambda apply, y, x: apply("sign", x)),
        _unary("sign", lambda apply, y, x: 0 * x),
        Function("max", 2, lambda apply, z, x, y: _select(apply, x, y)),
        Function("min", 2, lambda apply, z, x, y: _select(apply, y, x)),
        _unary("sigmoid", lambda apply, y, x: y * (1 - y)),
        _unary("tanh", lambda apply, y, x: 1 - y * y),
        _unary("relu", lambda apply, y, x: apply("step", x)),
        _unary("silu", lambda apply, y, x: apply("sigmoid", x) + y * (1 - apply("sigmoid", x))),
        _unary(
            "gelu",
            lambda apply, y, x: (
                HALF * (1 + apply("erf", SQRT_HALF * x))
                + HALF * SQRT_HALF * TWO_OVER_SQRT_PI * x * apply("exp", -HALF * x * x)
            ),
        ),
        _unary("softplus", lambda apply, y, x: apply("sigmoid", x)),
        _unary("logsigmoid", lambda apply, y, x: apply("sigmoid", -1 * x)),
        _unary("elu", lambda apply, y, x: apply("min", y + 1, 1 + 0 * y)),
        _unary("erf", lambda apply, y, x: TWO_OVER_SQRT_PI * apply("exp", -1 * x * x)),
        _unary("sin", lambda apply, y, x: apply("cos", x)),
        _unary("cos", lambda apply, y, x: -1 * apply("sin", x)),
        # Not in the language: what derivatives and the numerics stage introduce.
        _unary("step", lambda apply, y, x: 0 * x, public=False),  # 1 where x > 0, else 0
        Function(
            "select", 3, lambda apply, z, m, x, y: (0 * m, m, 1 - m), public=False
        ),  # x where m = 1, y at 0
        _unary("reciprocal", lambda apply, y, x: -1 * y * y, public=False),
        _unary("exp2", lambda apply, y, x: LN2 * y, public=False),
        _unary(
            "log2_exp", lambda apply, y, x: LOG2E + 0 * x, public=False
        ),  # log2(exp(x)), without forming exp(x)
        _unary("log2", lambda apply, y, x: LOG2E * apply("reciprocal", x), public=False),
    )
}

# Functions along one axis, spelled `unit(x)` for a vector, `softmax(x, K)` otherwise.
AXIS_FUNCTIONS = ("unit", "softmax")
UNIT_EPSILON = 1e-6
