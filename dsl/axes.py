"""The checking of axes: what every operator of the language does to scalars, columns, rows and matrices.

A `Value` is a typed expression together with how it stands: the axes in matrix order, and whether one axis
stands as a row. Elementwise operators align by axis name; `@` contracts the left's last axis with the
right's first. A square has the axes (K, K'); an identity whose size nothing has told yet has (?, ?').
All functions raise SpecError with the span they were given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from rnnc.dsl import arithmetic
from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import (
    Axes,
    Call,
    Expression,
    Identity,
    Multiply,
    Name,
    Power,
    Select,
    Sum,
    union,
)
from rnnc.dsl.labels import UNKNOWN, base, renamed, size_given

_SCALING = ("*", "/")
Combine = Callable[[Expression, Expression], Expression]
Trait = Literal["state", "final", "complex", "loop"]


@dataclass(frozen=True, slots=True)
class Value:
    """An expression and how it stands.

    `diagonal`: zero off the diagonal, whatever its factors are. `traits`: what it depends on (a state, the
    final state, the variable of a loop) and whether it is complex.
    """

    expression: Expression
    axes: Axes = ()
    row: bool = False
    diagonal: bool = False
    traits: frozenset[Trait] = frozenset()

    @property
    def square(self) -> bool:
        return any(axis.endswith("'") for axis in self.axes)

    @property
    def unknown(self) -> bool:
        """Whether it is an identity, or made of one, whose size is not known yet."""
        return UNKNOWN in self.axes

    def __str__(self) -> str:
        shown = ", ".join(map(base, self.axes))
        if self.unknown:
            return "an identity matrix"
        if not self.axes:
            return "a scalar"
        if len(self.axes) == 1:
            return f"a {'row' if self.row else 'column'} over {shown}"
        return f"{'a matrix' if len(self.axes) == 2 else 'an array'} [{shown}]"


def shaped(expression: Expression, axes: Axes, *traits: Trait) -> Value:
    """A value that stands as it was declared: one axis as a column."""
    return Value(expression, axes, traits=frozenset(traits))


def identity(span: Span) -> Value:
    """`I`, of a size that what it meets will tell."""
    expression = Identity(UNKNOWN, span)
    return Value(expression, expression.axes, diagonal=True)


def refuse(code: str, message: str, span: Span, label: str = "", *hints: str) -> SpecError:
    return SpecError([Diagnostic(code, message, span, label, hints=hints)])


# Elementwise ------------------------------------------------------------------------------------------


def elementwise(left: Value, right: Value, operator: str, combine: Combine, span: Span) -> Value:
    """`combine` of the two, aligned by the names of their axes."""
    left, right = _meet(left, right, operator)
    _check_alignment(left, right, operator, span)
    axes = union([left.axes, right.axes])
    one, other = left.diagonal, right.diagonal
    return Value(
        combine(left.expression, right.expression),
        axes,
        row=len(axes) == 1 and (left.row or right.row),
        diagonal=one or other if operator in _SCALING else one and other,
        traits=left.traits | right.traits,
    )


def _meet(left: Value, right: Value, operator: str) -> tuple[Value, Value]:
    """Give an identity the size of the square, or as a factor of the vector, that it meets."""
    for this, other in ((left, right), (right, left)):
        vector = operator in _SCALING and len(other.axes) == 1
        if this.unknown and not other.unknown and (other.square or vector):
            sized = with_size(this, base(other.axes[0]))
            return (sized, right) if this is left else (left, sized)
    return left, right


def _check_alignment(left: Value, right: Value, operator: str, span: Span) -> None:
    if operator == "/" and right.diagonal:
        raise refuse("range", "division by a matrix with zeros off its diagonal", span)
    label = f"left is {left}, right is {right}"
    for this, other in ((left, right), (right, left)):
        if this.square and other.axes and set(this.axes) != set(other.axes):
            if this.diagonal and operator in _SCALING and other.axes == this.axes[:1]:
                continue
            hint = "'I * g' is the diagonal matrix of a vector g"
            message = f"elementwise, a square matrix meets only scalars and squares, not {other}"
            raise refuse("axis-mismatch", message, span, label, hint)
    if left.axes == right.axes and len(left.axes) == 1 and left.row != right.row:
        hints = ("'.T' turns a row into a column", "'column @ row' is the outer product")
        message = f"'{operator}' meets a row and a column over the same axis"
        raise refuse("axis-mismatch", message, span, label, *hints)


def apply(function: str, arguments: list[Value], span: Span, axis: str | None = None) -> Value:
    """An elementwise function of one value, or of several aligned by name."""
    first, *rest = arguments
    joined = first
    for other in rest:
        joined = elementwise(joined, other, function, lambda a, _: a, span)
    axes = joined.axes
    expressions = tuple(argument.expression for argument in arguments)
    if joined.unknown:
        raise refuse("unknown-size", f"the size of 'I' in '{function}' is not known", span)
    return Value(Call(function, expressions, axis, span), axes, joined.row, traits=joined.traits)


def power(value: Value, exponent: Fraction, span: Span) -> Value:
    """Every entry to the same power."""
    diagonal = value.diagonal and exponent > 0
    if value.diagonal and not diagonal:
        raise refuse("range", "division by a matrix with zeros off its diagonal", span)
    return replace(value, expression=arithmetic.power(value.expression, exponent, span), diagonal=diagonal)


# Transposes, reductions, selections -------------------------------------------------------------------


def transpose(value: Value, span: Span) -> Value:
    """Rows for columns."""
    if not value.axes:
        raise refuse("not-a-matrix", "a scalar has no transpose", span)
    if len(value.axes) > 2:
        raise refuse("not-a-matrix", f"'.T' turns a matrix, this is {value}", span)
    if len(value.axes) == 1:
        return replace(value, row=not value.row)
    if value.diagonal:
        return value
    if value.square:
        first, second = value.axes
        return replace(value, expression=renamed(value.expression, {first: second, second: first}))
    return replace(value, axes=value.axes[::-1])


def total(value: Value, axis: str, span: Span) -> Value:
    """sum(value, axis)."""
    check_axis(value, axis, "sum", span)
    axes = tuple(a for a in value.axes if a != axis)
    row = len(value.axes) == 1 and value.row and bool(axes)
    return Value(Sum(value.expression, axis, span), axes, row, traits=value.traits)


def norm(value: Value, axis: str, span: Span) -> Value:
    """The Euclidean length along the axis."""
    body = value.expression
    squared = Multiply((body, body), span) if isinstance(body, Name) else Power(body, Fraction(2), span)
    return apply("sqrt", [total(replace(value, expression=squared), axis, span)], span)


def check_axis(value: Value, axis: str, function: str, span: Span) -> None:
    """Refuse an axis that the value lacks, or has twice."""
    if value.square:
        raise refuse("axis-mismatch", f"'{function}' over '{axis}' of {value}: which one is not said", span)
    if axis not in value.axes:
        label = f"no axis '{axis}' here"
        raise refuse("axis-mismatch", f"'{function}' over '{axis}' of {value}", span, label)


def select(value: Value, axis: str, index: str, span: Span) -> Value:
    """The micro-step `index` of a value along the axis."""
    if axis not in value.axes:
        message = f"'{index}' counts along '{axis}', this is {value}"
        raise refuse("axis-mismatch", message, span, f"no axis '{axis}' here")
    axes = tuple(a for a in value.axes if a != axis)
    return Value(Select(value.expression, axis, index, span), axes, traits=value.traits | {"loop"})


def with_size(value: Value, axis: str) -> Value:
    """The value with identities of unknown size made those of the axis."""
    axes = tuple(label.replace(UNKNOWN, axis) for label in value.axes)
    return replace(value, expression=size_given(value.expression, axis), axes=axes)
