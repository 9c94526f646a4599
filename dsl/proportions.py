"""Vectors as scalar times direction, over canonical polynomials."""

from __future__ import annotations

from fractions import Fraction

from rnnc.dsl.polynomial import UNIT, Monomial, Polynomial

Parts = dict[Monomial, Polynomial]


def direction(vector: Polynomial, axis: str) -> tuple[Polynomial, Polynomial]:
    """(s, u) with vector = s u, where s is free of the axis and as much of the vector as it can be."""
    parts = _parts(vector, axis)
    ((monomial, scale), *others) = parts.items()
    if not others:
        return scale, _single(monomial)
    factors = [_multiple(other, scale) for _, other in others]
    if any(factor is None for factor in factors):
        return UNIT, vector
    pairs = [(monomial, Fraction(1)), *((m, f) for (m, _), f in zip(others, factors, strict=True) if f)]
    return scale, Polynomial.of(pairs)


def ratio(vector: Polynomial, other: Polynomial, axis: str) -> Polynomial | None:
    """The s, free of the axis, with vector = s * other; None where there is none to be found."""
    parts = _parts(vector, axis)
    for monomial, scale in _parts(other, axis).items():
        if len(scale.terms) != 1 or monomial not in parts:
            continue
        (inverse, coefficient), *_ = scale.terms
        divisor = Polynomial(((tuple((a, -e) for a, e in inverse), 1 / coefficient),))
        candidate = parts[monomial] * divisor
        return candidate if candidate * other == vector else None
    return None


def _parts(vector: Polynomial, axis: str) -> Parts:
    """The scalar in front of every product of factors over the axis."""
    parts: Parts = {}
    for monomial, coefficient in vector.terms:
        inside = tuple((a, e) for a, e in monomial if axis in a.labels)
        outside = tuple((a, e) for a, e in monomial if axis not in a.labels)
        term = Polynomial(((outside, coefficient),))
        parts[inside] = parts[inside] + term if inside in parts else term
    return parts


def _multiple(left: Polynomial, right: Polynomial) -> Fraction | None:
    """The number c with left = c * right."""
    if len(left.terms) != len(right.terms):
        return None
    number = left.terms[0][1] / right.terms[0][1]
    return number if left == right.scaled(number) else None


def _single(monomial: Monomial) -> Polynomial:
    return Polynomial(((monomial, Fraction(1)),))
