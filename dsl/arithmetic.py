"""Sums, products and powers of expressions, with exact constants folded within bounds."""

from __future__ import annotations

from fractions import Fraction

from rnnc.dsl.diagnostics import Diagnostic, Span, SpecError
from rnnc.dsl.expression import Add, Constant, Expression, Multiply, Power

MAX_BITS = 1000  # of a numerator or a denominator: every such number is a finite float
MAX_EXPONENT = 256


def add(left: Expression, right: Expression, span: Span) -> Expression:
    """left + right; a sum on the left grows by one term."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        return constant(left.value + right.value, span)
    terms = left.terms if isinstance(left, Add) else (left,)
    return Add((*terms, right), span)


def negate(operand: Expression, span: Span) -> Expression:
    """-operand."""
    return multiply(Constant(Fraction(-1), span), operand, span)


def multiply(left: Expression, right: Expression, span: Span) -> Expression:
    """left * right; a product on the left grows by one factor."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        return constant(left.value * right.value, span)
    factors = left.factors if isinstance(left, Multiply) else (left,)
    return Multiply((*factors, right), span)


def power(base: Expression, exponent: Fraction, span: Span) -> Expression:
    """base ** exponent; a whole power of a constant is a constant.

    Raises SpecError: `limit` for exponents and results beyond any use, `range` where the power of a
    constant is no real number.
    """
    if abs(exponent) > MAX_EXPONENT:
        message = f"an exponent is at most {MAX_EXPONENT} in magnitude"
        raise SpecError([Diagnostic("limit", message, span)])
    if not isinstance(base, Constant):
        return Power(base, exponent, span)
    if base.value == 0 and exponent < 0:
        raise SpecError([Diagnostic("range", "division by zero", span)])
    if exponent.denominator != 1:
        if base.value < 0:
            message = "a negative number has no real power with a fraction in the exponent"
            raise SpecError([Diagnostic("range", message, span)])
        return Power(base, exponent, span)
    size = max(base.value.numerator.bit_length(), base.value.denominator.bit_length())
    if size * abs(exponent) > 2 * MAX_BITS:  # before the number is formed
        raise _too_large(span)
    return constant(base.value ** int(exponent), span)


def constant(value: Fraction, span: Span) -> Constant:
    """The number, unless it is larger or finer than any float. Raises SpecError (`limit`)."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _too_large(span)
    return Constant(value, span)


def _too_large(span: Span) -> SpecError:
    message = "this constant is larger or finer than any floating point number"
    return SpecError([Diagnostic("limit", message, span)])
