"""Tokens that are tried, for what a transition can do: turn a sign, rotate, grow.

The values lie in their declared ranges and the transitions are proven intervals, at K = 2 (see `witness`):
what is found here exists, what is not found may still exist.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Set
from functools import cached_property
from math import inf

from rnnc.dsl.interval import Interval
from rnnc.dsl.normal import Normal
from rnnc.dsl.ranges import environment
from rnnc.dsl.witness import (
    Matrix,
    Values,
    Witness,
    eigenvalues,
    rotation,
    transition_at,
    transition_names,
    trials,
    witness,
)

COUNT = 60  # of tokens
STARTS = 8  # of the searches for a token that turns a sign
SWEEPS = 2  # over the names, in a search
ROUNDING = 1e-3
NEARLY = {number: Interval(number - ROUNDING, number + ROUNDING) for number in (-1, 0, 1)}


class Samples:
    """The transitions of some tokens of a recurrence."""

    def __init__(self, normal: Normal) -> None:
        self.normal = normal
        self.inputs = {declared.name for declared in normal.recurrence.inputs}
        # Whether a transition depends on what an earlier stage hands on.
        handed = {declared.name for declared in normal.recurrence.inputs if declared.handed}
        self.handed = bool(handed & transition_names(normal).keys())

    @cached_property
    def values(self) -> list[Values]:
        ranges = environment(self.normal.recurrence)
        return list(itertools.islice(trials(transition_names(self.normal), ranges), COUNT))

    @cached_property
    def matrices(self) -> list[Matrix]:
        return [transition_at(self.normal, values) for values in self.values]

    def negative(self) -> Witness | None:
        """A token with a negative eigenvalue."""
        return self._real(Interval(high=0, high_open=True))

    def grows(self) -> Witness | None:
        """A token with an eigenvalue of modulus above 1."""
        return (
            self._real(Interval(low=1, low_open=True))
            or self._real(Interval(high=-1, high_open=True))
            or self._rotation(Interval(low=1, low_open=True))
        )

    def rotates(self) -> Witness | None:
        """A token whose eigenvalues are not real."""
        return self._rotation(Interval())

    def flips(self) -> tuple[Witness, Witness] | None:
        """A token with an eigenvalue of -1, and one that keeps the state, under the same parameters.

        Not searched for where several states mix: of theirs one channel is seen.
        """
        if self.normal.coupled is not None:
            return None
        for start in self._starts():
            values = self._nearest(start, set(start), _from_flip)
            keeps = self._nearest(values, self.inputs & set(values), _from_identity)
            roots = eigenvalues(transition_at(self.normal, values)) or ()
            if any(root.within(NEARLY[-1]) for root in roots) and self._is_identity(keeps):
                inputs = {name: array for name, array in keeps.items() if name in self.inputs}
                turn = witness(self.normal, values, "an eigenvalue is -1")
                return turn, witness(self.normal, inputs, "the state is kept")
        return None

    def _starts(self) -> list[Values]:
        """The tokens with eigenvalues closest to -1, those of other parameters than before first."""
        pairs = sorted(zip(self.values, self.matrices, strict=True), key=lambda pair: _from_flip(pair[1]))
        seen: list[Values] = []
        ranked = []
        for values, _ in pairs:
            params = self._params(values)
            ranked.append((seen.count(params), len(seen), values))
            seen.append(params)
        return [values for _, _, values in sorted(ranked, key=lambda entry: entry[:2])[:STARTS]]

    def _nearest(self, start: Values, names: Set[str], distance: Callable[[Matrix], float]) -> Values:
        """Values of smallest distance, changed from the start one name at a time."""
        best, least = dict(start), distance(transition_at(self.normal, start))
        for name in sorted(names) * SWEEPS:
            if least <= ROUNDING / 2:
                break
            for array in {tuple(values[name].items()): values[name] for values in self.values}.values():
                found = distance(transition_at(self.normal, best | {name: array}))
                if found < least:
                    best, least = best | {name: array}, found
        return best

    def _params(self, values: Values) -> Values:
        return {name: array for name, array in values.items() if name not in self.inputs}

    def _is_identity(self, values: Values) -> bool:
        matrix = transition_at(self.normal, values)
        return all(matrix[i][j].within(NEARLY[int(i == j)]) for i in range(2) for j in range(2))

    def _real(self, where: Interval) -> Witness | None:
        for values, matrix in zip(self.values, self.matrices, strict=True):
            for root in eigenvalues(matrix) or ():
                if root.within(where):
                    return witness(self.normal, values, f"an eigenvalue is {_middle(root):.6g}")
        return None

    def _rotation(self, where: Interval) -> Witness | None:
        for values, matrix in zip(self.values, self.matrices, strict=True):
            modulus = rotation(matrix)
            if modulus is not None and modulus.within(where):
                said = f"complex eigenvalues of modulus {_middle(modulus):.6g}"
                return witness(self.normal, values, said)
        return None


def _from_flip(matrix: Matrix) -> float:
    """How far the eigenvalues are from -1."""
    return min((abs(_middle(root) + 1) for root in eigenvalues(matrix) or ()), default=inf)


def _from_identity(matrix: Matrix) -> float:
    return sum(abs(_middle(matrix[i][j]) - (i == j)) for i in range(2) for j in range(2))


def _middle(interval: Interval) -> float:
    return (interval.low + interval.high) / 2 if interval.finite else interval.low
