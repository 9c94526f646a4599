"""Exact numbers for tile programs and token loops: functions become consistent unknowns.

A function like sigmoid has no rational value, and a proof needs none: `Oracle` gives every (function,
argument) pair one unknown of its own, the same whoever asks. Only what relates functions to each other is
known to it: exp and log undo each other, exp of a logsigmoid is the sigmoid, sigmoid(-x) is 1 - sigmoid(x),
tanh(x) is 2 sigmoid(2 x) - 1, softplus(x) is -logsigmoid(-x), silu(x) is x sigmoid(x), powers of a number,
its square root among them, are powers of one root, and logarithms of decays (`log2_exp`, `log2`) are kept as
formal logarithms, whose sums exp2 turns back into products. ln 2 and log2 e stand for 1, which is consistent
because they occur only where base 2 stands in for base e.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from math import ceil
from operator import mul
from typing import Any

import numpy as np
from sympy import integer_nthroot

from rnnc.codegen.evaluators import Arithmetic
from rnnc.dsl import interpreter
from rnnc.dsl.expression import Axes
from rnnc.dsl.functions import FUNCTIONS, UNIT_EPSILON

INVERSE = {"exp": "log", "log": "exp"}
NAMED_POWERS = {Fraction(-1): "reciprocal", Fraction(-1, 2): "rsqrt"}
Number = Any
Fresh = Callable[[str], Number]


@dataclass(frozen=True)
class Log:
    """The formal logarithm of a number: sums of logs are products, multiples are powers."""

    value: Number  # None: the logarithm of zero
    power: Callable[[Number, Any], Number]

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Log):
            value = None if self.value is None or other.value is None else self.value * other.value
            return Log(value, self.power)
        return self if other == 0 else NotImplemented

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        if other == 1 or self.value is None:
            return self
        return Log(self.power(self.value, other), self.power)

    __rmul__ = __mul__


class Oracle:
    """Values of functions at exact arguments; `fresh` makes an unknown, `number` embeds a constant.

    In a `field` a reciprocal is what it is; else it is an unknown of which `relations` says the rest.
    """

    def __init__(self, fresh: Fresh, number: Callable[[Any], Number], field: bool = False) -> None:
        self.fresh, self.number, self.field = fresh, number, field
        self.known: dict[tuple[Any, ...], Number] = {}
        self.calls: list[tuple[str, tuple[Number, ...], Number]] = []

    def apply(self, function: str, *args: Any) -> Any:
        """The value of a function; `power` gets (base, exponent)."""
        match function, args:
            case "log2_exp", (x,):
                return Log(self.apply("exp", x), self.power)
            case "log2", (x,):
                return Log(x, self.power)
            case "exp2", (Log(value),):
                return self.number(0) if value is None else value
            case "exp2", (x,) if x == 0:
                return self.number(1)
            case ("exp", (x,)) | ("log", (x,)) if ("from", INVERSE[function], x) in self.known:
                return self.known["from", INVERSE[function], x]
            case "log", (x,) if ("from", "sigmoid", x) in self.known:
                return self.apply("logsigmoid", self.known["from", "sigmoid", x])
            case "softplus", (x,):
                return -self.apply("logsigmoid", -x)
            case "silu", (x,):
                return x * self.apply("sigmoid", x)
            case "exp", (x,) if ("from", "logsigmoid", x) in self.known:
                return self.apply("sigmoid", self.known["from", "logsigmoid", x])
            case "sigmoid", (x,) if x == 0:
                return self.number(Fraction(1, 2))
            case "sigmoid", (x,) if ("sigmoid", -x) in self.known:
                return 1 - self.known["sigmoid", -x]
            case "tanh", (x,):
                return 2 * self.apply("sigmoid", 2 * x) - 1
            case "power", (x, exponent):
                return self.power(x, exponent)
            case "select", (m, x, y):
                return m * x + (1 - m) * y
            case "reciprocal", (x,):
                return self.power(x, -1)
            case "rsqrt", (x,):
                return self.power(x, Fraction(-1, 2))
            case "sqrt", (x,):
                root = self.power(x, Fraction(1, 2))
                self.known["from", "sqrt", root] = x
                return root
            case _:
                return self.unknown(function, args)

    def power(self, x: Number, exponent: Any) -> Number:
        """x ** exponent, as a polynomial in x and its smallest negative root that is known: x**(-1/d)."""
        exponent = Fraction(str(exponent))
        if exponent.denominator == 1 and exponent >= 0:
            return x ** int(exponent)
        if ("from", "sqrt", x) in self.known:
            return self.power(self.known["from", "sqrt", x], exponent / 2)
        if self.field and exponent.denominator == 1 and x != 0 and ("root", x) not in self.known:
            return (1 / x) ** int(-exponent)
        whole = max(0, ceil(exponent))  # x**e = x**whole * (x**(-1/d))**n
        root, parts = self._root(x, exponent.denominator)
        return x**whole * root ** int((whole - exponent) * parts)

    def _root(self, x: Number, parts: int) -> tuple[Number, int]:
        """The root x**(-1/d) with d a multiple of `parts`, and d."""
        known = self.known.setdefault(("root", x), [])
        for root, d in known:
            if d % parts == 0:
                return root, d
        name = {1: "reciprocal", 2: "rsqrt"}.get(parts, "power")
        exact = _exact_root(x, parts) if self.field else None
        if exact is not None:
            return 1 / exact, parts
        root = self.unknown(name, (x,) if parts <= 2 else (x, Fraction(-1, parts)))
        known.append((root, parts))
        return root, parts

    def unknown(self, function: str, args: tuple[Any, ...]) -> Number:
        key = (function, *args)
        if key not in self.known:
            self.known[key] = value = self.fresh(function)
            self.known["from", function, value] = args[0]
            self.calls.append((function, args, value))
        return self.known[key]

    def relations(self) -> list[Number]:
        """What is zero by definition: x * x**(-1/d)**d - 1."""
        roots = [(key[1], found) for key, found in self.known.items() if key[0] == "root"]
        return [x * root**d - 1 for x, found in roots for root, d in found]

    def program_arithmetic(self) -> Arithmetic:
        """For `rnnc.codegen.evaluators`."""
        one = self.number(1)
        return Arithmetic(self.number, self.apply, {"ln2": one, "log2e": one}, Log(None, self.power), object)


def _exact_root(x: Fraction, parts: int) -> Fraction | None:
    """x**(1/parts) where that is a fraction."""
    if x <= 0:
        return None
    (above, exact), (below, also) = integer_nthroot(x.numerator, parts), integer_nthroot(x.denominator, parts)
    return Fraction(int(above), int(below)) if exact and also else None


def rationals(seed: int) -> Oracle:
    """An oracle whose unknowns are random fractions: an identity that fails shows at once."""
    draw = random.Random(seed)
    # Wide, so that no two unknowns are equal by chance: `exp` looks for the value of a logsigmoid.
    return Oracle(lambda _: Fraction(draw.randint(1, 99991), draw.randint(1, 97)), exact, field=True)


def exact(value: Any) -> Fraction:
    """The number that is written: 1e-6 is a millionth, not the float next to it."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def random_fraction(draw: random.Random) -> Fraction:
    """A small non-zero fraction."""
    return Fraction(draw.choice([-1, 1]) * draw.randint(1, 9), draw.randint(1, 7))


