"""Typed expressions with named axes: what a checked spec is made of.

The checker turns the surface syntax into this small algebra. Orientation is gone: `k @ v.T` is
`Multiply(k, v)` over the axes (K, V), `S.T @ q` is `Sum(Multiply(S, q), "K")`, `a - b` is
`Add(a, Multiply(-1, b))`, `a / b` is `Multiply(a, Power(b, -1))`. Elementwise operations align by axis
name and broadcast what is missing. The second copy of an axis of a square value is primed: `u @ u.T` is
`Multiply(u, Rename(u, "K", "K'"))` over (K, K'), and `M @ S` is
`Sum(Multiply(M, Rename(S, "K", "K'")), "K'")`.

Spans are carried for diagnostics and take no part in equality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from rnnc.dsl.diagnostics import NOWHERE, Span

Axes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """An exact number."""

    value: Fraction
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return ()


@dataclass(frozen=True, slots=True)
class Size:
    """The size of an axis, as a number."""

    axis: str
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return ()


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity matrix over (axis, axis')."""

    axis: str
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return (self.axis, self.axis + "'")


@dataclass(frozen=True, slots=True)
class Name:
    """An input, a parameter, a let, or the value of a state at the statement where it is read."""

    name: str
    axes: Axes
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Add:
    terms: tuple[Expression, ...]
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return union(term.axes for term in self.terms)


@dataclass(frozen=True, slots=True)
class Multiply:
    factors: tuple[Expression, ...]
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return union(factor.axes for factor in self.factors)


@dataclass(frozen=True, slots=True)
class Power:
    """base ** exponent, the exponent a constant."""

    base: Expression
    exponent: Fraction
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return self.base.axes


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `rnnc.dsl.functions`; `axis` is set for those that work along an axis (unit, softmax)."""

    function: str
    arguments: tuple[Expression, ...]
    axis: str | None = None
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return union(argument.axes for argument in self.arguments)


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of the body over one of its axes."""

    body: Expression
    axis: str
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return tuple(axis for axis in self.body.axes if axis != self.axis)


@dataclass(frozen=True, slots=True)
class Rename:
    """The body with one axis relabelled (same size)."""

    body: Expression
    old: str
    new: str
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return tuple(self.new if axis == self.old else axis for axis in self.body.axes)


@dataclass(frozen=True, slots=True)
class Select:
    """The micro-step `index` of `body` along `axis`: `k[i]` inside `for i in n:`."""

    body: Expression
    axis: str
    index: str
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return tuple(axis for axis in self.body.axes if axis != self.axis)


@dataclass(frozen=True, slots=True)
class Delay:
    """The body's value `steps` tokens back, zero before the start: `prev(x)`, `delay(x, n)`."""

    body: Expression
    steps: int
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def axes(self) -> Axes:
        return self.body.axes


@dataclass(frozen=True, slots=True)
class Final:
    """The state after the last token of the sequence."""

    state: str
    axes: Axes
    span: Span = field(default=NOWHERE, compare=False)


Expression = (
    Constant | Size | Identity | Name | Add | Multiply | Power | Call | Sum | Rename | Select | Delay | Final
)


def union(many: Iterable[Axes]) -> Axes:
    """The axes in order of first appearance."""
    return tuple(dict.fromkeys(axis for axes in many for axis in axes))


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct sub-expressions, in order."""
    match expression:
        case Add(terms=parts) | Multiply(factors=parts) | Call(arguments=parts):
            return parts
        case Power(base=part) | Sum(body=part) | Rename(body=part) | Select(body=part) | Delay(body=part):
            return (part,)
        case _:
            return ()


def map_children(expression: Expression, transform: Callable[[Expression], Expression]) -> Expression:
    """The same expression with `transform` applied to its direct sub-expressions."""
    match expression:
        case Add(terms=parts):
            return replace(expression, terms=tuple(map(transform, parts)))
        case Multiply(factors=parts):
            return replace(expression, factors=tuple(map(transform, parts)))
        case Call(arguments=parts):
            return replace(expression, arguments=tuple(map(transform, parts)))
        case Power(base=part):
            return replace(expression, base=transform(part))
        case Sum(body=part) | Rename(body=part) | Select(body=part) | Delay(body=part):
            return replace(expression, body=transform(part))
        case _:
            return expression


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all its sub-expressions, parents first."""
    yield expression
    for part in children(expression):
        yield from walk(part)


def names(expression: Expression) -> frozenset[str]:
    """The names that occur in the expression."""
    found = {node.name for node in walk(expression) if isinstance(node, Name)}
    return frozenset(found | {node.state for node in walk(expression) if isinstance(node, Final)})
