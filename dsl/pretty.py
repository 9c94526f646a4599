"""Expressions as text in the language of specs, with as few parentheses as it allows.

The algebra has no orientation; here it comes back: a product of factors over K and over V is `k @ v.T`, a
contraction is `S.T @ q`, `M @ S` or `u.T @ v`, and what no matrix product can say is `sum(..., K)`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from rnnc.dsl.expression import (
    Add,
    Axes,
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
)

SUM, PRODUCT, FACTOR, POWER, ATOM = range(5)
ONE = Fraction(1)


class _Text(NamedTuple):
    """Text and how tightly it holds together."""

    text: str
    level: int

    def at(self, level: int) -> str:
        return self.text if self.level >= level else f"({self.text})"


def pretty(expression: Expression) -> str:
    """The expression as text that the parser reads back as an equal expression."""
    return _print(expression).text


def _print(expression: Expression) -> _Text:
    match expression:
        case Constant(value):
            return _constant(value)
        case Add(terms):
            return _sum(terms)
        case Multiply() | Power(exponent=Fraction(numerator=-1, denominator=1)):
            return _product(expression)
        case Power(base, exponent):
            # `-a**2` is -(a**2), and `**` associates to the right.
            return _Text(f"{_print(base).at(ATOM)}**{_constant(exponent).at(FACTOR)}", POWER)
        case Sum(body, axis):
            return _contraction(_factors(body), axis, expression.axes)
        case Rename(body, old, new):
            return _print(body) if _plain(old) == _plain(new) else _print(_renamed(body, old, new))
        case _:
            return _atom(expression)


def _atom(expression: Expression) -> _Text:
    match expression:
        case Name(name):
            return _Text(name, ATOM)
        case Size(axis):
            return _Text(_plain(axis), ATOM)
        case Identity():
            return _Text("I", ATOM)
        case Call(function, arguments, axis):
            parts = [_print(argument).text for argument in arguments]
            if axis is not None and function != "unit":
                parts.append(_plain(axis))
            return _Text(f"{function}({', '.join(parts)})", ATOM)
        case Select(body, _, index):
            return _Text(f"{_print(body).at(ATOM)}[{index}]", ATOM)
        case Delay(body, steps):
            inner = _print(body).text
            return _Text(f"prev({inner})" if steps == 1 else f"delay({inner}, {steps})", ATOM)
        case Final(state):
            return _Text(f"final({state})", ATOM)
        case _:
            raise AssertionError(expression)


def _constant(value: Fraction) -> _Text:
    """An exact number; a decimal where it is short, else a quotient."""
    sign = "-" if value < 0 else ""
    size = abs(value)
    level = FACTOR if sign else ATOM
    if size.denominator == 1 and size < 10**15:
        return _Text(f"{sign}{size.numerator}", level)
    decimal = f"{float(size):.12g}"
    if Fraction(decimal) == size:
        return _Text(sign + decimal, level)
    return _Text(f"{sign}{size.numerator} / {size.denominator}", PRODUCT)


def _sum(terms: tuple[Expression, ...]) -> _Text:
    text = ""
    for term in terms:
        negative, size = _sign(term)
        part = _print(size)
        if not text:
            text = "-" + part.at(PRODUCT) if negative else part.at(PRODUCT)
        else:
            text += (" - " if negative else " + ") + part.at(PRODUCT)
    return _Text(text, SUM)


def _sign(term: Expression) -> tuple[bool, Expression]:
    """Whether the term begins with a negative number, and the term without that sign."""
    match term:
        case Constant(value) if value < 0:
            return True, Constant(-value)
        case Multiply((Constant(value), *rest)) if value < 0 and rest:
            if value != -1:
                return True, Multiply((Constant(-value), *rest))
            return True, rest[0] if len(rest) == 1 else Multiply(tuple(rest))
        case _:
            return False, term


def _factors(expression: Expression) -> list[Expression]:
    """The factors of a product, nested products opened."""
    if isinstance(expression, Multiply):
        return [inner for factor in expression.factors for inner in _factors(factor)]
    return [expression]


def _product(expression: Expression) -> _Text:
    negative, size = _sign(expression)
    factors = _factors(size)
    axes = size.axes
    if len(axes) == 2 and all(len(factor.axes) <= 1 for factor in factors):
        rows = [factor for factor in factors if factor.axes == axes[1:]]
        columns = [factor for factor in factors if factor.axes != axes[1:]]
        inner = _Text(f"{_quotient(columns).at(PRODUCT)} @ {_transposed(_joined(rows))}", PRODUCT)
    else:
        inner = _quotient(factors)
    return _Text("-" + inner.at(PRODUCT), PRODUCT) if negative else inner


def _quotient(factors: list[Expression]) -> _Text:
    """Factors multiplied one by one, those with exponent -1 as divisors."""
    above = [f for f in factors if not _divides(f)]
    below = [f.base for f in factors if isinstance(f, Power) and _divides(f)]
    if len(above) == 1 and not below:
        return _print(above[0])
    first = "1"
    if above:
        first = _print(above[0]).at(FACTOR if isinstance(above[0], Sum) else PRODUCT)
    text = " * ".join([first, *(_print(factor).at(FACTOR) for factor in above[1:])])
    return _Text(" / ".join([text, *(_print(divisor).at(FACTOR) for divisor in below)]), PRODUCT)


def _divides(factor: Expression) -> bool:
    return isinstance(factor, Power) and factor.exponent == -1


def _joined(factors: list[Expression]) -> Expression:
    return factors[0] if len(factors) == 1 else Multiply(tuple(factors))


def _transposed(expression: Expression) -> str:
    return f"{_print(expression).at(ATOM)}.T"


def _contraction(factors: list[Expression], axis: str, result: Axes) -> _Text:
    """The sum of a product over an axis, as a matrix product where there is one."""
    outer = [factor for factor in factors if axis not in factor.axes]
    inner = [factor for factor in factors if axis in factor.axes]
    matrices = [factor for factor in inner if len(factor.axes) == 2]
    vectors = [factor for factor in inner if factor.axes == (axis,)]
    text = None
    if len(matrices) + len(vectors) == len(inner):
        text = _matrix_product(matrices, vectors, axis, result)
    if text is None:
        return _Text(f"sum({_quotient(factors).text}, {_plain(axis)})", ATOM)
    return _Text(f"{_quotient(outer).at(PRODUCT)} * ({text})" if outer else text, PRODUCT)


def _matrix_product(
    matrices: list[Expression], vectors: list[Expression], axis: str, result: Axes
) -> str | None:
    if not matrices:
        pair = _halves(vectors)
        return None if pair is None else f"{_transposed(pair[0])} @ {_print(pair[1]).at(FACTOR)}"
    if len(matrices) == 1 and vectors:
        return f"{_oriented(matrices[0], axis, last=True)} @ {_print(_joined(vectors)).at(FACTOR)}"
    if len(matrices) == 2 and not vectors and len(result) == 2:
        left, right = matrices if result[0] in matrices[0].axes else reversed(matrices)
        return f"{_oriented(left, axis, last=True)} @ {_oriented(right, axis, last=False)}"
    return None


def _halves(vectors: list[Expression]) -> tuple[Expression, Expression] | None:
    """Two vectors whose inner product is meant; a square is split."""
    if len(vectors) >= 2:
        return _joined(vectors[:-1]), vectors[-1]
    match vectors:
        case [Power(base, exponent)] if exponent == 2:
            return base, base
        case _:
            return None


def _oriented(matrix: Expression, axis: str, last: bool) -> str:
    """The matrix with the contracted axis last (or first)."""
    return _print(matrix).at(FACTOR) if (matrix.axes[1] == axis) == last else _transposed(matrix)


def _plain(axis: str) -> str:
    """The axis without the primes that tell the copies of a square apart."""
    return axis.rstrip("'")


def _renamed(body: Expression, old: str, new: str) -> Expression:
    """A relabelling between different axes has no spelling of its own: it is pushed to the names."""
    match body:
        case Name(name, axes):
            return Name(name, tuple(new if axis == old else axis for axis in axes))
        case _:
            return body