@dataclass(frozen=True)
class Dual:
    """A number and its derivative in one direction."""

    value: Number
    slope: Number

    def __add__(self, other: Any) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value + other, self.slope)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other: Any) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value * other, self.slope * other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    __radd__, __rmul__ = __add__, __mul__

    def __pow__(self, exponent: int) -> Dual:
        return reduce(mul, [self] * exponent)


def apply_dual(oracle: Oracle, function: str, *args: Any) -> Dual:
    """A function of duals, by the table of derivatives."""
    if function == "power" and args[1] in NAMED_POWERS:
        return apply_dual(oracle, NAMED_POWERS[args[1]], args[0])
    if function == "power":
        base, exponent = args
        value = oracle.apply("power", base.value, exponent)
        return Dual(value, exponent * oracle.apply("power", base.value, exponent - 1) * base.slope)
    value = oracle.apply(function, *(arg.value for arg in args))
    partials = FUNCTIONS[function].derivative(oracle.apply, value, *(arg.value for arg in args))
    slope = sum((p * arg.slope for p, arg in zip(partials, args, strict=True)), oracle.number(0))
    return Dual(value, slope)


@dataclass
class TokenLoop(interpreter.Arithmetic):
    """The arithmetic of the token loop over exact numbers or duals (numpy object arrays)."""

    sizes: Mapping[str, int]
    number: Callable[[Any], Number]
    apply: Callable[..., Number]
    dual: bool = field(default=False)

    def embed(self, value: Any) -> Number:
        number = self.number(value)
        return Dual(number, self.number(0)) if self.dual else number

    def full(self, shape: Sequence[int], value: Any) -> Any:
        out = np.empty(tuple(shape), dtype=object)
        out.fill(self.embed(value))
        return out

    def extent(self, axis: str) -> int:
        return self.sizes[axis.rstrip("'")]

    def constant(self, value: Fraction) -> Any:
        return self.full((), value)

    def identity(self, axis: str) -> Any:
        size = self.extent(axis)
        out = self.full((size, size), Fraction(0))
        for i in range(size):
            out[i, i] = self.embed(Fraction(1))
        return out

    def zeros(self, axes: Axes) -> Any:
        return self.full([self.extent(axis) for axis in axes], Fraction(0))

    def align(self, value: Any, axes: Axes, result: Axes) -> Any:
        ordered = np.asarray(value, dtype=object).transpose([axes.index(a) for a in result if a in axes])
        expanded = ordered[tuple(slice(None) if axis in axes else None for axis in result)]
        return np.broadcast_to(expanded, [self.extent(axis) for axis in result])

    def add(self, operands: Sequence[Any], axes: Sequence[Axes], result: Axes) -> Any:
        parts = [self.align(value, own, result) for value, own in zip(operands, axes, strict=True)]
        return reduce(np.add, parts)

    def multiply(self, operands: Sequence[Any], axes: Sequence[Axes], result: Axes) -> Any:
        out = self.full([self.extent(axis) for axis in result], Fraction(1))
        for value, own in zip(operands, axes, strict=True):
            out = np.multiply(out, self.align(value, own, result))
        return out

    def power(self, base: Any, exponent: Fraction) -> Any:
        if exponent.denominator == 1 and 1 <= exponent <= 4:
            return np.asarray(base ** int(exponent), dtype=object)
        return self.map(lambda x: self.apply("power", x, exponent), base)

    def call(
        self, function: str, operands: Sequence[Any], axes: Sequence[Axes], result: Axes, axis: str | None
    ) -> Any:
        if axis is None:
            parts = [self.align(value, own, result) for value, own in zip(operands, axes, strict=True)]
            return self.map(lambda *xs: self.apply(function, *xs), *parts)
        (x,), (own,) = operands, axes
        index = own.index(axis)
        if function == "unit":
            square = np.add(
                (x * x).sum(index, keepdims=True),
                np.asarray(self.embed(UNIT_EPSILON), dtype=object),
            )
            return x * self.map(lambda y: self.apply("power", y, Fraction(-1, 2)), square)
        raised = self.map(lambda y: self.apply("exp", y), x)
        return raised * self.map(lambda y: self.apply("reciprocal", y), raised.sum(index, keepdims=True))

    def sum(self, value: Any, axes: Axes, axis: str) -> Any:
        return np.asarray(self.align(value, axes, axes).sum(axes.index(axis)), dtype=object)

    def select(self, value: Any, axes: Axes, axis: str, index: int) -> Any:
        return np.asarray(value.take(index, axes.index(axis)), dtype=object)

    def map(self, function: Callable[..., Any], *args: Any) -> Any:
        return np.asarray(np.frompyfunc(function, len(args), 1)(*args), dtype=object)
