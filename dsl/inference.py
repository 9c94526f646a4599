"""Interval inference over expressions that knows repeated values and the norms of vectors.

An expression is evaluated twice, as it is written and as a canonical sum of products, and both results hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod

from rnnc.dsl.bounds import bounds
from rnnc.dsl.diagnostics import SpecError
from rnnc.dsl.enclosures import SIGNED_UNIT, image
from rnnc.dsl.expansion import expand
from rnnc.dsl.expression import (
    Add,
    Call,
    Constant,
    Delay,
    Expression,
    Final,
    Identity,
    Multiply,
    Name,
    Power,
    Rename,
    Select,
    Size,
    Sum,
    map_children,
)
from rnnc.dsl.interval import REAL, Interval, point
from rnnc.dsl.polynomial import (
    ONE,
    Atom,
    Base,
    Contraction,
    Delta,
    Function,
    Leaf,
    Monomial,
    Polynomial,
    SizeOf,
    single,
)

SIZE = Interval(1.0)
PROBABILITY = Interval(0.0, 1.0, low_open=True)
MAX_KEY = 4000  # characters of a canonical let that is looked through


class Inference:
    """Ranges of names, and the ranges inferred from them so far."""

    def __init__(self, ranges: Mapping[str, Interval]) -> None:
        self.ranges = dict(ranges)
        self._definitions: dict[str, Polynomial] = {}
        self._opaque: dict[Expression, Name] = {}
        self._expressions: dict[Expression, Interval] = {}
        self._atoms: dict[Atom, Interval] = {}

    def define(self, name: str, value: Expression, opaque: bool) -> None:
        """Adds a let; an opaque one is known by its range only."""
        self.ranges[name] = self.expression(value)
        if not opaque:
            polynomial = self.canonical(value)
            if polynomial is not None and len(polynomial.key) <= MAX_KEY:
                self._definitions[name] = polynomial

    def expression(self, expression: Expression) -> Interval:
        """The values that the expression can take."""
        if expression not in self._expressions:
            written = self._written(expression)
            polynomial = self.canonical(expression)
            both = written if polynomial is None else written.intersect(self.polynomial(polynomial))
            self._expressions[expression] = written if both.empty else both
        return self._expressions[expression]

    def canonical(self, expression: Expression) -> Polynomial | None:
        """The expression as a sum of products, lets looked through; None where that grows too large."""
        try:
            return expand(self._hidden(expression), self._lookup)
        except SpecError:
            return None

    def polynomial(self, polynomial: Polynomial) -> Interval:
        """The values that a canonical sum of products can take."""
        return bounds(polynomial, self.atom)

    def atom(self, atom: Atom) -> Interval:
        if atom not in self._atoms:
            self._atoms[atom] = self._atom(atom)
        return self._atoms[atom]

    def _lookup(self, name: Name) -> Polynomial:
        known = self._definitions.get(name.name)
        return single(Atom(Leaf(name.name, name.axes))) if known is None else known

    def _hidden(self, expression: Expression) -> Expression:
        """The expression with what the algebra does not know (delays, final states) as names of their own."""
        if not isinstance(expression, Delay | Final):
            return map_children(expression, self._hidden)
        if expression not in self._opaque:
            name = Name(f"#{len(self._opaque)}", expression.axes)
            self._opaque[expression] = name
            self.ranges[name.name] = self._written(expression)
        return self._opaque[expression]

    def _written(self, expression: Expression) -> Interval:
        """The range by the expression's outermost operation, over the ranges of its parts."""
        match expression:
            case Add(terms):
                return sum((self.expression(term) for term in terms), point(0))
            case Multiply(factors):
                return prod((self.expression(factor) for factor in factors), start=point(1))
            case Power(base, exponent):
                return self.expression(base) ** exponent
            case Call(function, arguments):
                return _call(function, [self.expression(argument) for argument in arguments])
            case Sum(body):
                return self.expression(body) * SIZE
            case Rename(body) | Select(body):
                return self.expression(body)
            case Delay(body):
                return self.expression(body).hull(point(0))
            case _:
                return self._leaf(expression)

    def _leaf(self, expression: Expression) -> Interval:
        match expression:
            case Constant(value):
                return point(value)
            case Name(name):
                return self.ranges.get(name, REAL)
            case Size():
                return SIZE
            case Identity():
                return Interval(0.0, 1.0)
            case _:
                return REAL

    def _atom(self, atom: Atom) -> Interval:
        match atom.node:
            case Leaf(name):
                return self.ranges.get(name, REAL)
            case SizeOf():
                return SIZE
            case Delta():
                return Interval(0.0, 1.0)
            case Function(name, arguments):
                return _call(name, [self.polynomial(argument) for argument in arguments])
            case Base(polynomial):
                return self.polynomial(polynomial)
            case Contraction(monomial, bound):
                return self._contraction(monomial, bound)

    def _contraction(self, monomial: Monomial, bound: tuple[str, ...]) -> Interval:
        """The range of a sum of products: at least one entry, norms by Cauchy and Schwarz, averages."""
        result = self._product(monomial)
        for _ in bound:
            result = result * SIZE
        if len(bound) > 1:
            return result
        factors = [(atom, norm(atom, bound[0])) for atom, e in monomial for _ in range(_count(e))]
        if len(factors) < sum(e for _, e in monomial):
            return result  # some exponent is not a natural number
        for index, (atom, _) in enumerate(factors):
            if isinstance(atom.node, Function) and atom.node.name == "softmax" and _axis(atom) == bound[0]:
                others = tuple((other, ONE) for other, _ in factors[:index] + factors[index + 1 :])
                result = result.intersect(self.polynomial(Polynomial(((_merged(others), ONE),))))
        bounded = [index for index, (_, length) in enumerate(factors) if length is not None][:2]
        if len(bounded) == 2:
            size = point(1)
            for index, (atom, length) in enumerate(factors):
                size = size * (length if index in bounded and length else abs(self.atom(atom)))
            result = result.intersect(size.hull(-size))
        return result

    def _product(self, monomial: Monomial) -> Interval:
        return self.polynomial(Polynomial(((monomial, ONE),)))


def norm(atom: Atom, label: str) -> Interval | None:
    """The Euclidean norm of an atom along a label, where the function it is bounds it."""
    if not isinstance(atom.node, Function) or _axis(atom) != label:
        return None
    if atom.node.name == "unit":
        return Interval(0.0, 1.0, high_open=True)
    return PROBABILITY if atom.node.name == "softmax" else None


def _axis(atom: Atom) -> str | None:
    """The label that a function along an axis works along."""
    assert isinstance(atom.node, Function)
    if atom.node.axis is None and atom.node.name in ("unit", "softmax") and len(atom.labels) == 1:
        return next(iter(atom.labels))
    return atom.node.axis


def _count(exponent: Fraction) -> int:
    return int(exponent) if exponent.denominator == 1 and 0 < exponent <= 8 else 0


def _merged(factors: tuple[tuple[Atom, Fraction], ...]) -> Monomial:
    collected: dict[Atom, Fraction] = {}
    for atom, exponent in factors:
        collected[atom] = collected.get(atom, Fraction(0)) + exponent
    return tuple(collected.items())


def _call(function: str, arguments: list[Interval]) -> Interval:
    if function == "unit":
        (x,) = arguments
        sign = image("sign", x)
        return SIGNED_UNIT.intersect(Interval(min(sign.low, 0.0), max(sign.high, 0.0)))
    if function == "softmax":
        return PROBABILITY
    return image(function, *arguments)
