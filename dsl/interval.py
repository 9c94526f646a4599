"""Intervals of real numbers with open, closed and infinite ends, and exact arithmetic on them.

The results are sound: every value that the operands allow lies in the result, an end marked open is never
reached, and 0 times an infinite end is 0. Ends are computed exactly and rounded outward only where a float
cannot hold them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

Number = int | float | Fraction


@dataclass(frozen=True, slots=True)
class Interval:
    """The numbers between `low` and `high`; an open end is not reached, nor is an infinite one."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high):
            raise ValueError("an interval cannot end at NaN")
        fields = (self.low + 0.0, self.high + 0.0)  # no negative zeros
        flags = (self.low_open and math.isfinite(self.low), self.high_open and math.isfinite(self.high))
        for name, value in zip(self.__slots__, (*fields, *flags), strict=True):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        left = "(" if self.low_open or math.isinf(self.low) else "["
        right = ")" if self.high_open or math.isinf(self.high) else "]"
        return f"{left}{self.low:.6g}, {self.high:.6g}{right}"

    @property
    def empty(self) -> bool:
        """Whether no number lies in it."""
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    @property
    def finite(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def constant(self) -> bool:
        """Whether it holds exactly one number."""
        return self.low == self.high and not self.empty

    @property
    def magnitude(self) -> float:
        """The least upper bound of |x|."""
        return max(abs(self.low), abs(self.high))

    def __contains__(self, value: Number) -> bool:
        above = value > self.low or (value == self.low and not self.low_open)
        return above and (value < self.high or (value == self.high and not self.high_open))

    def within(self, other: Interval) -> bool:
        """Whether every number of this interval lies in the other."""
        if self.empty:
            return True
        low = self.low > other.low or (self.low == other.low and (self.low_open or not other.low_open))
        high = self.high < other.high or (self.high == other.high and (self.high_open or not other.high_open))
        return low and high

    def intersect(self, other: Interval) -> Interval:
        """The numbers in both; check `empty`."""
        low, low_open = max((self.low, self.low_open), (other.low, other.low_open))
        high, closed = min((self.high, not self.high_open), (other.high, not other.high_open))
        return Interval(low, high, low_open, not closed)

    def disjoint(self, other: Interval) -> bool:
        return self.intersect(other).empty

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        if self.empty or other.empty:
            return other if self.empty else self
        low, low_open = min((self.low, self.low_open), (other.low, other.low_open))
        high, closed = max((self.high, not self.high_open), (other.high, not other.high_open))
        return Interval(low, high, low_open, not closed)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.high_open, self.low_open)

    def __abs__(self) -> Interval:
        if self.low >= 0:
            return self
        if self.high <= 0:
            return -self
        high, closed = max((-self.low, not self.low_open), (self.high, not self.high_open))
        return Interval(0.0, high, False, not closed)

    def __add__(self, other: Interval | Number) -> Interval:
        that = interval(other)
        low = _add(_low(self), _low(that))
        high = _add(_high(self), _high(that))
        return _outward(low, high)

    __radd__ = __add__

    def __sub__(self, other: Interval | Number) -> Interval:
        return self + -interval(other)

    def __rsub__(self, other: Number) -> Interval:
        return interval(other) - self

    def __mul__(self, other: Interval | Number) -> Interval:
        that = interval(other)
        corners = [_multiply(a, b) for a in (_low(self), _high(self)) for b in (_low(that), _high(that))]
        return _span(corners)

    __rmul__ = __mul__

    def reciprocal(self) -> Interval:
        """1/x for the x that are not zero."""
        if self.low < 0 < self.high or self.low == self.high == 0:
            return REAL
        return _span([_invert(_low(self), math.inf), _invert(_high(self), -math.inf)])

    def __truediv__(self, other: Interval | Number) -> Interval:
        return self * interval(other).reciprocal()

    def __rtruediv__(self, other: Number) -> Interval:
        return self.reciprocal() * other

    def __pow__(self, exponent: Number) -> Interval:
        """x ** exponent, of the x for which it is defined."""
        power = Fraction(exponent)
        if power < 0:
            return (self**-power).reciprocal()
        if power == 0:
            return point(1)
        base = self
        if power.denominator != 1:
            base = self.intersect(Interval(0.0))
            if base.empty:
                return REAL
        elif power % 2 == 0:
            base = abs(self)
        return _outward(_raise(_low(base), power, up=False), _raise(_high(base), power, up=True))

    def minimum(self, other: Interval) -> Interval:
        """min(x, y)."""
        return -(-self).maximum(-other)

    def maximum(self, other: Interval) -> Interval:
        """max(x, y)."""
        low, low_open = max((self.low, self.low_open), (other.low, other.low_open))
        high, closed = max((self.high, not self.high_open), (other.high, not other.high_open))
        return Interval(low, high, low_open, not closed)


