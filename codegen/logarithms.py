"""The base-2 logarithm of a decay, where it can be written so that nothing overflows, underflows or loses
digits.

Through exp and sigmoid the logarithm is formed without the value: sigmoid(-200) is 0 in float32, its
logarithm -289 is not. A value whose logarithm would have to be taken of the rounded number has one only if
it is promised positive or stays away from 0; else its gradient would be 0 divided by 0 where it rounds to
0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from rnnc.dsl.expression import Add, Call, Constant, Expression, Multiply, Name, Power
from rnnc.dsl.interval import Interval
from rnnc.dsl.ranges import infer

MINUS_ONE = Constant(Fraction(-1))


def logarithm(value: Expression, known: Mapping[str, Interval]) -> Expression | None:
    """log2(value) as an expression, or None where it has no safe one; `known` are the ranges of the names."""
    match value:
        case Call("exp", (exponent,)):
            return Call("log2_exp", (exponent,))
        case Call("sigmoid", (gate,)):
            return Call("log2_exp", (Call("logsigmoid", (gate,)),))
        case Add((Constant(one), Multiply((Constant(sign), Call("sigmoid", (gate,)))))) if (
            one == 1 and sign == -1
        ):
            return logarithm(Call("sigmoid", (Multiply((MINUS_ONE, gate)),)), known)
        case Power(base, exponent) if (inner := logarithm(base, known)) is not None:
            return Multiply((Constant(exponent), inner))
        case Multiply(factors):
            terms = [logarithm(factor, known) for factor in factors]
            found = tuple(term for term in terms if term is not None)
            return Add(found) if len(found) == len(terms) else None
        case _:
            range_ = infer(value, known)
            promised = isinstance(value, Name) and excludes_zero(range_)
            return Call("log2", (value,)) if promised or range_.low > 0 else None


def excludes_zero(interval: Interval) -> bool:
    """Whether every value of the interval is positive."""
    return interval.low > 0 or (interval.low == 0 and interval.low_open)
