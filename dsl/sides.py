"""The two axes of a state: which one the reads contract, and decays as one factor over each.

Reads from the left, `w (f^T S)`, contract the first axis, reads from the right, `(S f) w^T`, the second. The
axis that reads contract is the key axis of the normal form: a right-hand read is a left-hand one of S^T.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import partial

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expansion import split_common
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Readout
from rnnc.dsl.polynomial import (
    ONE,
    Atom,
    Contraction,
    Leaf,
    Monomial,
    Polynomial,
    total,
)
from rnnc.dsl.recurrence import State

Row = Mapping[Monomial, Polynomial]  # factors over the value axis -> scalars
UNIT_ROW: Row = {(): Polynomial((((), ONE),))}


def roles(state: State, updates: Iterable[Polynomial], readouts: Iterable[Readout] = ()) -> Axes:
    """The key axis and the value axis; without reads, readouts decide. Raises SpecError for reads of both."""
    atoms = {atom for update in updates for monomial, _ in update.terms for atom, _ in monomial}
    sides = {side for atom in atoms for side in _contracted(atom, state)}
    if len(sides) > 1:
        first, second = state.axes
        message = (
            f"the transition of '{state.name}' is not handled: the state is read from the left, over "
            f"'{first}', and from the right, over '{second}'"
        )
        note = "with reads from one side a chunk is one triangular system; those from both need one per entry"
        raise SpecError([Diagnostic("unsupported", message, notes=(note,))])
    sides = sides or {state.axes.index(readout.over) for readout in readouts}
    return state.axes[::-1] if sides == {1} else state.axes


def _contracted(atom: Atom, state: State) -> set[int]:
    """Which one axis of the state the factor contracts, if it does."""
    if not isinstance(atom.node, Contraction):
        return set()
    leaves = [a.node for a, _ in atom.node.monomial if isinstance(a.node, Leaf) and a.node.name == state.name]
    found = ([n for n, label in enumerate(leaf.labels) if label in atom.node.bound] for leaf in leaves)
    return {sides[0] for sides in found if len(sides) == 1}


def factored(table: Mapping[Monomial, Row]) -> tuple[Polynomial, Row] | None:
    """The sum of key * value * scalar as one factor over the key axis and one over the value axis.

    Scalars that are common to all of the second go to the first. None where the sum has no two such factors.
    """
    if all(row.keys() == {()} for row in table.values()):
        return total(row[()] * _monomial(key) for key, row in table.items()), UNIT_ROW
    side = _without_scalars(next(iter(table.values())))
    weights = [] if side is None else [(key, proportion(row, side)) for key, row in table.items()]
    found = [weight * _monomial(key) for key, weight in weights if weight is not None]
    return None if side is None or len(found) < len(table) else (total(found), side)


def _without_scalars(row: Row) -> Row | None:
    """The row without the scalars that all of its parts have; None where these are not found."""
    terms = tuple(term for part in row.values() for term in part.terms)
    if len(terms) > len(row):
        return next((ratios for ratios in map(partial(_ratios, row), row.values()) if ratios), None)
    (common, coefficient), _ = split_common(Polynomial(terms))
    signs = {c > 0 for _, c in terms}
    scalars = tuple((a, e) for a, e in common if not a.labels)
    inverse = _inverse(scalars, coefficient if len(signs) == 1 else abs(coefficient))
    return {value: part * inverse for value, part in row.items()}


def _ratios(row: Row, scalar: Polynomial) -> Row | None:
    """The row divided by the scalar, where every part is the scalar times one term."""
    found = {}
    for value, part in row.items():
        quotients = (Polynomial((term,)) * _inverse(*scalar.terms[0]) for term in part.terms)
        fitting = [q for q in quotients if q * scalar == part and all(e > 0 for _, e in q.terms[0][0])]
        if not fitting:
            return None
        found[value] = fitting[0]
    return found


def proportion(row: Row, side: Row) -> Polynomial | None:
    """The scalar c with row = c * side, or None; a part of the side is one term."""
    if row.keys() != side.keys():
        return None
    value, part = next((value, part) for value, part in side.items() if len(part.terms) == 1)
    found = row[value] * _inverse(*part.terms[0])
    return found if all(row[v] == found * p for v, p in side.items()) else None


def _inverse(factors: Monomial, coefficient: Fraction) -> Polynomial:
    return Polynomial(((tuple((a, -e) for a, e in factors), 1 / coefficient),))


def written_out(side: Row) -> Polynomial:
    """A factor over the value axis as a polynomial."""
    return total(scalar * _monomial(value) for value, scalar in side.items())


def _monomial(monomial: Monomial, coefficient: Fraction = ONE) -> Polynomial:
    return Polynomial(((monomial, coefficient),))
