"""The numbers of proofs are fractions."""

from __future__ import annotations

import itertools
import operator
from fractions import Fraction

import pytest

from rnnc.codegen.ratios import Ratio

pytestmark = pytest.mark.smoke
VALUES = sorted({Fraction(n, d) for n in range(-7, 8) for d in (1, 2, 3, 4, 6, 35)})


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_sums_and_products_are_those_of_fractions(operation: object) -> None:
    """With one another, with fractions and integers on either side; reduced, and of one kind."""
    assert callable(operation)
    divides = operation is operator.truediv
    for one, other in itertools.product(VALUES, VALUES):
        if divides and not other:
            continue
        expected = operation(one, other)
        ways = [(Ratio(one), Ratio(other)), (Ratio(one), other), (one, Ratio(other))]
        ways += [(Ratio(one), int(other))] if other.denominator == 1 else []
        ways += [(int(one), Ratio(other))] if one.denominator == 1 else []
        for left, right in ways:
            found = operation(left, right)
            assert (found.numerator, found.denominator) == (expected.numerator, expected.denominator)
            assert divides or type(found) is Ratio


def test_they_are_equal_to_fractions_and_have_their_hashes() -> None:
    assert {Ratio(value): str(-Ratio(value)) for value in VALUES} == {value: str(-value) for value in VALUES}
    assert Ratio(1, 2) + 0.5 == 1.0
