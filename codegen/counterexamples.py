"""Rational inputs at which two recurrences provably give different outputs.

The token loops are run in interval arithmetic: every value is an interval that contains the exact one, exact
itself as long as only rationals are added and multiplied. Two intervals without a common number differ.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from rnnc.codegen.exact import TokenLoop
from rnnc.dsl.enclosures import image
from rnnc.dsl.expression import Axes
from rnnc.dsl.interpreter import carried, run
from rnnc.dsl.interval import REAL, Interval, point
from rnnc.dsl.recurrence import Recurrence

TRIALS = 12  # at each size and length
SHAPES = ((1, 1), (2, 1), (2, 2), (3, 3))  # the size of every axis, and the number of tokens
NUMBERS = tuple(Fraction(n, 2) for n in (1, -1, 2, -2, 3, 0, 4, -3, -4, 10, -10))

Values = dict[str, Any]


@dataclass(frozen=True)
class Counterexample:
    """Values by name, and the two results that they give, exact or to as many digits as tell them apart."""

    sizes: tuple[tuple[str, int], ...]
    tokens: int
    values: tuple[tuple[str, str], ...]
    where: str
    left: str
    right: str

    def __str__(self) -> str:
        shape = " ".join(f"{axis}={size}" for axis, size in self.sizes)
        lines = [f"at {shape} T={self.tokens}".replace("  ", " ")]
        lines += [f"  {name} = {value}" for name, value in self.values]
        return "\n".join([*lines, f"{self.where} is {self.left} in the first, {self.right} in the second"])

    def as_dict(self) -> dict[str, Any]:
        """The counterexample as plain data."""
        return {
            "sizes": dict(self.sizes),
            "T": self.tokens,
            "values": dict(self.values),
            "where": self.where,
            "left": self.left,
            "right": self.right,
        }


def find_counterexample(left: Recurrence, right: Recurrence) -> Counterexample | None:
    """Inputs within the ranges of both, from small to larger; None where the search finds none."""
    pick = random.Random(0)
    for (size, tokens), started in itertools.product(SHAPES, (False, True)):
        sizes = dict.fromkeys((*left.axes, *right.axes), size)
        for _ in range(TRIALS):
            point_ = _Point(left, right, sizes, tokens, started, pick)
            found = point_.difference()
            if found is not None:
                return found
    return None


class _Point:
    """One choice of all values: inputs [tokens, axes], parameters and, if `started`, the states."""

    def __init__(
        self,
        left: Recurrence,
        right: Recurrence,
        sizes: Mapping[str, int],
        tokens: int,
        started: bool,
        pick: random.Random,
    ) -> None:
        self.pair, self.sizes, self.tokens = (left, right), dict(sizes), tokens
        ranges: dict[str, Interval] = {}
        for each in (*left.arguments, *right.arguments):
            ranges[each.name] = ranges.get(each.name, REAL).intersect(each.range or REAL)

        def draw(name: str, axes: Axes, timed: bool) -> Any:
            allowed = [x for x in NUMBERS if x in ranges.get(name, REAL)] or [_inside(ranges[name])]
            shape = [tokens] * timed + [sizes[axis] for axis in axes]
            values = np.empty(shape, dtype=object)
            for index in np.ndindex(*shape):
                values[index] = pick.choice(allowed)
            return values

        self.inputs = {x.name: draw(x.name, x.axes, True) for x in left.inputs}
        self.params = {x.name: draw(x.name, x.axes, False) for x in left.params}
        states = carried(left) if started and set(carried(left)) == set(carried(right)) else ()
        self.states = {x.name: draw(x.name, x.axes, False) for x in states}

    def difference(self) -> Counterexample | None:
        one, two = (dict(self._results(recurrence)) for recurrence in self.pair)
        for where, value in one.items():
            if value.disjoint(two[where]):
                shown = _told_apart(value, two[where])
                return Counterexample(
                    tuple(self.sizes.items()), self.tokens, tuple(self._shown()), where, *shown
                )
        return None

    def _results(self, recurrence: Recurrence) -> Iterator[tuple[str, Interval]]:
        """Every entry of the outputs and of the final state."""
        arithmetic = TokenLoop(self.sizes, lambda value: point(Fraction(value)), _apply)
        inputs = {name: [_points(row) for row in values] for name, values in self.inputs.items()}
        params, states = ({n: _points(v) for n, v in given.items()} for given in (self.params, self.states))
        outputs, final = run(recurrence, arithmetic, inputs, params, states, self.tokens)
        for declared in recurrence.outputs:
            for t, value in enumerate(outputs[declared.name]):
                yield from self._entries(f"{declared.name}", value, declared.axes, f" at token {t + 1}")
        for state in recurrence.states:
            yield from self._entries(state.name, final[state.name], state.axes, " at the end")

    def _entries(self, name: str, value: Any, axes: Axes, when: str) -> Iterator[tuple[str, Interval]]:
        whole: Any = np.broadcast_to(np.asarray(value, dtype=object), [self.sizes[axis] for axis in axes])
        for index in np.ndindex(*whole.shape):
            place = f"[{', '.join(map(str, index))}]" if index else ""
            yield f"{name}{place}{when}", whole[index]

    def _shown(self) -> Iterator[tuple[str, str]]:
        for name, values in (self.inputs | self.params).items():
            yield name, _text(values)
        for name, values in self.states.items():
            yield f"{name} at the start", _text(values)


def _apply(function: str, *arguments: Any) -> Interval:
    if function == "power":
        base, exponent = arguments
        raised: Interval = base ** Fraction(exponent)
        return raised
    if function == "reciprocal":
        return _apply("power", arguments[0], -1)
    return image(function, *arguments)


def _points(values: Any) -> Any:
    return np.asarray(np.frompyfunc(point, 1, 1)(np.asarray(values, dtype=object)), dtype=object)


def _inside(interval: Interval) -> Fraction:
    """A number of a range that holds none of the usual ones."""
    if interval.finite:
        return (Fraction(interval.low) + Fraction(interval.high)) / 2
    return Fraction(interval.low) + 1 if interval.low > -inf else Fraction(interval.high) - 1


def _told_apart(one: Interval, two: Interval) -> tuple[str, str]:
    """Two numbers, to six digits or as many as it takes."""
    for digits in (6, 9, 12, 17):
        shown = _number(one, digits), _number(two, digits)
        if shown[0] != shown[1]:
            break
    return shown


def _number(value: Interval, digits: int) -> str:
    if value.low == value.high:
        return str(Fraction(value.low))
    return f"{(value.low + value.high) / 2:.{digits}g}"


def _text(values: Any) -> str:
    if np.ndim(values) == 0:
        return str(values if isinstance(values, Fraction) else values.item())
    return f"[{', '.join(_text(part) for part in values)}]"
