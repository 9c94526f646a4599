"""The updates of several states -> how they mix, and the writes that they share.

Every term is sorted as for one state (see `writes`); the key of a write then says into which states it goes,
and its read which states it sees. Both are written with one unit vector for each state, so that a write that
goes to two states, scaled, is one outer product: `M <- M - w u^T, S <- S + c M` writes (w, -c w) u^T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expansion import split_common, to_expression
from rnnc.dsl.expression import Expression
from rnnc.dsl.normal import Coupled, CoupledWrite
from rnnc.dsl.polynomial import ONE, ZERO, Atom, Leaf, Monomial, Polynomial, product
from rnnc.dsl.recurrence import State
from rnnc.dsl.sides import UNIT_ROW
from rnnc.dsl.writes import Collector, Table, common_scalar, grouped

STATES = "@state"  # the label of the unit vectors, one for each state


def couple(states: Sequence[State], updates: Mapping[str, Polynomial]) -> Coupled:
    """The coupled form of the updates, each in terms of the old states; else raises SpecError."""
    mixing: list[tuple[Expression | None, ...]] = []
    reads: Table = {}
    values: Table = {}
    for target in states:
        row: list[Expression | None] = []
        for source in states:
            part = Collector(source, source.axes)
            part.take(_reading(updates[target.name], source))
            if part.split() is not UNIT_ROW:
                raise _mixed_by_a_vector(target, source)
            row.append(_scalar(part.decay, target, source))
            _enter(reads, part.reads, target, source)
        free = Collector(target, target.axes)
        free.take(_free(updates[target.name], states))
        _enter(values, free.values, target, None)
        mixing.append(tuple(row))
    return Coupled(tuple(state.name for state in states), tuple(mixing), _writes(states, reads, values))


def _reading(update: Polynomial, source: State) -> Polynomial:
    """The terms that depend on the state."""
    return Polynomial(tuple(term for term in update.terms if source.name in _names(term[0])))


def _free(update: Polynomial, states: Sequence[State]) -> Polynomial:
    """The terms that depend on none of the states."""
    names = {state.name for state in states}
    return Polynomial(tuple(term for term in update.terms if not names & _names(term[0])))


def _names(monomial: Monomial) -> set[str]:
    return {name for atom, _ in monomial for name, _ in atom.leaves}


def _scalar(decay: Polynomial, target: State, source: State) -> Expression | None:
    """The weight with which a state goes into another, None for 0."""
    if not decay.terms:
        return None
    if decay.labels:
        raise _mixed_by_a_vector(target, source)
    return to_expression(decay)


def _mixed_by_a_vector(target: State, source: State) -> SpecError:
    what = "itself" if source is target else f"'{source.name}'"
    message = f"'{target.name}' takes {what} times a vector: states that mix do so by scalars"
    return SpecError([Diagnostic("unsupported", message)])


def _enter(table: Table, found: Table, target: State, source: State | None) -> None:
    """Adds a target's entries, with the unit vectors of the states on both sides."""
    for key, row in found.items():
        entries = table.setdefault(_marked(key, target), {})
        for other, weight in row.items():
            marked = other if source is None else _marked(other, source)
            entries[marked] = entries.get(marked, ZERO) + weight


def _marked(monomial: Monomial, state: State) -> Monomial:
    return product([*monomial, (_mark(state), ONE)])


def _mark(state: State) -> Atom:
    return Atom(Leaf(state.name, (STATES,)))


def _writes(states: Sequence[State], reads: Table, values: Table) -> tuple[CoupledWrite, ...]:
    groups: dict[Polynomial, list[Polynomial]] = {}
    for side, table in enumerate((reads, values)):
        for key, other in grouped(table):
            vector, weight = _without_scalar(key)
            pair = groups.setdefault(vector, [ZERO, ZERO])
            pair[side] = pair[side] + other * weight
    return tuple(_write(states, key, read, value) for key, (read, value) in groups.items())


def _without_scalar(key: Polynomial) -> tuple[Polynomial, Polynomial]:
    """The key and the scalar it was multiplied by: keys that differ by one become equal."""
    (common, _), _ = split_common(key)
    leading = key.terms[0][1]
    scalars = tuple((atom, exponent) for atom, exponent in common if not atom.labels)
    inverse = Polynomial(((tuple((atom, -e) for atom, e in scalars), 1 / leading),))
    return key * inverse, Polynomial(((scalars, leading),))


def _write(states: Sequence[State], key: Polynomial, read: Polynomial, value: Polynomial) -> CoupledWrite:
    shared = common_scalar(read, value, frozenset())
    inverse = Polynomial(((tuple((a, -e) for a, e in shared.terms[0][0]), 1 / shared.terms[0][1]),))
    key, read, value = key * shared, read * inverse, value * inverse
    return CoupledWrite(
        keys=tuple(_part(key, state) for state in states),
        value=to_expression(value) if value.terms else None,
        reads=tuple(_part(read, state) for state in states),
    )


def _part(vector: Polynomial, state: State) -> Expression | None:
    """The vector's part for one state."""
    mark = _mark(state)
    terms = [(m, c) for m, c in vector.terms if any(atom == mark for atom, _ in m)]
    bare = Polynomial.of((tuple(f for f in m if f[0] != mark), c) for m, c in terms)
    return to_expression(bare) if bare.terms else None