REAL = Interval()


def interval(value: Interval | Number) -> Interval:
    """The value as an interval: the narrowest one around a number."""
    return value if isinstance(value, Interval) else point(value)


def point(value: Number) -> Interval:
    """The narrowest interval that holds the number."""
    end = _End(value if isinstance(value, float) and math.isinf(value) else Fraction(value), False)
    return _outward(end, end)


def hull(intervals: Iterable[Interval]) -> Interval:
    """The smallest interval that holds all of them."""
    return reduce(Interval.hull, intervals)


class _End(NamedTuple):
    """An end, exact: a rational or an infinity."""

    value: Fraction | float
    open: bool


def _low(x: Interval) -> _End:
    return _End(x.low if math.isinf(x.low) else Fraction(x.low), x.low_open)


def _high(x: Interval) -> _End:
    return _End(x.high if math.isinf(x.high) else Fraction(x.high), x.high_open)


def _infinite(end: _End) -> bool:
    return isinstance(end.value, float)


def _add(a: _End, b: _End) -> _End:
    return _End(a.value + b.value, a.open or b.open)


def _multiply(a: _End, b: _End) -> _End:
    if a.value == 0 or b.value == 0:
        # Reached where a zero is reached, whatever the other factor is.
        reached = any(end.value == 0 and not end.open for end in (a, b))
        return _End(Fraction(0), not reached)
    return _End(a.value * b.value, a.open or b.open)


def _invert(end: _End, at_zero: float) -> _End:
    if end.value == 0:
        return _End(at_zero, True)
    return _End(Fraction(0), True) if _infinite(end) else _End(1 / end.value, end.open)


def _raise(end: _End, power: Fraction, up: bool) -> _End:
    """end ** power for power > 0, exact where it is rational, else outward by a relative 1e-12."""
    value = end.value
    if _infinite(end):
        negative = value < 0 and power % 2 == 1
        return _End(-math.inf if negative else math.inf, True)
    assert isinstance(value, Fraction)
    if power.denominator == 1 and power <= 64:
        return _End(value ** int(power), end.open)
    try:
        root = float(abs(value)) ** float(power)
    except OverflowError:
        root = math.inf
    small = power.denominator <= 16 and power.numerator <= 16 and math.isfinite(root)
    if small and Fraction(root) ** power.denominator == abs(value) ** power.numerator:
        return _End(Fraction(root), end.open)
    sign = -1 if value < 0 else 1
    return _End(outward(sign * root, up), end.open)


def outward(value: float, up: bool, relative: float = 1e-12) -> Fraction | float:
    """The value moved away from the inside of the interval it ends, by more than the error of a function."""
    if math.isinf(value):
        return value if up == (value > 0) else Fraction(math.copysign(LARGEST, value))
    step = max(abs(value) * relative, SMALLEST)
    moved = value + step if up else value - step
    return moved if math.isinf(moved) else Fraction(moved)


def _span(corners: list[_End]) -> Interval:
    low = min(corners, key=lambda end: (end.value, end.open))
    high = max(corners, key=lambda end: (end.value, not end.open))
    return _outward(low, high)


LARGEST = 1.7976931348623157e308
SMALLEST = 5e-324


def _outward(low: _End, high: _End) -> Interval:
    return Interval(_float(low.value, False), _float(high.value, True), low.open, high.open)


def _float(value: Fraction | float, up: bool) -> float:
    """The nearest float that is not inside."""
    if isinstance(value, float):
        return value
    try:
        rounded = float(value)
    except OverflowError:
        sign = 1 if value > 0 else -1
        return sign * (math.inf if (sign > 0) == up else LARGEST)
    if up and rounded < value:
        return math.nextafter(rounded, math.inf)
    if not up and rounded > value:
        return math.nextafter(rounded, -math.inf)
    return rounded
