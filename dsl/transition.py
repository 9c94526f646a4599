"""The transition `A = Diag(D) + sum_r w_r f_r^T` of one token as canonical polynomials with known ranges."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from rnnc.dsl.abbreviations import Abbreviations
from rnnc.dsl.algebra import contract
from rnnc.dsl.expansion import to_expression
from rnnc.dsl.expression import Axes
from rnnc.dsl.inference import Inference
from rnnc.dsl.interval import REAL, Interval, hull
from rnnc.dsl.normal import Normal
from rnnc.dsl.polynomial import UNIT, Leaf, Polynomial
from rnnc.dsl.pretty import pretty
from rnnc.dsl.ranges import inference

Pair = tuple[Polynomial, Polynomial]


@dataclass(frozen=True)
class Transition:
    """The canonical parts of the transition and what is known of their ranges."""

    axis: str
    decay: Polynomial
    pairs: tuple[Pair, ...]  # (w, f)
    known: Inference
    names: Abbreviations

    @property
    def scalar(self) -> bool:
        """Whether D is the same for all rows of the state."""
        return self.axis not in self.decay.labels

    def dot(self, left: Polynomial, right: Polynomial) -> Polynomial:
        return contract(left * right, (self.axis,))

    def text(self, polynomial: Polynomial) -> str:
        """The polynomial in the spec's language, lets by their names."""
        return pretty(self.names.shorten(to_expression(polynomial)))

    def range(self, polynomial: Polynomial) -> Interval:
        return self.known.polynomial(polynomial)

    def length(self, vector: Polynomial) -> Interval:
        """The Euclidean norm."""
        return self.range(self.dot(vector, vector)) ** 0.5

    def norm(self) -> Interval:
        """A bound of the operator norm by the norms of the parts."""
        parts = (self.length(w) * self.length(f) for w, f in self.pairs)
        return sum(parts, abs(self.range(self.decay)))

    def reach(self, start: Polynomial, steps: list[Polynomial]) -> Interval:
        """The hull of `start` plus any of the steps."""
        sums = (
            sum(chosen, start)
            for size in range(len(steps) + 1)
            for chosen in itertools.combinations(steps, size)
        )
        return hull(self.range(total) for total in sums)

    def unbounded(self, polynomials: Iterable[Polynomial]) -> Iterator[str]:
        """The names whose own range makes a factor unbounded, in order of first appearance."""
        factors = (atom for p in polynomials for monomial, _ in p.terms for atom, _ in monomial)
        atoms = [atom for atom in factors if self.known.atom(atom).magnitude == inf]
        names = (name for atom in atoms for name, _ in sorted(atom.leaves, key=str))
        for name in dict.fromkeys(names):
            if self.known.ranges.get(name, REAL).magnitude == inf:
                yield name

    def axes_of(self, name: str) -> Axes:
        """The axes that a name has as a factor of a key or a read."""
        factors = (atom for w, f in self.pairs for p in (w, f) for m, _ in p.terms for atom, _ in m)
        leaves = (atom.node for atom in factors if isinstance(atom.node, Leaf))
        return next((leaf.labels for leaf in leaves if leaf.name == name), ())


def transition_of(normal: Normal) -> Transition:
    """The transition of a normal form as canonical polynomials."""
    known = inference(normal.recurrence)
    decay = UNIT if normal.decay is None else _must(known.canonical(normal.decay))
    pairs = tuple(
        (_must(known.canonical(write.key)), _must(known.canonical(write.read)))
        for write in normal.writes
        if write.read is not None
    )
    return Transition(normal.key_axis, decay, pairs, known, Abbreviations(normal.recurrence, known))


def _must(polynomial: Polynomial | None) -> Polynomial:
    assert polynomial is not None, "the normal form is a sum of products"
    return polynomial
