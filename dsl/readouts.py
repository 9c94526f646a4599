"""Outputs -> what is read from the state, and the expression of the readouts that remains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from rnnc.dsl.algebra import around, contract, rebuild, relabel
from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expansion import to_expression
from rnnc.dsl.expression import Axes
from rnnc.dsl.normal import Readout
from rnnc.dsl.polynomial import (
    ONE,
    UNIT,
    ZERO,
    Atom,
    Base,
    Contraction,
    Function,
    Leaf,
    Monomial,
    Polynomial,
    base,
    monomial_labels,
    product,
    single,
)
from rnnc.dsl.recurrence import State

Factor = tuple[Atom, Fraction]


def split_readouts(
    output: Polynomial, name: str, state: State, last: int, known: int = 0
) -> tuple[list[Readout], Polynomial]:
    """The readouts `q^T S` of an output (S after `last` updates, or before any), and the rest of it.

    `known` is how many readouts of other states the output has already.
    """
    reader = _Reader(name, state, last, known)
    rest = reader.linear(output)
    if rest is None:
        rest = rebuild(output, reader.visit)
    return reader.readouts(), rest


@dataclass(frozen=True)
class Query:
    """What a readout contracts the state with, over which axis, and whether the state is the old one."""

    vector: Polynomial
    over: str
    old: bool


class _Reader:
    def __init__(self, name: str, state: State, last: int, known: int) -> None:
        self.name, self.state, self.last, self.known = name, state, last, known
        self.queries: dict[str, Query] = {}

    def readouts(self) -> list[Readout]:
        return [
            Readout(name, to_expression(query.vector), query.over, query.old, self.state.name)
            for name, query in self.queries.items()
        ]

    def linear(self, output: Polynomial) -> Polynomial | None:
        """One readout for all terms that differ only in their query; None if some term is not linear."""
        merged: dict[tuple[Monomial, str, bool], Polynomial] = {}
        rest = ZERO
        for monomial, coefficient in output.terms:
            reading = [(a, e) for a, e in monomial if self._reads(a)]
            if not reading:
                rest = rest + Polynomial(((monomial, coefficient),))
                continue
            if len(reading) > 1 or reading[0][1] != 1 or not self._plain(reading[0][0]):
                return None
            query = self._query(reading[0][0])
            outer = [factor for factor in monomial if factor not in reading]
            scalar = product(f for f in outer if not f[0].labels)
            group = (product(f for f in outer if f[0].labels), query.over, query.old)
            term = query.vector * Polynomial(((scalar, coefficient),))
            merged[group] = merged.get(group, ZERO) + term
        for (outer_part, over, old), vector in merged.items():
            rest = rest + Polynomial(((outer_part, ONE),)) * self._leaf(Query(vector, over, old))
        return rest

    def visit(self, atom: Atom) -> Polynomial:
        """The atom with every read of the state replaced by the name of its readout."""
        if not self._reads(atom):
            return single(atom)
        match atom.node:
            case Contraction() if self._plain(atom):
                (kept,) = atom.labels
                query = self._query(atom)
                return relabel(self._leaf(query), {self._kept(query.over): kept})
            case Contraction(monomial, bound) if any(self._is_state(a) for a, _ in monomial):
                return self._opened(monomial, bound)
            case Function(name, arguments, axis):
                return single(Atom(Function(name, tuple(rebuild(a, self.visit) for a in arguments), axis)))
            case Base(inner):
                return rebuild(inner, self.visit)
            case Contraction(monomial, bound):
                return contract(rebuild(Polynomial(((monomial, ONE),)), self.visit), bound)
            case _:
                raise self._refused("the whole state is read out")

    def _reads(self, atom: Atom) -> bool:
        return any(name == self.state.name for name, _ in atom.leaves)

    def _leaf(self, query: Query) -> Polynomial:
        """The readout by its name, which equal readouts share."""
        found = [name for name, known in self.queries.items() if known == query]
        name = found[0] if found else f"{self.name}.{self.known + len(self.queries)}"
        self.queries[name] = query
        return _named(name, self._kept(query.over))

    def _kept(self, over: str) -> str:
        """The axis of the state that a readout over the other one keeps."""
        first, second = self.state.axes
        return second if over == first else first

    def _is_state(self, atom: Atom) -> bool:
        return isinstance(atom.node, Leaf) and atom.node.name == self.state.name

    def _plain(self, atom: Atom) -> bool:
        """Whether the atom is `sum_k q[k] S[k, V]` or `sum_v q[v] S[K, v]`, with one read of the state."""
        if not isinstance(atom.node, Contraction) or len(atom.node.bound) != 1:
            return False
        reads = [(a, e) for a, e in atom.node.monomial if self._reads(a)]
        return len(reads) == 1 and reads[0][1] == 1 and self._is_state(reads[0][0])

    def _query(self, atom: Atom) -> Query:
        assert isinstance(atom.node, Contraction)
        (state,) = [a.node for a, _ in atom.node.monomial if self._is_state(a)]
        assert isinstance(state, Leaf)
        rest = [(a, e) for a, e in atom.node.monomial if a.node is not state]
        return self._separate(state, rest, set(atom.node.bound), self._side(state, atom.node.bound))

    def _side(self, state: Leaf, bound: Iterable[str]) -> int:
        """Which axis of the state a readout contracts: the first if it can."""
        sides = [side for side in (0, 1) if state.labels[side] in bound]
        if not sides:
            name, (first, second) = self.state.name, self.state.axes
            hint = f"read out {name}.T @ q with q over '{first}', or {name} @ q with q over '{second}'"
            raise self._refused("expected a contraction with one of the state's axes", hint)
        return sides[0]

    def _separate(self, state: Leaf, query: list[Factor], labels: set[str], side: int) -> Query:
        """The factors beside the state, summed over the labels but that of the contracted axis."""
        over, label, kept = self.state.axes[side], state.labels[side], state.labels[1 - side]
        monomial = product(query)
        if label not in labels or base(kept) != self._kept(over) or monomial_labels(monomial) - labels:
            raise self._refused(f"expected a query over '{over}' alone")
        summed = contract(Polynomial(((monomial, ONE),)), tuple(labels - {label}))
        return Query(relabel(summed, {label: over}), over, state.version != self.last)

    def _opened(self, monomial: Monomial, bound: Axes) -> Polynomial:
        """A sum over readouts, `sum_v (sum_k q[k] S[k, v]) x[v]`, with the names of the readouts in it."""
        states = [(a.node, e) for a, e in monomial if isinstance(a.node, Leaf) and self._is_state(a)]
        rest = [factor for factor in monomial if not self._is_state(factor[0])]
        inner = set(bound) - {label for state, _ in states for label in state.labels}
        left, result = set(bound), UNIT
        sides = [self._side(state, bound) for state, _ in states]
        contracted = [state.labels[side] for (state, _), side in zip(states, sides, strict=True)]
        for (state, exponent), side in zip(states, sides, strict=True):
            label, kept = state.labels[side], state.labels[1 - side]
            query, labels = around(rest, label, inner)
            if exponent != 1 or contracted.count(label) > 1 or any(self._reads(a) for a, _ in query):
                raise self._refused("a readout multiplies the state by itself")
            readout = self._separate(state, query, labels & left, side)
            result = result * relabel(self._leaf(readout), {self._kept(readout.over): kept})
            rest = [factor for factor in rest if factor not in query]
            left -= labels
        inside = rebuild(Polynomial(((product(rest), ONE),)), self.visit)
        return contract(result * inside, tuple(left))

    def _refused(self, why: str, *hints: str) -> SpecError:
        message = f"the output '{self.name}' is not handled: {why}"
        return SpecError([Diagnostic("unsupported", message, hints=hints)])


def _named(name: str, axis: str) -> Polynomial:
    return single(Atom(Leaf(name, (axis,))))
