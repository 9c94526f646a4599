"""The range of a polynomial whose atoms range over intervals, independently of each other.

Adding up the ranges of the terms forgets that an atom has one value wherever it occurs. Here common factors
are taken out, parts without a common atom are treated apart, an atom of degree one is fixed at both ends of
its interval (a linear function is extreme there), and the square is completed for an atom of degree two. So
`f - f^2` over (0, 1) gives (0, 1/4], and `a - a b n` gives what `a (1 - b n)` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction

from rnnc.dsl.interval import REAL, Interval, point
from rnnc.dsl.polynomial import Atom, Polynomial

Variable = int
Product = tuple[tuple[Variable, Fraction], ...]
Terms = dict[Product, Fraction]
MAX_DEPTH = 9  # of fixed atoms: two branches each


def bounds(polynomial: Polynomial, box: Callable[[Atom], Interval]) -> Interval:
    """The values of the polynomial where every atom ranges over `box(atom)`."""
    terms, ranges = _variables(polynomial, box)
    best = _Box(ranges).terms(terms, 0)
    return best.intersect(_Box(ranges).termwise(terms))


def _variables(polynomial: Polynomial, box: Callable[[Atom], Interval]) -> tuple[Terms, list[Interval]]:
    """Numbered variables for the atoms; one that occurs as x^e and x^2e only stands for x^e."""
    exponents: dict[Atom, list[Fraction]] = {}
    for monomial, _ in polynomial.terms:
        for atom, exponent in monomial:
            exponents.setdefault(atom, []).append(exponent)
    units: dict[Atom, Fraction] = {}
    for atom, found in exponents.items():
        least = min(found, key=abs)
        units[atom] = least if all(e in (least, 2 * least) for e in found) else Fraction(1)
    number = {atom: i for i, atom in enumerate(exponents)}
    terms = {tuple((number[a], e / units[a]) for a, e in m): c for m, c in polynomial.terms}
    return terms, [box(atom) ** units[atom] for atom in exponents]


class _Box:
    """The ranges of the variables, and the ranges of polynomials over them."""

    def __init__(self, ranges: list[Interval]) -> None:
        self.ranges = ranges

    def product(self, product: Product) -> Interval:
        result = point(1)
        for variable, degree in product:
            result = result * self.ranges[variable] ** degree
        return result

    def termwise(self, terms: Terms) -> Interval:
        """The sum of the terms' ranges."""
        result = point(0)
        for product, coefficient in terms.items():
            result = result + self.product(product) * coefficient
        return result

    def terms(self, terms: Terms, depth: int) -> Interval:
        result = point(terms.get((), Fraction(0)))
        for part in _parts({p: c for p, c in terms.items() if p}):
            result = result + self.part(part, depth)
        return result

    def part(self, terms: Terms, depth: int) -> Interval:
        """The range of terms that hang together by shared variables."""
        if len(terms) == 1 or depth >= MAX_DEPTH:
            return self.termwise(terms)
        shared = set.intersection(*(set(product) for product in terms))
        if shared:
            rest = {tuple(f for f in product if f not in shared): c for product, c in terms.items()}
            return self.product(tuple(sorted(shared))) * self.terms(rest, depth)
        degrees = _degrees(terms)
        affine = [v for v, found in degrees.items() if set(found) == {1}]
        affine.sort(key=lambda v: (-len(degrees[v]), v))
        for variable in affine:
            if self.ranges[variable].finite:
                return self.corners(terms, variable, depth)
        for variable, found in degrees.items():
            if sorted(found) == [1, 2] and _alone(terms, variable):
                return self.square(terms, variable, depth)
        for variable in affine:
            if self.ranges[variable] != REAL:
                return self.ray(terms, variable, depth)
        return self.termwise(terms)

    def corners(self, terms: Terms, variable: Variable, depth: int) -> Interval:
        """Of a polynomial linear in the variable: the hull of its ranges at the two ends.

        An end value is reached inside only where the polynomial does not depend on the variable, and is then
        reached at both ends.
        """
        x = self.ranges[variable]
        left = self.terms(_fixed(terms, variable, Fraction(x.low)), depth + 1)
        right = self.terms(_fixed(terms, variable, Fraction(x.high)), depth + 1)
        low_open = _open(left.low, right.low, left.low_open, right.low_open, x)
        high_open = _open(-left.high, -right.high, left.high_open, right.high_open, x)
        return Interval(min(left.low, right.low), max(left.high, right.high), low_open, high_open)

    def ray(self, terms: Terms, variable: Variable, depth: int) -> Interval:
        """p(x) = p(end) + p' (x - end), for an interval with one finite end."""
        x = self.ranges[variable]
        end = Fraction(x.low if x.high > 0 and x.low > -math.inf else x.high)
        slope = {
            tuple(f for f in p if f[0] != variable): c
            for p, c in terms.items()
            if any(v == variable for v, _ in p)
        }
        return self.terms(_fixed(terms, variable, end), depth + 1) + self.terms(slope, depth + 1) * (x - end)

    def square(self, terms: Terms, variable: Variable, depth: int) -> Interval:
        """a x^2 + b x + rest = a (x + b/2a)^2 + rest - b^2/4a."""
        a, b = terms[((variable, Fraction(2)),)], terms[((variable, Fraction(1)),)]
        rest = {p: c for p, c in terms.items() if all(v != variable for v, _ in p)}
        rest[()] = rest.get((), Fraction(0)) - b * b / (4 * a)
        return (self.ranges[variable] + b / (2 * a)) ** 2 * a + self.terms(rest, depth)


def _open(left: float, right: float, left_open: bool, right_open: bool, x: Interval) -> bool:
    """Whether the lesser of two end values, one at each end of x, is certainly not reached."""
    at_left = not left_open and not x.low_open
    at_right = not right_open and not x.high_open
    if left != right:
        return not (at_left if left < right else at_right)
    return not (at_left or at_right or not (left_open or right_open))


def _degrees(terms: Terms) -> dict[Variable, list[Fraction]]:
    """The degrees with which each variable occurs, term by term."""
    found: dict[Variable, list[Fraction]] = {}
    for product in terms:
        for variable, degree in product:
            found.setdefault(variable, []).append(degree)
    return found


def _alone(terms: Terms, variable: Variable) -> bool:
    """Whether the variable's coefficients are constants."""
    return all(len(product) == 1 for product in terms if any(v == variable for v, _ in product))


def _fixed(terms: Terms, variable: Variable, value: Fraction) -> Terms:
    """The terms with a value in place of a variable of degree one."""
    result: Terms = {}
    for product, coefficient in terms.items():
        rest = tuple(factor for factor in product if factor[0] != variable)
        weight = coefficient if rest == product else coefficient * value
        result[rest] = result.get(rest, Fraction(0)) + weight
    return {product: c for product, c in result.items() if c}


def _parts(terms: Terms) -> Iterable[Terms]:
    """The terms in groups that share no variable."""
    groups: list[tuple[set[Variable], Terms]] = []
    for product, coefficient in terms.items():
        variables = {v for v, _ in product}
        joined: Terms = {product: coefficient}
        apart = []
        for others, group in groups:
            if others & variables:
                variables |= others
                joined = group | joined
            else:
                apart.append((others, group))
        groups = [*apart, (variables, joined)]
    return [group for _, group in groups]
